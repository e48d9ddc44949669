//! Parsing, pruning, defaults and faults, with the words that clients see upstream.

mod costs;
mod rules;

use serde_json::{Value, json};

use super::*;
use crate::schema::ListType;
use crate::schema::{Place, Schema};
use crate::{ApiError, FieldValidation};

fn widget() -> Value {
    json!({
        "type": "object", "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object", "required": ["size"],
                "properties": {
                    "size": { "type": "integer", "format": "int32", "minimum": 1, "maximum": 10, "default": 3 },
                    "color": { "type": "string", "enum": ["red", "blue"], "default": "red" },
                    "name": { "type": "string", "pattern": "^[a-z]+$", "maxLength": 5 },
                    "ratio": { "type": "number" },
                    "note": { "type": "string", "nullable": true },
                    "port": { "x-kubernetes-int-or-string": true },
                    "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                              "properties": { "known": { "type": "object", "properties": { "a": { "type": "string" } } } } },
                    "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                    "any": { "type": "object", "additionalProperties": true },
                    "parts": { "type": "array", "maxItems": 2, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                               "items": { "type": "object", "required": ["id"], "properties": {
                                   "id": { "type": "string" }, "on": { "type": "boolean", "default": true } } } },
                    "tags": { "type": "array", "x-kubernetes-list-type": "set", "items": { "type": "string" } },
                    "either": { "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
                                "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] },
                },
            },
            "status": { "type": "object", "properties": { "ready": { "type": "boolean" } } },
        },
    })
}

fn schema() -> CustomSchema {
    CustomSchema::new("v1", "Widget", Structural::parse(&widget(), "schema").unwrap())
}

fn object(spec: Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "w" }, "spec": spec })
}

fn faults(spec: Value) -> Vec<String> {
    schema().validate(&object(spec), None).iter().map(ToString::to_string).collect()
}

#[test]
fn unknown_fields_are_pruned_and_told() {
    let mut tree = object(json!({
        "size": 1, "odd": 1, "labels": { "x": "y" }, "any": { "x": 1 },
        "free": { "x": 1, "known": { "a": "b", "c": "d" } },
        "parts": [{ "id": "1", "gone": {} }],
    }));
    tree["metadata"]["nonsense"] = json!(1);
    tree["top"] = json!(1);
    let warnings = schema().check(&mut tree, &["spec.size".into()], FieldValidation::Warn).unwrap();
    assert_eq!(
        warnings,
        [
            r#"duplicate field "spec.size""#,
            r#"unknown field "metadata.nonsense""#,
            r#"unknown field "spec.free.known.c""#,
            r#"unknown field "spec.odd""#,
            r#"unknown field "spec.parts[0].gone""#,
            r#"unknown field "top""#,
        ]
    );
    assert_eq!(
        tree["spec"],
        json!({ "size": 1, "labels": { "x": "y" }, "any": { "x": 1 }, "free": { "x": 1, "known": { "a": "b" } },
                "parts": [{ "id": "1" }] })
    );
    let strict = schema().check(&mut object(json!({ "odd": 1 })), &[], FieldValidation::Strict).unwrap_err();
    assert_eq!(
        strict.message(),
        r#"Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.odd""#
    );
}

#[test]
fn metadata_is_checked_as_for_every_kind() {
    let mut tree = object(json!({ "size": 1 }));
    tree["metadata"]["labels"] = json!({ "a": 1 });
    let error = schema().check(&mut tree, &[], FieldValidation::Warn).unwrap_err();
    assert_eq!(error.code(), 400);
    assert!(error.message().contains("cannot unmarshal number into Go struct field"), "{error}");
}

#[test]
fn defaults_fill_what_is_absent_or_null_at_any_depth() {
    let mut tree =
        object(json!({ "size": null, "note": null, "parts": [{ "id": "1" }, { "id": "2", "on": false }] }));
    schema().default(&mut tree).unwrap();
    assert_eq!(
        tree["spec"],
        json!({ "size": 3, "color": "red", "note": null,
                "parts": [{ "id": "1", "on": true }, { "id": "2", "on": false }] })
    );
    let mut bare = json!({ "metadata": {} });
    schema().default(&mut bare).unwrap();
    assert_eq!(bare, json!({ "metadata": {} }), "nothing is made that has no default itself");
}

#[test]
fn faults_have_upstreams_words() {
    for (spec, expected) in [
        (json!({}), "spec.size: Required value"),
        (
            json!({ "size": "one" }),
            r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#,
        ),
        (
            json!({ "size": 1.5 }),
            r#"spec.size: Invalid value: "number": spec.size in body must be of type integer: "number""#,
        ),
        (
            json!({ "size": 0 }),
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            json!({ "size": 11 }),
            "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10",
        ),
        (
            json!({ "size": 1, "color": "green" }),
            r#"spec.color: Unsupported value: "green": supported values: "red", "blue""#,
        ),
        (
            json!({ "size": 1, "name": "A" }),
            r#"spec.name: Invalid value: "A": spec.name in body should match '^[a-z]+$'"#,
        ),
        (json!({ "size": 1, "name": "abcdef" }), "spec.name: Too long: may not be more than 5 bytes"),
        (
            json!({ "size": 1, "color": null }),
            r#"spec.color: Invalid value: "null": spec.color in body must be of type string: "null""#,
        ),
        (
            json!({ "size": 1, "port": true }),
            r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
        ),
        (
            json!({ "size": 1, "labels": { "a": 1 } }),
            r#"spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer""#,
        ),
        (json!({ "size": 1, "parts": [{}] }), "spec.parts[0].id: Required value"),
        (
            json!({ "size": 1, "parts": [{ "id": "a" }, { "id": "a" }] }),
            r#"spec.parts[1]: Duplicate value: {"id":"a"}"#,
        ),
        (
            json!({ "size": 1, "parts": [{ "id": "a" }, { "id": "b" }, { "id": "c" }] }),
            "spec.parts: Too many: 3: must have at most 2 items",
        ),
        (json!({ "size": 1, "tags": ["x", "x"] }), r#"spec.tags[1]: Duplicate value: "x""#),
        (
            json!({ "size": 1, "either": {} }),
            r#"spec.either: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found none valid"#,
        ),
    ] {
        assert_eq!(faults(spec.clone()), [expected], "{spec}");
    }
    assert!(
        faults(json!({ "size": 2, "ratio": 1, "note": null, "port": "http", "either": { "a": "x" } }))
            .is_empty()
    );
}

#[test]
fn what_is_not_structural_is_refused() {
    for (schema, expected) in [
        (json!({}), "schema.type: Required value: must not be empty at the root"),
        (json!({ "type": "string" }), r#"schema.type: Invalid value: "string": must be object at the root"#),
        (
            json!({ "type": "object", "properties": { "a": {} } }),
            "schema.properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "array" } } }),
            "schema.properties[a].items: Required value: must be specified",
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "list" } } }),
            r#"schema.properties[a].type: Unsupported value: "list": supported values: "array", "boolean", "integer", "number", "object", "string""#,
        ),
        (
            json!({ "type": "object", "properties": { "metadata": { "type": "object", "properties": { "labels": { "type": "object" } } } } }),
            "schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "integer", "default": "x" } } }),
            r#"schema.properties[a].default: Invalid value: "string": schema.properties[a].default in body must be of type integer: "string""#,
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "string", "pattern": "(" } } }),
            r#"schema.properties[a].pattern: Invalid value: "(": must be a valid regular expression, but isn't"#,
        ),
        (
            json!({ "type": "object", "anyOf": [{ "description": "x" }] }),
            "schema.anyOf[0].description: Forbidden: must be empty to be structural",
        ),
        (json!({ "type": "object", "$ref": "x" }), "schema.$ref: Forbidden: $ref is not supported"),
    ] {
        let faults = Structural::parse(&schema, "schema").unwrap_err();
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [expected], "{schema}");
    }
}

#[test]
fn hostile_schemas_neither_recurse_for_ever_nor_take_memory() {
    let mut deep = json!({ "type": "object" });
    for _ in 0..100 {
        deep = json!({ "type": "object", "properties": { "a": deep } });
    }
    assert!(Structural::parse(&deep, "schema").is_err());
    let huge = json!({ "type": "object", "properties": { "a": { "type": "string", "pattern": "((a{1000}){1000}){1000}" } } });
    assert!(Structural::parse(&huge, "schema").is_err());
}

#[test]
fn defaults_take_no_more_memory_than_an_object_may() {
    let big = json!({ "type": "string", "default": "x".repeat(10_000) });
    let items = json!({ "type": "object", "properties": { "big": big } });
    let schema = json!({ "type": "object", "properties": { "list": { "type": "array", "items": items } } });
    let schema = CustomSchema::new("v1", "Widget", Structural::parse(&schema, "schema").unwrap());
    let mut tree = json!({ "list": vec![json!({}); 100_000] });
    assert_eq!(ApiError::from(schema.default(&mut tree).unwrap_err()).code(), 413);
}

#[test]
fn walkers_see_list_types_and_keys() {
    let schema = schema();
    let spec = schema.root().member("spec").place;
    let parts = spec.member("parts");
    assert_eq!((parts.list_type, &*parts.map_keys), (Some(ListType::Map), &["id"][..]));
    assert!(matches!(parts.place.member("on").place, Place::Structural(_)));
    assert_eq!(spec.member("tags").list_type, Some(ListType::Set));
    assert!(matches!(spec.member("odd").place, Place::Unknown));
}
