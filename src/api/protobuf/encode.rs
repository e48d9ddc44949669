//! The JSON tree to protobuf.
//!
//! Only what the tree has is written; Go's decoder takes absent fields as zero. Lengths come before contents,
//! so a message is written to its end and its length put in front by moving it: bodies are small and mostly
//! flat.

use base64::Engine;
use serde_json::{Map, Value};

use super::wire::{FIXED64, LENGTH, VARINT, put_bool, put_bytes, put_tag, put_varint};
use super::{MAGIC, ProtobufError};
use crate::schema::{self, Base, Field, Shape, TypeRef};

type Encoded<T> = Result<T, ProtobufError>;

/// Encodes a tree that has `apiVersion` and `kind` of a built-in kind (lists too) with its envelope.
pub fn encode(tree: &Value) -> Encoded<Vec<u8>> {
    let (ty, api_version, kind) = type_of(tree)?;
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(MAGIC);
    nested(&mut out, 1, |out| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
        Ok(())
    })?;
    nested(&mut out, 2, |out| object(out, ty, tree))?;
    // Upstream writes contentEncoding and contentType even if empty.
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    Ok(out)
}

/// Encodes a list item by item, for those who do not want it in memory as a whole.
pub struct ListEncoder {
    api_version: String,
    kind: String,
    /// The field that the items are.
    items: &'static Field,
    /// What the list has beside its items, encoded.
    rest: Vec<u8>,
}

impl ListEncoder {
    /// What follows the items: an envelope's contentEncoding and contentType, which upstream writes even if
    /// empty.
    pub const END: [u8; 4] = [0x1a, 0, 0x22, 0];

    /// `list` has everything but the items.
    pub fn new(list: &Value) -> Encoded<Self> {
        let (ty, api_version, kind) = type_of(list)?;
        let items = ty.field("items").ok_or_else(|| mismatch("items", "in a list"))?;
        let (api_version, kind) = (api_version.to_string(), kind.to_string());
        Ok(ListEncoder { api_version, kind, items, rest: encode_message(ty, list)? })
    }

    /// One item with what stands before it.
    pub fn item(&self, tree: &Value) -> Encoded<Vec<u8>> {
        let mut out = Vec::with_capacity(1024);
        put_value(&mut out, self.items.number, self.items.ty.base, tree, self.items.name)?;
        Ok(out)
    }

    /// What comes before the items, which are so many bytes.
    pub fn start(&self, items: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(MAGIC);
        let mut type_meta = Vec::with_capacity(64);
        put_bytes(&mut type_meta, 1, self.api_version.as_bytes());
        put_bytes(&mut type_meta, 2, self.kind.as_bytes());
        put_bytes(&mut out, 1, &type_meta);
        put_tag(&mut out, 2, LENGTH);
        put_varint(&mut out, (self.rest.len() + items) as u64);
        out.extend_from_slice(&self.rest);
        out
    }
}

/// The type that a tree says it is of, and its words.
fn type_of(tree: &Value) -> Encoded<(TypeRef, &str, &str)> {
    let text = |name: &str| tree.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let ty = schema::for_gvk(group, version, kind).ok_or_else(|| ProtobufError::UnknownKind {
        api_version: api_version.to_string(),
        kind: kind.to_string(),
    })?;
    Ok((ty, api_version, kind))
}

/// Encodes a bare message of a type.
pub(crate) fn encode_message(ty: TypeRef, tree: &Value) -> Encoded<Vec<u8>> {
    let mut out = Vec::new();
    object(&mut out, ty, tree)?;
    Ok(out)
}

/// One frame of a protobuf watch stream, with its length in front as four big-endian bytes: `object` is what
/// [`encode`] made.
pub fn encode_watch_event(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4];
    put_bytes(&mut out, 1, event_type.as_bytes());
    // The object is a RawExtension: field 2 holds a message whose field 1 holds the bytes.
    let mut raw = Vec::with_capacity(object.len() + 8);
    put_bytes(&mut raw, 1, object);
    put_bytes(&mut out, 2, &raw);
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// Writes a nested message: its content, then its length moved in front.
fn nested(out: &mut Vec<u8>, number: u16, write: impl FnOnce(&mut Vec<u8>) -> Encoded<()>) -> Encoded<()> {
    put_tag(out, number, LENGTH);
    let start = out.len();
    write(out)?;
    let length = out.len() - start;
    put_varint(out, length as u64);
    let prefix = out.len() - start - length;
    out[start..].rotate_right(prefix);
    Ok(())
}

fn mismatch(name: &str, wanted: &str) -> ProtobufError {
    ProtobufError::Malformed(format!("field {name} is not {wanted}"))
}

fn object(out: &mut Vec<u8>, ty: TypeRef, tree: &Value) -> Encoded<()> {
    let map = tree.as_object().ok_or_else(|| mismatch(ty.short_name(), "an object"))?;
    fields(out, ty, map)
}

fn fields(out: &mut Vec<u8>, ty: TypeRef, map: &Map<String, Value>) -> Encoded<()> {
    for (name, value) in map {
        match ty.field(name) {
            Some(field) if field.number > 0 && !value.is_null() => put_field(out, field, value)?,
            _ => {}
        }
    }
    for (number, inline) in ty.inline() {
        nested(out, *number, |out| fields(out, *inline, map))?;
    }
    Ok(())
}

fn put_field(out: &mut Vec<u8>, field: &Field, value: &Value) -> Encoded<()> {
    match field.ty.shape {
        Shape::One => put_value(out, field.number, field.ty.base, value, field.name),
        Shape::List => {
            for one in value.as_array().ok_or_else(|| mismatch(field.name, "a list"))? {
                put_value(out, field.number, field.ty.base, one, field.name)?;
            }
            Ok(())
        }
        Shape::Map | Shape::MapOfLists => {
            for (key, one) in value.as_object().ok_or_else(|| mismatch(field.name, "a map"))? {
                nested(out, field.number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    if field.ty.shape == Shape::Map {
                        return put_value(out, 2, field.ty.base, one, field.name);
                    }
                    nested(out, 2, |out| {
                        one.as_array()
                            .ok_or_else(|| mismatch(field.name, "a map of lists"))?
                            .iter()
                            .try_for_each(|one| put_value(out, 1, field.ty.base, one, field.name))
                    })
                })?;
            }
            Ok(())
        }
    }
}

fn put_value(out: &mut Vec<u8>, number: u16, base: Base, value: &Value, name: &str) -> Encoded<()> {
    let text = || value.as_str().ok_or_else(|| mismatch(name, "a string"));
    let integer = || value.as_i64().ok_or_else(|| mismatch(name, "an integer"));
    match base {
        Base::String => put_bytes(out, number, text()?.as_bytes()),
        Base::Int32 | Base::Int64 => {
            put_tag(out, number, VARINT);
            put_varint(out, integer()? as u64);
        }
        Base::Bool => {
            put_bool(out, number, value.as_bool().ok_or_else(|| mismatch(name, "a boolean"))?);
        }
        Base::Number => {
            put_tag(out, number, FIXED64);
            let number = value.as_f64().ok_or_else(|| mismatch(name, "a number"))?;
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        Base::Bytes => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text()?);
            put_bytes(out, number, &decoded.map_err(|_| mismatch(name, "base64"))?);
        }
        Base::Time | Base::MicroTime => {
            // A null is the zero time: an empty message.
            let at = match value {
                Value::Null => None,
                _ => Some(text()?.parse::<jiff::Timestamp>().map_err(|_| mismatch(name, "a time"))?),
            };
            nested(out, number, |out| {
                put_timestamp(out, at, base);
                Ok(())
            })?;
        }
        Base::Quantity => {
            let text = match value {
                Value::Number(number) => number.to_string(),
                _ => text()?.to_string(),
            };
            nested(out, number, |out| {
                put_bytes(out, 1, text.as_bytes());
                Ok(())
            })?;
        }
        Base::IntOrString => nested(out, number, |out| {
            put_bool(out, 1, value.is_string());
            if let Value::String(text) = value {
                put_bytes(out, 3, text.as_bytes());
                return Ok(());
            }
            put_tag(out, 2, VARINT);
            put_varint(out, integer()? as u64);
            Ok(())
        })?,
        Base::Raw | Base::Fields | Base::Json => {
            let raw =
                serde_json::to_vec(value).map_err(|error| ProtobufError::Malformed(error.to_string()))?;
            nested(out, number, |out| {
                put_bytes(out, 1, &raw);
                Ok(())
            })?;
        }
        Base::SchemaOrArray | Base::SchemaOrBool | Base::SchemaOrStrings => {
            nested(out, number, |out| put_schema_or(out, base, value, name))?;
        }
        Base::Object(ty) => nested(out, number, |out| object(out, ty, value))?,
    }
    Ok(())
}

/// `Time` has seconds only; `MicroTime` keeps its fraction.
fn put_timestamp(out: &mut Vec<u8>, at: Option<jiff::Timestamp>, base: Base) {
    let Some(at) = at else { return };
    // Nanoseconds of a time before 1970 count forward from the second below.
    let (mut seconds, mut nanos) = (at.as_second(), at.subsec_nanosecond());
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    put_tag(out, 1, VARINT);
    put_varint(out, seconds as u64);
    put_tag(out, 2, VARINT);
    put_varint(out, if base == Base::MicroTime { nanos as u64 } else { 0 });
}

fn put_schema_or(out: &mut Vec<u8>, base: Base, value: &Value, name: &str) -> Encoded<()> {
    let schema = schema::by_name("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
    let ty = schema.map(Base::Object).ok_or_else(|| mismatch(name, "known"))?;
    match (base, value) {
        (Base::SchemaOrBool, Value::Bool(allows)) => {
            put_bool(out, 1, *allows);
            Ok(())
        }
        (Base::SchemaOrBool, _) => {
            // Go's decoder takes a schema as leave to have the field at all.
            put_bool(out, 1, true);
            put_value(out, 2, ty, value, name)
        }
        (Base::SchemaOrArray, Value::Array(list)) => {
            list.iter().try_for_each(|one| put_value(out, 2, ty, one, name))
        }
        (_, Value::Array(list)) => list.iter().try_for_each(|one| put_value(out, 2, Base::String, one, name)),
        _ => put_value(out, 1, ty, value, name),
    }
}
