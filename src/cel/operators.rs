//! Operators: arithmetic that does not wrap, order, membership, indices.

use std::cmp::Ordering;

use crate::ast::Binary;
use crate::budget::Budget;
use crate::error::EvalError;
use crate::shared::Shared;
use crate::value::{Evaluated, Key, Value};

pub(crate) fn negate<'a>(value: &Value<'a>) -> Evaluated<'a> {
    match value {
        Value::Int(value) => value.checked_neg().map(Value::Int).ok_or(EvalError::Overflow),
        Value::Double(value) => Ok(Value::Double(-value)),
        Value::Duration(value) => value.checked_neg().map(Value::Duration).ok_or(EvalError::Overflow),
        _ => Err(EvalError::NoOverload),
    }
}

pub(crate) fn index<'a>(from: &Value<'a>, index: &Value<'a>) -> Evaluated<'a> {
    if let Some(key) = Key::of(index)
        && let Some(found) = from.get(&key)
    {
        let shown = match index {
            Value::String(text) => return found.ok_or_else(|| EvalError::no_key(text)),
            Value::Int(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        return found.ok_or(EvalError::NoKey(shown));
    }
    let position = match index {
        Value::Int(position) => *position,
        Value::Uint(position) => i64::try_from(*position).unwrap_or(i64::MAX),
        Value::Double(position) if position.fract() == 0.0 => *position as i64,
        _ => return Err(EvalError::NoOverload),
    };
    let at = usize::try_from(position).map_err(|_| EvalError::Bounds(position))?;
    let found = match from {
        Value::List(list) => list.get(at).cloned(),
        Value::Json(serde_json::Value::Array(list)) => list.get(at).map(Value::from),
        _ => return Err(EvalError::NoOverload),
    };
    found.ok_or(EvalError::Bounds(position))
}

/// Sizes are paid by the caller, comparisons of parts here.
pub(crate) fn binary<'a>(operator: Binary, one: Value<'a>, two: Value<'a>, budget: &Budget) -> Evaluated<'a> {
    let ordered = |holds: fn(Ordering) -> bool| {
        let is_number =
            |value: &Value<'_>| matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_));
        match one.order(&two) {
            Some(order) => Ok(Value::Bool(holds(order))),
            // Not a number is neither less nor greater.
            None if is_number(&one) && is_number(&two) => Ok(Value::Bool(false)),
            None => Err(EvalError::NoOverload),
        }
    };
    match operator {
        Binary::Equal => one.equals(&two, budget).map(Value::Bool),
        Binary::NotEqual => one.equals(&two, budget).map(|equal| Value::Bool(!equal)),
        Binary::Less => ordered(Ordering::is_lt),
        Binary::LessEqual => ordered(Ordering::is_le),
        Binary::Greater => ordered(Ordering::is_gt),
        Binary::GreaterEqual => ordered(Ordering::is_ge),
        Binary::In => contains(&one, &two, budget),
        Binary::Add => add(one, two),
        Binary::Subtract => subtract(&one, &two),
        Binary::Multiply | Binary::Divide | Binary::Remainder => multiply(operator, &one, &two),
    }
}

fn contains<'a>(one: &Value<'a>, two: &Value<'a>, budget: &Budget) -> Evaluated<'a> {
    if let Some(list) = two.iter() {
        for element in list {
            if element.equals(one, budget)? {
                return Ok(Value::Bool(true));
            }
        }
        return Ok(Value::Bool(false));
    }
    let key = Key::of(one);
    let found = match &key {
        Some(key) => two.get(key).ok_or(EvalError::NoOverload)?,
        None => return Err(EvalError::NoOverload),
    };
    Ok(Value::Bool(found.is_some()))
}

fn add<'a>(one: Value<'a>, two: Value<'a>) -> Evaluated<'a> {
    Ok(match (&one, &two) {
        (Value::Int(one), Value::Int(two)) => Value::Int(one.checked_add(*two).ok_or(EvalError::Overflow)?),
        (Value::Uint(one), Value::Uint(two)) => {
            Value::Uint(one.checked_add(*two).ok_or(EvalError::Overflow)?)
        }
        (Value::Double(one), Value::Double(two)) => Value::Double(one + two),
        (Value::String(one), Value::String(two)) => Value::text([&**one, &**two].concat()),
        (Value::Bytes(one), Value::Bytes(two)) => {
            Value::Bytes(Shared::Owned([&**one, &**two].concat().into()))
        }
        (Value::Timestamp(time), Value::Duration(length))
        | (Value::Duration(length), Value::Timestamp(time)) => {
            Value::Timestamp(time.checked_add(*length).map_err(|_| EvalError::Overflow)?)
        }
        (Value::Duration(one), Value::Duration(two)) => {
            Value::Duration(one.checked_add(*two).ok_or(EvalError::Overflow)?)
        }
        _ => match (one.elements(), two.elements()) {
            (Some(mut one), Some(two)) => {
                one.extend(two);
                Value::list(one)
            }
            _ => return Err(EvalError::NoOverload),
        },
    })
}

fn subtract<'a>(one: &Value<'a>, two: &Value<'a>) -> Evaluated<'a> {
    Ok(match (one, two) {
        (Value::Int(one), Value::Int(two)) => Value::Int(one.checked_sub(*two).ok_or(EvalError::Overflow)?),
        (Value::Uint(one), Value::Uint(two)) => {
            Value::Uint(one.checked_sub(*two).ok_or(EvalError::Overflow)?)
        }
        (Value::Double(one), Value::Double(two)) => Value::Double(one - two),
        (Value::Timestamp(time), Value::Duration(length)) => {
            Value::Timestamp(time.checked_sub(*length).map_err(|_| EvalError::Overflow)?)
        }
        (Value::Timestamp(one), Value::Timestamp(two)) => Value::Duration(one.duration_since(*two)),
        (Value::Duration(one), Value::Duration(two)) => {
            Value::Duration(one.checked_sub(*two).ok_or(EvalError::Overflow)?)
        }
        _ => return Err(EvalError::NoOverload),
    })
}

fn multiply<'a>(operator: Binary, one: &Value<'a>, two: &Value<'a>) -> Evaluated<'a> {
    let by_zero = if operator == Binary::Divide { EvalError::Division } else { EvalError::Modulus };
    match (operator, one, two) {
        (Binary::Multiply, Value::Double(one), Value::Double(two)) => Ok(Value::Double(one * two)),
        (Binary::Divide, Value::Double(one), Value::Double(two)) => Ok(Value::Double(one / two)),
        (Binary::Multiply, Value::Int(one), Value::Int(two)) => {
            one.checked_mul(*two).map(Value::Int).ok_or(EvalError::Overflow)
        }
        (Binary::Multiply, Value::Uint(one), Value::Uint(two)) => {
            one.checked_mul(*two).map(Value::Uint).ok_or(EvalError::Overflow)
        }
        (_, Value::Int(_), Value::Int(0)) | (_, Value::Uint(_), Value::Uint(0)) => Err(by_zero),
        (Binary::Divide, Value::Int(one), Value::Int(two)) => {
            one.checked_div(*two).map(Value::Int).ok_or(EvalError::Overflow)
        }
        (Binary::Divide, Value::Uint(one), Value::Uint(two)) => Ok(Value::Uint(one / two)),
        (Binary::Remainder, Value::Int(one), Value::Int(two)) => {
            one.checked_rem(*two).map(Value::Int).ok_or(EvalError::Overflow)
        }
        (Binary::Remainder, Value::Uint(one), Value::Uint(two)) => Ok(Value::Uint(one % two)),
        _ => Err(EvalError::NoOverload),
    }
}
