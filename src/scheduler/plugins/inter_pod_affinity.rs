//! InterPodAffinity: required affinity and anti-affinity of the pod, and the anti-affinity of pods that are
//! there. As a score: preferences of the pod for others, and of others for it, scaled from the least to the
//! most liked.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::counters::{Counters, NOWHERE, Role, crowded};
use crate::framework::{
    Actions, Cycle, EventToRegister, FilterPlugin, MAX_NODE_SCORE, ObservedEvent, Plugin, Points,
    PreFilterPlugin, PreFilterResult, PreScorePlugin, QueueingHint, Resource, ScorePlugin, Status,
};
use crate::node::NodeInfo;
use crate::pod::{Labels, PodInfo, Term};

pub(super) const NAME: &str = "InterPodAffinity";

#[derive(Default)]
pub(super) struct InterPodAffinity;

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.pre_filter(self.clone()).filter(self.clone()).pre_score(self.clone()).score(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        let pods = Actions::ADD | Actions::DELETE | Actions::UPDATE_POD_LABEL;
        let nodes = Actions::ADD | Actions::UPDATE_NODE_LABEL;
        vec![
            EventToRegister::hinted(Resource::AssignedPod, pods, after_pod),
            // A node that comes into a domain, or leaves one, may do so for the terms of any pod.
            EventToRegister::always(Resource::Node, nodes),
        ]
    }
}

/// The pod that came is wanted near, or the one that went was not, or did not want this one.
fn after_pod(pod: &PodInfo, happening: &ObservedEvent<'_>) -> QueueingHint {
    let all_match = |terms: &[Term], other: &Pod| {
        static EMPTY: Labels = Labels::new();
        let namespace = other.metadata.namespace.as_deref().unwrap_or("");
        let labels = other.metadata.labels.as_ref().unwrap_or(&EMPTY);
        let of_namespace = happening.namespace_labels(namespace);
        !terms.is_empty() && terms.iter().all(|term| term.matches(namespace, of_namespace, labels))
    };
    let wanted = |other: &Pod| all_match(&pod.affinity, other);
    let unwanted = |other: &Pod| all_match(&pod.anti_affinity, other);
    QueueingHint::when(match (happening.old_pod, happening.new_pod) {
        (Some(old), Some(new)) => {
            // Others' anti-affinity is not looked at closely: that such a pod has changed is enough.
            (!wanted(old) && wanted(new)) || (unwanted(old) && !unwanted(new)) || repels(old)
        }
        (None, Some(new)) => wanted(new),
        (Some(old), None) => unwanted(old) || repels(old),
        (None, None) => true,
    })
}

/// The pod has required anti-affinity of its own.
fn repels(pod: &Pod) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = apart.and_then(|apart| apart.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_some_and(|terms| !terms.is_empty())
}

/// What the required terms come to, as counters.
struct Required {
    affinity: Vec<u32>,
    /// No pod matches yet but this one would, so that the first of a group can be placed.
    first_of_its_kind: bool,
    anti_affinity: Vec<u32>,
    /// Anti-affinity of pods that are there.
    existing: Vec<u32>,
}

/// Counters of the preferences of other pods for this one, with their weights.
struct Existing(Vec<(u32, i64)>);

fn matching(counters: &mut Counters, nodes: &[NodeInfo], term: &Term) -> u32 {
    counters.matching(nodes, &Arc::from([term.clone()]), &term.topology_key)
}

impl PreFilterPlugin for InterPodAffinity {
    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> (PreFilterResult, Status) {
        let (pod, state, cache) = cycle.parts();
        let (counters, nodes) = (&mut cache.counters, &cache.nodes);
        if !counters.has_room(pod) {
            return (PreFilterResult::default(), Status::unresolvable(crowded()));
        }
        let mut affinity = Vec::new();
        for key in &pod.affinity_keys {
            affinity.push(counters.matching(nodes, &pod.affinity, key));
        }
        let nobody = affinity.iter().all(|id| counters.get(*id).is_none_or(|counter| counter.total() == 0));
        let first_of_its_kind = nobody && !affinity.is_empty() && counters.matches_itself(pod);
        let mut anti_affinity = Vec::new();
        for term in &pod.anti_affinity {
            anti_affinity.push(matching(counters, nodes, term));
        }
        let (mut existing, mut draws) = (Vec::new(), Vec::new());
        for (id, role) in counters.matched_by(pod) {
            match role {
                Role::Repels => existing.push(id),
                Role::Draws(weight) => draws.push((id, weight)),
            }
        }
        state.write(Existing(draws));
        if affinity.is_empty() && anti_affinity.is_empty() && existing.is_empty() {
            return (PreFilterResult::default(), Status::skip());
        }
        state.write(Required { affinity, first_of_its_kind, anti_affinity, existing });
        (PreFilterResult::default(), Status::success())
    }
}

impl FilterPlugin for InterPodAffinity {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        let required = match cycle.state.expect::<Required>() {
            Ok(required) => required,
            Err(status) => return status,
        };
        let counter = |id: &u32| cycle.cache.counters.get(*id);
        let near = required.affinity.iter().filter_map(counter).all(|counter| {
            counter.domain(node.index) != NOWHERE
                && (counter.at(node.index) > 0 || required.first_of_its_kind)
        });
        if !near {
            return Status::unresolvable("node(s) didn't match pod affinity rules");
        }
        let there = |ids: &[u32]| ids.iter().filter_map(counter).any(|counter| counter.at(node.index) > 0);
        if there(&required.anti_affinity) {
            return Status::unschedulable("node(s) didn't match pod anti-affinity rules");
        }
        if there(&required.existing) {
            return Status::unschedulable("node(s) didn't satisfy existing pods anti-affinity rules");
        }
        Status::success()
    }
}

/// Counters of all preferences, with their weights.
struct Draws(Vec<(u32, i64)>);

impl PreScorePlugin for InterPodAffinity {
    fn pre_score(&self, cycle: &mut Cycle<'_>, _: &[u32]) -> Status {
        let (pod, state, cache) = cycle.parts();
        let mut draws = Vec::new();
        for (weight, term) in &pod.preferred {
            draws.push((matching(&mut cache.counters, &cache.nodes, term), *weight));
        }
        if let Some(existing) = state.read::<Existing>() {
            draws.extend(&existing.0);
        }
        if draws.is_empty() {
            return Status::skip();
        }
        state.write(Draws(draws));
        Status::success()
    }
}

impl ScorePlugin for InterPodAffinity {
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<i64, Status> {
        let draw = |(id, weight): &(u32, i64)| {
            weight * cycle.cache.counters.get(*id).map_or(0, |counter| i64::from(counter.at(node.index)))
        };
        Ok(cycle.state.expect::<Draws>()?.0.iter().map(draw).sum())
    }

    fn normalize_score(&self, _: &Cycle<'_>, scores: &mut [i64]) -> Status {
        let (least, most) =
            (scores.iter().min().copied().unwrap_or(0), scores.iter().max().copied().unwrap_or(0));
        for score in scores {
            *score = if most == least { 0 } else { MAX_NODE_SCORE * (*score - least) / (most - least) };
        }
        Status::success()
    }
}
