//! Tests of trigger times and target ports.

use serde_json::json;

use super::*;

fn pod(name: &str, ready_since: &str) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns"},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ready_since}]},
        }))
        .unwrap(),
    )
}

#[test]
fn the_earliest_new_change_is_the_trigger() {
    let triggers = Triggers::default();
    let key = ("ns".to_string(), "svc".to_string());
    let service: Service = serde_json::from_value(
        json!({"metadata": {"name": "svc", "creationTimestamp": "2026-01-01T00:00:00Z"}}),
    )
    .unwrap();
    let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let one = pod("one", "2026-01-01T00:00:05Z");
    assert_eq!(triggers.observe(&key, &service, std::slice::from_ref(&one)), at("2026-01-01T00:00:00Z"));
    assert_eq!(triggers.observe(&key, &service, std::slice::from_ref(&one)), None);
    let more = [one, pod("two", "2026-01-01T00:00:09Z"), pod("three", "2026-01-01T00:00:08Z")];
    assert_eq!(triggers.observe(&key, &service, &more), at("2026-01-01T00:00:08Z"));
}

#[test]
fn target_ports() {
    let pod = pod("one", "2026-01-01T00:00:05Z");
    let port = |port: serde_json::Value| serde_json::from_value::<ServicePort>(port).unwrap();
    assert_eq!(target_port(&pod, &port(json!({"port": 80}))), Some(80));
    assert_eq!(target_port(&pod, &port(json!({"port": 80, "targetPort": 8080}))), Some(8080));
    assert_eq!(
        target_port(&pod, &port(json!({"port": 80, "targetPort": "dns", "protocol": "UDP"}))),
        Some(53)
    );
    assert_eq!(target_port(&pod, &port(json!({"port": 80, "targetPort": "dns"}))), None, "another protocol");
}
