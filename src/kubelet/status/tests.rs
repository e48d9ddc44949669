//! Phases, container states, conditions and patches.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::json;

use super::generate::generate;
use super::input::{Reasons, StatusInput};
use super::sender::difference;
use crate::pods::resize::{Phase, Progress};
use crate::probes::{ProbeKind, ProbeOutcome, ProbeView};
use crate::runtime::state::{ContainerPhase, ContainerRecord, PodRuntime, Sandbox};

struct NoProbes;

impl ProbeView for NoProbes {
    fn outcome(&self, _: ProbeKind, _: &str) -> Option<ProbeOutcome> {
        None
    }
}

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 1}, "spec": spec}),
    )
    .unwrap()
}

fn record(name: &str, phase: ContainerPhase, exit_code: i32, restarts: i32) -> ContainerRecord {
    ContainerRecord {
        id: format!("{name}{restarts}"),
        sandbox: "s".into(),
        name: name.into(),
        phase,
        created_at: 1_000_000_000,
        started_at: 2_000_000_000,
        finished_at: if phase == ContainerPhase::Exited { 3_000_000_000 } else { 0 },
        exit_code,
        reason: String::new(),
        message: String::new(),
        image: "docker.io/library/x:1".into(),
        image_ref: "sha256:1".into(),
        restart_count: restarts,
        hash: String::new(),
        log_path: String::new(),
        grace: None,
        termination_policy: String::new(),
        termination_file: None,
        user: None,
        resources: None,
    }
}

fn runtime(containers: Vec<ContainerRecord>) -> PodRuntime {
    let sandbox = Sandbox {
        id: "s".into(),
        ready: true,
        attempt: 0,
        created_at: 1,
        ips: vec!["10.42.0.2".into()],
        host_network: false,
    };
    PodRuntime { sandboxes: vec![sandbox], containers }
}

fn made(pod: &Pod, runtime: &PodRuntime, reasons: &Reasons, old: &PodStatus, ended: bool) -> PodStatus {
    generate(&StatusInput {
        pod,
        old,
        runtime,
        reasons,
        progress: &Progress::default(),
        probes: &NoProbes,
        host_ips: &["10.0.0.1".to_string()],
        now: Timestamp::from_second(1000).unwrap(),
        ended,
        failed: None,
        disruption: None,
    })
}

fn condition<'a>(status: &'a PodStatus, name: &str) -> &'a k8s_openapi::api::core::v1::PodCondition {
    status.conditions.as_ref().unwrap().iter().find(|one| one.type_ == name).unwrap()
}

#[test]
fn a_pod_that_has_nothing_yet_is_pending() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let status = made(&pod, &PodRuntime::default(), &Reasons::new(), &PodStatus::default(), false);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let state = status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
    assert_eq!(state.waiting.unwrap().reason.as_deref(), Some("ContainerCreating"));
    assert_eq!(condition(&status, "PodReadyToStartContainers").status, "False");
    let ready = condition(&status, "Ready");
    assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("ContainersNotReady")));
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a]"));
}

#[test]
fn a_running_pod_is_ready() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let status = made(
        &pod,
        &runtime(vec![record("a", ContainerPhase::Running, 0, 0)]),
        &Reasons::new(),
        &PodStatus::default(),
        false,
    );
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&status, "Ready").status, "True");
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert!(container.ready && container.started == Some(true));
    assert_eq!(container.container_id.as_deref(), Some("containerd://a0"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.42.0.2"));
}

#[test]
fn a_crashing_container_waits_with_its_end_as_last_state() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let reasons = [("a".to_string(), ("CrashLoopBackOff".to_string(), "back-off 10s".to_string()))].into();
    let state =
        runtime(vec![record("a", ContainerPhase::Exited, 1, 2), record("a", ContainerPhase::Exited, 3, 1)]);
    let status = made(&pod, &state, &reasons, &PodStatus::default(), false);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(container.restart_count, 2);
    assert_eq!(
        container.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(),
        Some("CrashLoopBackOff")
    );
    let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
}

#[test]
fn finished_pods_have_final_phases() {
    for (policy, code, want) in [
        ("Never", 0, "Succeeded"),
        ("Never", 2, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
    ] {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "x"}]}));
        let state = runtime(vec![record("a", ContainerPhase::Exited, code, 0)]);
        let status = made(&pod, &state, &Reasons::new(), &PodStatus::default(), false);
        assert_eq!(status.phase.as_deref(), Some(want), "{policy} {code}");
        if want == "Succeeded" {
            assert_eq!(condition(&status, "Ready").reason.as_deref(), Some("PodCompleted"));
        }
    }
}

#[test]
fn a_containers_own_policy_and_rules_decide_what_its_end_means() {
    let rules = |action: &str, operator: &str, codes: &[i32]| json!([{"action": action, "exitCodes": {"operator": operator, "values": codes}}]);
    let none = || json!(null);
    for (of_pod, own, rules, code, want) in [
        ("Never", "Always", none(), 0, "Running"),
        ("Never", "OnFailure", none(), 1, "Running"),
        ("Never", "OnFailure", none(), 0, "Succeeded"),
        ("Always", "Never", none(), 0, "Succeeded"),
        ("Always", "Never", none(), 3, "Failed"),
        ("OnFailure", "Never", none(), 3, "Failed"),
        ("Never", "Never", rules("Restart", "In", &[3, 42]), 42, "Running"),
        ("Never", "Never", rules("Restart", "In", &[3, 42]), 1, "Failed"),
        ("Never", "Never", rules("Restart", "NotIn", &[1]), 0, "Running"),
        ("Never", "Never", rules("Restart", "NotIn", &[1]), 1, "Failed"),
        ("Never", "Never", rules("RestartAllContainers", "In", &[1]), 1, "Running"),
    ] {
        let container = json!({"name": "a", "restartPolicy": own, "restartPolicyRules": rules});
        let ended = |spec: serde_json::Value, name: &str| {
            let state = runtime(vec![record(name, ContainerPhase::Exited, code, 0)]);
            let status = made(&pod(spec), &state, &Reasons::new(), &PodStatus::default(), false);
            status.phase.unwrap()
        };
        let spec = json!({"restartPolicy": of_pod, "containers": [container]});
        assert_eq!(ended(spec, "a"), want, "{of_pod} {container} {code}");
        let is_sidecar = own == "Always";
        if code != 0 && !is_sidecar {
            let spec = json!({"restartPolicy": of_pod, "initContainers": [container], "containers": [{"name": "b"}]});
            let want = if want == "Running" { "Pending" } else { want };
            assert_eq!(ended(spec, "a"), want, "init container: {of_pod} {container} {code}");
        }
    }
}

#[test]
fn a_failed_init_container_keeps_the_pod_pending_or_fails_it() {
    for (policy, want) in [("Always", "Pending"), ("Never", "Failed")] {
        let pod = pod(
            json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}),
        );
        let state = runtime(vec![record("i", ContainerPhase::Exited, 1, 0)]);
        let status = made(&pod, &state, &Reasons::new(), &PodStatus::default(), false);
        assert_eq!(status.phase.as_deref(), Some(want), "{policy}");
    }
    let pod = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    let status = made(
        &pod,
        &runtime(vec![record("i", ContainerPhase::Running, 0, 0)]),
        &Reasons::new(),
        &PodStatus::default(),
        false,
    );
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [i]"));
    let waiting = status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
}

#[test]
fn containers_that_vanished_count_as_restarted() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let before = made(
        &pod,
        &runtime(vec![record("a", ContainerPhase::Running, 0, 3)]),
        &Reasons::new(),
        &PodStatus::default(),
        false,
    );
    let after = made(&pod, &PodRuntime::default(), &Reasons::new(), &before, false);
    let container = &after.container_statuses.as_ref().unwrap()[0];
    assert_eq!(container.restart_count, 4);
    let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
}

#[test]
fn patches_hold_what_changed() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let none = made(&pod, &PodRuntime::default(), &Reasons::new(), &PodStatus::default(), false);
    assert_eq!(difference(&none, &none), None);
    let up =
        made(&pod, &runtime(vec![record("a", ContainerPhase::Running, 0, 0)]), &Reasons::new(), &none, false);
    let patch = difference(&none, &up).unwrap();
    assert_eq!(patch["phase"], "Running");
    assert_eq!(patch["podIPs"], json!([{"$patch": "replace"}, {"ip": "10.42.0.2"}]));
    let kinds: Vec<&str> =
        patch["conditions"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["PodReadyToStartContainers", "Ready", "ContainersReady"]);
    assert_eq!(patch["conditions"][1]["reason"], serde_json::Value::Null);
    assert_eq!(patch.get("hostIP"), None);
}

#[test]
fn a_rejected_pod_says_why_and_nothing_of_containers() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let why = ("OutOfcpu".to_string(), "Pod was rejected: no room".to_string());
    let mut input = StatusInput {
        pod: &pod,
        old: &PodStatus::default(),
        runtime: &PodRuntime::default(),
        reasons: &Reasons::new(),
        progress: &Progress::default(),
        probes: &NoProbes,
        host_ips: &["10.0.0.1".to_string()],
        now: Timestamp::from_second(1000).unwrap(),
        ended: true,
        failed: Some(&why),
        disruption: None,
    };
    let first = generate(&input);
    assert_eq!((first.phase.as_deref(), first.reason.as_deref()), (Some("Failed"), Some("OutOfcpu")));
    assert!(first.container_statuses.is_none());
    input.old = &first;
    input.failed = None;
    assert_eq!(generate(&input), first);
}

mod sending {
    //! What the sender does with the API's answers.

    use api::ApiError;
    use serde_json::json;

    use crate::spec::PodExt;
    use crate::status::sender::StatusSender;
    use crate::testing::{TestNode, containers, pod};

    fn status(phase: &str) -> super::PodStatus {
        super::PodStatus { phase: Some(phase.to_string()), ..Default::default() }
    }

    #[tokio::test]
    async fn only_what_differs_from_the_last_answer_is_sent() {
        let node = TestNode::new();
        let sender = StatusSender::new(node.api.clone(), None);
        let pod = pod(json!({"containers": containers(&["a"])}));
        node.api.put(&pod);
        sender.send(&pod, &status("Running")).await.unwrap();
        sender.send(&pod, &status("Running")).await.unwrap();
        assert_eq!(node.journal.count("status"), 1, "the answer counts before the informer shows it");
        assert_eq!(sender.latest(&pod).phase.as_deref(), Some("Running"));
        // Somebody else changed it since: the newer version is what is compared with.
        let newer = node.api.change("p", |tree| tree["status"]["phase"] = json!("Pending"));
        assert_eq!(sender.latest(&newer).phase.as_deref(), Some("Pending"));
        sender.send(&newer, &status("Running")).await.unwrap();
        assert_eq!(node.journal.count("status"), 2);
        sender.forget(pod.uid());
        assert!(sender.latest(&pod).phase.is_none());
    }

    #[tokio::test]
    async fn refusals_that_last_end_it_and_others_are_handed_on() {
        let node = TestNode::new();
        let sender = StatusSender::new(node.api.clone(), None);
        let pod = pod(json!({"containers": []}));
        // The pod is gone, or another one has its name.
        sender.send(&pod, &status("Running")).await.unwrap();
        let row = <super::Pod as api::Kinded>::row();
        node.api.fail("patch", ApiError::conflict(row, "p", "another uid"));
        sender.send(&pod, &status("Running")).await.unwrap();
        for code in [429, 500, 503] {
            node.api.fail("patch", ApiError::new(code, "x", "y"));
            assert_eq!(sender.send(&pod, &status("Running")).await.unwrap_err().code(), code);
        }
    }
}

#[test]
fn conditions_of_a_resize_come_and_go() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let (old, reasons) = (PodStatus::default(), Reasons::new());
    let runtime = runtime(vec![record("a", ContainerPhase::Running, 0, 0)]);
    let pending = Phase { reason: "Deferred".into(), message: "no room".into(), generation: Some(3) };
    let mut input = StatusInput {
        pod: &pod,
        old: &old,
        runtime: &runtime,
        reasons: &reasons,
        progress: &Progress { pending: Some(pending), running: None },
        probes: &NoProbes,
        host_ips: &[],
        now: Timestamp::from_second(1000).unwrap(),
        ended: false,
        failed: None,
        disruption: None,
    };
    let waiting = generate(&input);
    let told = condition(&waiting, "PodResizePending");
    assert_eq!((told.status.as_str(), told.reason.as_deref()), ("True", Some("Deferred")));
    assert_eq!(told.observed_generation, Some(3));
    let done = Progress::default();
    input.progress = &done;
    let after = generate(&input);
    assert_eq!(
        difference(&waiting, &after).unwrap(),
        json!({"conditions": [{"$patch": "delete", "type": "PodResizePending"}]})
    );
}

#[test]
fn an_ephemeral_container_is_told_apart_and_never_ready() {
    let pod = pod(json!({
        "containers": [{"name": "a", "image": "x"}], "ephemeralContainers": [{"name": "e", "image": "x"}],
    }));
    let runtime =
        runtime(vec![record("a", ContainerPhase::Running, 0, 0), record("e", ContainerPhase::Exited, 0, 0)]);
    let status = made(&pod, &runtime, &Reasons::new(), &PodStatus::default(), false);
    assert_eq!(condition(&status, "Ready").status, "True");
    let ephemeral = &status.ephemeral_container_statuses.as_ref().unwrap()[0];
    assert!(!ephemeral.ready && ephemeral.started.is_none());
    assert!(ephemeral.state.as_ref().unwrap().terminated.is_some());
}
