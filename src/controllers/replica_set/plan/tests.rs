//! Tests of replica counts and status.

use serde_json::{Value, json};

use super::*;

fn set(replicas: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "s", "namespace": "ns", "uid": "s", "generation": 2},
        "spec": {
            "replicas": replicas,
            "minReadySeconds": 10,
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a", "hash": "1"}}},
        },
    }))
    .unwrap()
}

fn pod(name: &str, labels: Value, ready_since: Option<&str>) -> Arc<Pod> {
    let conditions =
        ready_since.map(|since| json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]));
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "status": {"phase": "Running", "conditions": conditions},
        }))
        .unwrap(),
    )
}

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().unwrap()
}

#[test]
fn as_many_as_asked_for_in_bursts() {
    let pods: Vec<Arc<Pod>> = (0..3).map(|index| pod(&index.to_string(), json!({}), None)).collect();
    assert!(matches!(plan(&set(3), &pods, Vec::new, now()), ReplicaSetStep::Nothing));
    assert!(matches!(plan(&set(5), &pods, Vec::new, now()), ReplicaSetStep::Create(2)));
    assert!(matches!(plan(&set(5000), &pods, Vec::new, now()), ReplicaSetStep::Create(500)));
    let ReplicaSetStep::Delete(gone) = plan(&set(1), &pods, Vec::new, now()) else {
        panic!("two are too many")
    };
    assert_eq!(gone.len(), 2);
}

#[test]
fn status_counts() {
    let full = json!({"app": "a", "hash": "1"});
    let mut leaving = (*pod("leaving", full.clone(), Some("2026-01-01T00:00:00Z"))).clone();
    leaving.metadata.deletion_timestamp = Some(api::time::seconds(now()));
    let pods = [
        pod("long-ready", full.clone(), Some("2026-01-01T00:00:00Z")),
        pod("just-ready", full, Some("2026-01-01T00:00:55Z")),
        pod("other-labels", json!({"app": "a"}), None),
        Arc::new(leaving),
    ];
    let status = status(&set(3), &pods, None, now());
    assert_eq!(status.replicas, 3);
    assert_eq!(status.fully_labeled_replicas, Some(2));
    assert_eq!(status.ready_replicas, Some(2));
    assert_eq!(status.available_replicas, Some(1));
    assert_eq!(status.terminating_replicas, Some(1));
    assert_eq!(status.observed_generation, Some(2));
}

#[test]
fn a_failure_is_told_until_it_is_over() {
    let failure = failure_condition(0, 3, &ApiError::bad_request("no"));
    assert_eq!(failure.reason.as_deref(), Some("FailedCreate"));
    let mut set = set(3);
    set.status = Some(status(&set, &[], Some(&failure), now()));
    let told = set.status.as_ref().and_then(|status| status.conditions.as_ref()).unwrap();
    assert_eq!((told[0].type_.as_str(), told[0].message.as_deref()), (REPLICA_FAILURE, Some("no")));
    assert_eq!(status(&set, &[], None, now()).conditions, None);
}
