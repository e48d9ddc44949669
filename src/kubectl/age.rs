//! Durations as kubectl prints and reads them.

use std::time::Duration;

use jiff::Timestamp;

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

/// Go's `time.ParseDuration`: `300ms`, `1.5h`, `2h45m`; `0` needs no unit. Negative durations keep their
/// sign.
pub(crate) fn parse_signed(text: &str) -> Result<(bool, Duration), String> {
    let wrong = || format!("invalid argument {text:?}: time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok((negative, Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..number_end].parse().map_err(|_| wrong())?;
        rest = &rest[number_end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number * seconds;
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(total).map(|duration| (negative, duration)).map_err(|_| wrong())
}

/// As [`parse_signed`], for flags where a sign makes no sense.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    parse_signed(text).map(|(_, duration)| duration)
}

#[cfg(test)]
mod tests;
