//! What schemas and objects cost is counted, and the excess refused with the budget's name and the field.

use std::sync::Arc;

use super::*;
use crate::schema::structural::limits::MAX_MAP_KEYS;
use crate::schema::structural::steps::Steps;
use crate::validation::Path;

fn parse(schema: &Value) -> Structural {
    Structural::parse(schema, "schema").unwrap()
}

fn refused(schema: &Value) -> Vec<String> {
    Structural::parse(schema, "schema").unwrap_err().iter().map(ToString::to_string).collect()
}

/// The faults of an object and the steps that they took.
fn checked(schema: &Structural, object: &Value) -> (Vec<String>, u64) {
    let mut steps = Steps::new(MAX_STEPS);
    let mut faults = schema.faults_within(object, &Path::new(""), &mut steps);
    faults.extend(steps.fault());
    (faults.iter().map(ToString::to_string).collect(), MAX_STEPS - steps.left())
}

fn list_of(items: Value) -> Value {
    json!({ "type": "object", "properties": { "list": { "type": "array", "items": items } } })
}

#[test]
fn a_definition_has_a_budget_of_nodes() {
    let fields = |count: usize| {
        let all: serde_json::Map<_, _> =
            (0..count).map(|n| (format!("f{n:06}"), json!({ "type": "string" }))).collect();
        json!({ "type": "object", "properties": all })
    };
    let mut parser = Parser::default();
    let mut parse = |count| parser.parse(&fields(count), &Path::new("schema"), false);
    parse(MAX_NODES / 2).unwrap();
    // The second version of the same definition.
    let faults = parse(MAX_NODES / 2).unwrap_err();
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let last = MAX_NODES / 2 - 2;
    assert_eq!(
        texts,
        [format!(
            "schema.properties[f{last:06}]: Forbidden: the schemas of a definition may have at most 50000 nodes"
        )]
    );
}

#[test]
fn patterns_are_compiled_once_and_have_a_budget_in_all() {
    let pattern = |text: &str| json!({ "type": "string", "pattern": text });
    let same =
        parse(&json!({ "type": "object", "properties": { "a": pattern("^x$"), "b": pattern("^x$") } }));
    let of = |name: &str| same.properties[name].rules.as_ref().unwrap().pattern.clone().unwrap();
    assert!(Arc::ptr_eq(&of("a"), &of("b")));
    // A hundred patterns of half a megabyte each.
    let many: serde_json::Map<_, _> =
        (0..100).map(|n| (format!("p{n:03}"), pattern(&format!("x{n}(a{{1000}}){{20}}")))).collect();
    let faults = refused(&json!({ "type": "object", "properties": many }));
    let budget =
        "Forbidden: the patterns of a definition may take at most 8388608 bytes once they are compiled";
    assert!(faults[0].starts_with("schema.properties[p008].pattern: "), "{}", faults[0]);
    assert!(faults.iter().all(|fault| fault.contains(budget)), "{faults:?}");
    // What is long before it is compiled is not even read.
    let long = refused(&json!({ "type": "object", "properties": { "a": pattern(&"(".repeat(100_000)) } }));
    assert!(long[0].contains(budget), "{long:?}");
}

#[test]
fn many_values_find_themselves_among_many_allowed_ones() {
    let words: Vec<String> = (0..20_000).map(|n| format!("word-{n}")).collect();
    let schema = parse(&list_of(json!({ "type": "string", "enum": words })));
    let (faults, steps) = checked(&schema, &json!({ "list": words }));
    assert_eq!(faults, Vec::<String>::new());
    assert!(steps < 1_000_000, "{steps}");
    let (faults, _) = checked(&schema, &json!({ "list": ["other"] }));
    assert!(
        faults[0].starts_with(r#"list[0]: Unsupported value: "other": supported values: "word-0", "word-1""#)
    );
    // However they are written.
    let numbers: Vec<i64> = (0..100).collect();
    let schema = parse(&list_of(json!({ "type": "number", "enum": numbers })));
    assert!(checked(&schema, &json!({ "list": [1, 1.0, 99.0] })).0.is_empty());
    assert_eq!(checked(&schema, &json!({ "list": [1.5] })).0.len(), 1);
}

#[test]
fn an_object_has_a_budget_of_steps() {
    let many = |name: &str| {
        let mut alternatives: Vec<Value> =
            (0..20_000).map(|n| json!({ "enum": [format!("no-{n}")] })).collect();
        alternatives.push(json!({ "enum": ["x"] }));
        parse(&list_of(json!({ "type": "string", name: alternatives })))
    };
    let object = json!({ "list": vec!["x"; 100_000] });
    for name in ["anyOf", "oneOf"] {
        let (faults, _) = checked(&many(name), &object);
        let last = faults.last().unwrap();
        assert!(
            last.ends_with(
                "Forbidden: checking this object against its schema would take more than 100000000 steps"
            ) && last.starts_with("list["),
            "{name}: {last}"
        );
    }
    // A large pattern and a long text.
    let pattern = parse(&list_of(json!({ "type": "string", "pattern": "(a?){1000}(a{100}){100}" })));
    let (faults, _) = checked(&pattern, &json!({ "list": ["a".repeat(1_000_000)] }));
    assert!(faults[0].starts_with("list[0]: Forbidden: checking this object"), "{faults:?}");
    // So have the defaults of a definition.
    let mut alternatives: Vec<Value> = (0..4_000).map(|n| json!({ "enum": [format!("no-{n}")] })).collect();
    alternatives.push(json!({ "enum": ["x"] }));
    let item = json!({ "type": "string", "anyOf": alternatives });
    let wrong = json!({ "type": "object", "properties": {
        "list": { "type": "array", "items": item, "default": vec!["x"; 10_000] } } });
    let faults = refused(&wrong);
    assert!(faults.last().unwrap().starts_with("schema.properties[list].default["), "{:?}", faults.last());
}

#[test]
fn yes_and_no_word_no_faults() {
    // Each alternative would find a hundred faults; the first suffices.
    let inner: serde_json::Map<_, _> =
        (0..500).map(|n| (format!("f{n}"), json!({ "maxLength": 0 }))).collect();
    let fields: serde_json::Map<_, _> =
        (0..500).map(|n| (format!("f{n}"), json!({ "type": "string" }))).collect();
    let object: serde_json::Map<_, _> = (0..500).map(|n| (format!("f{n}"), json!("x"))).collect();
    let alternative = json!({ "properties": inner });
    let schema = json!({ "type": "object", "properties": fields, "anyOf": vec![alternative; 50] });
    let (faults, steps) = checked(&parse(&schema), &Value::Object(object));
    assert_eq!(faults, [r#": Invalid value: "": "" must validate at least one schema (anyOf)"#]);
    assert!(steps < 10_000, "{steps}");
}

#[test]
fn defaults_look_at_nothing_without_a_default() {
    let fields: serde_json::Map<_, _> =
        (0..20_000).map(|n| (format!("f{n}"), json!({ "type": "string" }))).collect();
    let schema = list_of(json!({ "type": "object", "properties": fields }));
    let items = parse(&schema).properties.remove("list").unwrap().items.unwrap();
    assert!(items.defaulted.is_empty(), "so that small elements of a large type cost little");
}

#[test]
fn small_objects_of_costly_schemas_are_heavy() {
    let weight = |schema: &Value| CustomSchema::new("v1", "Widget", parse(schema)).weight(1000);
    assert_eq!(weight(&widget()), 1000);
    let costly =
        json!({ "type": "object", "properties": { "a": { "type": "string", "pattern": "(a{1000}){20}" } } });
    assert!(weight(&costly) > 64 * 1024);
}

#[test]
fn keys_of_a_list_are_few() {
    let keys: Vec<String> = (0..=MAX_MAP_KEYS).map(|n| format!("k{n}")).collect();
    let properties: serde_json::Map<_, _> =
        keys.iter().map(|key| (key.clone(), json!({ "type": "string" }))).collect();
    let items = json!({ "type": "object", "properties": properties, "required": keys });
    let list = json!({ "type": "array", "items": items, "x-kubernetes-list-type": "map",
                       "x-kubernetes-list-map-keys": keys });
    let faults = refused(&json!({ "type": "object", "properties": { "list": list } }));
    assert_eq!(
        faults,
        ["schema.properties[list].x-kubernetes-list-map-keys: Too many: 65: must have at most 64 items"]
    );
}
