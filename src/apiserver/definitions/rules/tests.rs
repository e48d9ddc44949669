//! Rules on objects, without a server.

use serde_json::json;

use super::*;

fn judge(schema: Value, object: Value, old: Option<Value>) -> (Vec<String>, Vec<String>) {
    let tree = RuleTree::of(&schema, &Library::default()).unwrap();
    let judged = tree.judge(&object, old.as_ref());
    let faults = judged.faults.iter().map(ToString::to_string).collect();
    (faults, judged.warnings)
}

fn faults(schema: Value, object: Value, old: Option<Value>) -> Vec<String> {
    judge(schema, object, old).0
}

fn spec(rules: Value) -> Value {
    json!({ "type": "object", "properties": { "spec": {
        "type": "object",
        "properties": { "least": { "type": "integer" }, "most": { "type": "integer" } },
        MEMBER: rules,
    } } })
}

#[test]
fn rules_speak_of_their_value_and_say_why() {
    let rule = |more: Value| {
        let mut rule = json!({ "rule": "self.least <= self.most" });
        for (member, value) in more.as_object().unwrap() {
            rule[member] = value.clone();
        }
        spec(json!([rule]))
    };
    let object = || json!({ "spec": { "least": 3, "most": 2 } });
    assert_eq!(
        faults(rule(json!({})), object(), None),
        ["spec: Invalid value: failed rule: self.least <= self.most"]
    );
    assert_eq!(faults(rule(json!({ "message": "no" })), object(), None), ["spec: Invalid value: no"]);
    let expression = json!({ "messageExpression": "string(self.least) + ' > ' + string(self.most)" });
    assert_eq!(faults(rule(expression), object(), None), ["spec: Invalid value: 3 > 2"]);
    let reason = json!({ "message": "no", "reason": "FieldValueForbidden", "fieldPath": ".most" });
    assert_eq!(faults(rule(reason), object(), None), ["spec.most: Forbidden: no"]);
    assert!(faults(rule(json!({})), json!({ "spec": { "least": 1, "most": 2 } }), None).is_empty());
    assert!(faults(rule(json!({})), json!({}), None).is_empty(), "what is not there breaks no rule");
    assert_eq!(
        faults(rule(json!({})), json!({ "spec": { "most": 2 } }), None),
        [r#"spec: Invalid value: "object": no such key: least evaluating rule: self.least <= self.most"#]
    );
}

#[test]
fn the_budget_of_an_object_holds_over_all_its_rules() {
    let rules = |count: usize, rule: &str| {
        json!({ "type": "object", "properties": { "list": {
            "type": "array", "items": { "type": "integer" },
            MEMBER: vec![json!({ "rule": rule }); count],
        } } })
    };
    let object = json!({ "list": (0..300).collect::<Vec<_>>() });
    let over = r#"list: Invalid value: "array": validation failed due to running out of cost budget, no further validation rules will be run"#;
    let half = "self.all(x, self.all(y, x + y >= 0))";
    assert_eq!(faults(rules(20, half), object.clone(), None), [over]);
    assert!(faults(rules(2, half), object.clone(), None).is_empty());
    let tree = RuleTree::of(&rules(1, half), &Library::default()).unwrap();
    assert!(tree.judge_shortly(&object, None).is_none(), "long work is left to others");
    assert!(tree.judge_shortly(&json!({ "list": [1, 2] }), None).is_some());
    let third = "self.all(x, self.all(y, self.all(z, x + y + z >= 0)))";
    let why = format!(
        r#"list: Invalid value: "array": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {third}"#
    );
    assert_eq!(faults(rules(3, third), object, None), [why]);
}

#[test]
fn what_was_there_before_is_followed() {
    let schema = || {
        json!({ "type": "object", "properties": {
            "name": { "type": "string", MEMBER: [{ "rule": "self == oldSelf", "message": "immutable" }] },
            "ports": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": { "type": "object", "properties": { "name": { "type": "string" },
                    "port": { "type": "integer", MEMBER: [{ "rule": "self >= oldSelf" }] } } } },
            "once": { "type": "integer", MEMBER: [{
                "rule": "!oldSelf.hasValue() || self > oldSelf.value()", "optionalOldSelf": true }] },
        } })
    };
    let old =
        json!({ "name": "a", "ports": [{ "name": "x", "port": 5 }, { "name": "y", "port": 9 }], "once": 1 });
    assert!(faults(schema(), old.clone(), None).is_empty(), "there is nothing to compare with");
    let new =
        json!({ "name": "b", "ports": [{ "name": "y", "port": 6 }, { "name": "x", "port": 7 }], "once": 1 });
    assert_eq!(
        faults(schema(), new, Some(old)),
        [
            r#"name: Invalid value: "b": immutable"#,
            "once: Invalid value: 1: failed rule: !oldSelf.hasValue() || self > oldSelf.value()",
            "ports[0].port: Invalid value: 6: failed rule: self >= oldSelf",
        ]
    );
}

#[test]
fn what_has_not_changed_is_only_warned_of() {
    let schema = spec(json!([{ "rule": "self.most < 2", "message": "too many" }]));
    let object = json!({ "spec": { "most": 5 }, "status": 1 });
    let (faults, warnings) = judge(schema, object.clone(), Some(json!({ "spec": { "most": 5 } })));
    assert!(faults.is_empty());
    assert_eq!(warnings, ["spec: Invalid value: too many"]);
}

#[test]
fn formats_and_numbers_have_the_types_of_the_language() {
    let schema = json!({ "type": "object", "properties": {
        "from": { "type": "string", "format": "date-time" }, "for": { "type": "string", "format": "duration" },
        "share": { "type": "number" }, "map": { "type": "object", "additionalProperties": { "type": "number" } },
    }, MEMBER: [
        { "rule": "self.from + self.__for__ == timestamp('2024-01-01T01:00:00Z')" },
        { "rule": "self.share * 2.0 == 4.0 && self.map.all(k, self.map[k] / 2.0 == 1.5)" },
    ] });
    let object = json!({ "from": "2024-01-01T00:00:00Z", "for": "1h", "share": 2, "map": { "a": 3 } });
    assert_eq!(faults(schema, object, None), Vec::<String>::new());
}

#[test]
fn rules_that_are_none_are_told_and_costs_are_bounded() {
    let schema = spec(json!([{ "rule": "self.least <" }, { "rule": "other == 1" }]));
    let found: Vec<String> = RuleTree::check(&schema, &Path::new("s"), &Library::default())
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("s.properties[spec].x-kubernetes-validations[0].rule: Invalid value"));
    assert!(found[1].contains("undeclared reference to 'other'"), "{found:?}");
    let dear = "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))";
    let schema = json!({ "type": "array", "items": { "type": "integer" }, MEMBER: [{ "rule": dear }] });
    let object: Value = (0..200).collect();
    let found = faults(schema, object, None);
    assert!(found[0].contains("call cost exceeds limit for rule"), "{found:?}");
}

#[test]
fn rules_that_ask_for_what_the_schema_has_not_are_refused() {
    let check = |rule: &str, message: &str| -> Vec<String> {
        let mut rule = json!({ "rule": rule });
        if !message.is_empty() {
            rule["messageExpression"] = json!(message);
        }
        let faults = RuleTree::check(&spec(json!([rule])), &Path::new("schema"), &Library::default());
        faults.iter().map(ToString::to_string).collect()
    };
    assert!(
        check("self.least <= self.most && !has(self.most)", "'at least ' + string(self.least)").is_empty()
    );
    let faults = check("self.z <= 1", "self.least");
    let at = "schema.properties[spec].x-kubernetes-validations[0]";
    assert!(faults[0].starts_with(&format!("{at}.rule: Invalid value")), "{faults:?}");
    let words = "compilation failed: ERROR: <input>:1:5: undefined field 'z'";
    assert!(faults[0].contains(words), "{faults:?}");
    assert!(faults[1].ends_with("messageExpression must evaluate to a string"), "{faults:?}");
    assert!(check("self.least", "")[0].ends_with("must evaluate to a bool"));
    let whole = json!({
        "type": "object", "properties": { "any": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
        MEMBER: [{ "rule": "self.metadata.name == self.kind && self.any.x.y == 1" }],
    });
    assert!(RuleTree::check(&whole, &Path::new(""), &Library::default()).is_empty());
}

#[test]
fn patterns_of_a_definition_share_a_budget() {
    // Each counts as a mebibyte.
    let rule = |at: usize| json!({ "rule": format!("'a'.matches('(\\\\pL{{20}}){at}')") });
    let schema = |from: usize, count: usize| {
        let rules: Vec<Value> = (from..from + count).map(rule).collect();
        spec(json!(rules))
    };
    let library = Library::default();
    let first = RuleTree::check(&schema(0, 4), &Path::new("s"), &library);
    assert!(first.is_empty(), "{first:?}");
    let used = library.size();
    assert!(used >= 4 << 17, "{used}");
    assert!(RuleTree::check(&schema(0, 4), &Path::new("s"), &library).is_empty());
    assert_eq!(library.size(), used, "the same patterns are there once");
    let each = used / 4;
    let fitting = (8 << 20) / each - 4;
    assert!(RuleTree::check(&schema(10, fitting), &Path::new("s"), &library).is_empty());
    let faults = RuleTree::check(&schema(1000, 1), &Path::new("s"), &library);
    let why = "the regular expressions of a definition or policy may take at most 8388608 bytes";
    assert!(faults.len() == 1 && faults[0].to_string().contains(why), "{faults:?}");
}
