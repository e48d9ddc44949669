//! Finds the best node for one pod: filters, then scores.
//!
//! In large clusters not every node is looked at: once enough nodes will do, the search stops, and the next one begins
//! where this one ended, so that all nodes have their turn.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::cache::Cache;
use crate::counters::{Counter, NOWHERE, Role};
use crate::filter::pod_topology_spread::Limit;
use crate::filter::{Plugins, Rejection, node_ports, node_resources_fit, pod_affinity, pod_topology_spread};
use crate::pod::{PodInfo, Spread, Term};
use crate::profile::Profile;
use crate::score;

/// Why no node will do.
#[derive(Debug, Default)]
pub(crate) struct Unfit {
    pub(crate) nodes: usize,
    /// How many nodes were rejected for each reason.
    pub(crate) reasons: BTreeMap<Cow<'static, str>, usize>,
    pub(crate) plugins: Plugins,
    /// Nodes that evicting pods might help on, and how many there are of the others.
    pub(crate) resolvable: Vec<u32>,
    pub(crate) hopeless: usize,
}

impl Unfit {
    fn reject(&mut self, index: u32, rejections: &[Rejection]) {
        for rejection in rejections {
            *self.reasons.entry(rejection.text.clone()).or_insert(0) += 1;
            self.plugins = self.plugins.with(rejection.plugin);
        }
        if rejections.iter().all(|rejection| rejection.resolvable) {
            self.resolvable.push(index);
        } else {
            self.hopeless += 1;
        }
    }
}

/// What a pod's constraints on other pods come to.
struct Constraints {
    limits: Vec<Limit>,
    affinity: Vec<u32>,
    first_of_its_kind: bool,
    anti_affinity: Vec<u32>,
    existing: Vec<u32>,
    soft: Vec<(u32, i64)>,
    soft_requires_all: bool,
    draws: Vec<(u32, i64)>,
}

/// How many nodes that will do are enough.
pub(crate) fn enough(nodes: usize) -> usize {
    const LEAST: usize = 100;
    if nodes <= LEAST {
        return nodes;
    }
    let percentage = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percentage / 100).max(LEAST)
}

/// The node for the pod. `start` is where the search begins and is moved; `pick` chooses among equals: `pick(n)` is below `n`.
pub(crate) fn place(
    cache: &mut Cache,
    pod: &PodInfo,
    start: &mut usize,
    pick: impl FnMut(usize) -> usize,
) -> Result<u32, Unfit> {
    let constraints = constraints(cache, pod);
    let mut profile = cache.take_profile(&pod.wishes_key);
    let found = match nominated(cache, pod, &constraints, &mut profile) {
        Some(node) => Ok(vec![node]),
        None => feasible(cache, pod, &constraints, &mut profile, start),
    };
    let outcome = match found {
        Ok(nodes) if nodes.len() == 1 => Ok(nodes[0]),
        Ok(nodes) => Ok(best(cache, pod, &constraints, &profile, &nodes, pick)),
        Err(unfit) => Err(unfit),
    };
    cache.keep_profile(&pod.wishes_key, profile);
    outcome
}

/// The node that pods were evicted from for this one, if it will do now.
fn nominated(cache: &Cache, pod: &PodInfo, constraints: &Constraints, profile: &mut Profile) -> Option<u32> {
    let index = cache.nominated_node(&pod.key)?;
    let node = &cache.nodes[index as usize];
    profile.refresh(index, node, &pod.wishes, cache.image_spread());
    (node.node.is_some() && check(cache, pod, constraints, profile, index).is_empty()).then_some(index)
}

/// Whether the pod could be on this node as the cache is now.
pub(crate) fn fits(cache: &mut Cache, pod: &PodInfo, index: u32) -> bool {
    let constraints = constraints(cache, pod);
    let mut profile = cache.take_profile(&pod.wishes_key);
    profile.refresh(index, &cache.nodes[index as usize], &pod.wishes, cache.image_spread());
    let fits = check(cache, pod, &constraints, &profile, index).is_empty();
    cache.keep_profile(&pod.wishes_key, profile);
    fits
}

fn constraints(cache: &mut Cache, pod: &PodInfo) -> Constraints {
    let Cache { counters, nodes, .. } = cache;
    let keys = |list: &[Spread]| list.iter().map(|spread| spread.topology_key.clone()).collect::<Vec<_>>();
    let hard_keys = keys(&pod.spread_hard);
    let mut limits = Vec::new();
    for spread in &pod.spread_hard {
        let id = counters.spread(nodes, pod, spread, &hard_keys);
        limits.extend(counters.get(id).map(|counter| pod_topology_spread::limit(spread, id, counter)));
    }
    let soft_keys = if pod.default_spread { Vec::new() } else { keys(&pod.spread_soft) };
    let mut soft = Vec::new();
    for spread in &pod.spread_soft {
        soft.push((counters.spread(nodes, pod, spread, &soft_keys), spread.max_skew));
    }
    let matching = |counters: &mut crate::counters::Counters, term: &Term| {
        counters.matching(nodes, std::slice::from_ref(term), &term.topology_key)
    };
    let mut affinity = Vec::new();
    for term in &pod.affinity {
        affinity.push(counters.matching(nodes, &pod.affinity, &term.topology_key));
    }
    let nobody = affinity.iter().all(|id| counters.get(*id).is_none_or(|counter| counter.total() == 0));
    let first_of_its_kind = nobody && !affinity.is_empty() && counters.matches_itself(pod);
    let mut anti_affinity = Vec::new();
    for term in &pod.anti_affinity {
        anti_affinity.push(matching(counters, term));
    }
    let mut draws = Vec::new();
    for (weight, term) in &pod.preferred {
        draws.push((matching(counters, term), *weight));
    }
    let mut existing = Vec::new();
    for (id, role) in counters.matched_by(pod) {
        match role {
            Role::Repels => existing.push(id),
            Role::Draws(weight) => draws.push((id, weight)),
        }
    }
    Constraints {
        limits,
        affinity,
        first_of_its_kind,
        anti_affinity,
        existing,
        soft,
        soft_requires_all: !pod.default_spread,
        draws,
    }
}

/// Nodes that will do: at least one, or why there is none.
fn feasible(
    cache: &Cache,
    pod: &PodInfo,
    constraints: &Constraints,
    profile: &mut Profile,
    start: &mut usize,
) -> Result<Vec<u32>, Unfit> {
    let mut unfit = Unfit { nodes: cache.live.len(), ..Unfit::default() };
    // Daemon pods name their node: there is no need to look at the others.
    let named: Option<Vec<u32>> = pod.wishes.required.names().map(|names| {
        let known = names.iter().filter_map(|name| cache.index(name));
        known.filter(|index| cache.nodes[*index as usize].node.is_some()).collect()
    });
    let candidates = named.as_deref().unwrap_or(&cache.live);
    let count = candidates.len();
    let wanted = enough(count);
    let mut found = Vec::with_capacity(wanted.min(256));
    let spread = cache.image_spread();
    let mut looked = 0;
    while looked < count && found.len() < wanted {
        let index = candidates[(*start + looked) % count];
        looked += 1;
        let node = &cache.nodes[index as usize];
        profile.refresh(index, node, &pod.wishes, &spread);
        let rejections = check(cache, pod, constraints, profile, index);
        if rejections.is_empty() {
            found.push(index);
        } else {
            unfit.reject(index, &rejections);
        }
    }
    if named.is_none() && count > 0 {
        *start = (*start + looked) % count;
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let passed_over = cache.live.len() - count.min(cache.live.len());
    if passed_over > 0 {
        *unfit.reasons.entry("node(s) didn't satisfy plugin(s) [NodeAffinity]".into()).or_insert(0) +=
            passed_over;
        unfit.plugins = unfit.plugins.with(crate::filter::Plugin::NodeAffinity);
        unfit.hopeless += passed_over;
    }
    Err(unfit)
}

fn check(
    cache: &Cache,
    pod: &PodInfo,
    constraints: &Constraints,
    profile: &Profile,
    index: u32,
) -> Vec<Rejection> {
    let node = &cache.nodes[index as usize];
    if let Some(rejection) = &profile.row(index).rejection {
        return vec![rejection.clone()];
    }
    if !pod.ports.is_empty()
        && let Some(rejection) = node_ports::filter(&pod.ports, &node.ports)
    {
        return vec![rejection];
    }
    // Room that others were promised is not free.
    let promised = cache.promised(index, pod);
    let requested = match &promised {
        Some(promised) => promised,
        None => &node.requested,
    };
    if !node_resources_fit::fits(&pod.requests, requested, &node.allocatable) {
        return node_resources_fit::filter(&pod.requests, requested, &node.allocatable);
    }
    check_others(cache, constraints, index).into_iter().collect()
}

/// The filters that look at other pods.
fn check_others(cache: &Cache, constraints: &Constraints, index: u32) -> Option<Rejection> {
    let counter = |id: &u32| cache.counters.get(*id);
    for limit in &constraints.limits {
        let rejection =
            counter(&limit.counter).and_then(|counter| pod_topology_spread::filter(*limit, counter, index));
        if rejection.is_some() {
            return rejection;
        }
    }
    if !constraints.affinity.is_empty() {
        let counters: Vec<&Counter> = constraints.affinity.iter().filter_map(counter).collect();
        let rejection = pod_affinity::filter_affinity(&counters, constraints.first_of_its_kind, index);
        if rejection.is_some() {
            return rejection;
        }
    }
    let mut own = constraints.anti_affinity.iter().filter_map(counter);
    if let Some(rejection) = own.find_map(|counter| pod_affinity::filter_anti_affinity(counter, index)) {
        return Some(rejection);
    }
    let mut existing = constraints.existing.iter().filter_map(counter);
    existing.find_map(|counter| pod_affinity::filter_existing(counter, index))
}

/// The node with the highest score; among equals `pick` decides.
fn best(
    cache: &Cache,
    pod: &PodInfo,
    constraints: &Constraints,
    profile: &Profile,
    nodes: &[u32],
    mut pick: impl FnMut(usize) -> usize,
) -> u32 {
    let most_taints = nodes.iter().map(|node| profile.row(*node).taints).max().unwrap_or(0);
    let most_affinity = nodes.iter().map(|node| profile.row(*node).affinity).max().unwrap_or(0);
    let spread = spread_scores(cache, constraints, nodes);
    let draws = draw_scores(cache, constraints, nodes);
    let asks = pod.requests.milli_cpu > 0 || pod.requests.memory > 0;
    let (mut best, mut top, mut equals) = (nodes[0], i64::MIN, 0);
    for (at, index) in nodes.iter().enumerate() {
        let node = &cache.nodes[*index as usize];
        let row = profile.row(*index);
        let mut total = row.images
            + score::TAINT_TOLERATION * score::normalise(row.taints, most_taints, true)
            + score::NODE_AFFINITY * score::normalise(row.affinity, most_affinity, false)
            + score::least_allocated::score(pod.nonzero, node.nonzero, &node.allocatable);
        if asks {
            total += score::balanced_allocation::score(&pod.requests, &node.requested, &node.allocatable);
        }
        if let Some(spread) = &spread {
            total += score::POD_TOPOLOGY_SPREAD * spread[at];
        }
        if let Some(draws) = &draws {
            total += score::INTER_POD_AFFINITY * draws[at];
        }
        if total > top {
            (best, top, equals) = (*index, total, 1);
        } else if total == top {
            equals += 1;
            if pick(equals) == 0 {
                best = *index;
            }
        }
    }
    best
}

fn spread_scores(cache: &Cache, constraints: &Constraints, nodes: &[u32]) -> Option<Vec<i64>> {
    if constraints.soft.is_empty() {
        return None;
    }
    let mut raw = vec![0f64; nodes.len()];
    let mut counts = vec![true; nodes.len()];
    for (id, max_skew) in &constraints.soft {
        let Some(counter) = cache.counters.get(*id) else { continue };
        let mut domains: Vec<u32> = nodes.iter().map(|node| counter.domain(*node)).collect();
        domains.sort_unstable();
        domains.dedup();
        let domains = domains.iter().filter(|domain| **domain != NOWHERE).count();
        for (at, node) in nodes.iter().enumerate() {
            if counter.domain(*node) == NOWHERE {
                counts[at] &= !constraints.soft_requires_all;
            } else {
                raw[at] += score::pod_topology_spread::raw(counter.at(*node), domains, *max_skew);
            }
        }
    }
    let rounded: Vec<i64> = raw.iter().map(|raw| raw.round() as i64).collect();
    let counted = || rounded.iter().zip(&counts).filter(|(_, counts)| **counts).map(|(raw, _)| *raw);
    let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
    let scores = rounded.iter().zip(&counts);
    let normalised = |(raw, counts): (&i64, &bool)| {
        if *counts { score::pod_topology_spread::normalise(*raw, least, most) } else { 0 }
    };
    Some(scores.map(normalised).collect())
}

fn draw_scores(cache: &Cache, constraints: &Constraints, nodes: &[u32]) -> Option<Vec<i64>> {
    if constraints.draws.is_empty() {
        return None;
    }
    let raw: Vec<i64> = nodes
        .iter()
        .map(|node| {
            let draw = |(id, weight): &(u32, i64)| {
                weight * cache.counters.get(*id).map_or(0, |counter| i64::from(counter.at(*node)))
            };
            constraints.draws.iter().map(draw).sum()
        })
        .collect();
    let (least, most) = (raw.iter().min().copied().unwrap_or(0), raw.iter().max().copied().unwrap_or(0));
    Some(raw.into_iter().map(|raw| score::pod_affinity::normalise(raw, least, most)).collect())
}

#[cfg(test)]
mod tests;
