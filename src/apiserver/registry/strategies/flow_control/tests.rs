//! Flow schemas, levels and classes against what upstream's validation says of the same objects.

use api::kinds::{FLOW_SCHEMA, PRIORITY_CLASS, PRIORITY_LEVEL_CONFIGURATION, RUNTIME_CLASS};
use client::ObjectRef;
use serde_json::{Value, json};

use crate::testing::Harness;

#[tokio::test]
async fn faults_of_flow_control_are_upstreams() {
    let h = Harness::start().await;
    let schema = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    let rule = json!({"subjects": [{"kind": "User", "group": {"name": "g"}}]});
    let spec = json!({"matchingPrecedence": 1, "priorityLevelConfiguration": {"name": ""}, "rules": [rule]});
    assert_eq!(
        h.try_create(&FLOW_SCHEMA, None, schema(spec)).await.unwrap_err(),
        [
            "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
            "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
            "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
        ]
    );
    let made =
        h.try_create(&FLOW_SCHEMA, None, schema(json!({"priorityLevelConfiguration": {"name": "system"}})));
    assert_eq!(made.await.unwrap()["spec"]["matchingPrecedence"], 1000);
    let change = json!({"spec": {"matchingPrecedence": 9}});
    let refused = h.try_patch(&FLOW_SCHEMA, ObjectRef::new(None, "catch-all"), change).await.unwrap_err();
    assert!(refused[0].ends_with("spec of 'catch-all' must equal the fixed value"), "{refused:?}");
    let lends = json!({"spec": {"exempt": {"lendablePercent": 50}}});
    h.try_patch(&PRIORITY_LEVEL_CONFIGURATION, ObjectRef::new(None, "exempt"), lends).await.unwrap();
    let level = json!({"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {
        "lendablePercent": 101, "limitResponse": {"type": "Queue", "queuing": {"queues": 2, "handSize": 3}},
    }}});
    assert_eq!(
        h.try_create(&PRIORITY_LEVEL_CONFIGURATION, None, level).await.unwrap_err(),
        [
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 3: should not be greater than queues (2)",
            "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
        ]
    );
    h.stop().await;
}

#[tokio::test]
async fn faults_of_classes_are_upstreams() {
    let h = Harness::start().await;
    let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
    for (body, want) in [
        (
            class("high", 1_000_000_001),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            class("system-x", 1),
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
        ),
    ] {
        assert_eq!(h.try_create(&PRIORITY_CLASS, None, body).await.unwrap_err(), [want]);
    }
    let made = h.try_create(&PRIORITY_CLASS, None, class("high", 7)).await.unwrap();
    assert_eq!(
        (&made["preemptionPolicy"], &made["metadata"]["generation"]),
        (&json!("PreemptLowerPriority"), &json!(1))
    );
    let change = json!({"value": 8, "preemptionPolicy": "Never"});
    assert_eq!(
        h.try_patch(&PRIORITY_CLASS, ObjectRef::new(None, "high"), change).await.unwrap_err(),
        [
            "value: Forbidden: may not be changed in an update.",
            "preemptionPolicy: Invalid value: \"Never\": field is immutable",
        ]
    );
    let runtime = json!({"metadata": {"name": "r"}, "handler": "Kata", "overhead": {"podFixed": {"disk": "1"}},
        "scheduling": {"tolerations": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists"}]}});
    let refused = h.try_create(&RUNTIME_CLASS, None, runtime).await.unwrap_err();
    let fields: Vec<&str> = refused.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
    assert_eq!(
        fields,
        ["handler", "overhead.limits[disk]", "overhead.limits[disk]", "scheduling.tolerations[1]"]
    );
    h.stop().await;
}
