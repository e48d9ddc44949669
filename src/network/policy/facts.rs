//! What network policies need to know of objects, taken out of them once per change.
//!
//! A pod counts while it has addresses of its own: pods on the host's network are the node, and what has
//! ended has no address any more. Absent: anything that validation keeps out (ranges that are none).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::LabelSelector;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::proxy::facts::{Cidr, Protocol};

/// Namespace and name.
pub(crate) type ObjectName = (String, String);

pub(crate) type Labels = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// A pod with addresses of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub(crate) labels: Labels,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) node: String,
    /// It runs on this node.
    pub(crate) is_local: bool,
    pub(crate) ports: Vec<NamedPort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPort {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl PodFacts {
    /// As its status says. None while it has no address, and for pods that no policy is about.
    pub(crate) fn of(pod: &Pod, node: &str) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
        let addresses: Vec<&str> = status.pod_ip.as_deref().into_iter().chain(all).collect();
        Self::with_addresses(pod, node, addresses.into_iter())
    }

    /// The same with addresses that are not published yet.
    pub(crate) fn with_addresses<'a>(
        pod: &Pod,
        node: &str,
        addresses: impl Iterator<Item = &'a str>,
    ) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if spec.host_network == Some(true) || matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        let mut parsed: Vec<IpAddr> = addresses.filter_map(|address| address.parse().ok()).collect();
        parsed.sort();
        parsed.dedup();
        if parsed.is_empty() {
            return None;
        }
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let ports = containers.flat_map(|container| container.ports.iter().flatten()).filter_map(|port| {
            Some(NamedPort {
                name: port.name.clone()?,
                protocol: Protocol::parse(port.protocol.as_deref())?,
                port: u16::try_from(port.container_port).ok()?,
            })
        });
        Some(PodFacts {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            addresses: parsed,
            node: spec.node_name.clone().unwrap_or_default(),
            is_local: spec.node_name.as_deref() == Some(node),
            ports: ports.collect(),
        })
    }

    /// The numbers of a port that has a name.
    pub(crate) fn named(&self, protocol: Protocol, name: &str) -> impl Iterator<Item = u16> {
        self.ports.iter().filter(move |it| it.protocol == protocol && it.name == name).map(|it| it.port)
    }
}

/// A set of pods by their labels and their namespaces'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodSelector {
    pub(crate) scope: Scope,
    pub(crate) pods: LabelSelector,
    /// A label without which no pod is selected, if there is one: what sets of selectors are kept by.
    pub(crate) label: Option<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Anywhere,
    Namespace(String),
    Namespaces(LabelSelector),
}

impl PodSelector {
    pub(crate) fn everything() -> Self {
        PodSelector { scope: Scope::Anywhere, pods: LabelSelector::everything(), label: None }
    }

    pub(crate) fn matches(&self, namespace: &str, of_namespace: Option<&Labels>, labels: &Labels) -> bool {
        let in_scope = match &self.scope {
            Scope::Anywhere => true,
            Scope::Namespace(own) => own == namespace,
            Scope::Namespaces(selector) => of_namespace.is_some_and(|labels| selector.matches(labels)),
        };
        in_scope && self.pods.matches(labels)
    }
}

/// A range of addresses with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) range: Cidr,
    pub(crate) except: Vec<Cidr>,
}

impl Block {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.range.contains(address) && !self.except.iter().any(|hole| hole.contains(address))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Anybody,
    Pods(PodSelector),
    Block(Block),
}

/// Ports of a rule. Names are those of the destination's containers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ports {
    /// Also what has no ports.
    All,
    Range(Protocol, u16, u16),
    Named(Protocol, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) peers: Vec<Peer>,
    pub(crate) ports: Vec<Ports>,
}

/// A policy. None of a direction: it says nothing about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicyFacts {
    pub(crate) pods: LabelSelector,
    pub(crate) ingress: Option<Arc<[Rule]>>,
    pub(crate) egress: Option<Arc<[Rule]>>,
}

impl PolicyFacts {
    pub(crate) fn of(policy: &NetworkPolicy) -> Option<Self> {
        let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
        let everything = NetworkPolicySpec::default();
        let spec = policy.spec.as_ref().unwrap_or(&everything);
        let says = |what: &str| match spec.policy_types.as_deref() {
            Some(types) if !types.is_empty() => types.iter().any(|it| it == what),
            _ => what == "Ingress" || spec.egress.is_some(),
        };
        let ingress = spec.ingress.iter().flatten();
        let ingress: Vec<Rule> =
            ingress.map(|it| rule(namespace, it.from.as_ref(), it.ports.as_ref())).collect();
        let egress = spec.egress.iter().flatten();
        let egress: Vec<Rule> = egress.map(|it| rule(namespace, it.to.as_ref(), it.ports.as_ref())).collect();
        Some(PolicyFacts {
            pods: spec
                .pod_selector
                .as_ref()
                .map_or_else(LabelSelector::everything, |it| LabelSelector::from_meta(Some(it))),
            ingress: says("Ingress").then(|| ingress.into()),
            egress: says("Egress").then(|| egress.into()),
        })
    }

    pub(crate) fn rules(&self, direction: Direction) -> Option<&Arc<[Rule]>> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}

fn rule(
    namespace: &str,
    peers: Option<&Vec<NetworkPolicyPeer>>,
    ports: Option<&Vec<NetworkPolicyPort>>,
) -> Rule {
    let peers = match peers.map(Vec::as_slice) {
        None | Some([]) => vec![Peer::Anybody],
        Some(peers) => peers.iter().filter_map(|it| peer(namespace, it)).collect(),
    };
    let ports = match ports.map(Vec::as_slice) {
        None | Some([]) => vec![Ports::All],
        Some(ports) => ports.iter().filter_map(port).collect(),
    };
    Rule { peers, ports }
}

fn peer(namespace: &str, peer: &NetworkPolicyPeer) -> Option<Peer> {
    if let Some(block) = &peer.ip_block {
        let except = block.except.iter().flatten().filter_map(|text| Cidr::parse(text)).collect();
        return Some(Peer::Block(Block { range: Cidr::parse(&block.cidr)?, except }));
    }
    let scope = match &peer.namespace_selector {
        Some(selector) => Scope::Namespaces(LabelSelector::from_meta(Some(selector))),
        None => Scope::Namespace(namespace.to_string()),
    };
    let pods = match &peer.pod_selector {
        Some(selector) => LabelSelector::from_meta(Some(selector)),
        None => LabelSelector::everything(),
    };
    let labels = peer.pod_selector.as_ref().and_then(|selector| selector.match_labels.as_ref());
    let label = labels.and_then(|labels| labels.first_key_value());
    let label = label.map(|(key, value)| (key.clone(), value.clone()));
    Some(Peer::Pods(PodSelector { scope, pods, label }))
}

fn port(port: &NetworkPolicyPort) -> Option<Ports> {
    let protocol = Protocol::parse(port.protocol.as_deref())?;
    match &port.port {
        None => Some(Ports::Range(protocol, 0, u16::MAX)),
        Some(IntOrString::String(name)) => Some(Ports::Named(protocol, name.clone())),
        Some(IntOrString::Int(first)) => {
            let first = u16::try_from(*first).ok()?;
            let last = port.end_port.and_then(|last| u16::try_from(last).ok()).unwrap_or(first);
            (first <= last).then_some(Ports::Range(protocol, first, last))
        }
    }
}
