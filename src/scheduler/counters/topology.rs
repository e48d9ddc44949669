//! Which domain each node is in, by one topology label and for pods of one eligibility. Counters of the same
//! share it: it has a number per node, and there may be thousands of counters.

use std::collections::HashMap;

use api::affinity::RequiredNodes;
use k8s_openapi::api::core::v1::Toleration;

use crate::node::NodeInfo;

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
    fn allows(&self, node: &NodeInfo) -> bool {
        node.node.is_some()
            && self.keys.iter().all(|key| node.labels.contains_key(key))
            && self.required.as_ref().is_none_or(|required| required.matches(&node.name, &node.labels))
            && self.tolerations.as_ref().is_none_or(|tolerations| {
                let effects = [api::taints::NO_SCHEDULE, api::taints::NO_EXECUTE];
                api::taints::first_untolerated(&node.taints, tolerations, &effects).is_none()
            })
    }
}

#[derive(Debug)]
pub(super) struct Topology {
    key: String,
    eligibility: Eligibility,
    /// By index of the node, `NOWHERE` if it has none or does not count.
    domains: Vec<u32>,
    /// Nodes by domain.
    pub(super) nodes: Vec<u32>,
    /// Counters that use it.
    pub(super) users: usize,
}

/// Numbers for the values of topology labels.
pub(super) type Values = HashMap<String, HashMap<String, u32>>;

impl Topology {
    pub(super) fn new(key: &str, eligibility: Eligibility, nodes: &[NodeInfo], values: &mut Values) -> Self {
        let (domains, by_domain) = (Vec::new(), Vec::new());
        let mut new = Topology { key: key.to_string(), eligibility, domains, nodes: by_domain, users: 0 };
        for (index, node) in nodes.iter().enumerate() {
            new.place(index as u32, node, values);
        }
        new
    }

    pub(super) fn domain(&self, node: u32) -> u32 {
        self.domains.get(node as usize).copied().unwrap_or(NOWHERE)
    }

    /// Puts a node where it belongs now. The answer is where it was and where it is, if that differs.
    pub(super) fn place(&mut self, index: u32, node: &NodeInfo, values: &mut Values) -> Option<(u32, u32)> {
        let new = self.domain_of(node, values);
        let at = index as usize;
        if self.domains.len() <= at {
            if new == NOWHERE {
                return None;
            }
            self.domains.resize(at + 1, NOWHERE);
        }
        let old = std::mem::replace(&mut self.domains[at], new);
        if old == new {
            return None;
        }
        if old != NOWHERE {
            self.nodes[old as usize] -= 1;
        }
        if new != NOWHERE {
            let at = new as usize;
            if self.nodes.len() <= at {
                self.nodes.resize(at + 1, 0);
            }
            self.nodes[at] += 1;
        }
        Some((old, new))
    }

    fn domain_of(&self, node: &NodeInfo, values: &mut Values) -> u32 {
        if node.node.is_none() || !self.eligibility.allows(node) {
            return NOWHERE;
        }
        let Some(value) = node.labels.get(&self.key) else { return NOWHERE };
        if !values.contains_key(&self.key) {
            values.insert(self.key.clone(), HashMap::new());
        }
        let Some(known) = values.get_mut(&self.key) else { return NOWHERE };
        if let Some(id) = known.get(value) {
            return *id;
        }
        let id = known.len() as u32;
        known.insert(value.clone(), id);
        id
    }
}
