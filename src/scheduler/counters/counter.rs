//! One counter of pods by topology domain, and which pods count.

use std::collections::HashMap;
use std::sync::Arc;

use api::LabelSelector;

use super::topology::{NOWHERE, Topology};
use crate::pod::Term;

/// Which pods are counted.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// Pods of one namespace that match and are not being deleted.
    Spread(String, LabelSelector),
    /// Pods that match all terms.
    Matching(Arc<[Term]>),
    /// Pods that own this term; those of this namespace were the first.
    Owning(Term, Role, String),
}

/// What an owned term means for an incoming pod that matches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It may not come here.
    Repels,
    /// It is drawn here with this weight per owner, or pushed away if that is negative.
    Draws(i64),
}

/// With pods in more domains than this, a number is kept for every domain.
const FEW: usize = 16;

/// Pods by domain.
#[derive(Debug)]
enum Counts {
    /// Only domains that have any pods: most terms have few owners, and there may be thousands of domains.
    Few(Vec<(u32, u32)>),
    All(Vec<u32>),
}

impl Counts {
    fn at(&self, domain: u32) -> u32 {
        match self {
            Counts::Few(few) => few.iter().find(|(known, _)| *known == domain).map_or(0, |(_, count)| *count),
            Counts::All(all) => all.get(domain as usize).copied().unwrap_or(0),
        }
    }

    fn add(&mut self, domain: u32, by: i64) {
        if let Counts::Few(few) = self {
            let at = few.iter().position(|(known, _)| *known == domain).unwrap_or_else(|| {
                few.push((domain, 0));
                few.len() - 1
            });
            few[at].1 = shifted(few[at].1, by);
            if few[at].1 == 0 {
                few.swap_remove(at);
            }
            if few.len() <= FEW {
                return;
            }
            let mut all = Vec::new();
            for (domain, count) in std::mem::take(few) {
                set(&mut all, domain, count);
            }
            *self = Counts::All(all);
            return;
        }
        let count = shifted(self.at(domain), by);
        if let Counts::All(all) = self {
            set(all, domain, count);
        }
    }
}

fn set(all: &mut Vec<u32>, domain: u32, count: u32) {
    let at = domain as usize;
    if all.len() <= at {
        all.resize(at + 1, 0);
    }
    all[at] = count;
}

#[derive(Debug)]
pub(super) struct Counter {
    pub(super) subject: Subject,
    pub(super) topology: u32,
    counts: Counts,
    /// Pods by node, for when a node changes its domain.
    pub(super) on_node: HashMap<u32, u32>,
    /// Pods in any domain.
    total: u64,
    pub(super) used: u64,
    /// About how many bytes the words take of what it counts.
    pub(super) bytes: usize,
}

impl Counter {
    pub(super) fn new(subject: Subject, topology: u32, used: u64, bytes: usize) -> Self {
        let counts = match subject {
            Subject::Owning(..) => Counts::Few(Vec::new()),
            _ => Counts::All(Vec::new()),
        };
        Counter { subject, topology, counts, on_node: HashMap::new(), total: 0, used, bytes }
    }

    pub(super) fn add(&mut self, node: u32, domain: u32, count: i64) {
        let own = self.on_node.entry(node).or_insert(0);
        *own = shifted(*own, count);
        if *own == 0 {
            self.on_node.remove(&node);
        }
        if domain != NOWHERE {
            self.counts.add(domain, count);
            self.total = self.total.saturating_add_signed(count);
        }
    }

    /// The node has moved from a domain to another, its pods with it.
    pub(super) fn moved(&mut self, node: u32, (old, new): (u32, u32)) {
        let pods = i64::from(self.on_node.get(&node).copied().unwrap_or(0));
        if pods == 0 {
            return;
        }
        for (domain, by) in [(old, -pods), (new, pods)] {
            if domain != NOWHERE {
                self.counts.add(domain, by);
                self.total = self.total.saturating_add_signed(by);
            }
        }
    }
}

/// A counter with where nodes are.
#[derive(Clone, Copy)]
pub(crate) struct Counted<'a> {
    pub(super) counter: &'a Counter,
    pub(super) topology: &'a Topology,
}

impl Counted<'_> {
    pub(crate) fn domain(&self, node: u32) -> u32 {
        self.topology.domain(node)
    }

    /// Pods in the domain of the node; 0 if it has none.
    pub(crate) fn at(&self, node: u32) -> u32 {
        match self.domain(node) {
            NOWHERE => 0,
            domain => self.counter.counts.at(domain),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.counter.total
    }

    /// The fewest pods in any domain that has nodes, and how many such domains there are.
    pub(crate) fn minimum(&self) -> (u32, usize) {
        let present = (0..).zip(&self.topology.nodes).filter(|(_, nodes)| **nodes > 0);
        let (least, domains) = present.fold((u32::MAX, 0), |(least, domains), (domain, _)| {
            (least.min(self.counter.counts.at(domain)), domains + 1)
        });
        if domains == 0 { (0, 0) } else { (least, domains) }
    }
}

pub(super) fn shifted(count: u32, by: i64) -> u32 {
    u32::try_from(i64::from(count) + by).unwrap_or(0)
}
