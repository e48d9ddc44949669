//! Times as the API writes them: RFC 3339 in UTC, whole seconds. The clock is the caller's.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The time as it comes back from the API: without fractions. Compare only such times with stored ones.
pub fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// `2026-11-21T08:00:00Z`: `meta/v1.Time` in JSON.
pub(crate) fn to_time(at: Timestamp) -> String {
    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&at)
}

/// `2026-11-21T08:00:00.000000Z`: `meta/v1.MicroTime` in JSON.
pub(crate) fn to_micro_time(at: Timestamp) -> String {
    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6)).timestamp_to_string(&at)
}

/// Reads the RFC 3339 form of `metadata.creationTimestamp`.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Seconds from `earlier` to `later`, negative if the clock went back.
pub fn seconds_between(earlier: Timestamp, later: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64()
}

/// `time` moved by whole seconds, at the end of time if that is out of range.
pub fn plus_seconds(time: Timestamp, seconds: i64) -> Timestamp {
    let moved = time.checked_add(SignedDuration::from_secs(seconds));
    moved.unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// An age as kubectl prints it: two units where the first is small (`3m12s`, `5h7m`, `2d4h`), else one.
/// Clocks may differ by a second; beyond that a negative age is `<invalid>`.
pub fn human_duration(age: SignedDuration) -> String {
    let seconds = age.as_secs();
    let two = |first: i64, unit: &str, second: i64, part: &str| match second {
        0 => format!("{first}{unit}"),
        _ => format!("{first}{unit}{second}{part}"),
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        ..-1 => "<invalid>".to_string(),
        -1..0 => "0s".to_string(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if hours < 24 * 365 * 2 => format!("{days}d"),
        _ if hours < 24 * 365 * 8 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests;
