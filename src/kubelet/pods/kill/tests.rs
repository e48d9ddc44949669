//! The order in which things are stopped, and what failures do to it.

use serde_json::json;
use tonic::Code;

use super::*;
use crate::runtime::state::Sandbox;
use crate::testing::{TestNode, pod};

fn record(name: &str, phase: ContainerPhase) -> ContainerRecord {
    ContainerRecord {
        id: name.into(),
        sandbox: "s".into(),
        name: name.into(),
        phase,
        created_at: 1,
        started_at: 1,
        finished_at: 0,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        image: String::new(),
        image_ref: String::new(),
        restart_count: 0,
        hash: String::new(),
        log_path: String::new(),
        grace: Some(7),
        termination_policy: String::new(),
        termination_file: None,
        user: None,
        resources: None,
    }
}

fn running(names: &[&str]) -> PodRuntime {
    let sandbox = Sandbox {
        id: "s".into(),
        ready: true,
        attempt: 0,
        created_at: 1,
        ips: vec!["10.42.0.2".into()],
        host_network: false,
    };
    let containers = names.iter().map(|name| record(name, ContainerPhase::Running)).collect();
    PodRuntime { sandboxes: vec![sandbox], containers }
}

const GRACE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn sidecars_stop_after_the_others_last_started_first() {
    let node = TestNode::new();
    let sidecar = |name: &str| json!({"name": name, "restartPolicy": "Always"});
    let pod = pod(json!({
        "initContainers": [sidecar("proxy"), sidecar("logs")],
        "containers": [{"name": "a"}],
    }));
    let state = running(&["proxy", "a", "logs"]);
    node.deps.launcher.killer.containers(Some(&pod), &state, GRACE).await.unwrap();
    assert_eq!(
        node.journal.take(),
        [
            "event Killing: Stopping container a",
            "stop_container a 30s",
            "event Killing: Stopping container logs",
            "stop_container logs 30s",
            "event Killing: Stopping container proxy",
            "stop_container proxy 30s",
        ]
    );
}

#[tokio::test]
async fn only_what_may_run_is_stopped() {
    let node = TestNode::new();
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}));
    let mut state = running(&["a", "b", "c"]);
    state.containers[0].phase = ContainerPhase::Exited;
    state.containers[1].phase = ContainerPhase::Created;
    state.containers[2].phase = ContainerPhase::Unknown;
    node.deps.launcher.killer.containers(Some(&pod), &state, GRACE).await.unwrap();
    assert_eq!(node.journal.take(), ["event Killing: Stopping container c", "stop_container c 30s"]);
}

#[tokio::test]
async fn a_hook_comes_before_the_signal_and_its_failure_is_told() {
    let node = TestNode::new();
    let hook = json!({"preStop": {"exec": {"command": ["flush", "all"]}}});
    let pod = pod(json!({"containers": [{"name": "a", "lifecycle": hook}]}));
    let killer = &node.deps.launcher.killer;
    killer.containers(Some(&pod), &running(&["a"]), GRACE).await.unwrap();
    let order = ["event Killing: Stopping container a", "exec a flush all", "stop_container a 30s"];
    assert_eq!(node.journal.take(), order);
    node.runtime.fail("exec", Code::Internal, "no such file");
    killer.containers(Some(&pod), &running(&["a"]), GRACE).await.unwrap();
    let journal = node.journal.take();
    assert_eq!(
        journal[2],
        "event FailedPreStopHook: PreStopHook failed: rpc error: code = Internal desc = no such file"
    );
    assert_eq!(journal[3], "stop_container a 30s", "it is stopped all the same");
}

#[tokio::test(start_paused = true)]
async fn a_hook_has_the_grace_and_leaves_the_least_of_it() {
    let node = TestNode::new();
    let hook = json!({"preStop": {"sleep": {"seconds": 100}}});
    let pod = pod(json!({"containers": [{"name": "a", "lifecycle": hook}]}));
    let began = Instant::now();
    let state = running(&["a"]);
    node.deps.launcher.killer.containers(Some(&pod), &state, Duration::from_secs(5)).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 5);
    assert!(node.journal.has("stop_container a 2s"));
}

#[tokio::test]
async fn one_that_cannot_be_stopped_keeps_none_of_the_others() {
    let node = TestNode::new();
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    node.runtime.fail("stop_container", Code::Unavailable, "away");
    let error = node.deps.launcher.killer.containers(Some(&pod), &running(&["a", "b"]), GRACE).await;
    assert_eq!(error.unwrap_err().message(), "away");
    assert!(node.journal.has("stop_container a 30s") && node.journal.has("stop_container b 30s"));
}

#[tokio::test]
async fn what_is_gone_is_no_failure() {
    let node = TestNode::new();
    let killer = &node.deps.launcher.killer;
    for call in ["stop_container", "stop_sandbox", "remove_container", "remove_sandbox"] {
        node.runtime.fail(call, Code::NotFound, "gone");
    }
    let state = running(&["a"]);
    killer.containers(None, &state, GRACE).await.unwrap();
    killer.sandboxes(&state).await.unwrap();
    killer.remove(&state).await.unwrap();
    let order = ["stop_container a 30s", "stop_sandbox", "remove_container a", "remove_sandbox"];
    assert_eq!(node.journal.take(), order);
    // A container that cannot be removed keeps its sandbox.
    node.runtime.fail("remove_container", Code::Unavailable, "away");
    assert!(killer.remove(&state).await.is_err());
    assert_eq!(node.journal.take(), ["remove_container a"]);
}

#[test]
fn grace_is_that_of_the_deletion_else_of_the_pod_else_of_the_container() {
    let mut pod = pod(json!({"containers": [], "terminationGracePeriodSeconds": 60}));
    assert_eq!(grace_of(Some(&pod), None).as_secs(), 60);
    pod.metadata.deletion_grace_period_seconds = Some(0);
    assert_eq!(grace_of(Some(&pod), None).as_secs(), 60, "it is not deleted");
    pod.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(grace_of(Some(&pod), None).as_secs(), 1, "a second at least");
    assert_eq!(grace_of(None, Some(&record("a", ContainerPhase::Running))).as_secs(), 7);
    assert_eq!(grace_of(None, None).as_secs(), 30);
}
