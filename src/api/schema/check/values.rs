//! Single values: whether they fit their type, and their canonical text.

use base64::Engine;
use serde_json::{Map, Value};

use super::super::table::Base;
use super::{Checked, Mismatch, Place, found};
use crate::quantity::Quantity;

/// A null in a list or map is the zero value there.
pub(super) fn fill_null(base: Base, value: &mut Value) {
    if !value.is_null() {
        return;
    }
    *value = match base {
        Base::String | Base::Bytes => Value::String(String::new()),
        Base::Int32 | Base::Int64 | Base::Number | Base::IntOrString => Value::from(0),
        Base::Bool => Value::Bool(false),
        Base::Object(_) => Value::Object(Map::new()),
        Base::Quantity => Value::String("0".to_string()),
        _ => return,
    };
}

pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

pub(super) fn go_type(base: Base) -> String {
    match base {
        Base::String => "string",
        Base::Int32 => "int32",
        Base::Int64 => "int64",
        Base::Number => "float64",
        Base::Bool => "bool",
        Base::Bytes => "[]uint8",
        Base::Time => "v1.Time",
        Base::MicroTime => "v1.MicroTime",
        Base::Quantity => "resource.Quantity",
        Base::IntOrString => "intstr.IntOrString",
        Base::Raw => "runtime.RawExtension",
        Base::Fields => "v1.FieldsV1",
        Base::Json => "v1.JSON",
        Base::SchemaOrArray => "v1.JSONSchemaPropsOrArray",
        Base::SchemaOrBool => "v1.JSONSchemaPropsOrBool",
        Base::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray",
        Base::Object(ty) => ty.go_name(),
    }
    .to_string()
}

pub(super) fn integer(base: Base, value: &Value, place: &Place<'_>) -> Checked<()> {
    let wanted = go_type(base);
    let Value::Number(number) = value else { return Err(place.mismatch(value, &wanted)) };
    let fits = number.as_i64().is_some_and(|one| base == Base::Int64 || i32::try_from(one).is_ok());
    if fits {
        return Ok(());
    }
    let Mismatch(text) = place.mismatch(value, &wanted);
    Err(Mismatch(text.replacen("number", &format!("number {number}"), 1)))
}

pub(super) fn bytes(value: &mut Value, place: &Place<'_>) -> Checked<()> {
    let Value::String(text) = value else { return Err(place.mismatch(value, "[]uint8")) };
    let standard = base64::engine::general_purpose::STANDARD;
    if text.contains(['\n', '\r']) {
        text.retain(|c| c != '\n' && c != '\r');
    }
    match standard.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(Mismatch(format!("illegal base64 data at input byte {at}")))
        }
        Err(_) => Err(Mismatch(format!("illegal base64 data at input byte {}", text.len() & !3))),
    }
}

/// False for the zero time.
pub(super) fn time(value: &mut Value, micro: bool) -> Checked<bool> {
    let Value::String(text) = value else {
        return Err(Mismatch(format!(
            "json: cannot unmarshal {} into Go value of type string",
            found(value)
        )));
    };
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"TtZz:+-.".contains(&byte));
    let parsed = text.parse::<jiff::Timestamp>().ok().filter(|_| plain);
    let Some(at) = parsed else {
        let (layout, year) =
            (if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" }, "2006");
        return Err(Mismatch(format!(
            "parsing time {text:?} as {layout:?}: cannot parse {text:?} as {year:?}"
        )));
    };
    let canonical = if micro { crate::time::to_micro_time(at) } else { crate::time::to_time(at) };
    if canonical.starts_with("0001-01-01T00:00:00") {
        return Ok(false);
    }
    if *text != canonical {
        *text = canonical;
    }
    Ok(true)
}

pub(super) fn quantity(value: &mut Value) -> Checked<()> {
    let parsed = match value {
        Value::String(text) => text.parse::<Quantity>(),
        Value::Number(number) => number.to_string().parse::<Quantity>(),
        _ => Err(crate::quantity::QuantityError::Format),
    };
    let canonical = parsed.map_err(|error| Mismatch(error.to_string()))?.to_string();
    if value.as_str() != Some(&canonical) {
        *value = Value::String(canonical);
    }
    Ok(())
}

pub(super) fn int_or_string(value: &Value) -> Checked<()> {
    match value {
        Value::String(_) => Ok(()),
        Value::Number(number) if number.as_i64().is_some_and(|one| i32::try_from(one).is_ok()) => Ok(()),
        Value::Number(number) => {
            Err(Mismatch(format!("json: cannot unmarshal number {number} into Go value of type int32")))
        }
        _ => Err(Mismatch(format!("json: cannot unmarshal {} into Go value of type int32", found(value)))),
    }
}
