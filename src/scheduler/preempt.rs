//! Preemption: makes room for a pod by evicting pods of lower priority.
//!
//! For each node where that might help, all pods of lower priority are taken off (in the scheduler's own books), and those that can stay
//! are put back, most important first; the others are the victims. The node with the least important victims is chosen; the pod is nominated to
//! it, so that nobody else takes the room while the victims end. Absent: disruption budgets (there are none yet).

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::cache::Cache;
use crate::message::Preemption;
use crate::place::{self, Unfit};
use crate::pod::PodInfo;

/// Who goes, and from where.
pub(crate) struct Eviction {
    pub(crate) node: String,
    pub(crate) victims: Vec<Arc<PodInfo>>,
}

/// Nodes that are tried: enough to choose from, few enough not to hold others up.
const LEAST_TRIED: usize = 100;

/// Makes room for a pod that fits nowhere, if that is possible. The eviction is left to the caller; the pod is nominated.
pub(crate) fn preempt(
    cache: &mut Cache,
    pod: &Arc<PodInfo>,
    unfit: &Unfit,
) -> (Preemption, Option<Eviction>) {
    let policy = pod.pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref());
    if policy == Some("Never") {
        return (Preemption::Never, None);
    }
    if waits_for_victims(cache, pod) {
        return (Preemption::Waits, None);
    }
    if !cache.has_lower_priority(pod.priority) {
        return (Preemption::Useless, None);
    }
    let tried = (unfit.nodes / 10).max(LEAST_TRIED);
    let mut best: Option<(Rank, u32, Vec<Arc<PodInfo>>)> = None;
    for index in unfit.resolvable.iter().take(tried) {
        let Some(victims) = victims(cache, pod, *index) else { continue };
        let rank = rank(&victims);
        if best.as_ref().is_none_or(|(least, _, _)| rank < *least) {
            best = Some((rank, *index, victims));
        }
    }
    let Some((_, index, victims)) = best else { return (Preemption::Useless, None) };
    let node = cache.nodes[index as usize].name.clone();
    cache.nominate(pod, &node);
    (Preemption::UnderWay, Some(Eviction { node, victims }))
}

/// Pods evicted for this one are still on their way out.
fn waits_for_victims(cache: &Cache, pod: &PodInfo) -> bool {
    let Some(index) = cache.nominated_node(&pod.key) else { return false };
    let mut others = cache.nodes[index as usize].pods.values();
    others.any(|other| other.terminating && other.priority < pod.priority)
}

/// The pods that would have to leave this node; none if even all would not be enough.
fn victims(cache: &mut Cache, pod: &PodInfo, index: u32) -> Option<Vec<Arc<PodInfo>>> {
    let mut lower = cache.evictable(index, pod.priority);
    if lower.is_empty() {
        return None;
    }
    lower.sort_by_key(|pod| (Reverse(pod.priority), started(pod), pod.key.clone()));
    for one in &lower {
        cache.remove(&one.key);
    }
    if !place::fits(cache, pod, index) {
        for one in lower {
            cache.restore(one, index);
        }
        return None;
    }
    let mut victims = Vec::new();
    for one in lower {
        cache.restore(one.clone(), index);
        if !place::fits(cache, pod, index) {
            cache.remove(&one.key);
            victims.push(one);
        }
    }
    for victim in &victims {
        cache.restore(victim.clone(), index);
    }
    Some(victims)
}

/// When the pod started; unknown counts as just now.
fn started(pod: &PodInfo) -> Timestamp {
    let status = pod.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    status.map_or(Timestamp::MAX, |time| time.0)
}

/// Smaller is better: the most important victim, the sum of priorities, their number, and how long the most important have run.
type Rank = (i32, i64, usize, Reverse<Timestamp>);

fn rank(victims: &[Arc<PodInfo>]) -> Rank {
    let highest = victims.iter().map(|pod| pod.priority).max().unwrap_or(i32::MIN);
    // Shifted so that many victims of negative priority are not better than one.
    let sum = victims.iter().map(|pod| i64::from(pod.priority) - i64::from(i32::MIN)).sum();
    let earliest = victims.iter().filter(|pod| pod.priority == highest).map(|pod| started(pod)).min();
    (highest, sum, victims.len(), Reverse(earliest.unwrap_or(Timestamp::MAX)))
}

#[cfg(test)]
mod tests;
