//! What a stateful set does next, and what its status says.
//!
//! Ordered sets take one step at a time: a pod is made once all before it are available, one goes once all
//! that stay are. Parallel sets make and delete at once. Scaling comes before updating; an update replaces
//! the pod with the highest ordinal first and stops at the partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::claims::{self, Claims};
use super::revisions::Revision;
use super::{identity, min_ready_seconds, replicas};
use crate::context::text;
use crate::percent;

/// The most steps of one phase.
const BURST: usize = 500;

/// What a plan is made of. All of it may be a little old: each step is one that does no harm when it was
/// taken already.
pub(super) struct StatefulSetView<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) current: &'a Revision,
    pub(super) update: &'a Revision,
    pub(super) collisions: i32,
    pub(super) claims: &'a Claims,
    pub(super) now: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) enum StatefulSetStep {
    /// Make the pod's claims, then the pod.
    Create(Box<Pod>),
    /// Make the claims that a pending pod lacks.
    MakeClaims(Arc<Pod>),
    /// Mend the labels and volumes of a pod and the owners of its claims.
    Mend(Arc<Pod>),
    /// Mend the owners of the claims of a pod that goes.
    MendClaims(Arc<Pod>),
    Delete(Arc<Pod>),
}

#[derive(Debug, Default)]
pub(super) struct StatefulSetPlan {
    /// One after the other, or phase by phase with all of a phase at once.
    pub(super) phases: Vec<Vec<StatefulSetStep>>,
    pub(super) parallel: bool,
    pub(super) status: StatefulSetStatus,
}

/// The pods that the set has, by their place among the ordinals it should have, and those that should go,
/// the highest ordinal first. Pods without an ordinal are nobody's.
struct Members {
    living: BTreeMap<usize, Arc<Pod>>,
    condemned: Vec<Arc<Pod>>,
}

/// Whether what comes later in an ordered set has to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    Wait,
}

pub(super) fn plan(view: &StatefulSetView<'_>) -> StatefulSetPlan {
    let set = view.set;
    let parallel = is_parallel(set);
    let mut plan = StatefulSetPlan { phases: Vec::new(), parallel, status: status(view) };
    if set.metadata.deletion_timestamp.is_none() {
        steps(view, parallel, &mut plan);
    }
    complete_update(set, &mut plan.status);
    plan
}

fn steps(view: &StatefulSetView<'_>, parallel: bool, plan: &mut StatefulSetPlan) {
    let members = Members::of(view);
    let condemned = &members.condemned;
    let waits = |then: Then| then == Then::Wait && !parallel;
    let mut phase = Vec::new();
    for index in 0..replicas(view.set) {
        // The change that the first of them make brings us back for the rest.
        if waits(keep(view, parallel, index, members.living.get(&index), &mut phase)) || phase.len() == BURST
        {
            plan.phases.push(phase);
            return;
        }
    }
    plan.phases.push(phase);
    let mend = |pod: &&Arc<Pod>| !claims::are_owned_right(view.set, pod, view.claims);
    plan.phases
        .push(condemned.iter().filter(mend).map(|pod| StatefulSetStep::MendClaims(pod.clone())).collect());
    let first_unavailable = first_unavailable(view, &members);
    let mut phase = Vec::new();
    for pod in condemned {
        if waits(remove(view, parallel, pod, first_unavailable.as_deref(), &mut phase)) {
            plan.phases.push(phase);
            return;
        }
    }
    plan.phases.push(phase);
    let phase = replace(view, &members.living);
    if !phase.is_empty() {
        let current = plan.status.current_replicas.unwrap_or(0);
        plan.status.current_replicas = some(current - number(phase.len()));
    }
    plan.phases.push(phase);
}

fn is_parallel(set: &StatefulSet) -> bool {
    set.spec.as_ref().and_then(|spec| spec.pod_management_policy.as_deref()) == Some("Parallel")
}

fn is_running_and_ready(pod: &Pod) -> bool {
    api::pod::phase(pod) == "Running" && api::pod::is_ready(pod)
}

impl StatefulSetView<'_> {
    fn is_available(&self, pod: &Pod) -> bool {
        api::pod::is_available(pod, min_ready_seconds(self.set), self.now)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        !self.is_available(pod) || api::pod::is_terminating(pod)
    }

    fn rolling(&self) -> Option<&RollingUpdateStatefulSetStrategy> {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        strategy.and_then(|strategy| strategy.rolling_update.as_ref())
    }

    fn partition(&self) -> i32 {
        self.rolling().and_then(|rolling| rolling.partition).unwrap_or(0)
    }

    /// A new pod below the partition is of the old revision.
    fn new_pod(&self, index: usize) -> Pod {
        let ordinal = identity::start(self.set).saturating_add(number(index));
        let below = match self.rolling() {
            Some(_) => self.partition(),
            None if strategy(self.set) == Some("RollingUpdate") => {
                self.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0)
            }
            None => 0,
        };
        let of = if number(index) < below { self.current } else { self.update };
        identity::new_pod(self.set, &of.template, &of.name, ordinal)
    }
}

fn strategy(set: &StatefulSet) -> Option<&str> {
    set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.type_.as_deref())
}

impl Members {
    fn of(view: &StatefulSetView<'_>) -> Self {
        let (mut living, mut condemned) = (BTreeMap::new(), Vec::new());
        for pod in view.pods {
            let Some(ordinal) = identity::ordinal(pod) else { continue };
            match identity::index(view.set, ordinal) {
                Some(index) => drop(living.insert(index, pod.clone())),
                None => condemned.push((ordinal, pod.clone())),
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        Members { living, condemned: condemned.into_iter().map(|(_, pod)| pod).collect() }
    }
}

/// Makes, mends or replaces one pod that should be there.
fn keep(
    view: &StatefulSetView<'_>,
    parallel: bool,
    index: usize,
    pod: Option<&Arc<Pod>>,
    steps: &mut Vec<StatefulSetStep>,
) -> Then {
    let Some(pod) = pod else {
        let pod = view.new_pod(index);
        if !claims::are_leaving(view.set, &pod, view.claims) {
            steps.push(StatefulSetStep::Create(Box::new(pod)));
        }
        return Then::Wait;
    };
    if api::pod::is_terminal(pod) {
        // Succeeded too: how a pod that was stopped from outside ended says nothing about the set.
        if !api::pod::is_terminating(pod) {
            steps.push(StatefulSetStep::Delete(pod.clone()));
        }
        return Then::Wait;
    }
    let lacks_claims = claims::names(view.set, pod).iter().any(|name| !view.claims.contains_key(name));
    let owned_right = claims::are_owned_right(view.set, pod, view.claims);
    if api::pod::phase(pod) == "Pending" && (lacks_claims || !owned_right) {
        steps.push(StatefulSetStep::MakeClaims(pod.clone()));
    }
    let settled = !api::pod::is_terminating(pod) && is_running_and_ready(pod) && view.is_available(pod);
    if !settled && !parallel {
        return Then::Wait;
    }
    let right = identity::has_identity(view.set, pod) && identity::has_storage(view.set, pod) && owned_right;
    if !right {
        steps.push(StatefulSetStep::Mend(pod.clone()));
    }
    Then::GoOn
}

/// The uid of the first pod, in order of ordinals, that is not available, if it is one that goes.
fn first_unavailable(view: &StatefulSetView<'_>, members: &Members) -> Option<String> {
    let living = &members.living;
    if living.len() < replicas(view.set) || living.values().any(|pod| view.is_unavailable(pod)) {
        return None;
    }
    let first = members.condemned.iter().rev().find(|pod| view.is_unavailable(pod))?;
    first.metadata.uid.clone()
}

/// Deletes one pod that should go. An ordered set deletes a pod that is not available only if no other is
/// worse off.
fn remove(
    view: &StatefulSetView<'_>,
    parallel: bool,
    pod: &Arc<Pod>,
    first_unavailable: Option<&str>,
    steps: &mut Vec<StatefulSetStep>,
) -> Then {
    if api::pod::is_terminating(pod) {
        return Then::Wait;
    }
    let healthy = is_running_and_ready(pod) && view.is_available(pod);
    if parallel || healthy || first_unavailable == Some(text(&pod.metadata.uid)) {
        steps.push(StatefulSetStep::Delete(pod.clone()));
    }
    Then::Wait
}

/// Pods to delete because they are not of the newest revision.
fn replace(view: &StatefulSetView<'_>, living: &BTreeMap<usize, Arc<Pod>>) -> Vec<StatefulSetStep> {
    if strategy(view.set) == Some("OnDelete") {
        return Vec::new();
    }
    let from = usize::try_from(view.partition()).unwrap_or(0);
    let wanted = replicas(view.set);
    let outdated =
        |pod: &Arc<Pod>| identity::revision(pod) != view.update.name && !api::pod::is_terminating(pod);
    let Some(limit) = view.rolling().and_then(|rolling| rolling.max_unavailable.as_ref()) else {
        for index in (from..wanted).rev() {
            match living.get(&index) {
                Some(pod) if outdated(pod) => return vec![StatefulSetStep::Delete(pod.clone())],
                Some(pod) if !view.is_unavailable(pod) => {}
                _ => return Vec::new(),
            }
        }
        return Vec::new();
    };
    let limit = percent::resolve(Some(limit), number(wanted), false).max(1);
    let available = living.values().filter(|pod| !view.is_unavailable(pod)).count();
    let room = usize::try_from(limit).unwrap_or(0).saturating_sub(wanted - available);
    let candidates = living.range(from..).rev().map(|(_, pod)| pod).filter(|pod| outdated(pod));
    candidates.take(room).map(|pod| StatefulSetStep::Delete(pod.clone())).collect()
}

/// Counts of the pods that are there.
fn status(view: &StatefulSetView<'_>) -> StatefulSetStatus {
    let count = |matching: &dyn Fn(&Pod) -> bool| {
        let ours = view.pods.iter().filter(|pod| identity::ordinal(pod).is_some());
        number(ours.filter(|pod| matching(pod)).count())
    };
    let of =
        |name: &str| count(&|pod: &Pod| !api::pod::is_terminating(pod) && identity::revision(pod) == name);
    let old = view.set.status.as_ref();
    StatefulSetStatus {
        replicas: count(&|_| true),
        ready_replicas: some(count(&is_running_and_ready)),
        available_replicas: Some(count(&|pod| is_running_and_ready(pod) && view.is_available(pod))),
        current_replicas: some(of(&view.current.name)),
        updated_replicas: some(of(&view.update.name)),
        current_revision: Some(view.current.name.clone()),
        update_revision: Some(view.update.name.clone()),
        observed_generation: view.set.metadata.generation,
        collision_count: Some(view.collisions),
        conditions: old.and_then(|old| old.conditions.clone()),
    }
}

/// An update is complete when all pods are of the new revision and ready: then that is the current one.
fn complete_update(set: &StatefulSet, status: &mut StatefulSetStatus) {
    let wanted = number(replicas(set));
    let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
    if strategy(set) == Some("RollingUpdate")
        && all(status.updated_replicas)
        && all(status.ready_replicas)
        && status.replicas == wanted
    {
        status.current_replicas = status.updated_replicas;
        status.current_revision = status.update_revision.clone();
    }
}

/// Zero counts are left out, as upstream's encoding does.
fn some(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
