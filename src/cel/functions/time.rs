//! Times and durations.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::call::{Answer, Call, text_of};
use crate::duration;
use crate::error::EvalError;
use crate::value::{Evaluated, Value};

pub(super) const NAMES: &[&str] = &[
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
];

pub(super) fn call<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    match (&call.target, call.name, &call.arguments[..]) {
        (None, "timestamp", [value]) => Some(timestamp(value)),
        (None, "duration", [value]) => Some(of_value(value)),
        (Some(Value::Duration(length)), name, []) => of_duration(*length, name),
        (Some(Value::Timestamp(time)), name, []) => of_time(&time.to_zoned(TimeZone::UTC), name),
        (Some(Value::Timestamp(time)), name, [zone]) => {
            let zone = text_of(zone)?;
            match zone_of(zone) {
                Some(zone) => of_time(&time.to_zoned(zone), name),
                None => Some(Err(EvalError::other(format!("unknown time zone {zone}")))),
            }
        }
        _ => None,
    }
}

fn timestamp<'a>(value: &Value<'a>) -> Evaluated<'a> {
    match value {
        Value::Timestamp(_) => Ok(value.clone()),
        Value::Int(seconds) => {
            Timestamp::from_second(*seconds).map(Value::Timestamp).map_err(|_| EvalError::Overflow)
        }
        Value::String(text) => rfc3339(text)
            .map(Value::Timestamp)
            .ok_or_else(|| EvalError::other(format!("parsing time {text:?} as RFC3339 failed"))),
        _ => Err(EvalError::NoOverload),
    }
}

/// As Go reads it: jiff knows further forms, such as a space for the `T` and the name of a zone.
fn rfc3339(text: &str) -> Option<Timestamp> {
    const DATE_TIME: &[u8; 19] = b"0000-00-00T00:00:00";
    const OFFSET: &[u8; 5] = b"00:00";
    let fits = |part: &str, form: &[u8]| {
        let same = |(one, form): (u8, &u8)| one == *form || *form == b'0' && one.is_ascii_digit();
        part.len() == form.len() && part.bytes().zip(form).all(same)
    };
    let (start, rest) = text.split_at_checked(DATE_TIME.len())?;
    let fraction = match rest.strip_prefix(['.', ',']) {
        Some(digits) => digits.find(|one: char| !one.is_ascii_digit()).filter(|count| *count > 0)? + 1,
        None => 0,
    };
    let offset = rest.get(fraction..)?;
    let is_zone = offset == "Z" || offset.strip_prefix(['+', '-']).is_some_and(|zone| fits(zone, OFFSET));
    // A leap second is none to Go, and neither is the year 0 to the language.
    let is_time = fits(start, DATE_TIME) && !start.ends_with("60") && !start.starts_with("0000");
    // Go takes any number of digits, and leaves what is less than a nanosecond.
    let digits = rest.get(..fraction.min(10))?;
    (is_time && is_zone).then(|| format!("{start}{digits}{offset}").parse().ok())?
}

fn of_value<'a>(value: &Value<'a>) -> Evaluated<'a> {
    match value {
        Value::Duration(_) => Ok(value.clone()),
        Value::String(text) => duration::parse(text)
            .map(Value::Duration)
            .ok_or_else(|| EvalError::other(format!("time: invalid duration {text:?}"))),
        Value::Int(nanos) => Ok(Value::Duration(SignedDuration::from_nanos(*nanos))),
        _ => Err(EvalError::NoOverload),
    }
}

fn zone_of(name: &str) -> Option<TimeZone> {
    if let Some((hours, minutes)) = name.split_once(':') {
        let (sign, hours) = match hours.strip_prefix('-') {
            Some(hours) => (-1, hours),
            None => (1, hours.strip_prefix('+').unwrap_or(hours)),
        };
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_mul(sign)?;
        return jiff::tz::Offset::from_seconds(seconds).ok().map(TimeZone::fixed);
    }
    TimeZone::get(name).ok()
}

fn of_time<'a>(time: &Zoned, name: &str) -> Answer<'a> {
    let number = match name {
        "getFullYear" => i64::from(time.year()),
        "getMonth" => i64::from(time.month()) - 1,
        "getDate" => i64::from(time.day()),
        "getDayOfMonth" => i64::from(time.day()) - 1,
        "getDayOfWeek" => i64::from(time.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(time.day_of_year()) - 1,
        "getHours" => i64::from(time.hour()),
        "getMinutes" => i64::from(time.minute()),
        "getSeconds" => i64::from(time.second()),
        "getMilliseconds" => i64::from(time.millisecond()),
        _ => return None,
    };
    Some(Ok(Value::Int(number)))
}

fn of_duration<'a>(length: SignedDuration, name: &str) -> Answer<'a> {
    let number = match name {
        "getHours" => length.as_hours(),
        "getMinutes" => length.as_mins(),
        "getSeconds" => length.as_secs(),
        "getMilliseconds" => i64::from(length.subsec_millis()),
        _ => return None,
    };
    Some(Ok(Value::Int(number)))
}
