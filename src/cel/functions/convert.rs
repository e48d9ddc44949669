//! Conversions between types, and the size of things.

use super::call::{Answer, Call, text_of};
use crate::duration;
use crate::error::EvalError;
use crate::opaque::Opaque;
use crate::shared::Shared;
use crate::types;
use crate::value::{Evaluated, Value};

pub(super) const NAMES: &[&str] =
    &["size", "int", "uint", "double", "string", "bytes", "bool", "type", "dyn", "duration", "timestamp"];

pub(super) fn call<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    if call.name == "size" {
        let value = match (&call.target, &call.arguments[..]) {
            (Some(value), []) | (None, [value]) => value,
            _ => return None,
        };
        return size(value).map(Ok);
    }
    let (None, [value]) = (&call.target, &call.arguments[..]) else { return None };
    Some(match call.name {
        "int" => int(value),
        "uint" => uint(value),
        "double" => double(value),
        "string" => string(value),
        "bytes" => match value {
            Value::String(text) => Ok(Value::Bytes(Shared::Owned(text.as_bytes().into()))),
            Value::Bytes(_) => Ok(value.clone()),
            _ => Err(EvalError::NoOverload),
        },
        "bool" => match (value, text_of(value)) {
            (Value::Bool(value), _) => Ok(Value::Bool(*value)),
            (_, Some("1" | "t" | "T" | "true" | "TRUE" | "True")) => Ok(Value::Bool(true)),
            (_, Some("0" | "f" | "F" | "false" | "FALSE" | "False")) => Ok(Value::Bool(false)),
            _ => Err(EvalError::other("type conversion error from 'string' to 'bool'")),
        },
        "dyn" => Ok(value.clone()),
        "type" => types::type_value(value.type_name())
            .or_else(|| known_type(value.type_name()))
            .ok_or(EvalError::NoOverload),
        _ => return None,
    })
}

fn known_type<'a>(name: &str) -> Option<Value<'a>> {
    const TYPES: [&str; 6] = [
        "google.protobuf.Timestamp",
        "google.protobuf.Duration",
        "kubernetes.Quantity",
        "kubernetes.URL",
        "net.IP",
        "net.CIDR",
    ];
    TYPES.into_iter().find(|known| *known == name).map(Value::Type)
}

fn size<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::Json(serde_json::Value::Array(list)) => list.len(),
        Value::Json(serde_json::Value::Object(map)) => map.len(),
        _ => return None,
    };
    Some(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn int<'a>(value: &Value<'a>) -> Evaluated<'a> {
    match value {
        Value::Int(value) => Ok(Value::Int(*value)),
        Value::Uint(value) => i64::try_from(*value).map(Value::Int).map_err(|_| EvalError::Overflow),
        Value::Double(value) if value.abs() < 9.2e18 => Ok(Value::Int(*value as i64)),
        Value::Double(_) => Err(EvalError::Overflow),
        Value::Timestamp(time) => Ok(Value::Int(time.as_second())),
        Value::String(text) => text
            .parse()
            .map(Value::Int)
            .map_err(|_| EvalError::other("type conversion error from 'string' to 'int'")),
        _ => Err(EvalError::NoOverload),
    }
}

fn uint<'a>(value: &Value<'a>) -> Evaluated<'a> {
    match value {
        Value::Uint(value) => Ok(Value::Uint(*value)),
        Value::Int(value) => u64::try_from(*value).map(Value::Uint).map_err(|_| EvalError::Overflow),
        Value::Double(value) if (0.0..1.8e19).contains(value) => Ok(Value::Uint(*value as u64)),
        Value::Double(_) => Err(EvalError::Overflow),
        Value::String(text) => text
            .parse()
            .map(Value::Uint)
            .map_err(|_| EvalError::other("type conversion error from 'string' to 'uint'")),
        _ => Err(EvalError::NoOverload),
    }
}

fn double<'a>(value: &Value<'a>) -> Evaluated<'a> {
    match value {
        Value::Double(value) => Ok(Value::Double(*value)),
        Value::Int(value) => Ok(Value::Double(*value as f64)),
        Value::Uint(value) => Ok(Value::Double(*value as f64)),
        Value::String(text) => text
            .parse()
            .map(Value::Double)
            .map_err(|_| EvalError::other("type conversion error from 'string' to 'double'")),
        _ => Err(EvalError::NoOverload),
    }
}

fn string<'a>(value: &Value<'a>) -> Evaluated<'a> {
    Ok(match value {
        Value::String(_) => value.clone(),
        Value::Int(value) => Value::text(value.to_string()),
        Value::Uint(value) => Value::text(value.to_string()),
        Value::Double(value) => Value::text(value.to_string()),
        Value::Bool(value) => Value::text(value.to_string()),
        Value::Bytes(bytes) => {
            let text = String::from_utf8(bytes.to_vec());
            Value::text(
                text.map_err(|_| EvalError::other("invalid UTF-8 in bytes, cannot convert to string"))?,
            )
        }
        Value::Timestamp(time) => Value::text(time.to_string()),
        Value::Duration(duration) => Value::text(duration::seconds(*duration)),
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Ip(ip) => Value::text(ip.to_string()),
            Opaque::Cidr { address, prefix } => Value::text(format!("{address}/{prefix}")),
            _ => return Err(EvalError::NoOverload),
        },
        _ => return Err(EvalError::NoOverload),
    })
}
