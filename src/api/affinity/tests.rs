//! Tests of node selectors and node affinity.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use super::*;

fn spec(more: Value) -> PodSpec {
    let mut spec = json!({"containers": []});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn required(terms: Value) -> PodSpec {
    let required = json!({ "nodeSelectorTerms": terms });
    spec(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}))
}

fn labels() -> Labels {
    [("zone", "a"), ("cores", "8")].into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

fn matches(spec: &PodSpec) -> bool {
    RequiredNodes::of(spec).matches("node-1", &labels())
}

#[test]
fn node_selector_and_terms() {
    assert!(matches(&spec(json!({}))));
    assert!(matches(&spec(json!({"nodeSelector": {"zone": "a"}}))));
    assert!(!matches(&spec(json!({"nodeSelector": {"zone": "b"}}))));
    for (expression, expected) in [
        (json!({"key": "zone", "operator": "In", "values": ["b", "a"]}), true),
        (json!({"key": "zone", "operator": "NotIn", "values": ["a"]}), false),
        (json!({"key": "disk", "operator": "NotIn", "values": ["a"]}), true),
        (json!({"key": "zone", "operator": "Exists"}), true),
        (json!({"key": "zone", "operator": "DoesNotExist"}), false),
        (json!({"key": "cores", "operator": "Gt", "values": ["7"]}), true),
        (json!({"key": "cores", "operator": "Lt", "values": ["8"]}), false),
        (json!({"key": "zone", "operator": "Gt", "values": ["7"]}), false),
        (json!({"key": "zone", "operator": "Rubbish"}), false),
    ] {
        assert_eq!(
            matches(&required(json!([{ "matchExpressions": [expression] }]))),
            expected,
            "{expression}"
        );
    }
}

#[test]
fn terms_are_alternatives_and_an_empty_term_matches_nothing() {
    let no = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]});
    let yes = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]});
    assert!(matches(&required(json!([no, yes]))));
    assert!(!matches(&required(json!([no]))));
    assert!(!matches(&required(json!([{}]))));
    assert!(!matches(&required(json!([]))));
}

#[test]
fn fields_confine_to_names() {
    let term =
        |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
    assert!(matches(&required(json!([term("node-1")]))));
    assert!(!matches(&required(json!([term("node-2")]))));
    let spec = required(json!([term("a"), term("b")]));
    assert_eq!(RequiredNodes::of(&spec).names(), Some(vec!["a", "b"]));
    assert_eq!(RequiredNodes::of(&required(json!([{}]))).names(), None);
}

#[test]
fn preferences_add_up() {
    let preference = |weight: i32, value: &str| json!({"weight": weight, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": [value]}]}});
    let preferred = json!([preference(5, "a"), preference(7, "b"), preference(9, "a")]);
    let spec = spec(
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}),
    );
    assert_eq!(PreferredNodes::of(&spec).weight("node-1", &labels()), 14);
}
