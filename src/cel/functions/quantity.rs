//! Kubernetes' quantities and semantic versions.

use std::cmp::Ordering;
use std::rc::Rc;

use api::quantity::Quantity;

use super::call::{Answer, Call, text_of};
use crate::error::EvalError;
use crate::opaque::Opaque;
use crate::value::Value;

pub(super) const NAMES: &[&str] = &[
    "quantity",
    "isQuantity",
    "sign",
    "isInteger",
    "asInteger",
    "asApproximateFloat",
    "add",
    "sub",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "semver",
    "isSemver",
    "major",
    "minor",
    "patch",
];

pub(super) fn call<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let Some(target) = &call.target else { return global(call) };
    let Value::Opaque(target) = target else { return None };
    match &**target {
        Opaque::Quantity(quantity) => of_quantity(quantity, call),
        Opaque::Semver(numbers, pre) => of_version((numbers, pre), call),
        _ => None,
    }
}

fn opaque<'a>(opaque: Opaque) -> Value<'a> {
    Value::Opaque(Rc::new(opaque))
}

fn global<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let text = call.arguments.first().and_then(text_of)?;
    // A form that forgives a leading `v` and missing numbers.
    let lenient = matches!(call.arguments.get(1), Some(Value::Bool(true)));
    match call.name {
        "quantity" => Some(match text.parse::<Quantity>() {
            Ok(quantity) => Ok(opaque(Opaque::Quantity(quantity))),
            Err(_) => Err(EvalError::other(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            )),
        }),
        "isQuantity" => Some(Ok(Value::Bool(text.parse::<Quantity>().is_ok()))),
        "semver" => Some(match version(text, lenient) {
            Some((numbers, pre)) => Ok(opaque(Opaque::Semver(numbers, pre))),
            None => Err(EvalError::other("No Major.Minor.Patch elements found")),
        }),
        "isSemver" => Some(Ok(Value::Bool(version(text, lenient).is_some()))),
        _ => None,
    }
}

fn of_quantity<'a>(quantity: &Quantity, call: &Call<'_, 'a>) -> Answer<'a> {
    let other = match call.arguments.first() {
        Some(Value::Opaque(other)) => match &**other {
            Opaque::Quantity(other) => Some(*other),
            _ => None,
        },
        Some(Value::Int(other)) => Some(Quantity::from_milli(other.saturating_mul(1000))),
        _ => None,
    };
    let order = other.map(|other| quantity.cmp(&other));
    let is_whole = quantity.milli_value() % 1000 == 0;
    Some(match (call.name, call.arguments.len()) {
        ("sign", 0) => Ok(Value::Int(i64::from(!quantity.is_zero()) - 2 * i64::from(quantity.is_negative()))),
        ("isInteger", 0) => Ok(Value::Bool(is_whole)),
        ("asInteger", 0) if is_whole => Ok(Value::Int(quantity.value())),
        ("asInteger", 0) => Err(EvalError::other("cannot convert value to integer")),
        ("asApproximateFloat", 0) => Ok(Value::Double(quantity.as_f64())),
        ("add", 1) => Ok(opaque(Opaque::Quantity(quantity.plus(other?)))),
        ("sub", 1) => Ok(opaque(Opaque::Quantity(quantity.minus(other?)))),
        ("isGreaterThan", 1) => Ok(Value::Bool(order? == Ordering::Greater)),
        ("isLessThan", 1) => Ok(Value::Bool(order? == Ordering::Less)),
        ("compareTo", 1) => Ok(Value::Int(order? as i64)),
        _ => return None,
    })
}

/// Numbers and what marks a version before a release.
fn version(text: &str, lenient: bool) -> Option<([u64; 3], Vec<String>)> {
    let text = if lenient { text.strip_prefix('v').unwrap_or(text) } else { text };
    let text = text.split('+').next()?;
    let (numbers, pre) = match text.split_once('-') {
        Some((numbers, pre)) => (numbers, pre.split('.').map(str::to_string).collect()),
        None => (text, Vec::new()),
    };
    let is_odd = |one: &String| one.is_empty() || one.chars().any(|c| !c.is_ascii_alphanumeric() && c != '-');
    if pre.iter().any(is_odd) {
        return None;
    }
    let mut out = [0; 3];
    let parts: Vec<&str> = numbers.split('.').collect();
    if parts.len() > 3 || parts.len() < 3 && !lenient {
        return None;
    }
    for (at, part) in parts.iter().enumerate() {
        let padded = part.len() > 1 && part.starts_with('0');
        if padded && !lenient || !part.chars().all(|one| one.is_ascii_digit()) {
            return None;
        }
        out[at] = part.parse().ok()?;
    }
    Some((out, pre))
}

fn of_version<'a>((numbers, pre): (&[u64; 3], &[String]), call: &Call<'_, 'a>) -> Answer<'a> {
    let number = |at: usize| Ok(Value::Int(i64::try_from(numbers[at]).unwrap_or(i64::MAX)));
    match (call.name, &call.arguments[..]) {
        ("major", []) => return Some(number(0)),
        ("minor", []) => return Some(number(1)),
        ("patch", []) => return Some(number(2)),
        _ => {}
    }
    let [Value::Opaque(other)] = &call.arguments[..] else { return None };
    let Opaque::Semver(other_numbers, other_pre) = &**other else { return None };
    let order = numbers.cmp(other_numbers).then_with(|| before(pre, other_pre));
    Some(Ok(match call.name {
        "isGreaterThan" => Value::Bool(order.is_gt()),
        "isLessThan" => Value::Bool(order.is_lt()),
        "compareTo" => Value::Int(order as i64),
        _ => return None,
    }))
}

/// The order of marks: none is the release itself, which comes last.
fn before(one: &[String], two: &[String]) -> Ordering {
    match (one.is_empty(), two.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    for (a, b) in one.iter().zip(two) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    one.len().cmp(&two.len())
}
