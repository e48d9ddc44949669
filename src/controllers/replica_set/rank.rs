//! Which pods go first when there are too many.
//!
//! In this order: without a node; Pending, then Unknown; not ready; a lower
//! `controller.kubernetes.io/pod-deletion-cost`; on a node with more related pods; ready for less time;
//! restarted more often; younger. Times count by orders of magnitude (KEP-2185), so that the choice among
//! pods of about the same age is random by uid.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

struct Ranked<'a> {
    pod: &'a Arc<Pod>,
    /// Related pods on its node.
    crowd: usize,
    cost: i32,
    restarts: (i32, i32),
}

/// The `count` pods to delete.
pub(super) fn first_to_go(
    active: &[Arc<Pod>],
    siblings: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for node in siblings.iter().filter_map(|pod| api::pod::node_name(pod)) {
        *on_node.entry(node).or_insert(0) += 1;
    }
    let mut ranked: Vec<Ranked<'_>> = active
        .iter()
        .map(|pod| Ranked {
            pod,
            crowd: api::pod::node_name(pod).and_then(|node| on_node.get(node).copied()).unwrap_or(0),
            cost: deletion_cost(pod),
            restarts: restarts(pod),
        })
        .collect();
    ranked.sort_by(|one, other| compare(one, other, now));
    ranked.into_iter().take(count).map(|ranked| ranked.pod.clone()).collect()
}

fn compare(one: &Ranked<'_>, other: &Ranked<'_>, now: Timestamp) -> Ordering {
    let assigned = |ranked: &Ranked<'_>| api::pod::node_name(ranked.pod).is_some();
    let ready = |ranked: &Ranked<'_>| api::pod::is_ready(ranked.pod);
    let phase = |ranked: &Ranked<'_>| match api::pod::phase(ranked.pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    assigned(one)
        .cmp(&assigned(other))
        .then_with(|| phase(one).cmp(&phase(other)))
        .then_with(|| ready(one).cmp(&ready(other)))
        .then_with(|| one.cost.cmp(&other.cost))
        .then_with(|| other.crowd.cmp(&one.crowd))
        .then_with(|| {
            if ready(one) && ready(other) {
                younger_first(api::pod::ready_since(one.pod), api::pod::ready_since(other.pod), now)
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| other.restarts.cmp(&one.restarts))
        .then_with(|| {
            let created =
                |ranked: &Ranked<'_>| ranked.pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            younger_first(created(one), created(other), now)
        })
        .then_with(|| one.pod.metadata.uid.cmp(&other.pod.metadata.uid))
}

/// Unknown times first, then the lower order of magnitude of age.
fn younger_first(one: Option<Timestamp>, other: Option<Timestamp>, now: Timestamp) -> Ordering {
    let magnitude = |time: Timestamp| {
        let age = now.as_second().saturating_sub(time.as_second());
        // Never negative, and zero is its own order.
        u64::try_from(age).unwrap_or(0).checked_ilog2().map_or(0, |log| log + 1)
    };
    match (one, other) {
        (Some(one), Some(other)) => magnitude(one).cmp(&magnitude(other)),
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotation = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DELETION_COST));
    annotation.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// The most restarts of any container, and of any sidecar.
fn restarts(pod: &Pod) -> (i32, i32) {
    let most = |statuses: &Option<Vec<ContainerStatus>>| {
        statuses.iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
    };
    let status = pod.status.as_ref();
    (
        status.map_or(0, |status| most(&status.container_statuses)),
        status.map_or(0, |status| most(&status.init_container_statuses)),
    )
}

#[cfg(test)]
mod tests;
