//! `/openapi/v2` in its protobuf form: what kubectl before 1.29 reads to validate, explain and apply.
//!
//! Derived from the v3 schemas and operations, which say more: references stand bare, unions become strings,
//! extensions travel as YAML text. Absent: responses, bodies of requests, header parameters; no client reads
//! them from this form.

use serde_json::{Map, Value};

use crate::protobuf::wire::{put_bool, put_bytes};

type Out = Vec<u8>;

/// Writes a nested message.
fn nested(out: &mut Out, number: u16, write: impl FnOnce(&mut Out)) {
    let mut inner = Vec::new();
    write(&mut inner);
    put_bytes(out, number, &inner);
}

fn put_text(out: &mut Out, number: u16, text: &str) {
    if !text.is_empty() {
        put_bytes(out, number, text.as_bytes());
    }
}

/// The document: `swagger`, `info`, `paths`, `definitions`.
pub(super) fn encode(
    title: &str,
    version: &str,
    paths: &Map<String, Value>,
    schemas: &Map<String, Value>,
) -> Out {
    let mut out = Vec::new();
    put_text(&mut out, 1, "2.0");
    nested(&mut out, 2, |out| {
        put_text(out, 1, title);
        put_text(out, 2, version);
    });
    nested(&mut out, 8, |out| {
        for (path, item) in paths {
            nested(out, 2, |out| {
                put_text(out, 1, path);
                nested(out, 2, |out| path_item(out, item));
            });
        }
    });
    nested(&mut out, 9, |out| named_schemas(out, schemas));
    out
}

fn named_schemas(out: &mut Out, schemas: &Map<String, Value>) {
    for (name, value) in schemas {
        nested(out, 1, |out| {
            put_text(out, 1, name);
            nested(out, 2, |out| schema(out, value));
        });
    }
}

fn schema(out: &mut Out, value: &Value) {
    let Value::Object(map) = value else { return };
    let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
    let reference = map.get("$ref").or_else(|| value.pointer("/allOf/0/$ref")).and_then(Value::as_str);
    if let Some(reference) = reference {
        put_text(out, 1, &reference.replace("#/components/schemas/", "#/definitions/"));
    }
    put_text(out, 2, text("format"));
    for required in
        map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        put_text(out, 19, required);
    }
    if let Some(values) = map.get("additionalProperties") {
        nested(out, 21, |out| nested(out, 1, |out| schema(out, values)));
    }
    // A union of a string and a number is a string in version 2.
    let kind = if map.contains_key("oneOf") { "string" } else { text("type") };
    if !kind.is_empty() {
        nested(out, 22, |out| put_text(out, 1, kind));
    }
    if let Some(items) = map.get("items") {
        nested(out, 23, |out| nested(out, 1, |out| schema(out, items)));
    }
    if let Some(properties) = map.get("properties").and_then(Value::as_object) {
        nested(out, 25, |out| named_schemas(out, properties));
    }
    extensions(out, 31, map);
}

/// `x-…` members, each as a name and YAML text (JSON is YAML).
fn extensions(out: &mut Out, number: u16, map: &Map<String, Value>) {
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        nested(out, number, |out| {
            put_text(out, 1, name);
            nested(out, 2, |out| put_text(out, 2, &value.to_string()));
        });
    }
}

fn path_item(out: &mut Out, item: &Value) {
    for (method, number) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(Value::Object(map)) = item.get(method) {
            nested(out, number, |out| operation(out, map));
        }
    }
    parameters(out, 9, item.get("parameters"));
}

fn operation(out: &mut Out, map: &Map<String, Value>) {
    for tag in map.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        put_text(out, 1, tag);
    }
    put_text(out, 5, map.get("operationId").and_then(Value::as_str).unwrap_or_default());
    parameters(out, 8, map.get("parameters"));
    extensions(out, 13, map);
}

/// Query and path parameters: item, parameter, non-body, and the kind by place.
fn parameters(out: &mut Out, number: u16, list: Option<&Value>) {
    for parameter in list.and_then(Value::as_array).into_iter().flatten() {
        let text = |path: &str| parameter.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let place = text("/in");
        let in_path = place == "path";
        nested(out, number, |out| {
            nested(out, 1, |out| {
                nested(out, 2, |out| {
                    nested(out, if in_path { 4 } else { 3 }, |out| {
                        if in_path {
                            put_bool(out, 1, true);
                        }
                        put_text(out, 2, place);
                        put_text(out, 4, text("/name"));
                        put_text(out, if in_path { 5 } else { 6 }, text("/schema/type"));
                    });
                });
            });
        });
    }
}
