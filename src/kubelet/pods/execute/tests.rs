//! The order in which a pod is started, and the answer to each failure.

use serde_json::{Value, json};
use tonic::Code;

use super::*;
use crate::pods::plan;
use crate::probes::{ProbeKind, ProbeOutcome, ProbeView};
use crate::testing::{TestNode, containers, pod};

struct NoProbes;

impl ProbeView for NoProbes {
    fn outcome(&self, _: ProbeKind, _: &str) -> Option<ProbeOutcome> {
        None
    }
}

/// What a worker keeps between two looks.
struct Looks {
    node: TestNode,
    pod: Pod,
    reasons: Reasons,
    sandbox_failures: u32,
}

impl Looks {
    fn at(spec: Value) -> Self {
        Looks { node: TestNode::new(), pod: pod(spec), reasons: Reasons::new(), sandbox_failures: 0 }
    }

    /// Looks, plans and acts once.
    async fn once(&mut self) -> Done {
        let runtime = PodRuntime::read(&*self.node.runtime, "u").await.unwrap();
        let execution = Execution {
            launcher: &self.node.deps.launcher,
            pod: &self.pod,
            status: &PodStatus::default(),
            runtime: &runtime,
            mounted: &Mounted::default(),
            reasons: &mut self.reasons,
            ending: supervisor::CancellationToken::new(),
            sandbox_failures: &mut self.sandbox_failures,
            turn: None,
        };
        execution.run(plan::plan(&self.pod, &runtime, &NoProbes)).await
    }

    fn reason(&self, container: &str) -> &str {
        self.reasons.get(container).map_or("", |(reason, _)| reason)
    }

    fn journal(&self) -> Vec<String> {
        self.node.journal.take()
    }
}

fn retries_in(done: &Done) -> i64 {
    done.retry.expect("it is tried again").duration_since(Timestamp::now()).as_secs() + 1
}

#[tokio::test]
async fn a_new_pod_gets_its_cgroup_its_sandbox_and_its_containers_in_order() {
    let mut looks = Looks::at(json!({"containers": containers(&["a", "b"])}));
    let done = looks.once().await;
    assert!(done.changed && done.retry.is_none());
    let pulled =
        "event Pulled: Container image \"image:1\" already present on machine and can be accessed by the pod";
    assert_eq!(
        looks.journal(),
        [
            "run_sandbox 0",
            pulled,
            "create_container a",
            "event Created: Container created",
            "start_container a",
            "event Started: Container started",
            pulled,
            "create_container b",
            "event Created: Container created",
            "start_container b",
            "event Started: Container started",
        ]
    );
    assert_eq!(
        looks.node.host.journal.take(),
        [
            "ensure_cgroup kubepods/besteffort/podu",
            "make_directory /logs/ns_p_u 755",
            "write_file /data/pods/u/etc-hosts 644",
            "write_file /data/pods/u/containers/a/0 666",
            "make_directory /logs/ns_p_u/a 755",
            "write_file /data/pods/u/etc-hosts 644",
            "write_file /data/pods/u/containers/b/0 666",
            "make_directory /logs/ns_p_u/b 755",
        ]
    );
    let done = looks.once().await;
    assert!(!done.changed && looks.journal().is_empty(), "all is as it should be");
}

#[tokio::test]
async fn a_sandbox_that_fails_is_told_and_tried_again_ever_later() {
    let mut looks = Looks::at(json!({"containers": containers(&["a"])}));
    for wait in [2, 4, 8, 10, 10] {
        looks.node.runtime.fail("run_sandbox", Code::Unknown, "no address");
        let done = looks.once().await;
        assert!(!done.changed);
        assert_eq!(retries_in(&done), wait);
        let why = "rpc error: code = Unknown desc = no address";
        let event = format!("event FailedCreatePodSandBox: Failed to create pod sandbox: {why}");
        assert_eq!(looks.journal(), ["run_sandbox 0".to_string(), event]);
    }
    assert!(looks.once().await.changed);
    assert_eq!(looks.sandbox_failures, 0, "a success is the end of it");
}

#[tokio::test]
async fn without_a_cgroup_or_a_network_there_is_no_sandbox() {
    let mut looks = Looks::at(json!({"containers": containers(&["a"])}));
    looks.node.host.fail("ensure_cgroup", 1);
    looks.once().await;
    let journal = looks.journal();
    assert!(journal.len() == 1 && journal[0].starts_with("event FailedCreatePodContainer: "), "{journal:?}");
    looks.node.agent.health.send_replace(RuntimeHealth::NetworkNotReady("no CNI".to_string()));
    looks.once().await;
    assert_eq!(looks.journal(), ["event NetworkNotReady: network is not ready: no CNI"]);
    // A pod on the node's network needs none.
    let mut hosted = Looks::at(json!({"hostNetwork": true, "containers": containers(&["a"])}));
    hosted.node.agent.health.send_replace(RuntimeHealth::NetworkNotReady("no CNI".to_string()));
    assert!(hosted.once().await.changed);
}

#[tokio::test]
async fn a_container_that_cannot_be_made_waits_and_the_next_is_started() {
    for (call, reason) in
        [("create_container", "CreateContainerError"), ("start_container", "RunContainerError")]
    {
        let mut looks = Looks::at(json!({"containers": containers(&["a", "b"])}));
        looks.node.runtime.fail(call, Code::Unknown, "bad layer");
        let done = looks.once().await;
        assert!(done.changed && retries_in(&done) == 10);
        assert_eq!((looks.reason("a"), looks.reason("b")), (reason, ""));
        let journal = looks.journal();
        assert!(journal.contains(&"event Failed: Error: bad layer".to_string()), "{journal:?}");
        assert_eq!(journal.last().unwrap(), "event Started: Container started");
    }
}

#[tokio::test]
async fn what_a_container_needs_must_be_there_before_it_is_made() {
    let from = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    let mut looks = Looks::at(json!({"containers": [{"name": "a", "image": "image:1", "env": from}]}));
    looks.once().await;
    assert_eq!(looks.reason("a"), "CreateContainerConfigError");
    assert!(!looks.node.journal.has("create_container"));
    let profile = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}});
    let mut out =
        Looks::at(json!({"containers": [{"name": "a", "image": "image:1", "securityContext": profile}]}));
    out.once().await;
    assert_eq!(out.reason("a"), "CreateContainerConfigError");
    assert!(!out.node.journal.has("create_container"));
    let mut unwritten = Looks::at(json!({"containers": containers(&["a"])}));
    unwritten.node.host.fail("write_file", 1);
    unwritten.once().await;
    assert_eq!(unwritten.reason("a"), "CreateContainerConfigError");
}

#[tokio::test]
async fn a_pull_that_fails_backs_off_and_an_import_ends_that() {
    let mut looks = Looks::at(json!({"containers": containers(&["a"])}));
    looks.node.runtime.without_image("image:1");
    looks.node.runtime.fail("pull_image", Code::Unknown, "no such host");
    let done = looks.once().await;
    assert_eq!((looks.reason("a"), retries_in(&done)), ("ErrImagePull", 10));
    let why = "rpc error: code = Unknown desc = no such host";
    assert_eq!(
        looks.journal()[1..],
        [
            "event Pulling: Pulling image \"image:1\"".to_string(),
            "pull_image image:1".to_string(),
            format!("event Failed: Failed to pull image \"image:1\": {why}"),
            "event Failed: Error: ErrImagePull".to_string(),
        ]
    );
    looks.once().await;
    assert_eq!(looks.reason("a"), "ImagePullBackOff");
    assert_eq!(looks.node.journal.count("pull_image"), 0, "it waits");
    looks.node.deps.launcher.images.forget_failures();
    looks.once().await;
    assert_eq!(looks.reason("a"), "");
    assert!(looks.node.journal.has("start_container a"));
}

#[tokio::test]
async fn an_image_that_must_be_there_is_not_pulled() {
    let never = json!([{"name": "a", "image": "image:1", "imagePullPolicy": "Never"}]);
    let mut looks = Looks::at(json!({"containers": never}));
    looks.node.runtime.without_image("image:1");
    looks.once().await;
    assert_eq!(looks.reason("a"), "ErrImageNeverPull");
    assert!(!looks.node.journal.has("pull_image"));
    let mut unknown = Looks::at(json!({"containers": containers(&["a"])}));
    unknown.node.runtime.fail("image", Code::Unavailable, "away");
    unknown.once().await;
    assert_eq!(unknown.reason("a"), "ImageInspectError");
}

#[tokio::test]
async fn a_post_start_hook_that_fails_ends_its_container() {
    let hook = json!({"postStart": {"exec": {"command": ["warm"]}}});
    let mut looks = Looks::at(json!({"containers": [{"name": "a", "image": "image:1", "lifecycle": hook}]}));
    looks.node.runtime.fail("exec", Code::Unknown, "cold");
    looks.once().await;
    assert_eq!(looks.reason("a"), "PostStartHookError");
    let why = "PostStartHook failed: rpc error: code = Unknown desc = cold";
    assert_eq!(
        looks.journal()[4..],
        [
            "start_container a".to_string(),
            "event Started: Container started".to_string(),
            "exec a warm".to_string(),
            format!("event FailedPostStartHook: {why}"),
            "event Killing: FailedPostStartHook".to_string(),
            "stop_container a 30s".to_string(),
            format!("event Failed: Error: {why}"),
        ]
    );
}

#[tokio::test]
async fn a_container_that_ends_is_started_once_at_once_and_then_backs_off() {
    let mut looks = Looks::at(json!({"containers": containers(&["a"])}));
    looks.once().await;
    looks.node.runtime.exit("a", 1);
    looks.once().await;
    assert_eq!(looks.reason("a"), "", "the first restart waits for nothing");
    assert_eq!(looks.node.journal.count("start_container a"), 2);
    looks.node.runtime.exit("a", 1);
    let done = looks.once().await;
    assert_eq!(looks.reason("a"), "CrashLoopBackOff");
    assert!((9..=10).contains(&retries_in(&done)), "{done:?}");
    assert!(looks.node.journal.has("event BackOff: Back-off restarting failed container a in pod p_ns(u)"));
    assert_eq!(looks.node.journal.count("start_container a"), 2);
}

#[tokio::test]
async fn a_sandbox_that_was_lost_is_killed_and_made_again() {
    let mut looks = Looks::at(json!({"containers": containers(&["a"])}));
    looks.once().await;
    let listed = looks.node.runtime.sandboxes(Default::default()).await.unwrap();
    looks.node.runtime.stop_sandbox(&listed[0].id).await.unwrap();
    looks.journal();
    looks.once().await;
    let journal = looks.journal();
    assert_eq!(
        journal[..3],
        [
            "event SandboxChanged: Pod sandbox changed, it will be killed and re-created.",
            "stop_sandbox",
            "run_sandbox 1",
        ]
    );
    // What cannot be killed is not replaced.
    looks.node.runtime.stop_sandbox(&listed[0].id).await.unwrap();
    let newest = looks.node.runtime.sandboxes(Default::default()).await.unwrap().pop().unwrap();
    looks.node.runtime.stop_sandbox(&newest.id).await.unwrap();
    looks.journal();
    looks.node.runtime.fail("stop_sandbox", Code::Unavailable, "away");
    let done = looks.once().await;
    assert_eq!(retries_in(&done), 2);
    assert!(looks.node.journal.has("event FailedKillPod: error killing pod: "));
    assert!(!looks.node.journal.has("run_sandbox"));
}

#[tokio::test]
async fn an_ephemeral_container_needs_its_target() {
    let mut looks = Looks::at(json!({
        "containers": containers(&["a"]),
        "ephemeralContainers": [{"name": "debug", "image": "image:1", "targetContainerName": "none"}],
    }));
    looks.once().await;
    looks.once().await;
    assert_eq!(looks.reason("debug"), "CreateContainerConfigError");
    assert!(
        looks
            .journal()
            .iter()
            .any(|line| line == "event Failed: Error: unable to find target container none")
    );
}

/// Lets pods pass after so many refusals, and notes whom it was asked about.
struct Gate {
    refusals: Mutex<usize>,
    asked: Mutex<Vec<Vec<String>>>,
}

impl NetworkGate for Gate {
    fn ready<'a>(
        &'a self,
        _: &'a Pod,
        addresses: &'a [String],
    ) -> client::BoxFuture<'a, Result<(), NetworkPending>> {
        self.asked.lock().push(addresses.to_vec());
        let mut refusals = self.refusals.lock();
        let refused = *refusals > 0;
        *refusals = refusals.saturating_sub(1);
        Box::pin(std::future::ready(if refused { Err(NetworkPending("not yet".into())) } else { Ok(()) }))
    }
}

#[tokio::test]
async fn containers_start_once_the_network_lets_them() {
    let mut looks = Looks::at(json!({"containers": containers(&["a"])}));
    let gate = Arc::new(Gate { refusals: Mutex::new(1), asked: Mutex::default() });
    Arc::get_mut(&mut looks.node.deps).unwrap().launcher.network_gate = Some(gate.clone());
    let done = looks.once().await;
    assert!(done.changed, "there is a sandbox");
    assert_eq!(retries_in(&done), 2);
    assert_eq!(looks.journal(), ["run_sandbox 0", "event NetworkNotReady: network is not ready: not yet"]);
    assert!(looks.once().await.changed);
    assert!(looks.journal().contains(&"start_container a".to_string()));
    let asked = gate.asked.lock().clone();
    assert!(asked.len() == 2 && asked[0] == asked[1] && !asked[0].is_empty(), "{asked:?}");
    // The host's network needs no leave.
    let mut looks = Looks::at(json!({"hostNetwork": true, "containers": containers(&["a"])}));
    let gate = Arc::new(Gate { refusals: Mutex::new(9), asked: Mutex::default() });
    Arc::get_mut(&mut looks.node.deps).unwrap().launcher.network_gate = Some(gate.clone());
    looks.once().await;
    assert!(looks.journal().contains(&"start_container a".to_string()));
}
