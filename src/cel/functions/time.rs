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
        Value::String(text) => text
            .parse()
            .map(Value::Timestamp)
            .map_err(|_| EvalError::other(format!("parsing time {text:?} as RFC3339 failed"))),
        _ => Err(EvalError::NoOverload),
    }
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
