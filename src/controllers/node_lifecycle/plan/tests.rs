//! Tests of node conditions, taints and the holding back of evictions.

use serde_json::{Value, json};

use super::*;

fn node(ready: Option<&str>, taints: Value) -> Node {
    let conditions = ready.map(|status| json!([{"type": "Ready", "status": status}])).unwrap_or(json!([]));
    serde_json::from_value(json!({
        "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"taints": taints},
        "status": {"conditions": conditions},
    }))
    .unwrap()
}

fn pairs(taints: Option<Vec<Taint>>) -> Vec<String> {
    taints.unwrap().iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
}

#[test]
fn taints_follow_readiness() {
    let now = Timestamp::UNIX_EPOCH;
    let own = json!([{"key": "mine", "effect": "NoSchedule"}]);
    let lost = taints(&node(Some("Unknown"), own.clone()), true, now);
    let unreachable = "node.kubernetes.io/unreachable";
    let expected = [
        "mine:NoSchedule".to_string(),
        format!("{unreachable}:NoSchedule"),
        format!("{unreachable}:NoExecute"),
    ];
    assert_eq!(pairs(lost), expected);
    let back = json!([
        {"key": "mine", "effect": "NoSchedule"},
        {"key": unreachable, "effect": "NoSchedule"},
        {"key": unreachable, "effect": "NoExecute"},
    ]);
    assert_eq!(pairs(taints(&node(Some("True"), back.clone()), true, now)), ["mine:NoSchedule"]);
    assert_eq!(taints(&node(Some("Unknown"), back.clone()), true, now), None, "nothing to do");
    let held = pairs(taints(&node(Some("Unknown"), back), false, now));
    assert_eq!(held, ["mine:NoSchedule".to_string(), format!("{unreachable}:NoSchedule")]);
    assert_eq!(taints(&node(Some("True"), own), true, now), None);
}

#[test]
fn a_new_node_is_not_evicted_from() {
    let expected = ["node.kubernetes.io/not-ready:NoSchedule"];
    assert_eq!(pairs(taints(&node(None, json!([])), true, Timestamp::UNIX_EPOCH)), expected);
}

#[test]
fn a_cordoned_node_under_pressure() {
    let mut node = node(Some("True"), json!([]));
    node.spec.as_mut().unwrap().unschedulable = Some(true);
    let pressure = json!({"type": "DiskPressure", "status": "True"});
    node.status
        .as_mut()
        .unwrap()
        .conditions
        .as_mut()
        .unwrap()
        .push(serde_json::from_value(pressure).unwrap());
    let expected =
        ["node.kubernetes.io/disk-pressure:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule"];
    assert_eq!(pairs(taints(&node, true, Timestamp::UNIX_EPOCH)), expected);
}

#[test]
fn silence_is_told_once() {
    let silent = fallen_silent(&node(Some("True"), json!([])), Timestamp::UNIX_EPOCH).unwrap();
    let ready = condition(&silent, "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("Unknown", Some("NodeStatusUnknown")));
    let memory = condition(&silent, "MemoryPressure").unwrap();
    assert_eq!(memory.reason.as_deref(), Some("NodeStatusNeverUpdated"));
    assert_eq!(fallen_silent(&silent, Timestamp::UNIX_EPOCH), None);
}

#[test]
fn evictions_are_held_back_when_most_nodes_are_lost() {
    let zones = |list: &[(&str, usize, usize)]| -> HashMap<String, Zone> {
        list.iter()
            .map(|(name, ready, not_ready)| (name.to_string(), Zone { ready: *ready, not_ready: *not_ready }))
            .collect()
    };
    assert!(!may_evict(&zones(&[("a", 0, 1)]), "a"), "the only node");
    assert!(may_evict(&zones(&[("a", 1, 1)]), "a"));
    assert!(!may_evict(&zones(&[("a", 2, 3)]), "a"));
    assert!(may_evict(&zones(&[("a", 40, 60)]), "a"), "a large zone");
    assert!(may_evict(&zones(&[("a", 0, 3), ("b", 3, 0)]), "a"), "one whole zone");
    assert!(!may_evict(&zones(&[("a", 0, 3), ("b", 0, 3)]), "a"));
}
