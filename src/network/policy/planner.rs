//! All policies together: which pods of this node share a profile, what each profile allows, and what a
//! change of objects changes in the rule set. Pure.
//!
//! A profile is what a set of policies comes to in one direction. It exists while a pod of this node has it;
//! policies that select no pod here cost nothing but their facts. Peers that are pods are kept as groups, one
//! for each selector, which know their members: a pod that comes or goes adds or takes elements of the
//! profiles that name its groups, and looks at no policy. [`profiles`] makes and drops both.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::boxes::{PortRange, Span};
use super::facts::{Block, Direction, Labels, ObjectName, PodFacts, PodSelector, PolicyFacts, Ports, Rule};
use super::rules::{Element, Key, Profile, Set};
use crate::proxy::facts::{Cidr, Protocol};

mod limits;
mod profiles;

/// Where addresses of pods can be, by their node.
pub(crate) type Ranges = BTreeMap<String, Vec<Cidr>>;

/// What has become of some objects: none if one is gone.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) policies: Vec<(ObjectName, Option<Arc<PolicyFacts>>)>,
    pub(crate) namespaces: Vec<(String, Option<Labels>)>,
    /// Of all nodes, if one has another.
    pub(crate) ranges: Option<Ranges>,
    pub(crate) pods: Vec<(ObjectName, Option<Arc<PodFacts>>)>,
}

/// What a change of objects changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) remove: Vec<Element>,
    pub(crate) add: Vec<Element>,
    /// Of which policies the rules have become too many, so that they allow nothing any more.
    pub(crate) too_large: Vec<String>,
}

/// Distinguishes policies, also from what they were before a change.
type PolicyId = u64;
type GroupId = u64;

/// Pods that peers of rules mean.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Members {
    Selected(PodSelector),
    /// Pods with an address in the block: for names of ports, which are the pods' own.
    Within(Block),
}

#[derive(Debug)]
struct Group {
    wanted: Members,
    members: HashSet<ObjectName>,
    users: HashSet<(Direction, Profile, Ports)>,
}

/// Key and value.
type Label = (String, String);

/// What makes a profile: the policies, and the numbers that names of ports have (of the pod itself, if
/// packets come in).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ProfileKey {
    direction: Direction,
    policies: Vec<PolicyId>,
    named: Vec<(Protocol, String, u16)>,
}

#[derive(Debug, Default)]
struct ProfileState {
    holders: usize,
    /// Groups it names, each with ports.
    groups: BTreeSet<(GroupId, Ports)>,
    /// Ranges of addresses that it allows whoever is there.
    fixed: Vec<(Span, PortRange)>,
    /// Elements of sets of ranges.
    ranges: BTreeSet<Element>,
}

#[derive(Debug)]
struct PodState {
    facts: Arc<PodFacts>,
    groups: HashSet<GroupId>,
    profiles: [Option<ProfileKey>; 2],
}

#[derive(Default)]
pub(crate) struct Planner {
    namespaces: HashMap<String, Labels>,
    /// Where addresses of pods of each node can be.
    ranges: Ranges,
    /// As the objects say.
    told: HashMap<ObjectName, Arc<PodFacts>>,
    claims: HashMap<IpAddr, Vec<ObjectName>>,
    /// With the addresses that they have.
    pods: HashMap<ObjectName, PodState>,
    /// Pods by namespace.
    of_namespace: HashMap<String, BTreeSet<String>>,
    policies: HashMap<String, BTreeMap<String, (PolicyId, Arc<PolicyFacts>)>>,
    groups: BTreeMap<GroupId, Group>,
    /// Groups by whom they are made of.
    named_groups: HashMap<String, GroupId>,
    /// Groups by a label that their members have, or none.
    labelled_groups: HashMap<Option<Label>, BTreeSet<GroupId>>,
    /// Pods by their labels; made when it is asked for, and only good while no pod changes.
    labelled_pods: Option<HashMap<Label, Vec<ObjectName>>>,
    profiles: BTreeMap<ProfileKey, (Profile, ProfileState)>,
    numbers: BTreeMap<(Direction, Profile), ProfileKey>,
    /// How many reasons there are for an element.
    elements: HashMap<Element, usize>,
    last_id: u64,
    /// What a round has touched: whether it was there before.
    touched: HashMap<Element, bool>,
    /// Profiles whose sets of ranges are to be made anew.
    stale: HashSet<(Direction, Profile)>,
    /// Profiles that would take too much and have nothing for that; those of this round.
    too_large: HashSet<(Direction, Profile)>,
    given_up: BTreeSet<(Direction, Profile)>,
    /// How many elements each profile has, and all of them.
    held: HashMap<(Direction, Profile), usize>,
    all_held: usize,
}

impl Planner {
    /// Addresses of the node itself that stand for a pod.
    pub(crate) fn set_on_node(&mut self, name: ObjectName, facts: PodFacts) -> Round {
        for address in facts.addresses.clone() {
            self.count(Element { set: Set::OnNode, key: Key::Address(address), profile: None }, true);
        }
        let pods = vec![(name, Some(Arc::new(facts)))];
        self.update(Changes { pods, ..Changes::default() })
    }

    /// Takes in what has become of objects.
    pub(crate) fn update(&mut self, changes: Changes) -> Round {
        let mut dirty: BTreeSet<ObjectName> = BTreeSet::new();
        let mut concerned: BTreeSet<String> = BTreeSet::new();
        for (name, facts) in changes.policies {
            self.set_policy(&name, facts);
            concerned.insert(name.0);
        }
        for (name, labels) in changes.namespaces {
            match labels {
                Some(labels) => self.namespaces.insert(name.clone(), labels),
                None => self.namespaces.remove(&name),
            };
            for pod in self.names_in(&name) {
                self.regroup(&pod);
            }
        }
        let mut claiming = changes.ranges.map(|ranges| self.set_ranges(ranges)).unwrap_or_default();
        claiming.extend(self.claim(changes.pods));
        for name in claiming {
            self.set_pod(&name, self.having(&name));
            dirty.insert(name);
        }
        dirty.extend(concerned.iter().flat_map(|namespace| self.names_in(namespace)));
        for name in &dirty {
            self.select(name);
        }
        self.labelled_pods = None;
        for (direction, profile) in std::mem::take(&mut self.stale) {
            self.refresh_ranges(direction, profile);
        }
        let too_large = self.clear_given_up();
        Round { too_large, ..self.finish() }
    }

    /// Everything that the rule set holds.
    pub(crate) fn elements(&self) -> impl Iterator<Item = &Element> {
        self.elements.keys()
    }

    /// A number that is greater than every profile's.
    pub(crate) fn profiles(&self) -> Profile {
        self.numbers.keys().map(|(_, number)| number + 1).max().unwrap_or(0)
    }

    fn finish(&mut self) -> Round {
        let mut round = Round::default();
        for (element, was) in std::mem::take(&mut self.touched) {
            match (was, self.elements.contains_key(&element)) {
                (true, false) => round.remove.push(element),
                (false, true) => round.add.push(element),
                _ => {}
            }
        }
        round.remove.sort_unstable();
        round.add.sort_unstable();
        round
    }

    fn names_in(&self, namespace: &str) -> Vec<ObjectName> {
        let names = self.of_namespace.get(namespace).into_iter().flatten();
        names.map(|name| (namespace.to_string(), name.clone())).collect()
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// One reason more or less for an element.
    fn count(&mut self, element: Element, more: bool) {
        let count = self.elements.get(&element).copied().unwrap_or(0);
        self.touched.entry(element).or_insert(count > 0);
        match if more { count + 1 } else { count.saturating_sub(1) } {
            0 => self.elements.remove(&element),
            count => self.elements.insert(element, count),
        };
    }

    fn set_policy(&mut self, name: &ObjectName, facts: Option<Arc<PolicyFacts>>) {
        let id = self.next_id();
        let of_namespace = self.policies.entry(name.0.clone()).or_default();
        match facts {
            Some(facts) => of_namespace.insert(name.1.clone(), (id, facts)),
            None => of_namespace.remove(&name.1),
        };
        if of_namespace.is_empty() {
            self.policies.remove(&name.0);
        }
    }

    /// Notes what pods say of themselves; all whose addresses may have changed by that.
    fn claim(&mut self, pods: Vec<(ObjectName, Option<Arc<PodFacts>>)>) -> BTreeSet<ObjectName> {
        let mut concerned = BTreeSet::new();
        for (name, facts) in pods {
            let now = facts.as_ref().map(|facts| facts.addresses.clone()).unwrap_or_default();
            let before = self.told.get(&name).map(|facts| facts.addresses.clone()).unwrap_or_default();
            let either = || before.iter().chain(&now);
            concerned.extend(either().filter_map(|address| self.owner(*address).cloned()));
            match facts {
                Some(facts) => self.told.insert(name.clone(), facts),
                None => self.told.remove(&name),
            };
            for address in before.iter().filter(|address| !now.contains(address)) {
                let Some(claims) = self.claims.get_mut(address) else { continue };
                claims.retain(|other| *other != name);
                if claims.is_empty() {
                    self.claims.remove(address);
                }
            }
            for address in now.iter().filter(|address| !before.contains(address)) {
                self.claims.entry(*address).or_default().push(name.clone());
            }
            concerned.extend(either().filter_map(|address| self.owner(*address).cloned()));
            concerned.insert(name);
        }
        concerned
    }

    /// Takes other ranges of nodes; all whose addresses may have changed by that.
    fn set_ranges(&mut self, ranges: Ranges) -> BTreeSet<ObjectName> {
        let before = std::mem::replace(&mut self.ranges, ranges);
        let moved =
            |facts: &PodFacts| !facts.is_local && before.get(&facts.node) != self.ranges.get(&facts.node);
        let moved: Vec<&ObjectName> =
            self.told.iter().filter(|(_, facts)| moved(facts)).map(|(name, _)| name).collect();
        let addresses = moved.iter().filter_map(|name| self.told.get(*name)).flat_map(|it| &it.addresses);
        let others = addresses.filter_map(|address| self.claims.get(address)).flatten();
        others.chain(moved.iter().copied()).cloned().collect()
    }

    /// Whose an address is: the last pod of this node that claimed it, or else of another one that can have
    /// it. A node writes what it likes into the status of its pods, so it counts within its range alone.
    fn owner(&self, address: IpAddr) -> Option<&ObjectName> {
        let claims = self.claims.get(&address)?;
        let mut found = None;
        for name in claims.iter().rev() {
            let Some(facts) = self.told.get(name) else { continue };
            if facts.is_local {
                return Some(name);
            }
            let ranges = self.ranges.get(&facts.node);
            if found.is_none() && ranges.is_some_and(|all| all.iter().any(|it| it.contains(address))) {
                found = Some(name);
            }
        }
        found
    }

    /// A pod with the addresses that are its own.
    fn having(&self, name: &ObjectName) -> Option<Arc<PodFacts>> {
        let told = self.told.get(name)?;
        let has = |address: &IpAddr| self.owner(*address) == Some(name);
        if told.addresses.iter().all(has) {
            return Some(told.clone());
        }
        let mut facts = PodFacts::clone(told);
        facts.addresses.retain(has);
        (!facts.addresses.is_empty()).then(|| Arc::new(facts))
    }

    fn set_pod(&mut self, name: &ObjectName, facts: Option<Arc<PodFacts>>) {
        let old = self.pods.get(name).map(|state| state.facts.clone());
        if old == facts {
            return;
        }
        let same_addresses = |old: &PodFacts, new: &PodFacts| {
            old.addresses == new.addresses && old.ports == new.ports && old.is_local == new.is_local
        };
        let is_other = match (&old, &facts) {
            (Some(old), Some(new)) => !same_addresses(old, new),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_other {
            self.forget_pod(name);
        }
        let Some(facts) = facts else { return };
        match self.pods.get_mut(name) {
            Some(state) => state.facts = facts,
            None => {
                let state = PodState { facts, groups: HashSet::new(), profiles: [None, None] };
                self.pods.insert(name.clone(), state);
                self.of_namespace.entry(name.0.clone()).or_default().insert(name.1.clone());
            }
        }
        self.regroup(name);
    }

    fn forget_pod(&mut self, name: &ObjectName) {
        let Some(state) = self.pods.get(name) else { return };
        let groups: Vec<GroupId> = state.groups.iter().copied().collect();
        for group in groups {
            self.leave(group, name);
        }
        self.hold(name, [None, None]);
        self.pods.remove(name);
        if let Some(names) = self.of_namespace.get_mut(&name.0) {
            names.remove(&name.1);
            if names.is_empty() {
                self.of_namespace.remove(&name.0);
            }
        }
    }

    fn is_member(&self, wanted: &Members, name: &ObjectName, facts: &PodFacts) -> bool {
        match wanted {
            Members::Selected(selector) => {
                selector.matches(&name.0, self.namespaces.get(&name.0), &facts.labels)
            }
            Members::Within(block) => facts.addresses.iter().any(|address| block.contains(*address)),
        }
    }

    /// Finds out anew of which groups a pod is a member.
    fn regroup(&mut self, name: &ObjectName) {
        let Some(state) = self.pods.get(name) else { return };
        let (facts, before) = (state.facts.clone(), state.groups.clone());
        let labels = facts.labels.iter().map(|(key, value)| Some((key.clone(), value.clone())));
        let candidates = labels.chain([None]).filter_map(|label| self.labelled_groups.get(&label)).flatten();
        let is_member = |id: &&GroupId| {
            self.groups.get(*id).is_some_and(|group| self.is_member(&group.wanted, name, &facts))
        };
        let now: HashSet<GroupId> = candidates.filter(is_member).copied().collect();
        for group in before.difference(&now) {
            self.leave(*group, name);
        }
        for group in now.difference(&before) {
            self.join(*group, name);
        }
    }

    fn join(&mut self, group: GroupId, name: &ObjectName) {
        self.member(group, name, true);
    }

    fn leave(&mut self, group: GroupId, name: &ObjectName) {
        self.member(group, name, false);
    }

    fn member(&mut self, id: GroupId, name: &ObjectName, joins: bool) {
        let (Some(group), Some(pod)) = (self.groups.get_mut(&id), self.pods.get_mut(name)) else { return };
        if joins {
            group.members.insert(name.clone());
            pod.groups.insert(id);
        } else {
            group.members.remove(name);
            pod.groups.remove(&id);
        }
        let (facts, users) = (pod.facts.clone(), group.users.clone());
        let block = group.wanted.block().cloned();
        for (direction, profile, ports) in users {
            self.allow(direction, profile, &ports, &facts, block.as_ref(), joins);
        }
    }

    /// Adds or takes what a profile has of a pod of a group.
    fn allow(
        &mut self,
        direction: Direction,
        profile: Profile,
        ports: &Ports,
        pod: &PodFacts,
        block: Option<&Block>,
        more: bool,
    ) {
        if self.is_too_large(direction, profile) {
            return;
        }
        let within = |address: &IpAddr| block.is_none_or(|block| block.contains(*address));
        // One that finds no port of the name is work, too.
        self.charge(direction, profile, pod.addresses.len(), more);
        for address in pod.addresses.iter().copied().filter(within) {
            let mut port = |protocol, number| {
                let key = Key::Port(profile, address, protocol, number);
                self.count(Element { set: Set::Ports(direction), key, profile: None }, more);
            };
            match ports {
                Ports::All => {
                    let key = Key::Peer(profile, address);
                    self.count(Element { set: Set::Peers(direction), key, profile: None }, more);
                }
                Ports::Range(protocol, first, last) if first == last => port(*protocol, *first),
                Ports::Range(..) => {
                    self.stale.insert((direction, profile));
                }
                Ports::Named(protocol, name) => {
                    pod.named(*protocol, name).for_each(|number| port(*protocol, number));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
