//! Which nodes serve which services of the type `LoadBalancer`. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::Cidr;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::jiff::Timestamp;

use crate::context::text;

/// The class that means this load balancer, beside none.
pub(super) const CLASS: &str = "minik8s.io/node";
/// k3s' labels.
const ENABLED: &str = "svccontroller.k3s.cattle.io/enablelb";
const POOL: &str = "svccontroller.k3s.cattle.io/lbpool";
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Protocol and number.
pub(super) type Port = (String, u16);

/// A port that a pod takes on its node: on one address, or on all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPort {
    pub(super) node: String,
    pub(super) port: Port,
    pub(super) address: Option<IpAddr>,
    pub(super) holder: String,
}

/// What counts of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(super) name: String,
    pub(super) serves: bool,
    /// Where it serves.
    pub(super) addresses: Vec<IpAddr>,
    /// All that it says it has.
    pub(super) claims: Vec<IpAddr>,
    pub(super) created: Option<Timestamp>,
    pub(super) enabled: Option<bool>,
    pub(super) pool: Option<String>,
    pub(super) kubelet_port: Option<u16>,
}

impl NodeFacts {
    pub(crate) fn of(node: &Node) -> Self {
        let labels = node.metadata.labels.as_ref();
        let label = |name: &str| labels.and_then(|labels| labels.get(name));
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let ready = conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True");
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let leaves = node.metadata.deletion_timestamp.is_some()
            || taints.into_iter().any(|taint| taint.key == TO_BE_DELETED)
            || label(EXCLUDED).is_some();
        let all = status.and_then(|status| status.addresses.as_ref());
        let of_type = |kind: &str| -> Vec<IpAddr> {
            let of_kind = all.into_iter().flatten().filter(|address| address.type_ == kind);
            of_kind.filter_map(|address| address.address.parse().ok()).collect()
        };
        let claims = all.into_iter().flatten().filter_map(|address| address.address.parse().ok());
        let external = of_type("ExternalIP");
        let endpoints = status.and_then(|status| status.daemon_endpoints.as_ref());
        let kubelet = endpoints.and_then(|all| all.kubelet_endpoint.as_ref()).map(|it| it.port);
        NodeFacts {
            name: text(&node.metadata.name).to_string(),
            serves: ready && !leaves,
            addresses: if external.is_empty() { of_type("InternalIP") } else { external },
            claims: claims.collect(),
            created: node.metadata.creation_timestamp.as_ref().map(|time| time.0),
            enabled: label(ENABLED).map(|value| value == "true"),
            pool: label(POOL).cloned(),
            kubelet_port: kubelet.and_then(|port| u16::try_from(port).ok()),
        }
    }
}

/// Takes from nodes the addresses that are not theirs to serve: a node writes its own, and every node's proxy
/// would lead packets to them astray. Those of the cluster (`is_ours`) are nobody's, and of two nodes that
/// say they have the same one the older has it.
pub(super) fn trust(nodes: &mut [NodeFacts], is_ours: impl Fn(IpAddr) -> bool) {
    nodes.sort_by(|one, other| {
        let key = |node: &NodeFacts| (node.created.is_none(), node.created);
        key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name))
    });
    let mut taken: HashSet<IpAddr> = HashSet::new();
    for node in nodes {
        node.addresses.retain(|it| !taken.contains(it) && is_on_a_network(*it) && !is_ours(*it));
        taken.extend(&node.claims);
    }
}

/// The addresses of each node that serves what comes from outside.
pub(crate) fn served_nodes(
    nodes: &[Arc<Node>],
    ranges: &[Cidr],
    cluster_ips: &HashSet<IpAddr>,
) -> Vec<Vec<IpAddr>> {
    let mut facts: Vec<NodeFacts> = nodes.iter().map(|node| NodeFacts::of(node)).collect();
    trust(&mut facts, |it| ranges.iter().any(|range| range.contains(it)) || cluster_ips.contains(&it));
    let picked = facts.iter().any(|node| node.enabled == Some(true));
    let serving = facts.into_iter().filter(|node| node.serves && (!picked || node.enabled == Some(true)));
    serving.map(|node| node.addresses).collect()
}

/// Not one that means something to the machine alone, or to its provider.
fn is_on_a_network(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !(is_link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// Ports that a pod takes on its node while it runs.
pub(super) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let Some(node) = spec.node_name.as_ref().filter(|_| !matches!(phase, Some("Succeeded" | "Failed")))
    else {
        return Vec::new();
    };
    let on_host = spec.host_network == Some(true);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let number = port.host_port.or(on_host.then_some(port.container_port))?;
        let number = u16::try_from(number).ok().filter(|number| *number != 0)?;
        let holder = format!("Pod {}/{}", text(&pod.metadata.namespace), text(&pod.metadata.name));
        let address: Option<IpAddr> = port.host_ip.as_ref().and_then(|ip| ip.parse().ok());
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_string());
        Some(HostPort {
            node: node.clone(),
            port: (protocol, number),
            address: address.filter(|address| !address.is_unspecified()),
            holder,
        })
    });
    taken.collect()
}

pub(crate) fn is_balanced(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer")
}

/// One that this load balancer serves.
pub(super) fn is_ours(service: &Service) -> bool {
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    is_balanced(service)
        && class.is_none_or(|class| class == CLASS)
        && service.metadata.deletion_timestamp.is_none()
}

pub(super) fn is_local(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.external_traffic_policy.as_deref()) == Some("Local")
}

/// What a service gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) addresses: Vec<String>,
    /// Why it has no address, if somebody is to blame.
    pub(super) why_none: Option<String>,
}

/// What keeps node ports, with who holds them.
type Taken = HashMap<(String, Port), String>;

/// Gives addresses to services, the oldest first. `all` are all services, for their node ports; `later` are
/// ports that are taken from a time on, so that older services keep them.
pub(super) fn plan(
    ours: &[Arc<Service>],
    all: &[Arc<Service>],
    nodes: &[NodeFacts],
    host_ports: &[HostPort],
    later: &[(Timestamp, HostPort)],
    nodes_with_endpoints: impl Fn(&Service) -> Vec<String>,
) -> Vec<(Arc<Service>, Given)> {
    let mut ordered: Vec<Arc<Service>> = ours.to_vec();
    ordered.sort_by_key(|service| {
        let meta = &service.metadata;
        let created = meta.creation_timestamp.as_ref().map(|time| time.0);
        (created.is_none(), created, meta.uid.clone())
    });
    let node_ports = node_ports(all);
    let mut taken = components(nodes);
    for port in host_ports {
        let node = nodes.iter().find(|node| node.name == port.node);
        // On another address of the node it is in nobody's way.
        if node.is_none_or(|node| port.address.is_none_or(|it| node.addresses.contains(&it))) {
            taken.insert((port.node.clone(), port.port.clone()), port.holder.clone());
        }
    }
    let mut later = later.to_vec();
    let give = |service: Arc<Service>| {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let is_due = |(since, _): &mut (Timestamp, HostPort)| created.is_none_or(|created| *since <= created);
        for (_, port) in later.extract_if(.., is_due) {
            taken.entry((port.node, port.port)).or_insert(port.holder);
        }
        let given = give(&service, nodes, &node_ports, &mut taken, &nodes_with_endpoints);
        (service, given)
    };
    ordered.into_iter().map(give).collect()
}

/// Ports of the cluster's own components on each node.
fn components(nodes: &[NodeFacts]) -> Taken {
    let tcp = |port: u16| ("TCP".to_string(), port);
    let kubelets = nodes.iter().filter_map(|node| {
        let port = node.kubelet_port?;
        Some(((node.name.clone(), tcp(port)), "the kubelet".to_string()))
    });
    let proxies = nodes.iter().map(|node| ((node.name.clone(), tcp(10256)), "the service proxy".to_string()));
    kubelets.chain(proxies).collect()
}

/// Node ports are served on every node.
fn node_ports(all: &[Arc<Service>]) -> BTreeMap<Port, String> {
    let of = |service: &Arc<Service>| {
        let holder =
            format!("Service {}/{}", text(&service.metadata.namespace), text(&service.metadata.name));
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let taken = ports.filter_map(|port| {
            let number = u16::try_from(port.node_port?).ok().filter(|number| *number != 0)?;
            Some((port.protocol.clone().unwrap_or_else(|| "TCP".to_string()), number))
        });
        taken.map(|port| (port, holder.clone())).collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

fn give(
    service: &Service,
    nodes: &[NodeFacts],
    node_ports: &BTreeMap<Port, String>,
    taken: &mut Taken,
    nodes_with_endpoints: &impl Fn(&Service) -> Vec<String>,
) -> Given {
    let Some(spec) = &service.spec else { return Given::default() };
    let own = format!("Service {}/{}", text(&service.metadata.namespace), text(&service.metadata.name));
    let ports: Vec<Port> = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            Some((port.protocol.clone().unwrap_or_else(|| "TCP".to_string()), u16::try_from(port.port).ok()?))
        })
        .collect();
    let pool = service.metadata.labels.as_ref().and_then(|labels| labels.get(POOL));
    let picked = nodes.iter().any(|node| node.enabled == Some(true));
    let candidates: Vec<&NodeFacts> = nodes
        .iter()
        .filter(|node| node.serves && (!picked || node.enabled == Some(true)))
        .filter(|node| pool.is_none() || node.pool.as_ref() == pool)
        .collect();
    let mut conflicts: Vec<String> = Vec::new();
    let mut free: Vec<&NodeFacts> = Vec::new();
    for node in &candidates {
        let holder = |port: &Port| {
            let elsewhere = node_ports.get(port).filter(|holder| **holder != own);
            taken.get(&(node.name.clone(), port.clone())).or(elsewhere)
        };
        match ports.iter().find_map(|port| Some((port, holder(port)?.clone()))) {
            Some((port, holder)) => {
                conflicts
                    .push(format!("port {}/{} of node {} is taken by {holder}", port.1, port.0, node.name));
            }
            None => free.push(node),
        }
    }
    for node in &free {
        for port in &ports {
            taken.insert((node.name.clone(), port.clone()), own.clone());
        }
    }
    if free.is_empty() {
        let nobody = || "there is no node that can serve it".to_string();
        let why = if conflicts.is_empty() { nobody() } else { conflicts.join(", ") };
        return Given { addresses: Vec::new(), why_none: Some(why) };
    }
    let serving = is_local(service).then(|| nodes_with_endpoints(service));
    let families = spec.ip_families.clone().unwrap_or_default();
    let wanted = |address: &IpAddr| {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        families.is_empty() || families.iter().any(|it| it == family)
    };
    let mut addresses: Vec<IpAddr> = free
        .iter()
        .filter(|node| serving.as_ref().is_none_or(|serving| serving.contains(&node.name)))
        .flat_map(|node| node.addresses.iter().copied().filter(wanted))
        .collect();
    addresses.sort();
    addresses.dedup();
    Given { addresses: addresses.iter().map(IpAddr::to_string).collect(), why_none: None }
}

#[cfg(test)]
mod tests;
