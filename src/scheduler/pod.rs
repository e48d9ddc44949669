//! A pod, compiled once for many comparisons with nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::affinity::{PreferredNodes, RequiredNodes};
use api::selector::{Operator, Requirement};
use api::{LabelSelector, resources};
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint};

use crate::resources::{DEFAULT_MEMORY, DEFAULT_MILLI_CPU, Resources};

pub(crate) type Labels = BTreeMap<String, String>;
pub(crate) type Key = (String, String);

#[derive(Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    /// Namespace and name.
    pub key: Key,
    pub uid: String,
    pub labels: Labels,
    pub(crate) terminating: bool,
    pub(crate) priority: i32,
    pub(crate) requests: Resources,
    /// CPU and memory with defaults for what is not requested.
    pub(crate) nonzero: (i64, i64),
    pub(crate) ports: Vec<HostPort>,
    /// `spec.nodeName`.
    pub(crate) node: Option<String>,
    /// What decides about nodes without looking at other pods.
    pub(crate) wishes: Wishes,
    /// The scheduler's name and the wishes in words: equal words, the same plugins and equal wishes.
    pub(crate) wishes_key: String,
    pub(crate) spread_hard: Vec<Spread>,
    pub(crate) spread_soft: Vec<Spread>,
    /// The soft constraints are not the pod's own but the cluster's defaults.
    pub(crate) default_spread: bool,
    pub(crate) affinity: Vec<Term>,
    pub(crate) anti_affinity: Vec<Term>,
    /// Preferred terms; those of anti-affinity have negative weights.
    pub(crate) preferred: Vec<(i64, Term)>,
}

/// The part of a pod that is compared with a node alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) node_name: Option<String>,
    pub(crate) required: RequiredNodes,
    pub(crate) preferred: PreferredNodes,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) images: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    pub(crate) ip: String,
    pub(crate) protocol: String,
    pub(crate) port: i32,
}

impl HostPort {
    /// The same port cannot be had twice; the wildcard address takes it on all.
    pub(crate) fn conflicts(&self, other: &HostPort) -> bool {
        let any = |port: &HostPort| port.ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(self) || any(other))
    }
}

/// A topology spread constraint.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pub(crate) max_skew: i64,
    pub(crate) min_domains: i64,
    pub(crate) topology_key: String,
    pub(crate) selector: LabelSelector,
    /// The pod's own labels match.
    pub(crate) matches_self: bool,
    pub(crate) honor_affinity: bool,
    pub(crate) honor_taints: bool,
}

/// A term of pod affinity or anti-affinity.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) namespaces: Vec<String>,
    /// Also all namespaces whose labels match.
    pub(crate) namespace_selector: Option<LabelSelector>,
    pub(crate) selector: LabelSelector,
    pub(crate) topology_key: String,
}

impl Term {
    pub(crate) fn matches(&self, namespace: &str, namespace_labels: &Labels, labels: &Labels) -> bool {
        let here = self.namespaces.iter().any(|one| one == namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| selector.matches(namespace_labels));
        here && self.selector.matches(labels)
    }

    /// Equal words, equal terms.
    pub(crate) fn words(&self) -> String {
        let everywhere = self.namespace_selector.as_ref();
        let others = everywhere.map(|selector| format!("{}{selector}", selector.nothing)).unwrap_or_default();
        let (nothing, selector) = (self.selector.nothing, &self.selector);
        format!("{}|{others}|{nothing}{selector}|{}", self.namespaces.join(","), self.topology_key)
    }
}

impl PodInfo {
    /// `siblings` selects the pods of the same service and replica set, for spreading pods that do not ask
    /// for it.
    pub(crate) fn new(pod: Arc<Pod>, siblings: Option<LabelSelector>) -> Self {
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        let spec = pod.spec.as_ref().unwrap_or(&EMPTY);
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let mut requests = Resources::of(&resources::held_requests(&pod));
        requests.pods = 1;
        let wishes = wishes_of(spec);
        let (mut spread_hard, mut spread_soft) = (Vec::new(), Vec::new());
        for constraint in spec.topology_spread_constraints.iter().flatten() {
            let hard = constraint.when_unsatisfiable != "ScheduleAnyway";
            if hard { &mut spread_hard } else { &mut spread_soft }.push(spread_of(constraint, &labels));
        }
        let default_spread = spec.topology_spread_constraints.as_ref().is_none_or(Vec::is_empty);
        if let Some(siblings) = siblings.filter(|_| default_spread) {
            spread_soft = default_spreads(&siblings, &labels);
        }
        let terms = Terms::of(spec, &namespace, &labels);
        PodInfo {
            key: (namespace, pod.metadata.name.clone().unwrap_or_default()),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            terminating: api::pod::is_terminating(&pod),
            priority: api::pod::priority(&pod),
            nonzero: nonzero(spec, &requests),
            requests,
            ports: ports_of(spec),
            node: api::pod::node_name(&pod).map(str::to_string),
            wishes_key: format!("{}|{wishes:?}", scheduler_name(&pod)),
            wishes,
            spread_hard,
            spread_soft,
            default_spread,
            affinity: terms.affinity,
            anti_affinity: terms.anti_affinity,
            preferred: terms.preferred,
            labels,
            pod,
        }
    }

    pub fn namespace(&self) -> &str {
        &self.key.0
    }
}

fn wishes_of(spec: &PodSpec) -> Wishes {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut images: Vec<String> = containers.filter_map(|container| container.image.clone()).collect();
    images.sort();
    Wishes {
        node_name: spec.node_name.clone().filter(|name| !name.is_empty()),
        required: RequiredNodes::of(spec),
        preferred: PreferredNodes::of(spec),
        tolerations: spec.tolerations.clone().unwrap_or_default(),
        images,
    }
}

/// Requests with defaults per container that requests nothing of a resource.
fn nonzero(spec: &PodSpec, requests: &Resources) -> (i64, i64) {
    let lacking = |resource: &str| {
        let asks = |list: Option<&BTreeMap<String, _>>| list.is_some_and(|list| list.contains_key(resource));
        if asks(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref())) {
            return 0;
        }
        let lacks = |container: &&k8s_openapi::api::core::v1::Container| {
            !asks(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
        };
        i64::try_from(spec.containers.iter().filter(lacks).count()).unwrap_or(0)
    };
    (
        requests.milli_cpu + lacking(resources::CPU) * DEFAULT_MILLI_CPU,
        requests.memory + lacking(resources::MEMORY) * DEFAULT_MEMORY,
    )
}

/// `spec.schedulerName`.
pub(crate) fn scheduler_name(pod: &Pod) -> &str {
    let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    name.filter(|name| !name.is_empty()).unwrap_or(api::pod::DEFAULT_SCHEDULER)
}

pub(crate) fn ports_of(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars =
        spec.init_containers.iter().flatten().filter(|container| resources::is_restartable_init(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let host = port.host_port.filter(|host| *host > 0)?;
        let or = |text: &Option<String>, default: &str| {
            text.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_string())
        };
        Some(HostPort { ip: or(&port.host_ip, "0.0.0.0"), protocol: or(&port.protocol, "TCP"), port: host })
    });
    taken.collect()
}

fn spread_of(constraint: &TopologySpreadConstraint, labels: &Labels) -> Spread {
    let mut selector = LabelSelector::from_meta(constraint.label_selector.as_ref());
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = labels.get(key) {
            let requirement =
                Requirement { key: key.clone(), operator: Operator::In, values: vec![value.clone()] };
            if !selector.requirements.contains(&requirement) {
                selector.requirements.push(requirement);
            }
        }
    }
    Spread {
        max_skew: i64::from(constraint.max_skew),
        min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
        topology_key: constraint.topology_key.clone(),
        matches_self: selector.matches(labels),
        selector,
        honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
    }
}

/// The cluster's defaults: over nodes, and less strictly over zones.
fn default_spreads(siblings: &LabelSelector, labels: &Labels) -> Vec<Spread> {
    let spread = |topology_key: &str, max_skew| Spread {
        max_skew,
        min_domains: 1,
        topology_key: topology_key.to_string(),
        selector: siblings.clone(),
        matches_self: siblings.matches(labels),
        honor_affinity: true,
        honor_taints: false,
    };
    vec![spread("kubernetes.io/hostname", 3), spread("topology.kubernetes.io/zone", 5)]
}

#[derive(Default)]
struct Terms {
    affinity: Vec<Term>,
    anti_affinity: Vec<Term>,
    preferred: Vec<(i64, Term)>,
}

impl Terms {
    fn of(spec: &PodSpec, namespace: &str, labels: &Labels) -> Self {
        let Some(affinity) = &spec.affinity else { return Terms::default() };
        let term = |term: &PodAffinityTerm| term_of(term, namespace, labels);
        let mut terms = Terms::default();
        if let Some(pods) = &affinity.pod_affinity {
            let required = pods.required_during_scheduling_ignored_during_execution.iter().flatten();
            terms.affinity = required.map(term).collect();
            let preferred = pods.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            terms
                .preferred
                .extend(preferred.map(|one| (i64::from(one.weight), term(&one.pod_affinity_term))));
        }
        if let Some(pods) = &affinity.pod_anti_affinity {
            let required = pods.required_during_scheduling_ignored_during_execution.iter().flatten();
            terms.anti_affinity = required.map(term).collect();
            let preferred = pods.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            terms
                .preferred
                .extend(preferred.map(|one| (-i64::from(one.weight), term(&one.pod_affinity_term))));
        }
        terms
    }
}

fn term_of(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Term {
    let mut namespaces = term.namespaces.clone().unwrap_or_default();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.push(namespace.to_string());
    }
    let mut selector = LabelSelector::from_meta(term.label_selector.as_ref());
    let keys = [(&term.match_label_keys, Operator::In), (&term.mismatch_label_keys, Operator::NotIn)];
    for (keys, operator) in keys {
        for key in keys.iter().flatten() {
            let Some(value) = labels.get(key) else { continue };
            let requirement = Requirement { key: key.clone(), operator, values: vec![value.clone()] };
            if !selector.requirements.contains(&requirement) {
                selector.requirements.push(requirement);
            }
        }
    }
    let namespace_selector =
        term.namespace_selector.as_ref().map(|selector| LabelSelector::from_meta(Some(selector)));
    Term { namespaces, namespace_selector, selector, topology_key: term.topology_key.clone() }
}
