//! Tests of pod failure policies and success policies.

use serde_json::{Value, json};

use super::*;

fn spec(policy: Value) -> JobSpec {
    let mut spec = json!({"completions": 10, "template": {}});
    for (key, value) in policy.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn pod(containers: &[(&str, i32)], conditions: Value) -> Pod {
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, code)| {
            json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code}}})
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "p"},
        "status": {"phase": "Failed", "containerStatuses": containers, "conditions": conditions},
    }))
    .unwrap()
}

fn on_codes(action: &str, operator: &str, container: Option<&str>) -> JobSpec {
    let codes = json!({"operator": operator, "values": [3, 42], "containerName": container});
    spec(json!({"podFailurePolicy": {"rules": [{"action": action, "onExitCodes": codes}]}}))
}

#[test]
fn exit_codes_decide() {
    let failed = |code: i32| pod(&[("sidecar", 0), ("main", code)], json!([]));
    assert_eq!(judge(&on_codes("Ignore", "In", None), &failed(42)), Verdict::Ignore);
    assert_eq!(judge(&on_codes("Ignore", "In", None), &failed(1)), Verdict::Count);
    assert_eq!(judge(&on_codes("FailIndex", "NotIn", None), &failed(1)), Verdict::FailIndex);
    // Success is never a failure's code, whatever the operator.
    assert_eq!(judge(&on_codes("FailIndex", "NotIn", Some("sidecar")), &failed(1)), Verdict::Count);
    let message = "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 0";
    assert_eq!(
        judge(&on_codes("FailJob", "In", Some("main")), &failed(42)),
        Verdict::FailJob(message.to_string())
    );
}

#[test]
fn conditions_decide_and_the_first_rule_wins() {
    let rules = json!({"podFailurePolicy": {"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue"}]},
    ]}});
    let with = |kind: &str, status: &str| pod(&[], json!([{"type": kind, "status": status}]));
    assert_eq!(judge(&spec(rules.clone()), &with("DisruptionTarget", "True")), Verdict::Ignore);
    assert_eq!(judge(&spec(rules.clone()), &with("DisruptionTarget", "False")), Verdict::Count);
    let message = "Pod ns/p has condition ConfigIssue matching FailJob rule at index 1";
    assert_eq!(judge(&spec(rules), &with("ConfigIssue", "True")), Verdict::FailJob(message.to_string()));
}

#[test]
fn success_needs_indexes_or_a_count() {
    let met = |rules: Value, done: &str| {
        success(&spec(json!({"successPolicy": {"rules": rules}})), &Indexes::parse(done, 10))
    };
    let first = Some("Matched rules at index 0".to_string());
    assert_eq!(met(json!([{"succeededIndexes": "0,2-3"}]), "0,2-4"), first);
    assert_eq!(met(json!([{"succeededIndexes": "0,2-3"}]), "0,2"), None);
    assert_eq!(met(json!([{"succeededIndexes": "0,2-3", "succeededCount": 2}]), "0,2"), first);
    assert_eq!(met(json!([{"succeededCount": 2}]), "5"), None);
    let second = Some("Matched rules at index 1".to_string());
    assert_eq!(met(json!([{"succeededIndexes": "9"}, {"succeededCount": 1}]), "5"), second);
    assert_eq!(met(json!([{"succeededCount": 0}]), ""), None);
}
