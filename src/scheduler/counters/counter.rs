//! One counter of pods by topology domain, and which pods and nodes count.

use std::collections::HashMap;
use std::sync::Arc;

use api::LabelSelector;
use api::affinity::RequiredNodes;
use k8s_openapi::api::core::v1::Toleration;

use crate::node::NodeInfo;
use crate::pod::Term;

/// Not in any domain.
pub(crate) const NOWHERE: u32 = u32::MAX;
/// Nodes whose pods count for a spread constraint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Eligibility {
    pub(super) required: Option<RequiredNodes>,
    pub(super) tolerations: Option<Vec<Toleration>>,
    /// Labels that the node must have.
    pub(super) keys: Vec<String>,
}

impl Eligibility {
    pub(super) fn allows(&self, node: &NodeInfo) -> bool {
        node.node.is_some()
            && self.keys.iter().all(|key| node.labels.contains_key(key))
            && self.required.as_ref().is_none_or(|required| required.matches(&node.name, &node.labels))
            && self.tolerations.as_ref().is_none_or(|tolerations| {
                let effects = [api::taints::NO_SCHEDULE, api::taints::NO_EXECUTE];
                api::taints::first_untolerated(&node.taints, tolerations, &effects).is_none()
            })
    }
}

/// Which pods are counted.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Pods of one namespace that match and are not being deleted.
    Spread(String, LabelSelector),
    /// Pods that match all terms.
    Matching(Arc<[Term]>),
    /// Pods that own this term.
    Owning(Term, Role),
}

/// What an owned term means for an incoming pod that matches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It may not come here.
    Repels,
    /// It is drawn here with this weight per owner, or pushed away if that is negative.
    Draws(i64),
}

#[derive(Debug)]
pub(crate) struct Counter {
    pub(super) what: What,
    pub(super) topology_key: String,
    pub(super) eligibility: Eligibility,
    /// Domain of each node by index, `NOWHERE` if it has none or does not count.
    domains: Vec<u32>,
    /// Pods by domain.
    counts: Vec<u32>,
    /// Nodes by domain.
    nodes: Vec<u32>,
    /// Pods by node, for when a node changes its domain.
    pub(super) on_node: HashMap<u32, u32>,
    total: u64,
    pub(super) used: u64,
}

impl Counter {
    pub(super) fn new(what: What, topology_key: &str, eligibility: Eligibility, used: u64) -> Self {
        Counter {
            what,
            topology_key: topology_key.to_string(),
            eligibility,
            domains: Vec::new(),
            counts: Vec::new(),
            nodes: Vec::new(),
            on_node: HashMap::new(),
            total: 0,
            used,
        }
    }

    pub(crate) fn domain(&self, node: u32) -> u32 {
        self.domains.get(node as usize).copied().unwrap_or(NOWHERE)
    }

    /// Pods in the domain of the node; 0 if it has none.
    pub(crate) fn at(&self, node: u32) -> u32 {
        match self.domain(node) {
            NOWHERE => 0,
            domain => self.counts[domain as usize],
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The fewest pods in any domain that has nodes, and how many such domains there are.
    pub(crate) fn minimum(&self) -> (u32, usize) {
        let present = self.counts.iter().zip(&self.nodes).filter(|(_, nodes)| **nodes > 0);
        let (least, domains) =
            present.fold((u32::MAX, 0), |(least, domains), (count, _)| (least.min(*count), domains + 1));
        if domains == 0 { (0, 0) } else { (least, domains) }
    }

    pub(super) fn add(&mut self, node: u32, count: i64) {
        let own = self.on_node.entry(node).or_insert(0);
        *own = shifted(*own, count);
        if *own == 0 {
            self.on_node.remove(&node);
        }
        let domain = self.domain(node);
        if domain != NOWHERE {
            let slot = &mut self.counts[domain as usize];
            *slot = shifted(*slot, count);
            self.total = self.total.saturating_add_signed(count);
        }
    }

    /// Puts the node into a domain, its pods with it.
    pub(super) fn place(&mut self, node: u32, domain: u32) {
        let at = node as usize;
        if self.domains.len() <= at {
            if domain == NOWHERE {
                return;
            }
            self.domains.resize(at + 1, NOWHERE);
        }
        let old = std::mem::replace(&mut self.domains[at], domain);
        if old == domain {
            return;
        }
        let pods = self.on_node.get(&node).copied().unwrap_or(0);
        if old != NOWHERE {
            self.counts[old as usize] -= pods;
            self.nodes[old as usize] -= 1;
            self.total -= u64::from(pods);
        }
        if domain != NOWHERE {
            let at = domain as usize;
            if self.counts.len() <= at {
                self.counts.resize(at + 1, 0);
                self.nodes.resize(at + 1, 0);
            }
            self.counts[at] += pods;
            self.nodes[at] += 1;
            self.total += u64::from(pods);
        }
    }
}

pub(super) fn shifted(count: u32, by: i64) -> u32 {
    u32::try_from(i64::from(count) + by).unwrap_or(0)
}
