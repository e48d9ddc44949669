//! Tests of who goes first.

use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;

fn at(seconds: i64) -> String {
    (Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)).to_string()
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(100_000)
}

/// A running, ready pod with changes.
fn pod(name: &str, change: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": at(0)},
        "spec": {"nodeName": "one", "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at(0)}]},
    });
    json_patch::merge(&mut pod, &change);
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn order(pods: &[Arc<Pod>]) -> Vec<String> {
    let siblings = pods.to_vec();
    let gone = first_to_go(pods, &siblings, pods.len(), now());
    gone.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect()
}

#[test]
fn in_upstream_s_order() {
    let not_ready = json!([{"type": "Ready", "status": "False"}]);
    let restarted = json!([{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 3}]);
    let ready_late = json!([{"type": "Ready", "status": "True", "lastTransitionTime": at(99_990)}]);
    let pods = [
        pod("h-old", json!({})),
        pod("g-young", json!({"metadata": {"creationTimestamp": at(99_990)}})),
        pod("f-restarted", json!({"status": {"containerStatuses": restarted}})),
        pod("e-ready-late", json!({"status": {"conditions": ready_late}})),
        pod("d-cheap", json!({"metadata": {"annotations": {DELETION_COST: "-1"}}})),
        pod("c-not-ready", json!({"status": {"conditions": not_ready}})),
        pod("b-pending", json!({"status": {"phase": "Pending", "conditions": not_ready}})),
        pod("a-unassigned", json!({"spec": {"nodeName": null}, "status": {"phase": "Pending"}})),
    ];
    let expected = [
        "a-unassigned",
        "b-pending",
        "c-not-ready",
        "d-cheap",
        "e-ready-late",
        "f-restarted",
        "g-young",
        "h-old",
    ];
    assert_eq!(order(&pods), expected);
}

#[test]
fn crowded_nodes_first() {
    let on = |name: &str, node: &str| pod(name, json!({"spec": {"nodeName": node}}));
    assert_eq!(order(&[on("a", "x"), on("b", "y"), on("c", "y")])[2], "a");
}
