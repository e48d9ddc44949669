//! What a node's conditions and taints should be.

use std::collections::HashMap;

use api::taints::{self, NO_EXECUTE, NO_SCHEDULE};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::jiff::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    NotReady,
    /// Not heard of.
    Unknown,
}

/// Counts of a zone's nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Zone {
    pub(super) ready: usize,
    pub(super) not_ready: usize,
}

/// From this share of not ready nodes on (and more than two), a zone counts as disrupted.
const DISRUPTED_SHARE: f64 = 0.55;
/// A disrupted zone of at most this size evicts nobody.
const SMALL: usize = 50;

pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub(super) fn readiness(node: &Node) -> Readiness {
    match condition(node, "Ready").map(|ready| ready.status.as_str()) {
        Some("True") => Readiness::Ready,
        Some("False") => Readiness::NotReady,
        _ => Readiness::Unknown,
    }
}

pub(super) fn zone_of(node: &Node) -> String {
    let label = |key: &str| {
        let labels = node.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default()
    };
    format!("{}:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

/// Whether pods of not ready nodes of this zone may be evicted: not if all nodes of all zones are not ready,
/// and not if most of a small zone is.
pub(super) fn may_evict(zones: &HashMap<String, Zone>, zone: &str) -> bool {
    if zones.values().all(|zone| zone.ready == 0) {
        return false;
    }
    let zone = zones.get(zone).copied().unwrap_or_default();
    let all = zone.ready + zone.not_ready;
    let disrupted = zone.not_ready > 2 && zone.not_ready as f64 / all as f64 >= DISRUPTED_SHARE;
    zone.ready == 0 || !disrupted || all > SMALL
}

/// The node with the conditions of one that is not heard of, unless it has them.
pub(super) fn fallen_silent(node: &Node, now: Timestamp) -> Option<Node> {
    let mut told = node.clone();
    let time = api::time::seconds(now);
    let created = node.metadata.creation_timestamp.clone();
    let conditions = told.status.get_or_insert_default().conditions.get_or_insert_default();
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            None => {
                changed = true;
                conditions.push(NodeCondition {
                    type_: kind.to_string(),
                    status: "Unknown".to_string(),
                    reason: Some("NodeStatusNeverUpdated".to_string()),
                    message: Some("Kubelet never posted node status.".to_string()),
                    last_heartbeat_time: created.clone(),
                    last_transition_time: Some(time.clone()),
                });
            }
            Some(condition) if condition.status != "Unknown" => {
                changed = true;
                condition.status = "Unknown".to_string();
                condition.reason = Some("NodeStatusUnknown".to_string());
                condition.message = Some("Kubelet stopped posting node status.".to_string());
                condition.last_transition_time = Some(time.clone());
            }
            Some(_) => {}
        }
    }
    changed.then_some(told)
}

/// Keys of the taints that are ours to set and remove.
fn is_ours(taint: &Taint) -> bool {
    match taint.effect.as_str() {
        NO_SCHEDULE => matches!(
            taint.key.as_str(),
            taints::NOT_READY
                | taints::UNREACHABLE
                | taints::MEMORY_PRESSURE
                | taints::DISK_PRESSURE
                | taints::PID_PRESSURE
                | taints::NETWORK_UNAVAILABLE
                | taints::UNSCHEDULABLE
        ),
        NO_EXECUTE => matches!(taint.key.as_str(), taints::NOT_READY | taints::UNREACHABLE),
        _ => false,
    }
}

/// The node's taints as they should be, if they are not. `evict`: NoExecute taints may be set; set ones are
/// removed if not.
pub(super) fn taints(node: &Node, evict: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let present = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let unready = match readiness(node) {
        Readiness::Ready => None,
        Readiness::NotReady => Some(taints::NOT_READY),
        // A node that has no Ready condition at all is new, not lost.
        Readiness::Unknown if condition(node, "Ready").is_none() => Some(taints::NOT_READY),
        Readiness::Unknown => Some(taints::UNREACHABLE),
    };
    if let Some(key) = unready {
        wanted.push((key, NO_SCHEDULE));
        if evict && condition(node, "Ready").is_some() {
            wanted.push((key, NO_EXECUTE));
        }
    }
    for (kind, key) in [
        ("MemoryPressure", taints::MEMORY_PRESSURE),
        ("DiskPressure", taints::DISK_PRESSURE),
        ("PIDPressure", taints::PID_PRESSURE),
        ("NetworkUnavailable", taints::NETWORK_UNAVAILABLE),
    ] {
        if condition(node, kind).is_some_and(|condition| condition.status == "True") {
            wanted.push((key, NO_SCHEDULE));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false) {
        wanted.push((taints::UNSCHEDULABLE, NO_SCHEDULE));
    }
    let is = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let mut result: Vec<Taint> = present
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.iter().any(|one| is(taint, one)))
        .cloned()
        .collect();
    let mut changed = result.len() != present.len();
    for one in wanted {
        if !result.iter().any(|taint| is(taint, &one)) {
            changed = true;
            result.push(Taint {
                key: one.0.to_string(),
                effect: one.1.to_string(),
                value: None,
                time_added: Some(api::time::seconds(now)),
            });
        }
    }
    changed.then_some(result)
}

#[cfg(test)]
mod tests;
