//! Tests of a daemon set's steps, and of its rules over random histories.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn set(rolling: Value) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": "agent", "namespace": "ns", "uid": "set", "generation": 4},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": []}},
        },
    }))
    .unwrap()
}

fn node(name: &str, taint: Option<&str>) -> Arc<Node> {
    let taints = taint.map(|effect| json!([{"key": "gpu", "effect": effect}]));
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"taints": taints}})).unwrap())
}

/// `name@node`, its revision, and how it fares.
fn pod(place: &str, hash: &str, state: &str) -> Arc<Pod> {
    let (name, node) = place.split_once('@').unwrap();
    let (phase, ready) = match state {
        "ready" | "leaving" => ("Running", "True"),
        "running" => ("Running", "False"),
        "failed" => ("Failed", "False"),
        "succeeded" => ("Succeeded", "False"),
        other => panic!("{other}"),
    };
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "labels": {"controller-revision-hash": hash}},
        "spec": {"nodeName": node, "containers": []},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:59:00Z"}],
        },
    }))
    .unwrap();
    if state == "leaving" {
        pod.metadata.deletion_timestamp = Some(api::time::seconds(now()));
    }
    Arc::new(pod)
}

fn words(steps: &DaemonSetSteps) -> Vec<String> {
    let created = steps.create.iter().map(|node| format!("+{node}"));
    let deleted = steps.delete.iter().map(|(pod, _)| format!("-{}", text(&pod.metadata.name)));
    created.chain(deleted).collect()
}

fn view<'a>(set: &'a DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> DaemonSetView<'a> {
    DaemonSetView::new(set, "new", nodes, pods, now())
}

fn in_place_of(unavailable: Value) -> DaemonSet {
    set(json!({"maxUnavailable": unavailable, "maxSurge": 0}))
}

fn three_nodes() -> [Arc<Node>; 3] {
    [node("n1", None), node("n2", None), node("n3", None)]
}

#[test]
fn each_node_that_suits_has_one_pod() {
    let set = in_place_of(json!(1));
    let nodes =
        [node("n1", None), node("n2", Some("NoSchedule")), node("n3", Some("NoExecute")), node("n4", None)];
    let pods = [
        pod("a@n1", "new", "ready"),
        pod("b@n2", "new", "ready"),
        pod("c@n3", "new", "ready"),
        pod("d@n1", "new", "ready"),
    ];
    // One of two on n1 goes, n2 keeps its pod, n3 drives its pod away, n4 gets one.
    assert_eq!(words(&manage(&view(&set, &nodes, &pods), |_| None)), ["+n4", "-d", "-c"]);
}

#[test]
fn pods_that_ended_are_replaced_with_back_off() {
    let set = in_place_of(json!(1));
    let pods = [pod("a@n1", "new", "failed"), pod("b@n2", "new", "succeeded"), pod("c@n3", "new", "leaving")];
    let steps = manage(&view(&set, &three_nodes(), &pods), |_| None);
    assert_eq!(words(&steps), ["-a", "-b"]);
    let whys: Vec<Why> = steps.delete.iter().map(|(_, why)| *why).collect();
    assert_eq!(whys, [Why::Failed, Why::Succeeded]);
    let second = Duration::from_secs(1);
    let steps = manage(&view(&set, &three_nodes(), &pods), |_| Some(second));
    assert_eq!((words(&steps), steps.again), (vec!["-b".to_string()], Some(second)));
}

#[test]
fn pods_that_wait_for_a_node_that_is_gone_go() {
    let set = in_place_of(json!(1));
    let mut waiting = super::super::pods::new_pod(&set, "new", "gone");
    waiting.metadata.name = Some("w".to_string());
    let pods = [Arc::new(waiting), pod("x@gone", "new", "ready")];
    // The bound one is the pod garbage collector's.
    assert_eq!(words(&manage(&view(&set, &[], &pods), |_| None)), ["-w"]);
}

#[test]
fn an_update_in_place_takes_broken_pods_first() {
    let old = |places: [&str; 3], states: [&str; 3]| -> Vec<Arc<Pod>> {
        places.iter().zip(states).map(|(place, state)| pod(place, "old", state)).collect()
    };
    let places = ["a@n1", "b@n2", "c@n3"];
    let one = in_place_of(json!(1));
    let two = in_place_of(json!("50%"));
    let rolled = |set: &DaemonSet, pods: &[Arc<Pod>]| words(&roll(&view(set, &three_nodes(), pods)));
    assert_eq!(rolled(&one, &old(places, ["ready", "ready", "ready"])), ["-a"]);
    assert_eq!(rolled(&two, &old(places, ["ready", "ready", "ready"])), ["-a", "-b"]);
    assert_eq!(rolled(&one, &old(places, ["ready", "running", "ready"])), ["-b"]);
    // A node without a pod counts as unavailable.
    assert_eq!(rolled(&one, &[pod("a@n1", "old", "ready"), pod("b@n2", "new", "ready")]), [""; 0]);
    assert_eq!(rolled(&one, &old(places, ["ready", "running", "running"])), ["-b", "-c"]);
    let neither = set(json!({"maxUnavailable": 0, "maxSurge": 0}));
    assert_eq!(rolled(&neither, &old(places, ["ready", "ready", "ready"])), ["-a"]);
}

#[test]
fn an_update_with_surge_makes_before_it_deletes() {
    let surge = set(json!({"maxUnavailable": 0, "maxSurge": 1}));
    let nodes = three_nodes();
    let old = [pod("a@n1", "old", "ready"), pod("b@n2", "old", "ready"), pod("c@n3", "old", "ready")];
    assert_eq!(words(&roll(&view(&surge, &nodes, &old))), ["+n1"]);
    let mut pods = old.to_vec();
    pods.push(pod("d@n1", "new", "running"));
    assert_eq!(words(&roll(&view(&surge, &nodes, &pods))), [""; 0]);
    assert_eq!(words(&manage(&view(&surge, &nodes, &pods), |_| None)), [""; 0]);
    pods[3] = pod("d@n1", "new", "ready");
    assert_eq!(words(&manage(&view(&surge, &nodes, &pods), |_| None)), ["-a"]);
    // An old pod that is not available is replaced beyond the limit.
    let broken = [pod("a@n1", "old", "running"), pod("b@n2", "old", "running"), pod("c@n3", "old", "ready")];
    assert_eq!(words(&roll(&view(&surge, &nodes, &broken))), ["+n1", "+n2", "+n3"]);
    // On a node that suits no more it goes once there are enough elsewhere.
    let moved = [node("n1", Some("NoSchedule")), node("n2", None)];
    let pods = [pod("a@n1", "old", "ready"), pod("b@n2", "new", "running")];
    assert_eq!(words(&roll(&view(&surge, &moved, &pods))), [""; 0]);
    let pods = [pod("a@n1", "old", "ready"), pod("b@n2", "new", "ready")];
    assert_eq!(words(&roll(&view(&surge, &moved, &pods))), ["-a"]);
}

#[test]
fn the_status_counts_nodes() {
    let set = in_place_of(json!(1));
    let nodes = [node("n1", None), node("n2", None), node("n3", None), node("n4", Some("NoSchedule"))];
    let pods = [pod("a@n1", "new", "ready"), pod("b@n2", "old", "running"), pod("c@n4", "old", "ready")];
    let status = status(&view(&set, &nodes, &pods), true);
    assert_eq!((status.desired_number_scheduled, status.current_number_scheduled), (3, 2));
    assert_eq!((status.number_misscheduled, status.number_ready), (1, 1));
    assert_eq!((status.number_available, status.number_unavailable), (Some(1), Some(2)));
    assert_eq!((status.updated_number_scheduled, status.observed_generation), (Some(1), Some(4)));
    assert_eq!(super::status(&view(&set, &nodes, &pods), false).observed_generation, None);
}

proptest! {
    /// Whatever happens to pods: an update never takes more nodes down than it may, surging never takes an
    /// available pod away before another is, there are never more than two pods a node (one without surge),
    /// and the set gets there once it is left alone.
    #[test]
    fn the_rules_hold_over_random_histories(
        surging in any::<bool>(),
        limit in 1_usize..4,
        events in prop::collection::vec((0_u8..6, 0_usize..8), 1..60),
    ) {
        let set = if surging {
            set(json!({"maxUnavailable": 0, "maxSurge": limit}))
        } else {
            set(json!({"maxUnavailable": limit, "maxSurge": 0}))
        };
        let nodes: Vec<Arc<Node>> = (0..5).map(|at| node(&format!("n{at}"), None)).collect();
        let mut pods: Vec<Arc<Pod>> = (0..5).map(|at| pod(&format!("p{at}@n{at}"), "old", "ready")).collect();
        let mut born = 5;
        let place = |pod: &Pod| format!("{}@{}", text(&pod.metadata.name), target_node(pod).unwrap());
        let hash = |pod: &Pod| pod.metadata.labels.as_ref().unwrap()[REVISION_LABEL].clone();
        let up = |pods: &[Arc<Pod>]| {
            let up = pods.iter().filter(|pod| api::pod::is_ready(pod) && !api::pod::is_terminating(pod));
            up.map(|pod| target_node(pod).unwrap().to_string()).collect::<HashSet<String>>()
        };
        let rounds = events.len() + 100;
        let mut events = events.into_iter();
        for round in 0..rounds {
            match events.next() {
                Some((kind @ 0..=3, nth)) if !pods.is_empty() => {
                    let at = nth % pods.len();
                    if api::pod::is_terminating(&pods[at]) {
                        pods.remove(at);
                    } else {
                        let state = ["ready", "running", "failed", "ready"][usize::from(kind)];
                        pods[at] = pod(&place(&pods[at]), &hash(&pods[at]), state);
                    }
                    continue;
                }
                None if round % 2 == 0 => {
                    pods.retain(|pod| !api::pod::is_terminating(pod));
                    for one in &mut pods {
                        if !api::pod::is_terminal(one) {
                            *one = pod(&place(one), &hash(one), "ready");
                        }
                    }
                    continue;
                }
                _ => {}
            }
            let view = view(&set, &nodes, &pods);
            let mut steps = manage(&view, |_| None);
            let rolls = steps.create.is_empty() && steps.delete.is_empty();
            if rolls {
                steps = roll(&view);
                let before = up(&pods);
                let kept: Vec<Arc<Pod>> = pods
                    .iter()
                    .filter(|pod| !steps.delete.iter().any(|(gone, _)| gone.metadata.name == pod.metadata.name))
                    .cloned()
                    .collect();
                let lost = before.difference(&up(&kept)).count();
                let allowed = if surging { 0 } else { limit.saturating_sub(5 - before.len()) };
                prop_assert!(lost <= allowed, "{lost} nodes are taken down, {allowed} may be");
            }
            for (gone, _) in &steps.delete {
                let at = pods.iter().position(|pod| pod.metadata.name == gone.metadata.name).unwrap();
                pods[at] = pod(&place(&pods[at]), &hash(&pods[at]), "leaving");
            }
            for node in &steps.create {
                pods.push(pod(&format!("p{born}@{node}"), "new", "running"));
                born += 1;
            }
            for node in &nodes {
                let name = text(&node.metadata.name);
                let alive = pods
                    .iter()
                    .filter(|pod| target_node(pod) == Some(name) && api::pod::is_active(pod))
                    .count();
                prop_assert!(alive <= if surging { 2 } else { 1 }, "{alive} pods on {name}");
            }
        }
        prop_assert_eq!(pods.len(), 5);
        prop_assert!(pods.iter().all(|pod| hash(pod) == "new" && api::pod::is_ready(pod)));
    }
}
