//! Times as the API writes them: RFC 3339 in UTC, whole seconds. The clock is the caller's.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The time as it comes back from the API: without fractions. Compare only such times with stored ones.
pub fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
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
