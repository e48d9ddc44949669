//! Values for required fields that are absent, so that every accepted object decodes to its Rust type.
//!
//! Go's types have a zero time, and a body may leave a required time out: upstream accepts it and writes
//! `null`. The Rust types refuse both. Decoding falls back to this walk, so such objects still reach every
//! reader. Other required fields have a default in the Rust types and need nothing here.

use serde_json::{Map, Value};

use super::table::{Base, Field, FieldType, Shape, TypeRef};

/// What Go's zero time is as text.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Puts Go's zero value where a required field without a Rust default is absent or null. Answers whether any
/// was.
pub fn complete(ty: TypeRef, tree: &mut Value) -> bool {
    let Value::Object(map) = tree else { return false };
    let mut changed = false;
    for field in ty.fields() {
        match map.get_mut(field.name) {
            None | Some(Value::Null) if field.required => changed |= insert_zero(map, field.name, field.ty),
            Some(value) => changed |= below(field.ty, value),
            None => {}
        }
    }
    changed
}

/// The status of an object that nobody has told one yet, as Go writes the type: numbers that must be there
/// are 0, plain structures are empty. None if the kind has no status, or not always one.
pub fn empty_status(ty: TypeRef) -> Option<Value> {
    let field = ty.field("status").filter(|field| field.embedded)?;
    field.object().map(empty)
}

fn empty(ty: TypeRef) -> Value {
    let zero = |field: &Field| {
        let is_one = field.ty.shape == Shape::One;
        match field.ty.base {
            Base::Object(inner) if is_one && field.embedded => Some(empty(inner)),
            Base::Int32 | Base::Int64 if is_one && field.required => Some(Value::from(0)),
            Base::Bool if is_one && field.required => Some(Value::from(false)),
            _ => None,
        }
    };
    let members = ty.fields().iter().filter_map(|field| Some((field.name.to_string(), zero(field)?)));
    Value::Object(members.collect())
}

fn insert_zero(map: &mut Map<String, Value>, name: &str, ty: FieldType) -> bool {
    let is_time = ty.shape == Shape::One && matches!(ty.base, Base::Time | Base::MicroTime);
    if is_time {
        map.insert(name.to_string(), Value::from(ZERO_TIME));
    }
    is_time
}

fn below(ty: FieldType, value: &mut Value) -> bool {
    let Base::Object(inner) = ty.base else { return false };
    match (ty.shape, value) {
        (Shape::One, value) => complete(inner, value),
        (Shape::List, Value::Array(list)) => {
            list.iter_mut().fold(false, |changed, one| complete(inner, one) | changed)
        }
        (Shape::Map, Value::Object(map)) => {
            map.values_mut().fold(false, |changed, one| complete(inner, one) | changed)
        }
        _ => false,
    }
}
