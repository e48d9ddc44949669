//! `/openapi/v2`: what kubectl before 1.29 reads to validate, explain and apply (in protobuf), and generators
//! of clients (in JSON).
//!
//! Derived from the v3 schemas and operations, which say more: references stand bare, unions become strings,
//! and of a schema that lets unknown fields through nothing is said, because clients of this version would
//! refuse them. In protobuf extensions travel as YAML text. Absent: bodies of requests and of responses,
//! header parameters; no client reads them from this form.

use serde_json::{Map, Value, json};

use crate::protobuf::wire::{put_bool, put_bytes};

type Out = Vec<u8>;

/// Schemas of version 3 as definitions of version 2.
pub(super) fn definitions(schemas: &Map<String, Value>) -> Map<String, Value> {
    schemas.iter().map(|(name, schema)| (name.clone(), definition(schema))).collect()
}

fn definition(schema: &Value) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let mut out = Map::new();
    let reference = map.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref")).and_then(Value::as_str);
    if let Some(reference) = reference {
        out.insert("$ref".into(), json!(reference.replace("#/components/schemas/", "#/definitions/")));
        let beside = map.iter().filter(|(key, _)| matches!(key.as_str(), "description" | "default"));
        out.extend(beside.map(|(key, value)| (key.clone(), value.clone())));
        return Value::Object(out);
    }
    let is = |key: &str| map.get(key).is_some_and(|value| value == true);
    let (nullable, preserves) = (is("nullable"), is("x-kubernetes-preserve-unknown-fields"));
    if let Some(kind) = map.get("x-kubernetes-group-version-kind").filter(|_| preserves) {
        return json!({ "type": "object", "x-kubernetes-group-version-kind": kind });
    }
    for (key, value) in map {
        let value = match (key.as_str(), value) {
            ("allOf" | "anyOf" | "oneOf" | "not" | "nullable", _) => continue,
            ("properties" | "items", _) if nullable || preserves => continue,
            ("type", kind) if nullable || (preserves && kind == "object") => continue,
            ("properties", Value::Object(properties)) => Value::Object(definitions(properties)),
            ("items" | "additionalProperties", value) => definition(value),
            ("required", Value::Array(names)) => {
                let is_nullable = |name: &&Value| {
                    let name = name.as_str().unwrap_or_default();
                    map.get("properties").is_some_and(|fields| fields[name]["nullable"] == true)
                };
                names.iter().filter(|name| !is_nullable(name)).cloned().collect()
            }
            (_, value) => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    if out.get("type").is_some_and(|kind| kind == "array") && !out.contains_key("items") {
        out.remove("type");
    }
    // A built-in union of a string and a number.
    let is_union = map.contains_key("oneOf") && !map.contains_key("type");
    if is_union && !preserves && !is("x-kubernetes-int-or-string") {
        out.insert("type".into(), json!("string"));
    }
    Value::Object(out)
}

/// The document in JSON.
pub(super) fn json(
    title: &str,
    version: &str,
    paths: &Map<String, Value>,
    definitions: Map<String, Value>,
) -> Value {
    let paths: Map<String, Value> =
        paths.iter().map(|(path, item)| (path.clone(), json_item(item))).collect();
    json!({
        "swagger": "2.0", "info": { "title": title, "version": version },
        "paths": paths, "definitions": definitions,
    })
}

fn json_item(item: &Value) -> Value {
    let mut out = Map::new();
    for method in ["get", "put", "post", "delete", "patch"] {
        let Some(Value::Object(operation)) = item.get(method) else { continue };
        let is_kept =
            |key: &str| matches!(key, "tags" | "operationId" | "description") || key.starts_with("x-");
        let kept = operation.iter().filter(|(key, _)| is_kept(key));
        let mut own: Map<String, Value> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
        if let Some(list) = operation.get("parameters") {
            own.insert("parameters".into(), json_parameters(list));
        }
        own.insert("responses".into(), json!({ "200": { "description": "OK" } }));
        out.insert(method.into(), Value::Object(own));
    }
    if let Some(list) = item.get("parameters") {
        out.insert("parameters".into(), json_parameters(list));
    }
    Value::Object(out)
}

fn json_parameters(list: &Value) -> Value {
    let parameter = |given: &Value| {
        let place = &given["in"];
        let mut out = json!({ "name": given["name"], "in": place, "type": given["schema"]["type"] });
        if let Some(about) = given.get("description") {
            out["description"] = about.clone();
        }
        if place == "path" {
            out["required"] = json!(true);
        }
        out
    };
    list.as_array().into_iter().flatten().map(parameter).collect()
}

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
    put_text(out, 1, text("$ref"));
    put_text(out, 2, text("format"));
    put_text(out, 4, text("description"));
    for required in
        map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        put_text(out, 19, required);
    }
    if let Some(values) = map.get("additionalProperties") {
        nested(out, 21, |out| nested(out, 1, |out| schema(out, values)));
    }
    if !text("type").is_empty() {
        nested(out, 22, |out| put_text(out, 1, text("type")));
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
    put_text(out, 3, map.get("description").and_then(Value::as_str).unwrap_or_default());
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
                        put_text(out, 3, text("/description"));
                        put_text(out, 4, text("/name"));
                        put_text(out, if in_path { 5 } else { 6 }, text("/schema/type"));
                    });
                });
            });
        });
    }
}
