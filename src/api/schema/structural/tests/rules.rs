//! What upstream refuses in a schema, and how patterns of Go are read.

use super::*;

fn faults_of(schema: &Value, status: bool) -> Vec<String> {
    let parsed = Parser::default().parse(schema, &crate::validation::Path::new("schema"), status);
    parsed.err().into_iter().flatten().map(|fault| fault.to_string()).collect()
}

fn field(schema: Value) -> Value {
    json!({ "type": "object", "properties": { "a": schema } })
}

#[test]
fn combinations_of_extensions_are_judged_as_upstream_does() {
    let list = |kind: &str, keys: Value, items: Value| {
        field(
            json!({ "type": "array", "x-kubernetes-list-type": kind, "x-kubernetes-list-map-keys": keys, "items": items }),
        )
    };
    let item = |key: Value, required: Value| json!({ "type": "object", "properties": { "k": key }, "required": required });
    let at = "schema.properties[a]";
    for (schema, expected) in [
        (
            field(json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": false })),
            vec!["x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"],
        ),
        (
            field(json!({ "type": "string", "x-kubernetes-map-type": "atomic" })),
            vec![r#"type: Invalid value: "string": must be object if x-kubernetes-map-type is specified"#],
        ),
        (
            field(json!({ "type": "object", "x-kubernetes-map-type": "set" })),
            vec![
                r#"x-kubernetes-map-type: Unsupported value: "set": supported values: "atomic", "granular""#,
            ],
        ),
        (
            list("set", json!([]), json!({ "type": "object", "properties": { "k": { "type": "string" } } })),
            vec![
                r#"items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set"#,
            ],
        ),
        (
            list("set", json!([]), json!({ "type": "string", "nullable": true })),
            vec!["items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set"],
        ),
        (
            list("map", json!(["k"]), item(json!({ "type": "string" }), json!([]))),
            vec![
                "items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        ),
        (
            list("map", json!(["k", "k"]), item(json!({ "type": "string" }), json!(["k"]))),
            vec![
                r#"x-kubernetes-list-map-keys: Invalid value: ["k","k"]: must not contain duplicate entries"#,
            ],
        ),
        (
            list("map", json!(["k"]), item(json!({ "type": "object" }), json!(["k"]))),
            vec![
                r#"items.properties[k].type: Invalid value: "object": must be a scalar type if parent array's x-kubernetes-list-type is map"#,
            ],
        ),
        (
            list("atomic", json!(["k"]), json!({ "type": "string" })),
            vec![
                r#"x-kubernetes-list-type: Invalid value: "atomic": must be map if x-kubernetes-list-map-keys is non-empty"#,
            ],
        ),
        (
            field(
                json!({ "x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true }),
            ),
            vec![
                "x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
            ],
        ),
        (
            field(json!({ "type": "object", "x-kubernetes-embedded-resource": true })),
            vec![
                "properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ],
        ),
        (
            field(
                json!({ "type": "string", "x-kubernetes-validations": [{ "rule": " " }, { "rule": "a\nb" }] }),
            ),
            vec![
                "x-kubernetes-validations[0].rule: Required value: rule is not specified",
                "x-kubernetes-validations[1].message: Required value: message must be specified if rule contains line breaks",
            ],
        ),
        (
            field(json!({ "type": "null" })),
            vec![
                r#"type: Unsupported value: "null": supported values: "array", "boolean", "integer", "number", "object", "string""#,
                "type: Forbidden: type cannot be set to null, use nullable as an alternative",
            ],
        ),
        (
            field(
                json!({ "type": "object", "properties": { "b": { "type": "string" } }, "default": { "c": 1 } }),
            ),
            vec![r#"default: Invalid value: {"c":1}: must not have unknown fields"#],
        ),
    ] {
        let expected: Vec<String> = expected.into_iter().map(|fault| format!("{at}.{fault}")).collect();
        assert_eq!(faults_of(&schema, false), expected, "{schema}");
    }
}

#[test]
fn what_restricts_values_defines_nothing() {
    let nested = |nested: Value| json!({ "type": "object", "properties": { "a": { "type": "string" } }, "anyOf": [nested] });
    assert_eq!(
        faults_of(
            &nested(json!({ "type": "object", "nullable": true, "additionalProperties": true })),
            false
        ),
        [
            "schema.anyOf[0].additionalProperties: Forbidden: must be undefined to be structural",
            "schema.anyOf[0].nullable: Forbidden: must be false to be structural",
            "schema.anyOf[0].type: Forbidden: must be empty to be structural",
        ]
    );
    assert_eq!(
        faults_of(
            &nested(json!({ "properties": { "a": { "pattern": "x" }, "b": {}, "metadata": {} } })),
            false
        ),
        [
            "schema.anyOf[0].properties[metadata]: Forbidden: must not be specified in a nested context",
            "schema.properties[b]: Required value: because it is defined in schema.anyOf[0].properties[b]",
            "schema.properties[metadata]: Required value: because it is defined in schema.anyOf[0].properties[metadata]",
        ]
    );
    // But for the two ways of spelling out what may be a number or a text.
    let either = json!([{ "type": "integer" }, { "type": "string" }]);
    for one in [
        json!({ "x-kubernetes-int-or-string": true, "anyOf": either }),
        json!({ "x-kubernetes-int-or-string": true, "allOf": [{ "anyOf": either }, { "pattern": "^[0-9]" }] }),
    ] {
        assert_eq!(faults_of(&field(one), false), Vec::<String>::new());
    }
    let parsed =
        Structural::parse(&field(json!({ "x-kubernetes-int-or-string": true, "anyOf": either })), "s");
    let parsed = parsed.unwrap();
    assert!(parsed.faults(&json!({ "a": "x" }), "").is_empty());
    assert!(!parsed.faults(&json!({ "a": true }), "").is_empty());
}

#[test]
fn the_root_has_rules_of_its_own() {
    let object = |more: Value| {
        let mut schema = json!({ "type": "object", "properties": { "spec": { "type": "object" } } });
        schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        schema
    };
    let one_of = object(json!({ "oneOf": [{ "required": ["spec"] }] }));
    assert!(faults_of(&one_of, false).is_empty());
    let faults = faults_of(&one_of, true);
    assert!(
        faults[0].contains("only [Description Type Format") && faults[0].ends_with(
            "XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource is enabled"
        ),
        "{faults:?}"
    );
    assert_eq!(
        faults_of(&object(json!({ "nullable": true })), false),
        ["schema.nullable: Forbidden: nullable cannot be true at the root"]
    );
    assert_eq!(
        faults_of(&object(json!({ "additionalProperties": true })), false),
        ["schema.additionalProperties: Forbidden: must not be used at the root"]
    );
    let metadata = |metadata: Value| json!({ "type": "object", "properties": { "metadata": metadata } });
    assert!(
        faults_of(
            &metadata(
                json!({ "type": "object", "properties": { "name": { "type": "string", "maxLength": 3 } } })
            ),
            true
        )
        .is_empty()
    );
    let defaulted =
        json!({ "type": "object", "properties": { "name": { "type": "string", "default": "x" } } });
    assert_eq!(
        faults_of(&metadata(defaulted), false),
        [
            "schema.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata"
        ]
    );
    // A root may leave its type out if it keeps what it does not know.
    assert!(faults_of(&json!({ "x-kubernetes-preserve-unknown-fields": true }), false).is_empty());
}

#[test]
fn names_of_objects_are_checked_by_their_schema() {
    let schema = json!({ "type": "object", "properties": { "metadata": {
        "type": "object", "properties": { "name": { "type": "string", "maxLength": 3 } } } } });
    let schema = CustomSchema::new("v1", "Widget", Structural::parse(&schema, "schema").unwrap());
    let mut tree = json!({ "metadata": { "name": "long", "labels": { "a": "b" } } });
    assert_eq!(schema.check(&mut tree, &[], FieldValidation::Warn).unwrap(), Vec::<String>::new());
    assert_eq!(tree["metadata"]["labels"]["a"], "b");
    let faults: Vec<String> = schema.validate(&tree, None).iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["metadata.name: Too long: may not be more than 3 bytes"]);
}

#[test]
fn patterns_mean_what_they_mean_in_go() {
    for (pattern, yes, no) in [
        (r"^\d+$", "12", "١٢"),
        (r"^\w$", "a", "é"),
        (r"^[\w.-]+$", "a.b-c", "a b"),
        (r"^[\s]$", "\t", "\u{a0}"),
        (r"^[^\s]$", "\u{a0}", " "),
        (r"^[[]$", "[", "]"),
        (r"^[]]$", "]", "["),
        (r"^[a&&b]$", "&", "c"),
        (r"^[+--]$", ",", "."),
        (r"^[[:alpha:]_]+$", "a_", "1"),
        (r"^{.*}$", "{x}", "x"),
        (r"^a{2}$", "aa", "a"),
        (r"^\Qa.b\E$", "a.b", "axb"),
        (r"^(?P<name>a)(b)$", "ab", "b"),
        (r"^(?i)a$", "A", "b"),
        (r"\bx\b", "a x", "ax"),
        (r"^.{1,253}$", "é", "\n"),
    ] {
        let schema = field(json!({ "type": "string", "pattern": pattern }));
        let schema = Structural::parse(&schema, "s").unwrap_or_else(|faults| panic!("{pattern}: {faults:?}"));
        assert!(schema.faults(&json!({ "a": yes }), "").is_empty(), "{pattern} and {yes:?}");
        assert!(!schema.faults(&json!({ "a": no }), "").is_empty(), "{pattern} and {no:?}");
    }
    for pattern in ["(", "a{1001}", "[a", r"\C", "*"] {
        let faults = faults_of(&field(json!({ "type": "string", "pattern": pattern })), false);
        assert!(faults[0].contains("must be a valid regular expression, but isn't"), "{pattern}: {faults:?}");
    }
}

#[test]
fn what_has_not_changed_is_not_judged() {
    let schema = json!({ "type": "object", "properties": {
        "field": { "type": "string", "enum": ["new"] },
        "inner": { "type": "object", "required": ["there"], "properties": { "a": { "type": "string" } } },
        "keyed": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"],
            "items": { "type": "object", "required": ["key"], "properties": {
                "key": { "type": "string" }, "field": { "type": "string", "enum": ["new"] } } },
        },
        "plain": { "type": "array", "items": { "type": "string", "enum": ["new"] } },
    } });
    let schema = Structural::parse(&schema, "").unwrap_or_else(|faults| panic!("{faults:?}"));
    let old = json!({
        "field": "old", "inner": { "a": "x" }, "plain": ["old"],
        "keyed": [{ "key": "1", "field": "old" }, { "key": "2", "field": "old" }],
    });
    let faults = |change: Value| -> Vec<String> {
        let mut new = old.clone();
        new["metadata"] = json!({ "labels": { "a": "b" } });
        for (member, value) in change.as_object().unwrap() {
            new[member] = value.clone();
        }
        schema.faults_since(&new, Some(&old), "").iter().map(|fault| fault.field.clone()).collect()
    };
    assert!(faults(json!({})).is_empty());
    assert!(faults(json!({ "keyed": [{ "key": "2", "field": "old" }, { "key": "3" }] })).is_empty());
    assert_eq!(faults(json!({ "field": "older" })), ["field"]);
    assert_eq!(faults(json!({ "inner": { "a": "y" } })), ["inner.there"]);
    assert_eq!(faults(json!({ "keyed": [{ "key": "3", "field": "old" }] })), ["keyed[0].field"]);
    assert_eq!(faults(json!({ "plain": ["new", "old"] })), ["plain[1]"]);
}
