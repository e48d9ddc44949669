//! Tests of quality of service classes.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use super::{QosClass, class_of};

fn class(containers: Value) -> QosClass {
    let spec: PodSpec = serde_json::from_value(json!({ "containers": containers })).unwrap();
    class_of(&spec)
}

#[test]
fn classes() {
    let full = json!({"cpu": "1", "memory": "1Gi"});
    let half = json!({"cpu": "500m", "memory": "1Gi"});
    let with = |requests: &Value, limits: &Value| json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
    assert_eq!(class(json!([{"name": "c"}])), QosClass::BestEffort);
    assert_eq!(class(json!([with(&full, &full)])), QosClass::Guaranteed);
    assert_eq!(class(json!([with(&half, &full)])), QosClass::Burstable);
    assert_eq!(class(json!([with(&full, &full), {"name": "d"}])), QosClass::Burstable);
    assert_eq!(class(json!([with(&json!({"cpu": "1"}), &json!({}))])), QosClass::Burstable);
    assert_eq!(class(json!([with(&json!({"cpu": "0"}), &json!({}))])), QosClass::BestEffort);
    assert_eq!(class(json!([with(&json!({"ephemeral-storage": "1Gi"}), &json!({}))])), QosClass::BestEffort);
}

#[test]
fn pod_level_resources_decide() {
    let spec = json!({
        "containers": [{"name": "c"}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    });
    assert_eq!(class_of(&serde_json::from_value::<PodSpec>(spec).unwrap()), QosClass::Guaranteed);
}
