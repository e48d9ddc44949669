//! Durations as kubectl prints and reads them.

use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Result};

/// `5s`, `3m20s`, `47h`, `3d4h`, `250d`, `2y10d`: `duration.HumanDuration` of apimachinery.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let with_rest = |whole: u64, unit: &str, rest: u64, rest_unit: &str| {
        if rest == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{rest}{rest_unit}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => with_rest(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => with_rest(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => with_rest(hours / 24, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => with_rest(hours / 24 / 365, "y", (hours / 24) % 365, "d"),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// Time since an RFC 3339 timestamp, or `<unknown>`.
pub(crate) fn since(timestamp: Option<&str>, now: Timestamp) -> String {
    match timestamp.and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(then) => human(Duration::try_from(now.duration_since(then)).unwrap_or_default()),
        None => "<unknown>".to_string(),
    }
}

/// A duration as Go writes it, and whether it is negative.
pub(crate) fn parse_signed(text: &str) -> Result<(bool, Duration)> {
    let parsed = api::duration::parse(text)
        .map_err(|error| Error::message(format!("invalid argument {text:?}: {error}")))?;
    Ok((parsed.is_negative(), parsed.unsigned_abs()))
}

/// As [`parse_signed`], for flags where a sign makes no sense.
pub(crate) fn parse(text: &str) -> Result<Duration> {
    parse_signed(text).map(|(_, duration)| duration)
}

#[cfg(test)]
mod tests;
