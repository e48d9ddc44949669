//! PodTopologySpread: with this pod, no domain may have more than `maxSkew` matching pods more than the
//! emptiest one; of soft constraints, the fewer matching pods in the node's domain, the better.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::counters::{Counted, NOWHERE};
use crate::framework::{
    Actions, Cycle, EventToRegister, FilterPlugin, MAX_NODE_SCORE, ObservedEvent, Plugin, Points,
    PreFilterPlugin, PreFilterResult, PreScorePlugin, QueueingHint, Resource, ScorePlugin, Status,
};
use crate::node::NodeInfo;
use crate::pod::{Labels, PodInfo, Spread};

pub(super) const NAME: &str = "PodTopologySpread";

#[derive(Default)]
pub(super) struct PodTopologySpread;

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.pre_filter(self.clone()).filter(self.clone()).pre_score(self.clone()).score(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        let pods =
            Actions::ADD | Actions::DELETE | Actions::UPDATE_POD_LABEL | Actions::UPDATE_POD_TERMINATING;
        let nodes = Actions::ADD | Actions::DELETE | Actions::UPDATE_NODE_LABEL | Actions::UPDATE_NODE_TAINT;
        vec![
            EventToRegister::hinted(Resource::AssignedPod, pods, after_pod),
            EventToRegister::hinted(Resource::Node, nodes, after_node),
        ]
    }
}

/// A pod of the same namespace that is counted, or was, changes the skew.
fn after_pod(pod: &PodInfo, happening: &ObservedEvent<'_>) -> QueueingHint {
    let counted = |other: &Pod| {
        static EMPTY: Labels = Labels::new();
        let labels = other.metadata.labels.as_ref().unwrap_or(&EMPTY);
        other.metadata.namespace.as_deref() == Some(pod.namespace())
            && pod.spread_hard.iter().any(|spread| spread.selector.matches(labels))
    };
    QueueingHint::when(happening.old_pod.is_some_and(counted) || happening.new_pod.is_some_and(counted))
}

/// A node that is in the constraints' domains, or was.
fn after_node(pod: &PodInfo, happening: &ObservedEvent<'_>) -> QueueingHint {
    let inside =
        |labels: &Labels| pod.spread_hard.iter().all(|spread| labels.contains_key(&spread.topology_key));
    let old = |node: &Node| node.metadata.labels.as_ref().is_some_and(inside);
    let new = |node: &NodeInfo| inside(&node.labels);
    QueueingHint::when(happening.old_node.is_some_and(old) || happening.new_node.is_some_and(new))
}

/// What a hard constraint comes to for one pod, before looking at nodes.
struct Limit {
    counter: u32,
    /// The most matching pods that a domain may have before this pod comes.
    most: i64,
}

struct Limits(Vec<Limit>);

fn keys(spreads: &[Spread]) -> Vec<String> {
    spreads.iter().map(|spread| spread.topology_key.clone()).collect()
}

fn limit(spread: &Spread, id: u32, counter: Counted<'_>) -> Limit {
    let (least, domains) = counter.minimum();
    let few = i64::try_from(domains).unwrap_or(i64::MAX) < spread.min_domains;
    let least = if few { 0 } else { i64::from(least) };
    Limit { counter: id, most: spread.max_skew + least - i64::from(spread.matches_self) }
}

impl PreFilterPlugin for PodTopologySpread {
    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> (PreFilterResult, Status) {
        let (pod, state, cache) = cycle.parts();
        if pod.spread_hard.is_empty() {
            return (PreFilterResult::default(), Status::skip());
        }
        let keys = keys(&pod.spread_hard);
        let mut limits = Vec::new();
        for spread in &pod.spread_hard {
            let id = cache.counters.spread(&cache.nodes, pod, spread, &keys);
            limits.extend(cache.counters.get(id).map(|counter| limit(spread, id, counter)));
        }
        state.write(Limits(limits));
        (PreFilterResult::default(), Status::success())
    }
}

impl FilterPlugin for PodTopologySpread {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        let limits = match cycle.state.expect::<Limits>() {
            Ok(limits) => limits,
            Err(status) => return status,
        };
        for limit in &limits.0 {
            let Some(counter) = cycle.cache.counters.get(limit.counter) else { continue };
            if counter.domain(node.index) == NOWHERE {
                return Status::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                );
            }
            if i64::from(counter.at(node.index)) > limit.most {
                return Status::unschedulable("node(s) didn't match pod topology spread constraints");
            }
        }
        Status::success()
    }
}

/// A soft constraint.
struct Soft {
    counter: u32,
    max_skew: i64,
    /// Many domains make each pod weigh more.
    weight: f64,
}

struct Softs {
    constraints: Vec<Soft>,
    /// A node outside any of the domains is not scored.
    requires_all: bool,
}

/// The raw score of a node that is not scored.
const IGNORED: i64 = -1;

impl PreScorePlugin for PodTopologySpread {
    fn pre_score(&self, cycle: &mut Cycle<'_>, nodes: &[u32]) -> Status {
        let (pod, state, cache) = cycle.parts();
        if pod.spread_soft.is_empty() {
            return Status::skip();
        }
        let keys = if pod.default_spread { Vec::new() } else { keys(&pod.spread_soft) };
        let mut constraints = Vec::new();
        for spread in &pod.spread_soft {
            let id = cache.counters.spread(&cache.nodes, pod, spread, &keys);
            let Some(counter) = cache.counters.get(id) else { continue };
            let mut domains: Vec<u32> = nodes.iter().map(|node| counter.domain(*node)).collect();
            domains.sort_unstable();
            domains.dedup();
            let domains = domains.iter().filter(|domain| **domain != NOWHERE).count();
            let weight = ((domains + 2) as f64).ln();
            constraints.push(Soft { counter: id, max_skew: spread.max_skew, weight });
        }
        state.write(Softs { constraints, requires_all: !pod.default_spread });
        Status::success()
    }
}

impl ScorePlugin for PodTopologySpread {
    /// Lower is better, until it is turned around.
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<i64, Status> {
        let softs = cycle.state.expect::<Softs>()?;
        let mut raw = 0f64;
        for soft in &softs.constraints {
            let Some(counter) = cycle.cache.counters.get(soft.counter) else { continue };
            if counter.domain(node.index) != NOWHERE {
                raw += f64::from(counter.at(node.index)) * soft.weight + (soft.max_skew - 1) as f64;
            } else if softs.requires_all {
                return Ok(IGNORED);
            }
        }
        Ok(raw.round() as i64)
    }

    /// The emptiest is best.
    fn normalize_score(&self, _: &Cycle<'_>, scores: &mut [i64]) -> Status {
        let counted = || scores.iter().copied().filter(|score| *score != IGNORED);
        let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        for score in scores {
            *score = match *score {
                IGNORED => 0,
                _ if most == 0 => MAX_NODE_SCORE,
                raw => MAX_NODE_SCORE * (most + least - raw) / most,
            };
        }
        Status::success()
    }
}
