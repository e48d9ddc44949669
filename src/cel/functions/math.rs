//! The `math` extension.

use std::cmp::Ordering;

use super::call::{Answer, Call};
use crate::error::EvalError;
use crate::value::{Evaluated, Value};

pub(super) const NAMES: &[&str] = &[
    "math.greatest",
    "math.least",
    "math.abs",
    "math.ceil",
    "math.floor",
    "math.round",
    "math.trunc",
    "math.sign",
    "math.isNaN",
    "math.isInf",
    "math.isFinite",
    "math.sqrt",
    "math.bitAnd",
    "math.bitOr",
    "math.bitXor",
    "math.bitNot",
    "math.bitShiftLeft",
    "math.bitShiftRight",
];

pub(super) fn call<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    if call.target.is_some() {
        return None;
    }
    let name = call.name.strip_prefix("math.")?;
    if matches!(name, "greatest" | "least") {
        let wanted = if name == "greatest" { Ordering::Greater } else { Ordering::Less };
        if let Err(error) = call.arguments.iter().try_for_each(|one| one.pay_walk(call.budget)) {
            return Some(Err(error));
        }
        let listed = call.arguments.first().filter(|_| call.arguments.len() == 1);
        let all = listed.and_then(Value::elements).unwrap_or_else(|| call.arguments.clone());
        return Some(extreme(&all, wanted));
    }
    Some(match (name, &call.arguments[..]) {
        ("abs", [Value::Int(value)]) => value.checked_abs().map(Value::Int).ok_or(EvalError::Overflow),
        ("abs", [Value::Double(value)]) => Ok(Value::Double(value.abs())),
        ("abs", [Value::Uint(value)]) => Ok(Value::Uint(*value)),
        ("ceil", [Value::Double(value)]) => Ok(Value::Double(value.ceil())),
        ("floor", [Value::Double(value)]) => Ok(Value::Double(value.floor())),
        ("round", [Value::Double(value)]) => Ok(Value::Double(value.round())),
        ("trunc", [Value::Double(value)]) => Ok(Value::Double(value.trunc())),
        ("sqrt", [Value::Double(value)]) => Ok(Value::Double(value.sqrt())),
        ("sqrt", [Value::Int(value)]) => Ok(Value::Double((*value as f64).sqrt())),
        ("sign", [Value::Int(value)]) => Ok(Value::Int(value.signum())),
        ("sign", [Value::Double(value)]) if *value == 0.0 => Ok(Value::Double(0.0)),
        ("sign", [Value::Double(value)]) => Ok(Value::Double(value.signum())),
        ("isNaN", [Value::Double(value)]) => Ok(Value::Bool(value.is_nan())),
        ("isInf", [Value::Double(value)]) => Ok(Value::Bool(value.is_infinite())),
        ("isFinite", [Value::Double(value)]) => Ok(Value::Bool(value.is_finite())),
        ("bitAnd", [Value::Int(one), Value::Int(two)]) => Ok(Value::Int(one & two)),
        ("bitOr", [Value::Int(one), Value::Int(two)]) => Ok(Value::Int(one | two)),
        ("bitXor", [Value::Int(one), Value::Int(two)]) => Ok(Value::Int(one ^ two)),
        ("bitNot", [Value::Int(one)]) => Ok(Value::Int(!one)),
        ("bitShiftLeft", [Value::Int(one), Value::Int(bits)]) => shift(*one, *bits, |one, bits| one << bits),
        ("bitShiftRight", [Value::Int(one), Value::Int(bits)]) => {
            shift(*one, *bits, |one, bits| ((one as u64) >> bits) as i64)
        }
        _ => return None,
    })
}

fn shift<'a>(value: i64, bits: i64, shifted: fn(i64, u32) -> i64) -> Evaluated<'a> {
    match u32::try_from(bits) {
        Err(_) => Err(EvalError::other(format!("math.bitShift() negative offset: {bits}"))),
        Ok(bits) if bits >= 64 => Ok(Value::Int(0)),
        Ok(bits) => Ok(Value::Int(shifted(value, bits))),
    }
}

fn extreme<'a>(all: &[Value<'a>], wanted: Ordering) -> Evaluated<'a> {
    let mut rest = all.iter();
    let mut best = rest.next().ok_or(EvalError::NoOverload)?;
    for one in rest {
        match one.order(best) {
            None => return Err(EvalError::NoOverload),
            Some(order) if order == wanted => best = one,
            Some(_) => {}
        }
    }
    Ok(best.clone())
}
