//! A replication controller seen as a replica set.

use serde_json::json;

use super::*;

#[test]
fn a_replication_controller_is_a_replica_set_under_older_names() {
    let controller: ReplicationController = serde_json::from_value(json!({
        "metadata": {"name": "rc", "namespace": "ns", "uid": "rc", "generation": 3},
        "spec": {
            "replicas": 2, "minReadySeconds": 5, "selector": {"app": "a"},
            "template": {"metadata": {"labels": {"app": "a"}}},
        },
    }))
    .unwrap();
    let set = controller.as_set();
    assert_eq!(min_ready_seconds(&set), 5);
    let selector = &set.spec.as_ref().unwrap().selector;
    assert_eq!(selector.match_labels, Some([("app".to_string(), "a".to_string())].into()));
    let failure = failure_condition(0, 2, &ApiError::bad_request("no"));
    let status = plan::status(&set, &[], Some(&failure), Timestamp::UNIX_EPOCH);
    let told = controller.with_status(status.clone());
    let written = told.status.as_ref().unwrap();
    assert_eq!((written.replicas, written.observed_generation), (0, Some(3)));
    assert_eq!(written.conditions.as_ref().unwrap()[0].type_, "ReplicaFailure");
    // What was written is what is read, so a second pass writes nothing.
    let again = plan::status(&told.as_set(), &[], Some(&failure), Timestamp::UNIX_EPOCH);
    assert_eq!(told.with_status(again), told);
}
