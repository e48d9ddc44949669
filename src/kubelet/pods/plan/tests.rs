//! Plans for the states a pod goes through.

use std::collections::HashMap;

use serde_json::json;

use super::*;
use crate::runtime::state::Sandbox;

#[derive(Default)]
struct Probes(HashMap<(ProbeKind, String), ProbeOutcome>);

impl ProbeView for Probes {
    fn outcome(&self, kind: ProbeKind, container: &str) -> Option<ProbeOutcome> {
        self.0.get(&(kind, container.to_string())).copied()
    }
}

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn sandbox(id: &str, ready: bool, attempt: u32) -> Sandbox {
    let ips = if ready { vec!["10.42.0.2".to_string()] } else { Vec::new() };
    Sandbox { id: id.into(), ready, attempt, created_at: i64::from(attempt) + 1, ips, host_network: false }
}

fn record(pod: &Pod, name: &str, sandbox: &str, phase: ContainerPhase, exit_code: i32) -> ContainerRecord {
    ContainerRecord {
        id: format!("{name}-{sandbox}"),
        sandbox: sandbox.into(),
        name: name.into(),
        phase,
        created_at: 1,
        started_at: 1,
        finished_at: 0,
        exit_code,
        reason: String::new(),
        message: String::new(),
        image: String::new(),
        image_ref: String::new(),
        restart_count: 0,
        hash: container::hash(pod.find_container(name).unwrap()),
        log_path: String::new(),
        grace: None,
        termination_policy: String::new(),
        termination_file: None,
        user: None,
        resources: pod.find_container(name).unwrap().resources.clone(),
    }
}

fn runtime(sandboxes: Vec<Sandbox>, containers: Vec<ContainerRecord>) -> PodRuntime {
    PodRuntime { sandboxes, containers }
}

#[test]
fn a_new_pod_gets_a_sandbox_and_all_containers_or_its_first_init_container() {
    let two = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let first = plan(&two, &PodRuntime::default(), &Probes::default());
    assert!(first.create_sandbox && first.kill_pod);
    assert_eq!((first.attempt, first.start), (0, vec![Slot::Main(0), Slot::Main(1)]));
    let init = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    assert_eq!(plan(&init, &PodRuntime::default(), &Probes::default()).start, [Slot::Init(0)]);
}

#[test]
fn a_dead_sandbox_is_replaced_unless_the_pod_never_restarts() {
    for (policy, create) in [("Always", true), ("OnFailure", true), ("Never", false)] {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
        let state =
            runtime(vec![sandbox("s", false, 0)], vec![record(&pod, "a", "s", ContainerPhase::Exited, 1)]);
        let plan = plan(&pod, &state, &Probes::default());
        assert_eq!((plan.kill_pod, plan.create_sandbox, plan.attempt), (true, create, 1), "{policy}");
    }
}

#[test]
fn restart_policy_decides_on_exited_containers() {
    for (policy, code, again) in
        [("Always", 0, true), ("OnFailure", 0, false), ("OnFailure", 1, true), ("Never", 1, false)]
    {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]}));
        let state = runtime(
            vec![sandbox("s", true, 0)],
            vec![
                record(&pod, "a", "s", ContainerPhase::Exited, code),
                record(&pod, "b", "s", ContainerPhase::Running, 0),
            ],
        );
        let plan = plan(&pod, &state, &Probes::default());
        assert_eq!(plan.start, if again { vec![Slot::Main(0)] } else { vec![] }, "{policy} {code}");
        assert!(!plan.kill_pod);
    }
}

#[test]
fn a_pod_whose_containers_are_done_is_stopped() {
    let pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    let state = runtime(vec![sandbox("s", true, 0)], vec![record(&pod, "a", "s", ContainerPhase::Exited, 0)]);
    assert!(plan(&pod, &state, &Probes::default()).kill_pod);
}

#[test]
fn init_containers_run_in_order() {
    let pod = pod(json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]}));
    let at = |containers| plan(&pod, &runtime(vec![sandbox("s", true, 0)], containers), &Probes::default());
    assert_eq!(at(vec![]).start, [Slot::Init(0)]);
    assert_eq!(at(vec![record(&pod, "i", "s", ContainerPhase::Running, 0)]).start, []);
    assert_eq!(at(vec![record(&pod, "i", "s", ContainerPhase::Exited, 1)]).start, [Slot::Init(0)]);
    assert_eq!(at(vec![record(&pod, "i", "s", ContainerPhase::Exited, 0)]).start, [Slot::Init(1)]);
    let both = vec![
        record(&pod, "i", "s", ContainerPhase::Exited, 0),
        record(&pod, "j", "s", ContainerPhase::Exited, 0),
    ];
    assert_eq!(at(both).start, [Slot::Main(0)]);
    // A run in an earlier sandbox does not count.
    assert_eq!(at(vec![record(&pod, "i", "old", ContainerPhase::Exited, 0)]).start, [Slot::Init(0)]);
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let pod = pod(
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}),
    );
    let state = runtime(vec![sandbox("s", true, 0)], vec![record(&pod, "i", "s", ContainerPhase::Exited, 1)]);
    let plan = plan(&pod, &state, &Probes::default());
    assert!(plan.kill_pod && plan.start.is_empty());
}

#[test]
fn sidecars_start_before_and_stay() {
    let pod = pod(
        json!({"initContainers": [{"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}}, {"name": "j"}],
        "containers": [{"name": "a"}]}),
    );
    let running = vec![record(&pod, "s", "s", ContainerPhase::Running, 0)];
    let state = runtime(vec![sandbox("s", true, 0)], running);
    assert_eq!(plan(&pod, &state, &Probes::default()).start, []);
    let started = Probes([((ProbeKind::Startup, "s-s".to_string()), ProbeOutcome::Success)].into());
    assert_eq!(plan(&pod, &state, &started).start, [Slot::Init(1)]);
    let later = runtime(
        vec![sandbox("s", true, 0)],
        vec![
            record(&pod, "s", "s", ContainerPhase::Exited, 1),
            record(&pod, "a", "s", ContainerPhase::Running, 0),
        ],
    );
    assert_eq!(plan(&pod, &later, &Probes::default()).start, [Slot::Init(0)]);
}

#[test]
fn failed_probes_and_changed_definitions_restart() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let state =
        runtime(vec![sandbox("s", true, 0)], vec![record(&pod, "a", "s", ContainerPhase::Running, 0)]);
    let failed = Probes([((ProbeKind::Liveness, "a-s".to_string()), ProbeOutcome::Failure)].into());
    let restart = plan(&pod, &state, &failed);
    assert_eq!(restart.kill[0].message, "Container a failed liveness probe, will be restarted");
    assert_eq!(restart.start, [Slot::Main(0)]);
    let mut changed = pod.clone();
    changed.spec.as_mut().unwrap().containers[0].image = Some("y".into());
    assert_eq!(
        plan(&changed, &state, &Probes::default()).kill[0].message,
        "Container a definition changed, will be restarted"
    );
}

#[test]
fn ephemeral_containers_wait_for_nothing_and_are_started_once() {
    let pod = pod(json!({
        "restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}],
        "ephemeralContainers": [{"name": "e"}],
    }));
    let waiting =
        runtime(vec![sandbox("s", true, 0)], vec![record(&pod, "i", "s", ContainerPhase::Running, 0)]);
    assert_eq!(plan(&pod, &waiting, &Probes::default()).start, [Slot::Ephemeral(0)]);
    let mut ended = record(&pod, "i", "s", ContainerPhase::Exited, 1);
    ended.name = "e".into();
    let mut state = waiting;
    state.containers.push(ended);
    assert!(plan(&pod, &state, &Probes::default()).start.is_empty());
    // A pod that has failed starts nothing more.
    let failed =
        runtime(vec![sandbox("s", true, 0)], vec![record(&pod, "i", "s", ContainerPhase::Exited, 1)]);
    let plan = plan(&pod, &failed, &Probes::default());
    assert!(plan.kill_pod && plan.start.is_empty());
}
