//! Tests of progress as the conditions tell it.

use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use super::*;

fn deployment(status: Option<DeploymentStatus>) -> Deployment {
    let mut deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web", "generation": 1},
        "spec": {"replicas": 2, "progressDeadlineSeconds": 60, "selector": {}, "template": {}, "strategy": {
            "type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        }},
    }))
    .unwrap();
    deployment.status = status;
    deployment
}

fn set(replicas: i32, available: i32) -> Arc<ReplicaSet> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "uid": "1"},
            "spec": {"replicas": replicas, "selector": {}},
            "status": {"replicas": replicas, "readyReplicas": available, "availableReplicas": available},
        }))
        .unwrap(),
    )
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn told(status: &DeploymentStatus, kind: &str) -> (String, String) {
    let condition = find(status, kind).unwrap();
    (condition.status.clone(), condition.reason.clone().unwrap())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_string(), reason.to_string())
}

#[test]
fn progress_end_and_time_out() {
    let step = |before: Option<DeploymentStatus>, available: i32, now: i64| {
        let set = set(2, available);
        rollout(&deployment(before), Some(&set), std::slice::from_ref(&set), at(now))
    };
    let started = step(None, 0, 0);
    assert_eq!(told(&started, PROGRESSING), pair("True", SET_UPDATED));
    assert_eq!(told(&started, "Available"), pair("False", "MinimumReplicasUnavailable"));
    let one = step(Some(started.clone()), 1, 50);
    assert_eq!(find(&one, PROGRESSING).unwrap().last_update_time, Some(api::time::seconds(at(50))));
    assert_eq!(find(&one, PROGRESSING).unwrap().last_transition_time, Some(api::time::seconds(at(0))));
    let again = look_again(&deployment(None), &one, at(50)).unwrap();
    assert_eq!(again.as_secs(), 61);
    let waiting = step(Some(one.clone()), 1, 100);
    assert_eq!(waiting, one, "nothing new");
    let late = step(Some(one.clone()), 1, 111);
    assert_eq!(told(&late, PROGRESSING), pair("False", TIMED_OUT));
    assert_eq!(look_again(&deployment(None), &late, at(111)), None);
    let done = step(Some(late), 2, 200);
    assert_eq!(told(&done, PROGRESSING), pair("True", NEW_SET_AVAILABLE));
    assert_eq!(told(&done, "Available"), pair("True", "MinimumReplicasAvailable"));
    let message = find(&done, PROGRESSING).unwrap().message.clone().unwrap();
    assert_eq!(message, "ReplicaSet \"web-1\" has successfully progressed.");
    assert_eq!(look_again(&deployment(None), &done, at(200)), None);
}

#[test]
fn without_a_deadline_there_is_no_progress_condition() {
    let mut deployment = deployment(None);
    deployment.spec.as_mut().unwrap().progress_deadline_seconds = Some(i32::MAX);
    let set = set(2, 2);
    let status = rollout(&deployment, Some(&set), std::slice::from_ref(&set), at(0));
    assert!(find(&status, PROGRESSING).is_none());
}

#[test]
fn a_set_s_failure_is_the_deployment_s() {
    let mut failing = (*set(2, 0)).clone();
    let condition =
        json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "no"});
    failing.status.as_mut().unwrap().conditions = Some(vec![serde_json::from_value(condition).unwrap()]);
    let failing = Arc::new(failing);
    let status = rollout(&deployment(None), Some(&failing), std::slice::from_ref(&failing), at(0));
    assert_eq!(told(&status, "ReplicaFailure"), pair("True", "FailedCreate"));
    let healthy = set(2, 2);
    let status = rollout(&deployment(Some(status)), Some(&healthy), std::slice::from_ref(&healthy), at(1));
    assert!(find(&status, "ReplicaFailure").is_none());
}
