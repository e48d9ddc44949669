//! Values that may be nothing.

use std::rc::Rc;

use super::call::{Answer, Call};
use crate::error::EvalError;
use crate::value::Value;

pub(super) const NAMES: &[&str] = &[
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "hasValue",
    "value",
    "orValue",
    "or",
    "optional.unwrap",
    "unwrapOpt",
];

pub(super) fn call<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    match (&call.target, call.name, &call.arguments[..]) {
        (None, "optional.of", [value]) => Some(Ok(Value::some(value.clone()))),
        (None, "optional.none", []) => Some(Ok(Value::Optional(None))),
        (None, "optional.ofNonZeroValue", [value]) => {
            Some(Ok(if is_zero(value) { Value::Optional(None) } else { Value::some(value.clone()) }))
        }
        (Some(Value::Optional(value)), "hasValue", []) => Some(Ok(Value::Bool(value.is_some()))),
        (Some(Value::Optional(value)), "value", []) => Some(match value {
            Some(value) => Ok((***value).clone()),
            None => Err(EvalError::other("optional.none() dereference")),
        }),
        (None, "optional.unwrap", [list]) | (Some(list), "unwrapOpt", []) => {
            let some = |one: Value<'a>| match one {
                Value::Optional(value) => value.map(|value| Rc::unwrap_or_clone(value).into_inner()),
                other => Some(other),
            };
            let list = list.iter()?;
            let paid = call.budget.spend(call.target.iter().chain(&call.arguments).map(Value::size).sum());
            Some(paid.map(|()| Value::list(list.filter_map(some).collect())))
        }
        _ => None,
    }
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) => true,
        Value::Double(value) => *value == 0.0,
        Value::Duration(length) => length.is_zero(),
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) | Value::Json(_) => {
            value.size() == 0
        }
        _ => false,
    }
}
