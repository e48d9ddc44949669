//! Protobuf to the JSON tree. Depth and memory of what is made are bounded as for JSON: two bytes can be an
//! element.

use std::cell::RefCell;

use base64::Engine;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::wire::{FIXED64, LENGTH, VARINT};
use super::{MAGIC, ProtobufError};
use crate::bounds::{Budget, ELEMENT, MAX_DEPTH, Spent};
use crate::quantity::Quantity;
use crate::schema::{self, Base, Field, Shape, TypeRef};
use crate::time::{to_micro_time, to_time};

mod reader;

use reader::Reader;

type Decoded<T> = Result<T, ProtobufError>;

/// Where in the tree we are, and what it may still take.
#[derive(Clone, Copy)]
struct Limits<'a> {
    depth: usize,
    budget: &'a RefCell<Budget>,
}

impl Limits<'_> {
    /// For what is in a value here. A message in a list or map is two levels of the tree, so levels are
    /// counted by twos.
    fn deeper(self) -> Decoded<Self> {
        let depth = self.depth + 2;
        if depth > MAX_DEPTH {
            return Err(ProtobufError::Malformed("message nests too deep".to_string()));
        }
        Ok(Limits { depth, ..self })
    }

    fn take(self, take: impl FnOnce(&mut Budget) -> Result<(), Spent>) -> Decoded<()> {
        Ok(take(&mut self.budget.borrow_mut())?)
    }

    fn json(self, raw: &[u8]) -> Decoded<Value> {
        let decoded = schema::decode_inner(raw, self.depth, &mut self.budget.borrow_mut());
        decoded.map_err(|error| ProtobufError::Malformed(error.to_string()))
    }

    fn text(self, text: &str) -> Decoded<String> {
        self.take(|budget| budget.text(text))?;
        Ok(text.to_string())
    }
}

/// Decodes a body (`k8s\0` and `runtime.Unknown`) to a tree with `apiVersion` and `kind`.
pub fn decode(bytes: &[u8]) -> Decoded<Value> {
    let budget = RefCell::new(Budget::for_body(bytes.len()));
    envelope(bytes, Limits { depth: 0, budget: &budget })
}

fn envelope(bytes: &[u8], limits: Limits<'_>) -> Decoded<Value> {
    let body = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoPrefix)?;
    let (mut api_version, mut kind, mut raw, mut content_type) = (String::new(), String::new(), &[][..], "");
    let mut reader = Reader { rest: body };
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, LENGTH) => {
                let mut meta = Reader { rest: reader.bytes()? };
                while let Some((number, wire)) = meta.tag()? {
                    match (number, wire) {
                        (1, LENGTH) => api_version = meta.text()?.to_string(),
                        (2, LENGTH) => kind = meta.text()?.to_string(),
                        _ => meta.skip(wire)?,
                    }
                }
            }
            (2, LENGTH) => raw = reader.bytes()?,
            (4, LENGTH) => content_type = reader.text()?,
            _ => reader.skip(wire)?,
        }
    }
    let mut tree = if content_type == "application/json" {
        limits.json(raw)?
    } else {
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let unknown = || ProtobufError::UnknownKind { api_version: api_version.clone(), kind: kind.clone() };
        let mut map = Map::new();
        message(schema::for_gvk(group, version, &kind).ok_or_else(unknown)?, raw, &mut map, limits)?;
        Value::Object(map)
    };
    if let Value::Object(map) = &mut tree {
        map.insert("apiVersion".to_string(), Value::String(api_version));
        map.insert("kind".to_string(), Value::String(kind));
    }
    Ok(tree)
}

/// Decodes a bare message of a type.
#[cfg(test)]
pub(crate) fn decode_message(ty: TypeRef, bytes: &[u8]) -> Decoded<Value> {
    let mut map = Map::new();
    let budget = RefCell::new(Budget::for_body(bytes.len()));
    message(ty, bytes, &mut map, Limits { depth: 0, budget: &budget })?;
    Ok(Value::Object(map))
}

/// Reads the fields of a message into `map`. Unknown numbers are skipped: a newer client may send them.
fn message(ty: TypeRef, bytes: &[u8], map: &mut Map<String, Value>, limits: Limits<'_>) -> Decoded<()> {
    let mut reader = Reader { rest: bytes };
    while let Some((number, wire)) = reader.tag()? {
        if let Some(field) = ty.numbered(number) {
            read_field(field, wire, &mut reader, map, limits)?;
        } else if let Some((_, inline)) = ty.inline().iter().find(|(own, _)| *own == number && wire == LENGTH)
        {
            message(*inline, reader.bytes()?, map, limits.deeper()?)?;
        } else {
            reader.skip(wire)?;
        }
    }
    Ok(())
}

fn read_field(
    field: &Field,
    wire: u8,
    reader: &mut Reader<'_>,
    map: &mut Map<String, Value>,
    limits: Limits<'_>,
) -> Decoded<()> {
    let base = field.ty.base;
    match field.ty.shape {
        Shape::One => {
            let value = read_value(base, wire, reader, limits)?;
            match value {
                Some(value) if !(field.omit_zero && is_zero(&value)) => {
                    limits.take(|budget| budget.member(map.len(), field.name))?;
                    merge_in(map, field.name, value);
                }
                _ => {}
            }
        }
        Shape::List => {
            let packed =
                wire == LENGTH && matches!(base, Base::Int32 | Base::Int64 | Base::Bool | Base::Number);
            let mut elements = Vec::new();
            if packed {
                let wire = if base == Base::Number { FIXED64 } else { VARINT };
                let mut inner = Reader { rest: reader.bytes()? };
                while !inner.rest.is_empty() {
                    limits.take(|budget| budget.take(ELEMENT))?;
                    elements.extend(read_value(base, wire, &mut inner, limits)?);
                }
            } else {
                limits.take(|budget| budget.take(ELEMENT))?;
                // The zero time has no JSON form; in a list it must keep its place.
                elements.push(read_value(base, wire, reader, limits)?.unwrap_or(Value::Null));
            }
            if !map.contains_key(field.name) {
                limits.take(|budget| budget.member(map.len(), field.name))?;
            }
            let list = map.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.extend(elements);
            }
        }
        Shape::Map | Shape::MapOfLists => {
            if wire != LENGTH {
                return Err(wrong_wire(field.name, wire));
            }
            let (key, value) = read_entry(field, reader.bytes()?, limits)?;
            let entries = map.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entries) = entries {
                limits.take(|budget| budget.member(entries.len(), &key))?;
                entries.insert(key, value);
            }
        }
    }
    Ok(())
}

/// A message that comes twice is merged, as protobuf demands; anything else is replaced.
fn merge_in(map: &mut Map<String, Value>, name: &str, value: Value) {
    match (map.get_mut(name), value) {
        (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
        (_, value) => {
            map.insert(name.to_string(), value);
        }
    }
}

fn wrong_wire(name: &str, wire: u8) -> ProtobufError {
    ProtobufError::Malformed(format!("wrong wireType = {wire} for field {name}"))
}

/// One entry of a map: field 1 is the key, field 2 the value.
fn read_entry(field: &Field, bytes: &[u8], limits: Limits<'_>) -> Decoded<(String, Value)> {
    let mut reader = Reader { rest: bytes };
    let (mut key, mut value) = (String::new(), None);
    while let Some((number, wire)) = reader.tag()? {
        match number {
            1 if wire == LENGTH => key = reader.text()?.to_string(),
            2 if field.ty.shape == Shape::MapOfLists && wire == LENGTH => {
                let mut list = Vec::new();
                let mut inner = Reader { rest: reader.bytes()? };
                while let Some((number, wire)) = inner.tag()? {
                    if number == 1 {
                        limits.take(|budget| budget.take(ELEMENT))?;
                        list.extend(read_value(field.ty.base, wire, &mut inner, limits)?);
                    } else {
                        inner.skip(wire)?;
                    }
                }
                value = Some(Value::Array(list));
            }
            2 => value = read_value(field.ty.base, wire, &mut reader, limits)?,
            _ => reader.skip(wire)?,
        }
    }
    let absent = || match (field.ty.shape, field.ty.base) {
        (Shape::MapOfLists, _) => Value::Array(Vec::new()),
        (_, Base::String | Base::Bytes) => Value::String(String::new()),
        (_, Base::Quantity) => Value::String("0".to_string()),
        (_, Base::Object(_)) => Value::Object(Map::new()),
        _ => Value::Null,
    };
    Ok((key, value.unwrap_or_else(absent)))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// One value; none for the zero time and for raw values without content.
fn read_value(base: Base, wire: u8, reader: &mut Reader<'_>, limits: Limits<'_>) -> Decoded<Option<Value>> {
    let wanted = match base {
        Base::Int32 | Base::Int64 | Base::Bool => VARINT,
        Base::Number => FIXED64,
        _ => LENGTH,
    };
    if wire != wanted {
        return Err(wrong_wire("", wire));
    }
    Ok(Some(match base {
        Base::String => Value::String(limits.text(reader.text()?)?),
        // Negative 32-bit numbers come in ten bytes: truncation is the meaning.
        Base::Int32 => Value::from(reader.varint()? as i32),
        Base::Int64 => Value::from(reader.varint()? as i64),
        Base::Bool => Value::Bool(reader.varint()? != 0),
        Base::Number => {
            let number = f64::from_bits(u64::from_le_bytes(reader.array()?));
            Number::from_f64(number).map_or(Value::Null, Value::Number)
        }
        // Four characters for three bytes are within what the body's size allows.
        Base::Bytes => Value::String(base64::engine::general_purpose::STANDARD.encode(reader.bytes()?)),
        Base::Time | Base::MicroTime => return read_time(base, reader.bytes()?),
        Base::Quantity => Value::String(read_quantity(reader.bytes()?)?),
        Base::IntOrString => read_int_or_string(reader.bytes()?)?,
        Base::Raw | Base::Fields | Base::Json => return read_raw(reader.bytes()?, limits),
        Base::SchemaOrArray | Base::SchemaOrBool | Base::SchemaOrStrings => {
            read_schema_or(base, reader.bytes()?, limits)?
        }
        Base::Object(ty) => {
            let mut map = Map::new();
            message(ty, reader.bytes()?, &mut map, limits.deeper()?)?;
            Value::Object(map)
        }
    }))
}

fn read_time(base: Base, bytes: &[u8]) -> Decoded<Option<Value>> {
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    let mut reader = Reader { rest: bytes };
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, VARINT) => seconds = reader.varint()? as i64,
            (2, VARINT) => nanos = reader.varint()? as i32,
            _ => reader.skip(wire)?,
        }
    }
    if seconds == 0 && nanos == 0 {
        return Ok(None);
    }
    let at = Timestamp::new(seconds, nanos).map_err(|error| ProtobufError::Malformed(error.to_string()))?;
    Ok(Some(Value::String(if base == Base::MicroTime { to_micro_time(at) } else { to_time(at) })))
}

fn read_quantity(bytes: &[u8]) -> Decoded<String> {
    let mut text = "";
    let mut reader = Reader { rest: bytes };
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, LENGTH) => text = reader.text()?,
            _ => reader.skip(wire)?,
        }
    }
    if text.is_empty() {
        return Ok("0".to_string());
    }
    let quantity: Quantity = text
        .parse()
        .map_err(|error: crate::quantity::QuantityError| ProtobufError::Malformed(error.to_string()))?;
    Ok(quantity.to_string())
}

fn read_int_or_string(bytes: &[u8]) -> Decoded<Value> {
    let (mut kind, mut number, mut text) = (0, 0, "");
    let mut reader = Reader { rest: bytes };
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, VARINT) => kind = reader.varint()?,
            (2, VARINT) => number = reader.varint()? as i32,
            (3, LENGTH) => text = reader.text()?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(if kind == 1 { Value::String(text.to_string()) } else { Value::from(number) })
}

/// Raw content is JSON, or an enveloped object again.
fn read_raw(bytes: &[u8], limits: Limits<'_>) -> Decoded<Option<Value>> {
    let mut raw = &[][..];
    let mut reader = Reader { rest: bytes };
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, LENGTH) => raw = reader.bytes()?,
            _ => reader.skip(wire)?,
        }
    }
    if raw.is_empty() {
        return Ok(None);
    }
    if raw.starts_with(MAGIC) {
        return envelope(raw, limits.deeper()?).map(Some);
    }
    limits.json(raw).map(Some)
}

fn read_schema_or(base: Base, bytes: &[u8], limits: Limits<'_>) -> Decoded<Value> {
    let schema = schema::by_name("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
    let (mut single, mut list, mut allows) = (None, Vec::new(), false);
    let mut reader = Reader { rest: bytes };
    // A boolean takes number 1 itself and leaves 2 to the schema.
    let schema_number = if base == Base::SchemaOrBool { 2 } else { 1 };
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire, schema) {
            (_, LENGTH, Some(ty)) if number == schema_number => {
                single = read_value(Base::Object(ty), wire, &mut reader, limits)?;
            }
            (2, LENGTH, Some(ty)) if base == Base::SchemaOrArray => {
                list.extend(read_value(Base::Object(ty), wire, &mut reader, limits)?);
            }
            (2, LENGTH, _) if base == Base::SchemaOrStrings => {
                list.push(Value::String(limits.text(reader.text()?)?));
            }
            (1, VARINT, _) => allows = reader.varint()? != 0,
            _ => reader.skip(wire)?,
        }
    }
    Ok(match single {
        Some(schema) => schema,
        None if base == Base::SchemaOrBool => Value::Bool(allows),
        None => Value::Array(list),
    })
}
