//! InterPodAffinity: required affinity and anti-affinity of the pod, and the anti-affinity of pods that are there.

use super::{Plugin, Rejection};
use crate::counters::{Counter, NOWHERE};

/// The pod's own required affinity: one counter per term's topology, all counting pods that match every term.
/// `first_of_its_kind`: no pod matches yet but this one would, so that the first of a group can be placed.
pub(crate) fn filter_affinity(
    counters: &[&Counter],
    first_of_its_kind: bool,
    node: u32,
) -> Option<Rejection> {
    let satisfied = counters
        .iter()
        .all(|counter| counter.domain(node) != NOWHERE && (counter.at(node) > 0 || first_of_its_kind));
    let text = "node(s) didn't match pod affinity rules";
    (!satisfied).then(|| Rejection::for_good(Plugin::InterPodAffinity, text))
}

pub(crate) fn filter_anti_affinity(counter: &Counter, node: u32) -> Option<Rejection> {
    let text = "node(s) didn't match pod anti-affinity rules";
    (counter.at(node) > 0).then(|| Rejection::new(Plugin::InterPodAffinity, text))
}

pub(crate) fn filter_existing(counter: &Counter, node: u32) -> Option<Rejection> {
    let text = "node(s) didn't satisfy existing pods anti-affinity rules";
    (counter.at(node) > 0).then(|| Rejection::new(Plugin::InterPodAffinity, text))
}
