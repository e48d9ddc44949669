//! On which nodes a daemon set's pods run, and what its pods look like.
//!
//! A pod is made for a node and pinned to it by `metadata.name`, so that the scheduler, which knows the
//! node's resources, is the one to bind it. It bears the taints that tell of troubles a daemon has to live
//! with.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration,
};

use api::affinity::RequiredNodes;
use api::taints;

use crate::context::text;
use crate::history::REVISION_LABEL;
use crate::pod_control::pod_of;

const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";

/// Which nodes suit a daemon set; compiled once, then asked about many nodes.
pub(super) struct Eligibility {
    node: Option<String>,
    required: RequiredNodes,
    tolerations: Vec<Toleration>,
}

/// What a node is to a daemon set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suits {
    /// A pod is made for it.
    pub(super) run: bool,
    /// A pod that is there stays.
    pub(super) stay: bool,
}

impl Eligibility {
    pub(super) fn of(set: &DaemonSet) -> Self {
        let mut spec = set.spec.as_ref().and_then(|spec| spec.template.spec.clone()).unwrap_or_default();
        tolerate_troubles(&mut spec);
        Eligibility {
            required: RequiredNodes::of(&spec),
            node: spec.node_name.filter(|node| !node.is_empty()),
            tolerations: spec.tolerations.unwrap_or_default(),
        }
    }

    pub(super) fn suits(&self, node: &Node) -> Suits {
        let name = text(&node.metadata.name);
        let labels = node.metadata.labels.clone().unwrap_or_default();
        if self.node.as_deref().is_some_and(|only| only != name) || !self.required.matches(name, &labels) {
            return Suits { run: false, stay: false };
        }
        let taints: &[Taint] = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let repelled =
            |effects: &[&str]| taints::first_untolerated(taints, &self.tolerations, effects).is_some();
        if !repelled(&[taints::NO_EXECUTE, taints::NO_SCHEDULE]) {
            return Suits { run: true, stay: true };
        }
        Suits { run: false, stay: !repelled(&[taints::NO_EXECUTE]) }
    }
}

fn tolerate_troubles(spec: &mut PodSpec) {
    let troubles = [
        (taints::NOT_READY, taints::NO_EXECUTE),
        (taints::UNREACHABLE, taints::NO_EXECUTE),
        (taints::DISK_PRESSURE, taints::NO_SCHEDULE),
        (taints::MEMORY_PRESSURE, taints::NO_SCHEDULE),
        (taints::PID_PRESSURE, taints::NO_SCHEDULE),
        (taints::UNSCHEDULABLE, taints::NO_SCHEDULE),
    ];
    let host_network = spec.host_network == Some(true);
    let network = host_network.then_some((taints::NETWORK_UNAVAILABLE, taints::NO_SCHEDULE));
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in troubles.into_iter().chain(network) {
        let toleration = Toleration {
            key: Some(key.to_string()),
            operator: Some("Exists".to_string()),
            effect: Some(effect.to_string()),
            ..Toleration::default()
        };
        // One of the same key, effect and operator says the same for a while only: it gives way.
        let same = |other: &Toleration| {
            other.key == toleration.key
                && other.effect == toleration.effect
                && other.operator == toleration.operator
                && text(&other.value).is_empty()
        };
        match tolerations.iter_mut().find(|other| same(other)) {
            Some(other) => *other = toleration,
            None => tolerations.push(toleration),
        }
    }
}

fn template_generation(set: &DaemonSet) -> Option<i64> {
    set.metadata.annotations.as_ref()?.get(GENERATION_ANNOTATION)?.parse().ok()
}

/// The pod of the set for one node.
pub(super) fn new_pod(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let (namespace, name) = (text(&set.metadata.namespace), text(&set.metadata.name));
    let mut pod = pod_of(&template, namespace, name, &api::owner::controller_reference(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    if let Some(generation) = template_generation(set) {
        labels.insert(GENERATION_LABEL.to_string(), generation.to_string());
    }
    labels.insert(REVISION_LABEL.to_string(), hash.to_string());
    let spec = pod.spec.get_or_insert_default();
    tolerate_troubles(spec);
    pin(spec.affinity.get_or_insert_default(), node);
    pod
}

/// Replaces what is required of nodes, which the node meets, by its name.
fn pin(affinity: &mut Affinity, node: &str) {
    let name = NodeSelectorRequirement {
        key: "metadata.name".to_string(),
        operator: "In".to_string(),
        values: Some(vec![node.to_string()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![name]), match_expressions: None };
    let required = NodeSelector { node_selector_terms: vec![term] };
    let of_nodes = affinity.node_affinity.get_or_insert_default();
    of_nodes.required_during_scheduling_ignored_during_execution = Some(required);
}

/// The node that a pod runs on or is meant for.
pub(super) fn target_node(pod: &Pod) -> Option<&str> {
    if let Some(node) = api::pod::node_name(pod) {
        return Some(node);
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let name = fields.into_iter().find(|field| field.key == "metadata.name" && field.operator == "In")?;
    match name.values.as_deref() {
        Some([node]) => Some(node),
        _ => None,
    }
}

/// Whether the pod is of the set's present template.
pub(super) fn is_updated(set: &DaemonSet, hash: &str, pod: &Pod) -> bool {
    let label = |key: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let generation = template_generation(set).map(|generation| generation.to_string());
    (!hash.is_empty() && label(REVISION_LABEL).is_some_and(|own| own == hash))
        || (generation.is_some() && label(GENERATION_LABEL) == generation.as_ref())
}

#[cfg(test)]
mod tests;
