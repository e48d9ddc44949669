//! What one service comes to: the addresses and ports it is served on, each with the endpoints behind it, and
//! the elements of the rule set that say so. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::endpoints::{self, Chosen};
use super::facts::{
    Age, Backend, Cidr, Family, FrontKey, NodeFacts, PortFacts, Protocol, ServiceFacts, ServiceName,
    SliceFacts,
};
use super::rules::{Chain, Element, Key, LOCAL, Set, Value};

/// One address and port, and where its packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frontend {
    pub(crate) key: FrontKey,
    /// `namespace/service:port`.
    pub(crate) label: Arc<str>,
    /// Not a cluster IP.
    pub(crate) is_external: bool,
    pub(crate) target: Target,
    /// Packets from outside go to these only, with the client's address, or nowhere.
    pub(crate) local_only: Option<Arc<[Backend]>>,
    pub(crate) affinity: Option<u32>,
    /// The clients that may reach it; none means all.
    pub(crate) sources: Option<Arc<[Cidr]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// In the order of their numbers.
    Backends(Arc<[Backend]>),
    /// There is no endpoint anywhere.
    Refuse,
    /// There are endpoints, but none that the traffic policy allows here.
    Drop,
}

/// The endpoints of a port in the order of their numbers: for the policy `Cluster`, and for `Local`.
pub(crate) type Orders = BTreeMap<(String, Protocol), [Arc<[Backend]>; 2]>;

/// One service as it is served from this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Planned {
    pub(crate) age: Age,
    pub(crate) frontends: Vec<Arc<Frontend>>,
    /// Each with its place in the service's list.
    pub(crate) cluster_ips: BTreeMap<IpAddr, usize>,
    /// Addresses of endpoints on this node.
    pub(crate) own: BTreeSet<IpAddr>,
    pub(crate) orders: Orders,
    /// UDP frontends with every endpoint that serves: flows to others are stale.
    pub(crate) flows: BTreeMap<FrontKey, BTreeSet<Backend>>,
    /// Port of the health check and how many addresses on this node are ready.
    pub(crate) health: Option<(u16, usize)>,
    /// Policies for which there is no endpoint here: internal, external.
    pub(crate) without_local: (bool, bool),
}

/// Numbers for endpoints. Who has one keeps it, so that a change of one endpoint moves at most one other.
pub(crate) fn arrange(before: &[Backend], wanted: &BTreeSet<Backend>) -> Arc<[Backend]> {
    let count = wanted.len().min(LOCAL as usize);
    let mut places: Vec<Option<Backend>> =
        (0..count).map(|at| before.get(at).copied().filter(|backend| wanted.contains(backend))).collect();
    let placed: BTreeSet<Backend> = places.iter().flatten().copied().collect();
    let mut rest = wanted.iter().filter(|backend| !placed.contains(backend));
    for place in places.iter_mut().filter(|place| place.is_none()) {
        *place = rest.next().copied();
    }
    places.into_iter().flatten().collect()
}

/// Plans one service, given how its endpoints were numbered before.
pub(crate) fn plan(
    name: &ServiceName,
    service: &ServiceFacts,
    slices: &BTreeMap<String, Arc<SliceFacts>>,
    family: Family,
    node: &NodeFacts,
    before: &Orders,
) -> Planned {
    // What the node's DNS answers on is served by nobody else, whatever a service or a node says.
    let served = |address: &IpAddr| Family::of(*address) == family && node.local_dns != Some(*address);
    let of_family =
        |addresses: &[IpAddr]| -> Vec<IpAddr> { addresses.iter().copied().filter(served).collect() };
    let mut planned = Planned { age: service.age.clone(), ..Planned::default() };
    let places = service.cluster_ips.iter().copied().zip(0..);
    planned.cluster_ips.extend(places.filter(|(it, _)| served(it)));
    let outside = Outside {
        external: of_family(&service.external_ips),
        balancers: of_family(&service.balancer_ips),
        sources: sources(service, family, node),
    };
    for port in &service.ports {
        let from_outside =
            port.node_port.is_some() || !service.external_ips.is_empty() || !service.balancer_ips.is_empty();
        let all = slices.values().map(|slice| &**slice);
        let chosen = endpoints::choose(service, port, all, family, node, from_outside);
        let key = (port.name.clone(), port.protocol);
        let empty: [Arc<[Backend]>; 2] = [Arc::from([]), Arc::from([])];
        let [cluster, local] = before.get(&key).unwrap_or(&empty);
        let orders = [arrange(cluster, &chosen.cluster), arrange(local, &chosen.local)];
        planned.own.extend(chosen.own.iter().map(|backend| backend.ip()));
        planned.add_port(name, service, port, &chosen, &orders, &outside, node);
        planned.orders.insert(key, orders);
    }
    if service.cluster_ips.first().is_some_and(|first| Family::of(*first) == family) {
        planned.health = service.health_check_port.map(|port| (port, ready_here(slices, node)));
    }
    planned
}

/// How many addresses on this node are ready.
fn ready_here(slices: &BTreeMap<String, Arc<SliceFacts>>, node: &NodeFacts) -> usize {
    let endpoints = slices.values().flat_map(|slice| &slice.endpoints);
    let here = endpoints.filter(|it| it.ready && it.node.as_deref() == Some(node.name.as_str()));
    here.map(|it| it.address).collect::<BTreeSet<_>>().len()
}

/// What a service has beside its cluster IPs.
struct Outside {
    external: Vec<IpAddr>,
    balancers: Vec<IpAddr>,
    sources: Option<Arc<[Cidr]>>,
}

/// The clients that may use the load balancer's addresses. Where the node is one of them, packets of its own
/// that come from such an address are let through, too.
fn sources(service: &ServiceFacts, family: Family, node: &NodeFacts) -> Option<Arc<[Cidr]>> {
    let mut ranges: Vec<Cidr> =
        service.source_ranges.iter().copied().filter(|range| Family::of(range.address) == family).collect();
    if ranges.is_empty() {
        return None;
    }
    if node.address.is_some_and(|own| ranges.iter().any(|range| range.contains(own))) {
        let width = if family == Family::V4 { 32 } else { 128 };
        for address in service.balancer_ips.iter().filter(|address| Family::of(**address) == family) {
            if !ranges.iter().any(|range| range.contains(*address)) {
                ranges.push(Cidr { address: *address, prefix: width });
            }
        }
    }
    Some(ranges.into())
}

impl Planned {
    #[expect(clippy::too_many_arguments, reason = "it is the body of the loop in `plan`")]
    fn add_port(
        &mut self,
        name: &ServiceName,
        service: &ServiceFacts,
        port: &PortFacts,
        chosen: &Chosen,
        [cluster, local]: &[Arc<[Backend]>; 2],
        outside: &Outside,
        node: &NodeFacts,
    ) {
        let label = label(name, port);
        let target = |backends: &Arc<[Backend]>| match (chosen.exists, backends.is_empty()) {
            (false, _) => Target::Refuse,
            (true, true) => Target::Drop,
            (true, false) => Target::Backends(backends.clone()),
        };
        let mut add = |address: IpAddr, number: u16, is_external: bool, guarded: bool| {
            let key = FrontKey { address, protocol: port.protocol, port: number };
            if port.protocol == Protocol::Udp && !chosen.serving.is_empty() {
                self.flows.insert(key, chosen.serving.clone());
            }
            let internal = if service.internal_local { local } else { cluster };
            let local_only = is_external && service.external_local && chosen.exists;
            self.frontends.push(Arc::new(Frontend {
                key,
                label: label.clone(),
                is_external,
                target: target(if is_external { cluster } else { internal }),
                local_only: local_only.then(|| local.clone()),
                affinity: service.affinity,
                sources: outside.sources.clone().filter(|_| guarded),
            }));
        };
        for address in self.cluster_ips.keys() {
            add(*address, port.port, false, false);
        }
        for address in &outside.external {
            add(*address, port.port, true, false);
        }
        for address in &outside.balancers {
            add(*address, port.port, true, true);
        }
        if let Some(number) = port.node_port {
            for address in &node.node_port_addresses {
                add(*address, number, true, false);
            }
        }
        let none_here = chosen.exists && local.is_empty();
        self.without_local.0 |= none_here && service.internal_local;
        self.without_local.1 |= none_here && service.external_local;
    }
}

/// The kernel keeps 128 bytes.
const LONGEST_LABEL: usize = 120;

fn label(name: &ServiceName, port: &PortFacts) -> Arc<str> {
    let mut text = format!("{}/{}", name.0, name.1);
    if !port.name.is_empty() {
        text.push(':');
        text.push_str(&port.name);
    }
    // It is read by nft: nothing but what names of the API may hold.
    text.retain(|letter| letter.is_ascii_alphanumeric() || "-./:_".contains(letter));
    text.truncate(LONGEST_LABEL);
    text.into()
}

impl Frontend {
    /// The elements of the rule set that serve it.
    pub(crate) fn elements(&self) -> Vec<Element> {
        let mut all = Vec::new();
        let (front, sticky) = (Key::Front(self.key), self.affinity.is_some());
        let named =
            |set, value| Element { comment: Some(self.label.clone()), ..Element::new(set, front, value) };
        let mut kept: BTreeSet<Backend> = BTreeSet::new();
        match &self.target {
            Target::Refuse => all.push(named(Set::NoEndpoints, Value::Reject)),
            Target::Drop => all.push(named(Set::NoEndpoints, Value::Drop)),
            Target::Backends(backends) => {
                let count = backends.len() as u32;
                let masquerade_all = self.is_external && self.local_only.is_none();
                let chain = Chain::Pick { masquerade_all, sticky, count };
                all.push(named(Set::Services, Value::Goto(chain)));
                self.number(backends, 0, &mut all);
                kept.extend(backends.iter());
            }
        }
        if let Some(backends) = &self.local_only {
            let value = match backends.len() as u32 {
                0 => Value::Drop,
                count => Value::Goto(Chain::PickLocal { sticky, count }),
            };
            all.push(named(Set::LocalOnly, value));
            self.number(backends, LOCAL, &mut all);
            kept.extend(backends.iter());
        }
        // With IPv6 a hash of the client's address decides (see `rules`), so nothing is noted.
        let noted = self.affinity.filter(|_| !kept.is_empty() && self.key.address.is_ipv4());
        if let Some(seconds) = noted {
            all.push(Element::new(Set::Sticky, front, Value::Jump(Chain::Remember(seconds))));
            let backend = |it| Element::new(Set::StickyEndpoints, Key::Backend(self.key, it), Value::None);
            all.extend(kept.into_iter().map(backend));
        }
        if let Some(ranges) = &self.sources {
            all.push(Element::new(Set::Guarded, front, Value::None));
            let range = |it: &Cidr| Element::new(Set::Allowed, Key::Source(self.key, *it), Value::None);
            all.extend(ranges.iter().map(range));
        }
        all
    }

    fn number(&self, backends: &[Backend], first: u32, all: &mut Vec<Element>) {
        all.extend(backends.iter().zip(first..).map(|(backend, number)| {
            let set = Set::Endpoints(self.key.protocol);
            Element::new(set, Key::Numbered(self.key, number), Value::To(*backend))
        }));
    }
}
