//! How much of a pod has to be compared with nodes and other pods, and the most that the scheduler takes on.
//!
//! One scheduling cycle holds everybody up, and anybody who may create pods writes what it compares. Upstream
//! has no such limit; here a pod beyond it stays unschedulable, so that a cycle stays short. Of a pod that is
//! bound all the same, what exceeds the limit does not count for other pods.

use k8s_openapi::api::core::v1::{NodeSelectorTerm, PodAffinityTerm, PodSpec, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Terms of pod affinity and spread constraints: each needs a counter of its own.
pub(crate) const MOST_TERMS: usize = 256;
/// Requirements, values, namespaces, tolerations, host ports, images.
pub(crate) const MOST_ELEMENTS: usize = 2048;

/// What a pod beyond the limit is told.
pub(crate) fn too_heavy() -> String {
    format!(
        "the pod's affinity, topology spread constraints, tolerations, host ports and images are more than the \
         scheduler compares ({MOST_TERMS} terms and constraints, {MOST_ELEMENTS} requirements and values)"
    )
}

/// What is left of the limits.
pub(crate) struct Budget {
    terms: usize,
    elements: usize,
    pub(crate) exceeded: bool,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Budget { terms: MOST_TERMS, elements: MOST_ELEMENTS, exceeded: false }
    }

    /// Takes from the budget, unless that is more than it has; then everything later is refused as well.
    pub(crate) fn take(&mut self, terms: usize, elements: usize) -> bool {
        self.exceeded |= terms > self.terms || elements > self.elements;
        if !self.exceeded {
            self.terms -= terms;
            self.elements -= elements;
        }
        !self.exceeded
    }
}

pub(crate) fn of_selector(selector: Option<&LabelSelector>) -> usize {
    let Some(selector) = selector else { return 0 };
    let expressions = selector.match_expressions.iter().flatten();
    let values = expressions.map(|one| 1 + one.values.as_ref().map_or(0, Vec::len)).sum::<usize>();
    values + selector.match_labels.as_ref().map_or(0, |labels| labels.len())
}

fn count<T>(list: Option<&Vec<T>>) -> usize {
    list.map_or(0, Vec::len)
}

pub(crate) fn of_term(term: &PodAffinityTerm) -> usize {
    1 + count(term.namespaces.as_ref())
        + of_selector(term.namespace_selector.as_ref())
        + of_selector(term.label_selector.as_ref())
        + count(term.match_label_keys.as_ref())
        + count(term.mismatch_label_keys.as_ref())
}

pub(crate) fn of_constraint(constraint: &TopologySpreadConstraint) -> usize {
    1 + of_selector(constraint.label_selector.as_ref()) + count(constraint.match_label_keys.as_ref())
}

fn of_node_term(term: &NodeSelectorTerm) -> usize {
    let lists = term.match_expressions.iter().chain(&term.match_fields).flatten();
    // Fields are looked up in a map made for each term.
    let fields = 8 * count(term.match_fields.as_ref());
    1 + fields + lists.map(|one| 1 + count(one.values.as_ref())).sum::<usize>()
}

/// What a spread constraint may confine itself to: the nodes that the pod itself can go to.
pub(crate) fn of_node_wishes(spec: &PodSpec) -> usize {
    let nodes = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = nodes.and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution.as_ref());
    let required = required.iter().flat_map(|required| &required.node_selector_terms);
    let preferred = nodes
        .and_then(|nodes| nodes.preferred_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .flatten()
        .map(|one| &one.preference);
    required.chain(preferred).map(of_node_term).sum::<usize>()
        + spec.node_selector.as_ref().map_or(0, |selector| selector.len())
        + count(spec.tolerations.as_ref())
}

/// Containers, for their images, and ports.
pub(crate) fn of_containers(spec: &PodSpec) -> usize {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let host =
        |port: &&k8s_openapi::api::core::v1::ContainerPort| port.host_port.is_some_and(|port| port > 0);
    containers.map(|one| 1 + one.ports.iter().flatten().filter(host).count()).sum()
}
