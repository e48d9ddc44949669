//! The judgement, over objects as the API has them.

use serde_json::{Value, json};

use super::*;

fn parsed<K: serde::de::DeserializeOwned>(objects: Vec<Value>) -> Vec<Arc<K>> {
    objects.into_iter().map(|object| Arc::new(serde_json::from_value(object).unwrap())).collect()
}

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn pod(name: &str, node: Option<&str>, status: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": "2026-01-01T11:00:00Z"},
           "spec": {"nodeName": node, "containers": []}, "status": status})
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "startTime": "2026-01-01T11:59:00Z", "containerStatuses": [
        {"name": "a", "image": "shop:2", "imageID": "", "ready": false, "restartCount": 7,
         "state": {"waiting": {"reason": reason, "message": message}},
         "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}]})
}

fn lines(seen: &Seen) -> Vec<String> {
    let (_, findings) = judge(seen, Some("one"), now());
    findings.iter().map(|one| format!("{}: {}; {}", one.what, one.why, one.advice)).collect()
}

#[test]
fn pods_in_the_same_trouble_are_one_finding() {
    let refused = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]});
    let mut pods: Vec<Value> =
        (0..178).map(|number| pod(&format!("web-{number}"), None, refused.clone())).collect();
    pods.extend(
        (0..22).map(|number| pod(&format!("runs-{number}"), Some("one"), json!({"phase": "Running"}))),
    );
    let seen = Seen { pods: parsed(pods), ..Seen::default() };
    let (cluster, _) = judge(&seen, None, now());
    assert_eq!(cluster.pods, [("Pending".to_string(), 178), ("Running".to_string(), 22)].into());
    assert_eq!(
        lines(&seen),
        [
            "178 of 200 pods find no node: shop/web-0 for one: 0/1 nodes are available: 1 Insufficient cpu.; ask for less, add a \
          node, or see 'kubectl describe pod -n shop web-0'"
        ]
    );
}

#[test]
fn what_containers_wait_for_is_told() {
    for (reason, wanted) in [
        ("ImagePullBackOff", "1 of 1 pods do not get their image: shop/p: image shop:2: because"),
        ("ErrImagePull", "do not get their image"),
        ("CreateContainerConfigError", "containers that cannot be made: shop/p: container a: because"),
        (
            "CrashLoopBackOff",
            "end again and again: shop/p: container a has ended with exit code 3 (Error), 7 restarts",
        ),
    ] {
        let pods = parsed(vec![pod("p", Some("one"), waiting(reason, "because"))]);
        let said = lines(&Seen { pods, ..Seen::default() });
        assert!(said.len() == 1 && said[0].contains(wanted), "{reason}: {said:?}");
    }
    let pods = parsed(vec![pod("p", Some("one"), waiting("ContainerCreating", ""))]);
    assert_eq!(lines(&Seen { pods, ..Seen::default() }), Vec::<String>::new(), "a minute is nothing");
}

#[test]
fn pods_that_neither_start_nor_go_are_told_with_their_last_warning() {
    let mut slow = waiting("ContainerCreating", "");
    slow["startTime"] = json!("2026-01-01T11:50:00Z");
    let mut leaving = pod("leaving", Some("one"), json!({"phase": "Running"}));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T11:50:00Z");
    leaving["metadata"]["finalizers"] = json!(["example.com/keep"]);
    let events = parsed(vec![json!({
        "metadata": {"name": "e"}, "involvedObject": {"uid": "slow"}, "type": "Warning", "reason": "FailedMount",
        "message": "secret \"missing\" not found", "lastTimestamp": "2026-01-01T11:59:00Z"})]);
    let pods =
        parsed(vec![pod("slow", Some("one"), slow), leaving, pod("new", None, json!({"phase": "Pending"}))]);
    let said = lines(&Seen { pods, events, ..Seen::default() });
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("not looked at by a scheduler: shop/new"), "{said:?}");
    assert!(
        said[1].contains("have not started for minutes: shop/slow: secret \"missing\" not found"),
        "{said:?}"
    );
    assert!(said[2].contains("shop/leaving: its finalizer example.com/keep"), "{said:?}");
}

#[test]
fn nodes_other_than_the_own_one_are_told() {
    let node = |name: &str, ready: &str| {
        json!({"metadata": {"name": name}, "status": {"conditions": [
            {"type": "Ready", "status": ready, "message": "Kubelet stopped posting node status."}]}})
    };
    let nodes = parsed(vec![node("one", "False"), node("two", "Unknown"), node("three", "True")]);
    let seen = Seen { nodes, ..Seen::default() };
    let (cluster, _) = judge(&seen, Some("one"), now());
    assert_eq!((cluster.nodes, cluster.nodes_ready), (3, 1));
    let said = lines(&seen);
    assert!(said.len() == 1 && said[0].starts_with("node two is not Ready: Kubelet stopped"), "{said:?}");
}

#[test]
fn a_corefile_is_told_until_it_is_corrected() {
    let map = |changed: &str| {
        json!({"metadata": {"name": "coredns", "namespace": "kube-system", "uid": "m",
                            "managedFields": [{"manager": "kubectl", "time": changed}]}})
    };
    let events = || {
        parsed(vec![json!({
            "metadata": {"name": "e"}, "involvedObject": {"uid": "m"}, "type": "Warning", "reason": "InvalidCorefile",
            "message": "line 3: unknown plugin", "lastTimestamp": "2026-01-01T11:00:05Z"})])
    };
    let said = |changed: &str| {
        lines(&Seen { maps: parsed(vec![map(changed)]), events: events(), ..Seen::default() })
    };
    let broken = said("2026-01-01T11:00:05Z");
    assert!(
        broken.len() == 1 && broken[0].contains("kube-system/coredns is not in use: line 3"),
        "{broken:?}"
    );
    assert_eq!(said("2026-01-01T11:00:09Z"), Vec::<String>::new());
}
