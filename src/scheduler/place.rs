//! Finds the best node for one pod: PreFilter and Filter, then PreScore and Score.
//!
//! In large clusters not every node is looked at: once enough nodes will do, the search stops, and the next
//! one begins where this one ended, so that all nodes have their turn.

use std::sync::Arc;

use crate::cache::Cache;
use crate::equivalence::Equivalence;
use crate::framework::{Confined, Cycle, CycleState, Diagnosis, PluginSet, Profile, Status};
use crate::pod::PodInfo;

/// Where the pod goes.
pub(crate) struct Found {
    pub(crate) node: u32,
    pub(crate) state: CycleState,
}

/// Why it goes nowhere.
pub(crate) enum NotFound {
    Unfit(Box<(CycleState, Diagnosis)>),
    Error(Status),
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

/// The node for the pod. `start` is where the search begins and is moved; `pick` chooses among equals:
/// `pick(n)` is below `n`.
pub(crate) fn place(
    profile: &Profile,
    cache: &mut Cache,
    pod: &Arc<PodInfo>,
    start: &mut usize,
    pick: impl FnMut(usize) -> usize,
) -> Result<Found, NotFound> {
    let mut diagnosis = Diagnosis::new(cache.live.len());
    let mut cycle = Cycle::new(cache, pod);
    if diagnosis.nodes == 0 {
        return Err(NotFound::Unfit(Box::new((cycle.state, diagnosis))));
    }
    if pod.too_heavy {
        let status = Status::unresolvable(crate::weight::too_heavy());
        diagnosis.pre_filter_rejected(&cycle.cache.live, PluginSet::NONE, &status);
        return Err(NotFound::Unfit(Box::new((cycle.state, diagnosis))));
    }
    let confined = match profile.run_pre_filter(&mut cycle) {
        Ok(confined) => confined,
        Err((_, status)) if status.is_error() => return Err(NotFound::Error(status)),
        Err((by, status)) => {
            diagnosis.pre_filter_rejected(&cycle.cache.live, by, &status);
            return Err(NotFound::Unfit(Box::new((cycle.state, diagnosis))));
        }
    };
    let mut kept = cycle.cache.take_equivalence(&pod.signature);
    let mut search = Search { profile, cycle, kept: &mut kept, diagnosis };
    let found = search.run(&confined, start, pick);
    let Search { cycle, diagnosis, .. } = search;
    let Cycle { state, cache, .. } = cycle;
    cache.keep_equivalence(&pod.signature, kept);
    match found {
        Ok(Some(node)) => Ok(Found { node, state }),
        Ok(None) => Err(NotFound::Unfit(Box::new((state, diagnosis)))),
        Err(status) => Err(NotFound::Error(status)),
    }
}

/// Whether the pod could be on this node as the cache is now.
pub(crate) fn fits(profile: &Profile, cache: &mut Cache, pod: &Arc<PodInfo>, node: u32) -> bool {
    let mut cycle = Cycle::new(cache, pod);
    if profile.run_pre_filter(&mut cycle).is_err() {
        return false;
    }
    let mut kept = cycle.cache.take_equivalence(&pod.signature);
    let mut search = Search { profile, cycle, kept: &mut kept, diagnosis: Diagnosis::default() };
    let fits = search.check(node);
    let Search { cycle, .. } = search;
    cycle.cache.keep_equivalence(&pod.signature, kept);
    fits.unwrap_or(false)
}

/// One search for a node. An error ends it.
struct Search<'s, 'c> {
    profile: &'s Profile,
    cycle: Cycle<'c>,
    kept: &'s mut Equivalence,
    diagnosis: Diagnosis,
}

impl Search<'_, '_> {
    fn run(
        &mut self,
        confined: &Confined,
        start: &mut usize,
        pick: impl FnMut(usize) -> usize,
    ) -> Result<Option<u32>, Status> {
        if let Some(node) = self.nominated()? {
            return Ok(Some(node));
        }
        let nodes = self.feasible(confined, start)?;
        match nodes[..] {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => self.best(&nodes, pick).map(Some),
        }
    }

    /// The node that the pod is promised, if it will do now.
    fn nominated(&mut self) -> Result<Option<u32>, Status> {
        let Some(node) = self.cycle.cache.nominated_node(&self.cycle.pod.key) else { return Ok(None) };
        if self.cycle.cache.nodes[node as usize].node.is_none() {
            return Ok(None);
        }
        let before = std::mem::take(&mut self.diagnosis);
        let fits = self.check(node)?;
        // It is looked at again with all others.
        self.diagnosis = before;
        Ok(fits.then_some(node))
    }

    /// Nodes that will do.
    fn feasible(&mut self, confined: &Confined, start: &mut usize) -> Result<Vec<u32>, Status> {
        let cache = &*self.cycle.cache;
        let named: Option<Vec<u32>> = confined.names.as_ref().map(|names| {
            let known = names.iter().filter_map(|name| cache.index(name));
            known.filter(|index| cache.nodes[*index as usize].node.is_some()).collect()
        });
        let all = cache.live.len();
        let count = named.as_ref().map_or(all, Vec::len);
        let wanted = enough(count);
        let mut found = Vec::with_capacity(wanted.min(256));
        let mut looked = 0;
        while looked < count && found.len() < wanted {
            let at = (*start + looked) % count;
            let node = named.as_ref().map_or_else(|| self.cycle.cache.live[at], |named| named[at]);
            looked += 1;
            if self.check(node)? {
                found.push(node);
            }
        }
        if named.is_none() && count > 0 {
            *start = (*start + looked) % count;
        }
        if found.is_empty() && count < all {
            self.diagnosis.pass_over(all - count, confined.by, &confined.passed_over());
        }
        Ok(found)
    }

    /// Whether the node will do; if not, why is noted.
    fn check(&mut self, node: u32) -> Result<bool, Status> {
        self.profile.refresh(self.kept, &self.cycle, node);
        if let Some((by, status)) = self.kept.rejection(node) {
            if status.is_error() {
                return Err(status.clone());
            }
            self.diagnosis.reject(node, *by, status);
            return Ok(false);
        }
        let promised = self.cycle.cache.promised(node, self.cycle.pod);
        let mut answer = None;
        if !promised.is_empty() {
            answer = self.with_promised(node, &promised);
        }
        // The promised pods are not there yet: without them it must do as well.
        if answer.is_none() {
            answer = self.profile.run_other_filters(&self.cycle, node);
        }
        match answer {
            None => Ok(true),
            Some((_, status)) if status.is_error() => Err(status),
            Some((by, status)) => {
                self.diagnosis.reject(node, by, &status);
                Ok(false)
            }
        }
    }

    /// Asks the filters as if the pods that the node is promised to were there: their room is not free.
    fn with_promised(&mut self, node: u32, promised: &[Arc<PodInfo>]) -> Option<(PluginSet, Status)> {
        self.cycle.cache.lend(node, promised);
        let state = std::mem::take(&mut self.cycle.state);
        let answer = match self.profile.run_pre_filter(&mut self.cycle) {
            Ok(_) => self.profile.run_other_filters(&self.cycle, node),
            Err(rejected) => Some(rejected),
        };
        self.cycle.state = state;
        self.cycle.cache.take_back(node, promised);
        answer
    }

    /// The node with the highest score; among equals `pick` decides.
    fn best(&mut self, nodes: &[u32], mut pick: impl FnMut(usize) -> usize) -> Result<u32, Status> {
        self.profile.run_pre_score(&mut self.cycle, nodes)?;
        let totals = self.profile.run_score(&self.cycle, self.kept, nodes)?;
        let (mut best, mut top, mut equals) = (nodes[0], i64::MIN, 0);
        for (node, total) in nodes.iter().zip(totals) {
            if total > top {
                (best, top, equals) = (*node, total, 1);
            } else if total == top {
                equals += 1;
                if pick(equals) == 0 {
                    best = *node;
                }
            }
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests;
