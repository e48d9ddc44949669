//! PodTopologySpread: with this pod, no domain may have more than `maxSkew` matching pods more than the emptiest one.

use super::{Plugin, Rejection};
use crate::counters::{Counter, NOWHERE};
use crate::pod::Spread;

/// What a constraint comes to for one pod, before looking at nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) counter: u32,
    /// The most matching pods that a domain may have before this pod comes.
    most: i64,
}

pub(crate) fn limit(spread: &Spread, id: u32, counter: &Counter) -> Limit {
    let (least, domains) = counter.minimum();
    let few = i64::try_from(domains).unwrap_or(i64::MAX) < spread.min_domains;
    let least = if few { 0 } else { i64::from(least) };
    Limit { counter: id, most: spread.max_skew + least - i64::from(spread.matches_self) }
}

pub(crate) fn filter(limit: Limit, counter: &Counter, node: u32) -> Option<Rejection> {
    if counter.domain(node) == NOWHERE {
        let text = "node(s) didn't match pod topology spread constraints (missing required label)";
        return Some(Rejection::for_good(Plugin::PodTopologySpread, text));
    }
    let text = "node(s) didn't match pod topology spread constraints";
    (i64::from(counter.at(node)) > limit.most).then(|| Rejection::new(Plugin::PodTopologySpread, text))
}
