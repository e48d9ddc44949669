//! A pod, compiled once for many comparisons with nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::affinity::{PreferredNodes, RequiredNodes};
use api::selector::{Operator, Requirement};
use api::{LabelSelector, resources};
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint};

use crate::resources::{DEFAULT_MEMORY, DEFAULT_MILLI_CPU, Resources};
use crate::weight::{self, Budget};

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
    /// Names of the claims that its volumes mean.
    pub(crate) claims: Vec<String>,
    /// `spec.nodeName`.
    pub(crate) node: Option<String>,
    /// What decides about nodes without looking at other pods.
    pub(crate) requirements: NodeRequirements,
    /// The scheduler's name and the requirements as text: equal text means the same plugins and equal
    /// requirements.
    pub(crate) signature: String,
    pub(crate) spread_hard: Vec<Spread>,
    pub(crate) spread_soft: Vec<Spread>,
    /// The soft constraints are not the pod's own but the cluster's defaults.
    pub(crate) default_spread: bool,
    /// Shared with the counters of pods that match them.
    pub(crate) affinity: Arc<[Term]>,
    /// The topology keys of `affinity`, each once.
    pub(crate) affinity_keys: BTreeSet<String>,
    pub(crate) anti_affinity: Vec<Term>,
    /// Preferred terms; those of anti-affinity have negative weights.
    pub(crate) preferred: Vec<(i64, Term)>,
    /// There is more to compare than the scheduler takes on: some of it is missing here.
    pub(crate) too_heavy: bool,
}

/// The part of a pod that is compared with a node alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeRequirements {
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
        let mut budget = Budget::new();
        let terms = Terms::of(spec, &namespace, &labels, &mut budget);
        let own_spreads = spec.topology_spread_constraints.as_deref().unwrap_or_default();
        let (count, node_wishes) = (own_spreads.len(), weight::of_node_wishes(spec));
        // Each constraint is compared with nodes that have the keys of all and that the pod may go to.
        let per_spread = count.saturating_add(node_wishes);
        let of_spreads = own_spreads.iter().map(weight::of_constraint).sum::<usize>();
        let wanted = node_wishes + weight::of_containers(spec) + of_spreads;
        let affordable = budget.take(count, wanted.saturating_add(count.saturating_mul(per_spread)));
        let requirements = if affordable { requirements_of(spec) } else { NodeRequirements::default() };
        let (mut spread_hard, mut spread_soft) = (Vec::new(), Vec::new());
        for constraint in own_spreads.iter().filter(|_| affordable) {
            let hard = constraint.when_unsatisfiable != "ScheduleAnyway";
            if hard { &mut spread_hard } else { &mut spread_soft }.push(spread_of(constraint, &labels));
        }
        let default_spread = spec.topology_spread_constraints.as_ref().is_none_or(Vec::is_empty);
        if let Some(siblings) = siblings.filter(|_| default_spread) {
            spread_soft = default_spreads(&siblings, &labels);
        }
        PodInfo {
            too_heavy: budget.exceeded,
            key: (namespace, pod.metadata.name.clone().unwrap_or_default()),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            terminating: api::pod::is_terminating(&pod),
            priority: api::pod::priority(&pod),
            nonzero: nonzero(spec, &requests),
            requests,
            ports: ports_of(spec),
            claims: api::volumes::claim_names(&pod).collect(),
            node: api::pod::node_name(&pod).map(str::to_string),
            signature: format!("{}|{requirements:?}", scheduler_name(&pod)),
            requirements,
            spread_hard,
            spread_soft,
            default_spread,
            affinity_keys: terms.affinity.iter().map(|term| term.topology_key.clone()).collect(),
            affinity: terms.affinity.into(),
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

fn requirements_of(spec: &PodSpec) -> NodeRequirements {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut images: Vec<String> = containers.filter_map(|container| container.image.clone()).collect();
    images.sort();
    NodeRequirements {
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
    /// The terms that the budget allows, those first that others must keep to.
    fn of(spec: &PodSpec, namespace: &str, labels: &Labels, budget: &mut Budget) -> Self {
        let Some(affinity) = &spec.affinity else { return Terms::default() };
        let mut terms = Terms::default();
        let mut compile = |term: &PodAffinityTerm, times: usize| {
            let elements = weight::of_term(term).saturating_mul(times);
            budget.take(1, elements).then(|| term_of(term, namespace, labels))
        };
        let (with, apart) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        let required = apart.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref());
        terms.anti_affinity = required.into_iter().flatten().map_while(|one| compile(one, 1)).collect();
        let required = with.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref());
        // All of them are compared together, once for each topology key.
        let keys: BTreeSet<&str> =
            required.into_iter().flatten().map(|term| term.topology_key.as_str()).collect();
        let required = required.into_iter().flatten();
        terms.affinity = required.map_while(|one| compile(one, keys.len())).collect();
        let near = with.and_then(|one| one.preferred_during_scheduling_ignored_during_execution.as_ref());
        let far = apart.and_then(|one| one.preferred_during_scheduling_ignored_during_execution.as_ref());
        for (sign, list) in [(1, near), (-1, far)] {
            let preferred = list.into_iter().flatten();
            terms.preferred.extend(
                preferred.map_while(|one| {
                    Some((sign * i64::from(one.weight), compile(&one.pod_affinity_term, 1)?))
                }),
            );
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
