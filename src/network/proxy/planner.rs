//! All services together: who serves an address and port that several claim, what the rule set holds, and
//! what a change of some services changes in it. Pure.
//!
//! A cluster IP's own service wins over others that name the address as external; among those the first by
//! name.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::facts::{Backend, Family, FrontKey, NodeFacts, ServiceFacts, ServiceName, SliceFacts};
use super::frontends::{self, Frontend, Planned};
use super::rules::{Chain, Element, Key, Set, Value};

/// What is known of a service: none if it is gone or not to be proxied.
pub(crate) type Known = (Option<Arc<ServiceFacts>>, BTreeMap<String, Arc<SliceFacts>>);

/// What claims an address and port: whether it is an external one, the service and the port's name.
type Claim = (bool, ServiceName, Arc<str>);

pub(crate) struct Planner {
    family: Family,
    node: NodeFacts,
    services: BTreeMap<ServiceName, Planned>,
    /// In the order in which they win.
    claims: HashMap<FrontKey, BTreeMap<Claim, Arc<Frontend>>>,
    /// How many services have the address.
    cluster_ips: HashMap<IpAddr, usize>,
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

/// What was there before the first service of a round was looked at.
#[derive(Default)]
struct Before {
    winners: HashMap<FrontKey, Option<Arc<Frontend>>>,
    cluster_ips: HashMap<IpAddr, bool>,
    own: HashMap<IpAddr, bool>,
}

impl Planner {
    pub(crate) fn new(family: Family, node: NodeFacts) -> Self {
        Planner {
            family,
            node,
            services: BTreeMap::new(),
            claims: HashMap::new(),
            cluster_ips: HashMap::new(),
            own: HashMap::new(),
        }
    }

    /// The node has changed: every service is to be given again.
    pub(crate) fn set_node(&mut self, node: NodeFacts) {
        self.node = node;
    }

    /// Takes in what has become of some services.
    pub(crate) fn update(&mut self, changed: impl IntoIterator<Item = (ServiceName, Known)>) -> Round {
        let (mut before, mut round) = (Before::default(), Round::default());
        for (name, (service, slices)) in changed {
            let old = self.services.remove(&name).unwrap_or_default();
            let new = service.map(|service| {
                frontends::plan(&name, &service, &slices, self.family, &self.node, &old.orders)
            });
            self.withdraw(&name, &old, &mut before);
            if let Some(new) = new {
                let stale = new.flows.iter().filter(|(key, serving)| {
                    old.flows.get(key).is_none_or(|before| !before.is_subset(serving))
                });
                round.flows.extend(stale.map(|(key, serving)| (*key, serving.clone())));
                self.enter(&name, &new, &mut before);
                self.services.insert(name, new);
            }
        }
        self.compare(before, &mut round);
        round
    }

    fn withdraw(&mut self, name: &ServiceName, old: &Planned, before: &mut Before) {
        for frontend in &old.frontends {
            self.note_winner(frontend.key, before);
            if let Some(claims) = self.claims.get_mut(&frontend.key) {
                claims.remove(&claim(name, frontend));
                if claims.is_empty() {
                    self.claims.remove(&frontend.key);
                }
            }
        }
        count(&mut self.cluster_ips, &old.cluster_ips, &mut before.cluster_ips, false);
        count(&mut self.own, &old.own, &mut before.own, false);
    }

    fn enter(&mut self, name: &ServiceName, new: &Planned, before: &mut Before) {
        for frontend in &new.frontends {
            self.note_winner(frontend.key, before);
            self.claims.entry(frontend.key).or_default().insert(claim(name, frontend), frontend.clone());
        }
        count(&mut self.cluster_ips, &new.cluster_ips, &mut before.cluster_ips, true);
        count(&mut self.own, &new.own, &mut before.own, true);
    }

    fn winner(&self, key: &FrontKey) -> Option<&Arc<Frontend>> {
        self.claims.get(key)?.values().next()
    }

    fn note_winner(&self, key: FrontKey, before: &mut Before) {
        before.winners.entry(key).or_insert_with(|| self.winner(&key).cloned());
    }

    fn compare(&self, before: Before, round: &mut Round) {
        let of = |frontend: Option<&Arc<Frontend>>| -> HashSet<Element> {
            frontend.map(|frontend| frontend.elements().into_iter().collect()).unwrap_or_default()
        };
        for (key, old) in &before.winners {
            let new = self.winner(key);
            if old.as_ref() == new {
                continue;
            }
            let (old, new) = (of(old.as_ref()), of(new));
            round.remove.extend(old.difference(&new).cloned());
            round.add.extend(new.difference(&old).cloned());
        }
        let mut presence =
            |was: HashMap<IpAddr, bool>, is: &HashMap<IpAddr, usize>, element: fn(IpAddr) -> Element| {
                for (address, had) in was {
                    match (had, is.contains_key(&address)) {
                        (true, false) => round.remove.push(element(address)),
                        (false, true) => round.add.push(element(address)),
                        _ => {}
                    }
                }
            };
        presence(before.cluster_ips, &self.cluster_ips, cluster_ip);
        presence(before.own, &self.own, hairpin);
        round.remove.sort();
        round.add.sort();
    }

    /// Everything the rule set holds.
    pub(crate) fn elements(&self) -> Vec<Element> {
        let winners = self.claims.values().filter_map(|claims| claims.values().next());
        let mut all: Vec<Element> = winners.flat_map(|frontend| frontend.elements()).collect();
        all.extend(self.cluster_ips.keys().map(|address| cluster_ip(*address)));
        all.extend(self.own.keys().map(|address| hairpin(*address)));
        all.sort();
        all
    }

    /// All UDP flows that there may be, with the endpoints that serve.
    pub(crate) fn flows(&self) -> BTreeMap<FrontKey, BTreeSet<Backend>> {
        self.services.values().flat_map(|planned| planned.flows.clone()).collect()
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

fn claim(name: &ServiceName, frontend: &Frontend) -> Claim {
    (frontend.is_external, name.clone(), frontend.label.clone())
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
