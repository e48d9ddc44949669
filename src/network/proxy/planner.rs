//! All services together: who serves an address and port that several claim, what the rule set holds, and
//! what a change of some services changes in it. Pure.
//!
//! A cluster IP belongs to one service as a whole, its ports included that only others name: to the one that
//! has it as its first address, and among several to the oldest. Nobody else serves it, not as an external
//! address either. Of an external address each port belongs to the oldest service that names both. The API
//! server hands out no cluster IP twice, but external addresses are free to name, and data may come from
//! elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::facts::{
    Age, Backend, Family, FrontKey, NodeFacts, Protocol, ServiceFacts, ServiceName, SliceFacts,
};
use super::frontends::{self, Frontend, Planned};
use super::rules::{Chain, Element, Key, Set, Value};

/// What is known of a service: none if it is gone or not to be proxied.
pub(crate) type Known = (Option<Arc<ServiceFacts>>, BTreeMap<String, Arc<SliceFacts>>);

/// Who comes first: in the order in which they win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The address's place among the service's cluster IPs.
    place: usize,
    age: Age,
    service: ServiceName,
}

/// Who claims an address and port: whether as an external one, who, and the port's name.
type Claim = (bool, Rank, Arc<str>);

/// One address and all who claim it.
#[derive(Default)]
struct Address {
    /// Whose cluster IP it is; the first has it.
    owners: BTreeSet<Rank>,
    ports: HashMap<(Protocol, u16), BTreeMap<Claim, Arc<Frontend>>>,
}

impl Address {
    fn winner(&self, port: (Protocol, u16)) -> Option<(&Claim, &Arc<Frontend>)> {
        let mut claims = self.ports.get(&port)?.iter();
        match self.owners.first() {
            Some(owner) => claims.find(|((_, rank, _), _)| rank.service == owner.service),
            None => claims.next(),
        }
    }
}

pub(crate) struct Planner {
    family: Family,
    node: NodeFacts,
    services: BTreeMap<ServiceName, Planned>,
    /// Invariant: none is without an owner and a port.
    addresses: HashMap<IpAddr, Address>,
    /// How many services have an endpoint of the address here.
    own: HashMap<IpAddr, usize>,
}

/// What a change of services changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) remove: Vec<Element>,
    pub(crate) add: Vec<Element>,
    /// UDP frontends whose flows may lead to endpoints that are gone, with those that serve.
    pub(crate) flows: BTreeMap<FrontKey, BTreeSet<Backend>>,
}

impl Round {
    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    pub(crate) fn chains(&self) -> BTreeSet<Chain> {
        self.add.iter().filter_map(|element| element.value.chain()).collect()
    }
}

/// Who served an address and port: the service, and how.
type Winner = Option<(ServiceName, Arc<Frontend>)>;

/// What was there before the first service of a round was looked at.
#[derive(Default)]
struct Before {
    winners: HashMap<FrontKey, Winner>,
    cluster_ips: HashMap<IpAddr, bool>,
    own: HashMap<IpAddr, bool>,
}

impl Planner {
    pub(crate) fn new(family: Family, node: NodeFacts) -> Self {
        Planner { family, node, services: BTreeMap::new(), addresses: HashMap::new(), own: HashMap::new() }
    }

    /// The node has changed: every service is to be given again.
    pub(crate) fn set_node(&mut self, node: NodeFacts) {
        self.node = node;
    }

    /// Takes in what has become of some services.
    pub(crate) fn update(&mut self, changed: impl IntoIterator<Item = (ServiceName, Known)>) -> Round {
        let (mut before, mut round) = (Before::default(), Round::default());
        let mut stale: Vec<(ServiceName, FrontKey)> = Vec::new();
        for (name, (service, slices)) in changed {
            let old = self.services.remove(&name).unwrap_or_default();
            let new = service.map(|service| {
                frontends::plan(&name, &service, &slices, self.family, &self.node, &old.orders)
            });
            self.withdraw(&name, &old, &mut before);
            if let Some(new) = new {
                let gone = new.flows.iter().filter(|(key, serving)| {
                    old.flows.get(key).is_none_or(|before| !before.is_subset(serving))
                });
                stale.extend(gone.map(|(key, _)| (name.clone(), *key)));
                self.enter(&name, &new, &mut before);
                self.services.insert(name, new);
            }
        }
        // Flows follow the service that serves, whoever else names the address and port.
        for (name, key) in stale {
            if self.winner(&key).is_some_and(|((_, rank, _), _)| rank.service == name) {
                self.add_flows(&name, key, &mut round.flows);
            }
        }
        self.compare(before, &mut round);
        round
    }

    fn add_flows(
        &self,
        name: &ServiceName,
        key: FrontKey,
        flows: &mut BTreeMap<FrontKey, BTreeSet<Backend>>,
    ) {
        let serving = self.services.get(name).and_then(|planned| planned.flows.get(&key));
        flows.extend(serving.map(|serving| (key, serving.clone())));
    }

    fn withdraw(&mut self, name: &ServiceName, old: &Planned, before: &mut Before) {
        self.note(old, before);
        for (address, place) in &old.cluster_ips {
            if let Some(entry) = self.addresses.get_mut(address) {
                entry.owners.remove(&Rank::new(*place, old, name));
            }
        }
        for frontend in &old.frontends {
            let Some(entry) = self.addresses.get_mut(&frontend.key.address) else { continue };
            let port = port_of(&frontend.key);
            if let Some(claims) = entry.ports.get_mut(&port) {
                claims.remove(&claim(name, old, frontend));
                if claims.is_empty() {
                    entry.ports.remove(&port);
                }
            }
        }
        for address in old.cluster_ips.keys().chain(old.frontends.iter().map(|it| &it.key.address)) {
            if self.addresses.get(address).is_some_and(|it| it.owners.is_empty() && it.ports.is_empty()) {
                self.addresses.remove(address);
            }
        }
        count(&mut self.own, &old.own, &mut before.own, false);
    }

    fn enter(&mut self, name: &ServiceName, new: &Planned, before: &mut Before) {
        self.note(new, before);
        for (address, place) in &new.cluster_ips {
            self.addresses.entry(*address).or_default().owners.insert(Rank::new(*place, new, name));
        }
        for frontend in &new.frontends {
            let entry = self.addresses.entry(frontend.key.address).or_default();
            let claims = entry.ports.entry(port_of(&frontend.key)).or_default();
            claims.insert(claim(name, new, frontend), frontend.clone());
        }
        count(&mut self.own, &new.own, &mut before.own, true);
    }

    fn winner(&self, key: &FrontKey) -> Option<(&Claim, &Arc<Frontend>)> {
        self.addresses.get(&key.address)?.winner(port_of(key))
    }

    /// Notes who serves what this service claims: of its cluster IPs everything, since all of it may change
    /// hands.
    fn note(&self, planned: &Planned, before: &mut Before) {
        let mut note = |key: FrontKey| {
            let winner = || self.winner(&key).map(|((_, rank, _), it)| (rank.service.clone(), it.clone()));
            before.winners.entry(key).or_insert_with(winner);
        };
        planned.frontends.iter().for_each(|frontend| note(frontend.key));
        for address in planned.cluster_ips.keys() {
            let entry = self.addresses.get(address);
            for (protocol, port) in entry.iter().flat_map(|entry| entry.ports.keys()) {
                note(FrontKey { address: *address, protocol: *protocol, port: *port });
            }
            before
                .cluster_ips
                .entry(*address)
                .or_insert_with(|| entry.is_some_and(|it| !it.owners.is_empty()));
        }
    }

    fn compare(&self, before: Before, round: &mut Round) {
        let of = |frontend: Option<&Arc<Frontend>>| -> HashSet<Element> {
            frontend.map(|frontend| frontend.elements().into_iter().collect()).unwrap_or_default()
        };
        for (key, old) in &before.winners {
            let new = self.winner(key);
            if let Some(((_, rank, _), _)) = new
                && old.as_ref().is_some_and(|(service, _)| *service != rank.service)
            {
                self.add_flows(&rank.service, *key, &mut round.flows);
            }
            let (old, new) = (old.as_ref().map(|(_, frontend)| frontend), new.map(|(_, frontend)| frontend));
            if old == new {
                continue;
            }
            let (old, new) = (of(old), of(new));
            round.remove.extend(old.difference(&new).cloned());
            round.add.extend(new.difference(&old).cloned());
        }
        let mut presence =
            |was: HashMap<IpAddr, bool>, is: &dyn Fn(&IpAddr) -> bool, element: fn(IpAddr) -> Element| {
                for (address, had) in was {
                    match (had, is(&address)) {
                        (true, false) => round.remove.push(element(address)),
                        (false, true) => round.add.push(element(address)),
                        _ => {}
                    }
                }
            };
        presence(before.cluster_ips, &|it| self.is_cluster_ip(it), cluster_ip);
        presence(before.own, &|it| self.own.contains_key(it), hairpin);
        round.remove.sort();
        round.add.sort();
    }

    fn is_cluster_ip(&self, address: &IpAddr) -> bool {
        self.addresses.get(address).is_some_and(|entry| !entry.owners.is_empty())
    }

    /// Everything the rule set holds.
    pub(crate) fn elements(&self) -> Vec<Element> {
        let winners = self.addresses.values().flat_map(|entry| {
            entry.ports.keys().filter_map(|port| entry.winner(*port).map(|(_, frontend)| frontend))
        });
        let mut all: Vec<Element> = winners.flat_map(|frontend| frontend.elements()).collect();
        let cluster_ips = self.addresses.iter().filter(|(_, entry)| !entry.owners.is_empty());
        all.extend(cluster_ips.map(|(address, _)| cluster_ip(*address)));
        all.extend(self.own.keys().map(|address| hairpin(*address)));
        all.sort();
        all
    }

    /// All UDP flows that there may be, with the endpoints that serve.
    pub(crate) fn flows(&self) -> BTreeMap<FrontKey, BTreeSet<Backend>> {
        let all = self.services.iter().flat_map(|(name, it)| it.flows.iter().map(move |flow| (name, flow)));
        let served = all.filter(|(name, (key, _))| {
            self.winner(key).is_some_and(|((_, rank, _), _)| rank.service == **name)
        });
        served.map(|(_, (key, serving))| (*key, serving.clone())).collect()
    }

    /// By service, the port of its health check and how many addresses here are ready.
    pub(crate) fn health_checks(&self) -> BTreeMap<ServiceName, (u16, usize)> {
        let checks = self.services.iter().filter_map(|(name, planned)| Some((name.clone(), planned.health?)));
        checks.collect()
    }

    /// How many services have endpoints, but none that the internal, the external policy allows here.
    pub(crate) fn without_local(&self) -> (usize, usize) {
        let count = |which: fn(&(bool, bool)) -> bool| {
            self.services.values().filter(|planned| which(&planned.without_local)).count()
        };
        (count(|it| it.0), count(|it| it.1))
    }

    pub(crate) fn names(&self) -> Vec<ServiceName> {
        self.services.keys().cloned().collect()
    }
}

impl Rank {
    fn new(place: usize, planned: &Planned, service: &ServiceName) -> Self {
        Rank { place, age: planned.age.clone(), service: service.clone() }
    }
}

fn port_of(key: &FrontKey) -> (Protocol, u16) {
    (key.protocol, key.port)
}

fn claim(name: &ServiceName, planned: &Planned, frontend: &Frontend) -> Claim {
    let place = planned.cluster_ips.get(&frontend.key.address).filter(|_| !frontend.is_external);
    let rank = Rank::new(place.copied().unwrap_or(0), planned, name);
    (frontend.is_external, rank, frontend.label.clone())
}

fn cluster_ip(address: IpAddr) -> Element {
    Element::new(Set::ClusterIps, Key::Address(address), Value::None)
}

fn hairpin(address: IpAddr) -> Element {
    Element::new(Set::Hairpin, Key::Loop(address), Value::None)
}

fn count(
    counts: &mut HashMap<IpAddr, usize>,
    addresses: &BTreeSet<IpAddr>,
    before: &mut HashMap<IpAddr, bool>,
    more: bool,
) {
    for address in addresses {
        before.entry(*address).or_insert_with(|| counts.contains_key(address));
        let entry = counts.entry(*address).or_default();
        *entry = if more { *entry + 1 } else { entry.saturating_sub(1) };
        if *entry == 0 {
            counts.remove(address);
        }
    }
}
