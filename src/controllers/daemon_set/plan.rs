//! Which daemon pods to make and delete, and what the status says.
//!
//! `manage` brings one pod to each node that suits and takes it from the others; `roll` replaces pods of
//! earlier templates, within what may be unavailable or surge.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;

use super::min_ready_seconds;
use super::pods::{Eligibility, Suits, is_updated, target_node};
use crate::context::text;
use crate::history::REVISION_LABEL;
use crate::percent;

/// What a plan is made of.
pub(super) struct DaemonSetView<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) hash: &'a str,
    pub(super) nodes: HashMap<String, Suits>,
    /// By the node that they are on or meant for; the oldest first, those bound before others.
    pub(super) pods: BTreeMap<String, Vec<Arc<Pod>>>,
    pub(super) now: Timestamp,
}

/// Why a pod goes, for those of which people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Failed,
    Succeeded,
    Other,
}

#[derive(Debug, Default)]
pub(super) struct DaemonSetSteps {
    /// Nodes that get a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<(Arc<Pod>, Why)>,
    /// A failed pod has to wait this long.
    pub(super) again: Option<Duration>,
}

impl<'a> DaemonSetView<'a> {
    pub(super) fn new(
        set: &'a DaemonSet,
        hash: &'a str,
        nodes: &[Arc<Node>],
        pods: &[Arc<Pod>],
        now: Timestamp,
    ) -> Self {
        let eligibility = Eligibility::of(set);
        let nodes = nodes.iter().map(|node| (text(&node.metadata.name).to_string(), eligibility.suits(node)));
        let mut grouped: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in pods {
            // One that has ended and is being deleted waits for a finalizer or its kubelet: it is over.
            let is_over = api::pod::is_terminal(pod) && api::pod::is_terminating(pod);
            if let Some(node) = target_node(pod).filter(|_| !is_over) {
                grouped.entry(node.to_string()).or_default().push(pod.clone());
            }
        }
        for pods in grouped.values_mut() {
            pods.sort_by_key(|pod| {
                let metadata = &pod.metadata;
                let unbound = api::pod::node_name(pod).is_none();
                (unbound, metadata.creation_timestamp.clone(), metadata.name.clone())
            });
        }
        DaemonSetView { set, hash, nodes: nodes.collect(), pods: grouped, now }
    }

    fn suits(&self, node: &str) -> Suits {
        self.nodes.get(node).copied().unwrap_or(Suits { run: false, stay: false })
    }

    fn is_available(&self, pod: &Pod) -> bool {
        api::pod::is_available(pod, min_ready_seconds(self.set), self.now)
    }

    fn rolling(&self) -> Option<&RollingUpdateDaemonSet> {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        strategy.filter(|_| is_rolling(self.set)).and_then(|strategy| strategy.rolling_update.as_ref())
    }

    fn max_surge(&self, of: i32) -> i32 {
        percent::resolve(self.rolling().and_then(|rolling| rolling.max_surge.as_ref()), of, true)
    }

    fn max_unavailable(&self, of: i32) -> i32 {
        percent::resolve(self.rolling().and_then(|rolling| rolling.max_unavailable.as_ref()), of, true)
    }
}

pub(super) fn is_rolling(set: &DaemonSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("RollingUpdate")
}

/// Brings pods to the nodes that suit and takes them from those that do not. `waits` says how long failed
/// pods of a node have to wait before they are replaced.
pub(super) fn manage(view: &DaemonSetView<'_>, waits: impl Fn(&str) -> Option<Duration>) -> DaemonSetSteps {
    let mut steps = DaemonSetSteps::default();
    let mut names: Vec<&String> = view.nodes.keys().collect();
    names.sort();
    for node in names {
        let suits = view.suits(node);
        match view.pods.get(node) {
            None if suits.run => steps.create.push(node.clone()),
            Some(pods) if suits.stay => on_suitable(view, node, suits, pods, &waits, &mut steps),
            Some(pods) => {
                let alive = pods.iter().filter(|pod| !api::pod::is_terminating(pod));
                steps.delete.extend(alive.map(|pod| (pod.clone(), Why::Other)));
            }
            None => {}
        }
    }
    // Nobody else deletes pods that wait for a node that is gone.
    let strays = view.pods.iter().filter(|(node, _)| !view.nodes.contains_key(*node));
    let strays = strays.flat_map(|(_, pods)| pods).filter(|pod| api::pod::node_name(pod).is_none());
    steps.delete.extend(strays.map(|pod| (pod.clone(), Why::Other)));
    steps
}

fn on_suitable(
    view: &DaemonSetView<'_>,
    node: &str,
    suits: Suits,
    pods: &[Arc<Pod>],
    waits: impl Fn(&str) -> Option<Duration>,
    steps: &mut DaemonSetSteps,
) {
    let mut running = Vec::new();
    for pod in pods.iter().filter(|pod| !api::pod::is_terminating(pod)) {
        match api::pod::phase(pod) {
            "Failed" => match waits(node) {
                Some(left) => steps.again = Some(steps.again.map_or(left, |again| again.min(left))),
                None => steps.delete.push((pod.clone(), Why::Failed)),
            },
            "Succeeded" => steps.delete.push((pod.clone(), Why::Succeeded)),
            _ => running.push(pod.clone()),
        }
    }
    let delete = |steps: &mut DaemonSetSteps, pod: &Arc<Pod>| steps.delete.push((pod.clone(), Why::Other));
    if view.max_surge(1) == 0 {
        running.iter().skip(1).for_each(|pod| delete(steps, pod));
        return;
    }
    if running.is_empty() && suits.run {
        steps.create.push(node.to_string());
    }
    if running.len() < 2 {
        return;
    }
    // The oldest pod of the present template and the oldest of an earlier one may be there together while
    // the former is not available yet and the latter is ready.
    let (mut new, mut old): (Option<Arc<Pod>>, Option<Arc<Pod>>) = (None, None);
    for pod in running {
        let labels = pod.metadata.labels.as_ref();
        let is_new = labels.and_then(|labels| labels.get(REVISION_LABEL)).is_some_and(|own| own == view.hash);
        let slot = if is_new { &mut new } else { &mut old };
        match slot {
            None => *slot = Some(pod),
            Some(_) => delete(steps, &pod),
        }
    }
    if let (Some(new), Some(old)) = (new, old)
        && (!api::pod::is_ready(&old) || view.is_available(&new))
    {
        delete(steps, &old);
    }
}

/// The pods of a node, of the present template and of an earlier one.
#[derive(Default)]
struct NodePods<'a> {
    new: Option<&'a Arc<Pod>>,
    old: Option<&'a Arc<Pod>>,
}

/// None if there are several of either, which `manage` sorts out.
fn new_and_old<'a>(view: &DaemonSetView<'_>, pods: &'a [Arc<Pod>]) -> Option<NodePods<'a>> {
    let mut found = NodePods::default();
    for pod in pods.iter().filter(|pod| !api::pod::is_terminating(pod)) {
        let is_new = is_updated(view.set, view.hash, pod);
        let slot = if is_new { &mut found.new } else { &mut found.old };
        if slot.replace(pod).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Replaces pods of earlier templates.
pub(super) fn roll(view: &DaemonSetView<'_>) -> DaemonSetSteps {
    let desired = i32::try_from(view.nodes.values().filter(|suits| suits.run).count()).unwrap_or(i32::MAX);
    let surge = view.max_surge(desired);
    let mut unavailable = view.max_unavailable(desired);
    if desired > 0 && surge == 0 && unavailable == 0 {
        // Both zero would never get anywhere.
        unavailable = 1;
    }
    let at_least = |count: i32| usize::try_from(count).unwrap_or(0);
    if surge == 0 {
        in_place(view, at_least(unavailable))
    } else {
        with_surge(view, at_least(surge), at_least(desired))
    }
}

/// All nodes that matter: those with pods, and those that should have one.
fn nodes_of<'a>(view: &'a DaemonSetView<'_>) -> BTreeMap<&'a str, &'a [Arc<Pod>]> {
    let wanted = view.nodes.iter().filter(|(_, suits)| suits.run);
    let mut nodes: BTreeMap<&str, &[Arc<Pod>]> =
        wanted.map(|(node, _)| (node.as_str(), Default::default())).collect();
    nodes.extend(view.pods.iter().map(|(node, pods)| (node.as_str(), pods.as_slice())));
    nodes
}

/// Deletes old pods, those that are not available in any case; `manage` makes the new ones.
fn in_place(view: &DaemonSetView<'_>, limit: usize) -> DaemonSetSteps {
    let (mut unavailable, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
    for pods in nodes_of(view).into_values() {
        match new_and_old(view, pods) {
            Some(NodePods { new: Some(new), old: None }) => {
                unavailable += usize::from(!view.is_available(new))
            }
            Some(NodePods { new: None, old: Some(old) }) if !view.is_available(old) => {
                broken.push(old.clone());
                unavailable += 1;
            }
            Some(NodePods { new: None, old: Some(old) }) => candidates.push(old.clone()),
            // `manage` has to do something about this node first.
            _ => unavailable += 1,
        }
    }
    candidates.truncate(limit.saturating_sub(unavailable));
    let delete = broken.into_iter().chain(candidates).map(|pod| (pod, Why::Other)).collect();
    DaemonSetSteps { delete, ..DaemonSetSteps::default() }
}

/// Makes new pods beside old ones, and deletes old ones once the new are available.
fn with_surge(view: &DaemonSetView<'_>, limit: usize, desired: usize) -> DaemonSetSteps {
    let mut steps = DaemonSetSteps::default();
    let (mut surging, mut available) = (0, 0);
    let (mut candidates, mut misplaced) = (Vec::new(), Vec::new());
    for (node, pods) in nodes_of(view) {
        let Some(NodePods { new, old }) = new_and_old(view, pods) else {
            surging += 1;
            continue;
        };
        available += usize::from(old.or(new).is_some_and(|pod| view.is_available(pod)));
        let Some(old) = old else { continue };
        let suits = view.suits(node).run;
        match new {
            Some(new) if view.is_available(new) => steps.delete.push((old.clone(), Why::Other)),
            Some(_) => surging += 1,
            None if !view.is_available(old) && suits => steps.create.push(node.to_string()),
            None if !view.is_available(old) => steps.delete.push((old.clone(), Why::Other)),
            None if suits => candidates.push(node.to_string()),
            None => misplaced.push(old.clone()),
        }
    }
    // Pods on nodes that suit no more go only as pods elsewhere have become available.
    let spare = available.saturating_sub(desired);
    steps.delete.extend(misplaced.into_iter().take(spare).map(|pod| (pod, Why::Other)));
    candidates.truncate(limit.saturating_sub(surging));
    steps.create.extend(candidates);
    steps
}

/// Counts by nodes. `observed` is false while pods that were made or deleted have not been seen.
pub(super) fn status(view: &DaemonSetView<'_>, observed: bool) -> DaemonSetStatus {
    let old = view.set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        observed_generation: if observed { view.set.metadata.generation } else { old.observed_generation },
        collision_count: old.collision_count,
        conditions: old.conditions,
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated) = (0, 0);
    for (node, suits) in &view.nodes {
        let first = view.pods.get(node).and_then(|pods| pods.first());
        if !suits.run {
            status.number_misscheduled += i32::from(first.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = first else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(api::pod::is_ready(pod));
        available += i32::from(view.is_available(pod));
        updated += i32::from(is_updated(view.set, view.hash, pod));
    }
    let some = |count: i32| Some(count).filter(|count| *count != 0);
    status.number_available = some(available);
    status.updated_number_scheduled = some(updated);
    status.number_unavailable = some(status.desired_number_scheduled - available);
    status
}

/// Hashes of revisions that pods are of.
pub(super) fn live_hashes(pods: &[Arc<Pod>]) -> HashSet<String> {
    let labels = pods.iter().filter_map(|pod| pod.metadata.labels.as_ref());
    labels.filter_map(|labels| labels.get(REVISION_LABEL).cloned()).collect()
}

#[cfg(test)]
mod tests;
