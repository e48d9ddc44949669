//! DefaultPreemption: makes room for a pod by evicting pods of lower priority.
//!
//! For each node where that might help, all pods of lower priority are taken off (in the scheduler's own
//! books), and those that can stay are put back, most important first; the others are the victims. The node
//! with the least important victims is chosen; the pod is nominated to it, so that nobody else takes the room
//! while the victims end. Absent: disruption budgets (there are none yet).

use std::cmp::Reverse;
use std::sync::Arc;

use api::{DeleteOptions, Kinded, Preconditions};
use client::ObjectRef;
use client::events::{EventType, reference_to};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::cache::Cache;
use crate::framework::{
    Cycle, Diagnosis, Handle, Nominating, Plugin, Points, PostFilterPlugin, PostFilterResult, Profile, Status,
};
use crate::place;
use crate::pod::PodInfo;
use crate::report::patch_status;

pub(super) const NAME: &str = "DefaultPreemption";

/// Nodes that are tried: enough to choose from, few enough not to hold others up.
const LEAST_TRIED: usize = 100;

pub(super) struct DefaultPreemption {
    handle: Handle,
}

impl DefaultPreemption {
    pub(super) fn new(handle: Handle) -> Self {
        DefaultPreemption { handle }
    }
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.post_filter(self);
    }
}

impl PostFilterPlugin for DefaultPreemption {
    fn post_filter(
        &self,
        cycle: &mut Cycle<'_>,
        profile: &Profile,
        diagnosis: &Diagnosis,
    ) -> (PostFilterResult, Status) {
        match preempt(profile, cycle.cache, cycle.pod, diagnosis) {
            Ok(eviction) => {
                let nominating = Nominating::Node(eviction.node.clone());
                let evicting = evict(self.handle.clone(), cycle.pod.clone(), eviction);
                (PostFilterResult { nominating, follow_up: Some(Box::pin(evicting)) }, Status::success())
            }
            Err(useless) => {
                let nominating = if useless.clears() { Nominating::Clear } else { Nominating::Keep };
                let status = Status::unschedulable(format!("preemption: {}", useless.text(diagnosis)));
                (PostFilterResult { nominating, follow_up: None }, status)
            }
        }
    }
}

/// The pods to evict, and their node.
#[derive(Debug)]
struct Eviction {
    node: String,
    victims: Vec<Arc<PodInfo>>,
}

/// Why nobody is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Useless {
    /// `preemptionPolicy: Never`.
    Never,
    /// Pods that were evicted for this one are not gone yet.
    Waits,
    NoVictims,
}

impl Useless {
    /// The pod need not be promised a node any more.
    fn clears(self) -> bool {
        self == Useless::NoVictims
    }

    fn text(self, diagnosis: &Diagnosis) -> String {
        match self {
            Useless::Never => "not eligible due to preemptionPolicy=Never.".to_string(),
            Useless::Waits => "not eligible due to a terminating pod on the nominated node.".to_string(),
            Useless::NoVictims => {
                let tried = diagnosis.unschedulable_nodes().len();
                let reasons = [
                    ("No preemption victims found for incoming pod", tried),
                    ("Preemption is not helpful for scheduling", diagnosis.unresolvable),
                ];
                let told = Diagnosis::told(reasons.into_iter().filter(|(_, count)| *count > 0));
                format!("0/{} nodes are available: {told}.", diagnosis.nodes)
            }
        }
    }
}

/// Finds the node where the least important pods have to go.
fn preempt(
    profile: &Profile,
    cache: &mut Cache,
    pod: &Arc<PodInfo>,
    diagnosis: &Diagnosis,
) -> Result<Eviction, Useless> {
    let policy = pod.pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref());
    if policy == Some("Never") {
        return Err(Useless::Never);
    }
    if waits_for_victims(cache, pod) {
        return Err(Useless::Waits);
    }
    if !cache.has_lower_priority(pod.priority) {
        return Err(Useless::NoVictims);
    }
    let tried = (diagnosis.nodes / 10).max(LEAST_TRIED);
    let mut best: Option<(Rank, u32, Vec<Arc<PodInfo>>)> = None;
    for index in diagnosis.unschedulable_nodes().iter().take(tried) {
        let Some(victims) = victims(profile, cache, pod, *index) else { continue };
        let rank = rank(&victims);
        if best.as_ref().is_none_or(|(least, _, _)| rank < *least) {
            best = Some((rank, *index, victims));
        }
    }
    let (_, index, victims) = best.ok_or(Useless::NoVictims)?;
    Ok(Eviction { node: cache.nodes[index as usize].name.clone(), victims })
}

/// Deletes the pods that have to go for another. One that cannot be deleted is left: the pod is tried again
/// anyway.
async fn evict(handle: Handle, pod: Arc<PodInfo>, eviction: Eviction) {
    let api = &*handle.api;
    for victim in eviction.victims.iter().filter(|victim| !victim.terminating) {
        let condition = json!({
            "type": api::pod::DISRUPTION_TARGET,
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": format!("{}: preempting to accommodate a higher priority pod", handle.scheduler_name),
            "lastTransitionTime": api::time::seconds(Timestamp::now()),
        });
        patch_status(api, victim, json!({ "conditions": [condition] })).await;
        let preconditions = Preconditions { uid: Some(victim.uid.clone()), ..Preconditions::default() };
        let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
        let at = ObjectRef::new(Some(&victim.key.0), &victim.key.1);
        match api.delete(Pod::row(), at, &options).await {
            Ok(_) => {
                let message = format!("Preempted by pod {} on node {}", pod.uid, eviction.node);
                let regarding = reference_to(&*victim.pod);
                let kind = EventType::Normal;
                handle.recorder.event_with_action(&regarding, kind, "Preempted", "Preempting", message);
            }
            Err(error) => {
                tracing::debug!(namespace = %victim.key.0, pod = %victim.key.1, %error, "eviction failed");
            }
        }
    }
}

/// Pods evicted for this one are still on their way out.
fn waits_for_victims(cache: &Cache, pod: &PodInfo) -> bool {
    let Some(index) = cache.nominated_node(&pod.key) else { return false };
    let mut others = cache.nodes[index as usize].pods.values();
    others.any(|other| other.terminating && other.priority < pod.priority)
}

/// The pods that would have to leave this node; none if even all would not be enough.
fn victims(
    profile: &Profile,
    cache: &mut Cache,
    pod: &Arc<PodInfo>,
    index: u32,
) -> Option<Vec<Arc<PodInfo>>> {
    let mut lower = cache.evictable(index, pod.priority);
    if lower.is_empty() {
        return None;
    }
    lower.sort_by_key(|pod| (Reverse(pod.priority), started(pod), pod.key.clone()));
    for one in &lower {
        cache.remove(&one.key);
    }
    if !place::fits(profile, cache, pod, index) {
        for one in lower {
            cache.restore(one, index);
        }
        return None;
    }
    let mut victims = Vec::new();
    for one in lower {
        cache.restore(one.clone(), index);
        if !place::fits(profile, cache, pod, index) {
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

/// Smaller is better: the most important victim, the sum of priorities, their number, and how long the most
/// important have run.
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
