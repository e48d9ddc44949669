//! Durations as Go writes them: `1h30m`, `1.5s`.
//!
//! Schedules and flags have them, and the messages are those of Go's `time.ParseDuration`.

use jiff::SignedDuration;

/// Units and their nanoseconds.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// What is wrong with a duration, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    #[error("time: missing unit in duration {0:?}")]
    NoUnit(String),
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
}

/// Reads a duration.
pub fn parse(text: &str) -> Result<SignedDuration, DurationError> {
    let invalid = || DurationError::Invalid(text.to_string());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after_fraction) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after_fraction.find(|one: char| one == '.' || one.is_ascii_digit());
        let (unit, next) = after_fraction.split_at(end.unwrap_or(after_fraction.len()));
        if unit.is_empty() {
            return Err(DurationError::NoUnit(text.to_string()));
        }
        let Some((_, nanoseconds)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(DurationError::UnknownUnit { unit: unit.to_string(), text: text.to_string() });
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let part = part(fraction, *nanoseconds);
        let amount = whole.checked_mul(*nanoseconds).and_then(|amount| amount.checked_add(part));
        total = amount.and_then(|amount| total.checked_add(amount)).ok_or_else(invalid)?;
        rest = next;
    }
    let total = i64::try_from(total).map_err(|_| invalid())?;
    Ok(SignedDuration::from_nanos(if negative { -total } else { total }))
}

/// The digits in front, and what comes after them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|one: char| !one.is_ascii_digit()).unwrap_or(text.len()))
}

/// The part of a unit that the digits behind the point are.
fn part(digits: &str, nanoseconds: u64) -> u64 {
    let (mut value, mut unit) = (0, nanoseconds);
    for digit in digits.bytes() {
        unit /= 10;
        value += unit * u64::from(digit - b'0');
    }
    value
}
