//! Why no node will do, and how that is told: in upstream's words, which people and scripts look for.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Code, PluginSet, Status};

/// The answers of all nodes to one pod. Counted, not kept by node: in a large cluster most are the same.
#[derive(Debug, Default)]
pub struct Diagnosis {
    /// All nodes there are.
    pub(crate) nodes: usize,
    reasons: BTreeMap<Cow<'static, str>, usize>,
    /// Plugins that rejected the pod, and those that answered `Pending`.
    pub(crate) rejectors: PluginSet,
    pub(crate) pending: PluginSet,
    /// Nodes where evicting pods might help.
    pub(crate) unschedulable: Vec<u32>,
    /// How many nodes there are where it does not.
    pub(crate) unresolvable: usize,
    /// What PreFilter said, if it rejected the pod whatever the node.
    pre_filter: Option<String>,
    post_filter: String,
}

impl Diagnosis {
    pub(crate) fn new(nodes: usize) -> Self {
        Diagnosis { nodes, ..Diagnosis::default() }
    }

    /// For a pod that a plugin turned away from the one node it had got already.
    pub(crate) fn of_one_node(by: PluginSet, status: &Status) -> Self {
        let mut diagnosis = Diagnosis::new(1);
        diagnosis.count_reasons(status, 1);
        diagnosis.note(by, status.code());
        diagnosis
    }

    /// Nodes where evicting pods might help, by index.
    pub fn unschedulable_nodes(&self) -> &[u32] {
        &self.unschedulable
    }

    fn count_reasons(&mut self, status: &Status, nodes: usize) {
        for reason in status.reasons() {
            match self.reasons.get_mut(reason) {
                Some(count) => *count += nodes,
                None => {
                    self.reasons.insert(reason.clone(), nodes);
                }
            }
        }
    }

    fn note(&mut self, by: PluginSet, code: Code) {
        self.rejectors = self.rejectors | by;
        if code == Code::Pending {
            self.pending = self.pending | by;
        }
    }

    /// A plugin rejected the pod for a node.
    pub(crate) fn reject(&mut self, node: u32, by: PluginSet, status: &Status) {
        self.count_reasons(status, 1);
        self.note(by, status.code());
        if status.code() == Code::Unschedulable {
            self.unschedulable.push(node);
        } else {
            self.unresolvable += 1;
        }
    }

    /// Nodes that were not looked at because a PreFilter plugin had left them out.
    pub(crate) fn pass_over(&mut self, nodes: usize, by: PluginSet, status: &Status) {
        self.count_reasons(status, nodes);
        self.note(by, status.code());
        self.unresolvable += nodes;
    }

    /// PreFilter plugins rejected the pod for every node; `live` are all of them.
    pub(crate) fn pre_filter_rejected(&mut self, live: &[u32], by: PluginSet, status: &Status) {
        self.pre_filter = Some(status.message());
        self.note(by, status.code());
        if status.code() == Code::Unschedulable {
            self.unschedulable.extend(live);
        } else {
            self.unresolvable += live.len();
        }
    }

    pub(crate) fn post_filter_said(&mut self, status: &Status) {
        self.post_filter = status.message();
    }

    /// `1 Insufficient cpu, 2 node(s) were unschedulable`.
    pub(crate) fn told(reasons: impl IntoIterator<Item = (impl AsRef<str>, usize)>) -> String {
        let mut counted: Vec<String> =
            reasons.into_iter().map(|(reason, count)| format!("{count} {}", reason.as_ref())).collect();
        counted.sort();
        counted.join(", ")
    }

    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: 0/3 nodes are
    /// available: …`.
    pub(crate) fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_string();
        }
        let mut text = format!("0/{} nodes are available:", self.nodes);
        let reasons = match &self.pre_filter {
            Some(said) => said.clone(),
            None => Self::told(self.reasons.iter().map(|(reason, count)| (reason, *count))),
        };
        for (part, end) in [(&reasons, "."), (&self.post_filter, "")] {
            if !part.is_empty() {
                text.push(' ');
                text.push_str(part);
                text.push_str(end);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests;
