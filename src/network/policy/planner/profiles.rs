//! Profiles and the groups of pods that they name: how they are made, kept and dropped.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::limits::{self, MOST_RANGES};
use super::{Group, GroupId, Label, Members, Planner, PolicyId, ProfileKey, ProfileState};
use crate::policy::boxes::{self, PortRange};
use crate::policy::facts::{
    Block, DIRECTIONS, Direction, ObjectName, Peer, PodFacts, PodSelector, PolicyFacts, Ports, Rule, Scope,
};
use crate::policy::rules::{Element, Key, Profile, Set};
use crate::proxy::facts::{Family, Protocol};

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Planner {
    /// Finds out anew which policies select a pod of this node.
    pub(super) fn select(&mut self, name: &ObjectName) {
        let Some(facts) = self.pods.get(name).map(|state| state.facts.clone()).filter(|it| it.is_local)
        else {
            return;
        };
        let of_namespace = self.policies.get(&name.0);
        let selecting: Vec<(PolicyId, Arc<PolicyFacts>)> = of_namespace
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|(_, policy)| policy.pods.matches(&facts.labels))
            .cloned()
            .collect();
        let keys = DIRECTIONS.map(|direction| profile_key(direction, &selecting, &facts));
        for key in keys.iter().flatten().filter(|key| !self.profiles.contains_key(*key)).collect::<Vec<_>>() {
            let policies: Vec<Arc<PolicyFacts>> =
                selecting.iter().map(|(_, policy)| policy.clone()).collect();
            self.make_profile(key.clone(), &policies);
        }
        self.hold(name, keys);
    }

    /// Gives a pod its profiles and takes those away that it had. They must be there.
    pub(super) fn hold(&mut self, name: &ObjectName, keys: [Option<ProfileKey>; 2]) {
        let Some(pod) = self.pods.get_mut(name) else { return };
        let before = std::mem::replace(&mut pod.profiles, keys.clone());
        if before == keys {
            return;
        }
        let addresses = pod.facts.addresses.clone();
        for (keys, more) in [(&keys, true), (&before, false)] {
            for address in &addresses {
                if keys.iter().any(Option::is_some) {
                    let key = Key::Twice(*address);
                    self.count(Element { set: Set::Selves, key, profile: None }, more);
                }
                for key in keys.iter().flatten() {
                    let Some((profile, _)) = self.profiles.get(key) else { continue };
                    let (set, profile) = (Set::Pods(key.direction), Some(*profile));
                    self.count(Element { set, key: Key::Address(*address), profile }, more);
                }
            }
            for key in keys.iter().flatten() {
                if let Some((_, state)) = self.profiles.get_mut(key) {
                    state.holders = if more { state.holders + 1 } else { state.holders.saturating_sub(1) };
                }
            }
        }
        for key in before.into_iter().flatten() {
            if self.profiles.get(&key).is_some_and(|(_, state)| state.holders == 0) {
                self.drop_profile(&key);
            }
        }
    }

    fn make_profile(&mut self, key: ProfileKey, policies: &[Arc<PolicyFacts>]) {
        let direction = key.direction;
        let taken = |number: &Profile| self.numbers.contains_key(&(direction, *number));
        let Some(number) = (0..).find(|number| !taken(number)) else { return };
        self.numbers.insert((direction, number), key.clone());
        let rules: Vec<(&Rule, Vec<Ports>)> = policies
            .iter()
            .filter_map(|policy| policy.rules(direction))
            .flat_map(|all| all.iter())
            .map(|rule| (rule, ports_of(rule, &key)))
            .collect();
        let cost = rules.iter().map(|(rule, ports)| limits::cost(rule, ports));
        let mut state = ProfileState::default();
        if cost.fold(0, usize::saturating_add) > MOST_RANGES {
            self.give_up(direction, number);
        } else {
            for (rule, ports) in rules {
                rule.peers.iter().for_each(|peer| self.add_peer(peer, &ports, &mut state));
            }
        }
        let groups = state.groups.clone();
        self.profiles.insert(key, (number, state));
        for (id, ports) in groups {
            self.use_group(id, (direction, number, ports), true);
        }
        self.stale.insert((direction, number));
    }

    fn add_peer(&mut self, peer: &Peer, all_ports: &[Ports], state: &mut ProfileState) {
        // A group is kept while somebody names it with ports.
        if all_ports.is_empty() {
            return;
        }
        let (mut named, mut ranges): (Vec<&Ports>, Vec<PortRange>) = (Vec::new(), Vec::new());
        for ports in all_ports {
            match ports {
                Ports::All => ranges.push(None),
                Ports::Range(protocol, first, last) => ranges.push(Some((*protocol, *first, *last))),
                Ports::Named(..) => named.push(ports),
            }
        }
        let members = match peer {
            Peer::Pods(selector) => {
                let id = self.group(Members::Selected(selector.clone()));
                state.groups.extend(all_ports.iter().map(|ports| (id, ports.clone())));
                return;
            }
            Peer::Anybody => {
                let whole = FAMILIES.map(boxes::whole);
                state.fixed.extend(whole.iter().flat_map(|span| ranges.iter().map(|it| (*span, *it))));
                Members::Selected(PodSelector::everything())
            }
            Peer::Block(block) => {
                let spans = boxes::without_holes(block);
                state.fixed.extend(spans.iter().flat_map(|span| ranges.iter().map(|it| (*span, *it))));
                Members::Within(block.clone())
            }
        };
        // Names are those of ports of the pods that are meant.
        if !named.is_empty() {
            let id = self.group(members);
            state.groups.extend(named.into_iter().map(|ports| (id, ports.clone())));
        }
    }

    /// The group with these members, made if there is none.
    fn group(&mut self, wanted: Members) -> GroupId {
        let named = format!("{wanted:?}");
        if let Some(id) = self.named_groups.get(&named) {
            return *id;
        }
        let id = self.next_id();
        self.named_groups.insert(named, id);
        let label = wanted.label();
        self.labelled_groups.entry(label.clone()).or_default().insert(id);
        let names: Vec<ObjectName> = match (wanted.namespace(), label) {
            (_, Some(label)) => self.pods_with(&label),
            (Some(namespace), None) => self.names_in(namespace),
            (None, None) => self.pods.keys().cloned().collect(),
        };
        let members: Vec<ObjectName> = names
            .into_iter()
            .filter(|name| self.pods.get(name).is_some_and(|pod| self.is_member(&wanted, name, &pod.facts)))
            .collect();
        self.groups.insert(id, Group { wanted, members: HashSet::new(), users: HashSet::new() });
        for name in members {
            self.join(id, &name);
        }
        id
    }

    fn pods_with(&mut self, label: &Label) -> Vec<ObjectName> {
        let pods = &self.pods;
        let labelled = self.labelled_pods.get_or_insert_with(|| {
            let mut all: HashMap<Label, Vec<ObjectName>> = HashMap::new();
            for (name, pod) in pods {
                for (key, value) in &pod.facts.labels {
                    all.entry((key.clone(), value.clone())).or_default().push(name.clone());
                }
            }
            all
        });
        labelled.get(label).cloned().unwrap_or_default()
    }

    /// A profile begins or ends to name a group. Nobody names it any more: it is forgotten.
    pub(super) fn use_group(&mut self, id: GroupId, user: (Direction, Profile, Ports), begins: bool) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let changed = if begins { group.users.insert(user.clone()) } else { group.users.remove(&user) };
        if !changed {
            return;
        }
        let unused = group.users.is_empty();
        if self.too_large.contains(&(user.0, user.1)) && !unused {
            return;
        }
        let (members, block) = (group.members.clone(), group.wanted.block().cloned());
        for name in &members {
            let Some(facts) = self.pods.get(name).map(|pod| pod.facts.clone()) else { continue };
            self.allow(user.0, user.1, &user.2, &facts, block.as_ref(), begins);
        }
        if unused {
            if let Some(group) = self.groups.remove(&id) {
                self.named_groups.remove(&format!("{:?}", group.wanted));
                let label = group.wanted.label();
                if let Some(groups) = self.labelled_groups.get_mut(&label) {
                    groups.remove(&id);
                    if groups.is_empty() {
                        self.labelled_groups.remove(&label);
                    }
                }
            }
            for name in &members {
                if let Some(pod) = self.pods.get_mut(name) {
                    pod.groups.remove(&id);
                }
            }
        }
    }

    fn drop_profile(&mut self, key: &ProfileKey) {
        let Some((number, state)) = self.profiles.remove(key) else { return };
        for (id, ports) in state.groups {
            self.use_group(id, (key.direction, number, ports), false);
        }
        for element in state.ranges {
            self.count(element, false);
        }
        if self.too_large.remove(&(key.direction, number)) {
            self.given_up.remove(&(key.direction, number));
            self.forget_elements(key.direction, number);
        }
        let held = self.held.remove(&(key.direction, number)).unwrap_or_default();
        self.all_held = self.all_held.saturating_sub(held);
        self.numbers.remove(&(key.direction, number));
        self.stale.remove(&(key.direction, number));
    }

    /// Makes what a profile has in sets of ranges anew.
    pub(super) fn refresh_ranges(&mut self, direction: Direction, number: Profile) {
        let Some(key) = self.numbers.get(&(direction, number)).cloned() else { return };
        let Some((_, state)) = self.profiles.get(&key) else { return };
        if self.too_large.contains(&(direction, number)) {
            return;
        }
        let mut all = state.fixed.clone();
        for (id, ports) in &state.groups {
            let Ports::Range(protocol, first, last) = *ports else { continue };
            if first == last {
                continue;
            }
            let members = self.groups.get(id).into_iter().flat_map(|group| &group.members);
            let pods = members.filter_map(|name| self.pods.get(name));
            let addresses = pods.flat_map(|pod| pod.facts.addresses.iter().copied());
            all.extend(addresses.map(|address| ((address, address), Some((protocol, first, last)))));
            if all.len() > MOST_RANGES {
                return self.give_up(direction, number);
            }
        }
        let mut now: BTreeSet<Element> = BTreeSet::new();
        for family in FAMILIES {
            let Some(pieces) = boxes::disjoint(family, all.iter().copied(), MOST_RANGES) else {
                return self.give_up(direction, number);
            };
            for ((first, last), ports) in pieces {
                now.extend(ports.into_iter().map(|ports| match ports {
                    None => {
                        let key = Key::Block(number, first, last);
                        Element { set: Set::Blocks(direction), key, profile: None }
                    }
                    Some((protocol, low, high)) => {
                        let key = Key::Range(number, first, last, protocol, low, high);
                        Element { set: Set::Ranges(direction), key, profile: None }
                    }
                }));
            }
        }
        let Some((_, state)) = self.profiles.get_mut(&key) else { return };
        let before = std::mem::take(&mut state.ranges);
        for element in before.difference(&now) {
            self.count(*element, false);
        }
        for element in now.difference(&before) {
            self.count(*element, true);
        }
        self.charge(direction, number, before.len(), false);
        self.charge(direction, number, now.len(), true);
        if let Some((_, state)) = self.profiles.get_mut(&key) {
            state.ranges = now;
        }
    }
}

impl Members {
    fn namespace(&self) -> Option<&str> {
        match self {
            Members::Selected(PodSelector { scope: Scope::Namespace(name), .. }) => Some(name),
            _ => None,
        }
    }

    fn label(&self) -> Option<Label> {
        match self {
            Members::Selected(selector) => selector.label.clone(),
            Members::Within(_) => None,
        }
    }

    pub(super) fn block(&self) -> Option<&Block> {
        match self {
            Members::Within(block) => Some(block),
            Members::Selected(_) => None,
        }
    }
}

/// The profile of a pod that these policies select; none if they say nothing of the direction.
fn profile_key(
    direction: Direction,
    selecting: &[(PolicyId, Arc<PolicyFacts>)],
    pod: &PodFacts,
) -> Option<ProfileKey> {
    let concerned = || selecting.iter().filter(|(_, policy)| policy.rules(direction).is_some());
    let mut policies: Vec<PolicyId> = concerned().map(|(id, _)| *id).collect();
    if policies.is_empty() {
        return None;
    }
    policies.sort_unstable();
    let mut named: Vec<(Protocol, String, u16)> = Vec::new();
    if direction == Direction::Ingress {
        let rules = concerned().filter_map(|(_, policy)| policy.rules(direction)).flat_map(|it| it.iter());
        // A name that policies say often counts once.
        let ports: BTreeSet<&Ports> = rules.flat_map(|rule| &rule.ports).collect();
        let own = pod.ports.iter().map(|it| (it.protocol, it.name.clone(), it.port));
        named.extend(own.filter(|it| ports.contains(&Ports::Named(it.0, it.1.clone()))));
    }
    named.sort();
    named.dedup();
    Some(ProfileKey { direction, policies, named })
}

/// The ports of a rule, each once. What comes in finds names among the pod's own ports.
fn ports_of(rule: &Rule, key: &ProfileKey) -> Vec<Ports> {
    let all: BTreeSet<&Ports> = rule.ports.iter().collect();
    let resolves = key.direction == Direction::Ingress;
    let kept = all.iter().filter(|it| !resolves || !matches!(it, Ports::Named(..)));
    let named = key.named.iter().filter(|it| resolves && all.contains(&Ports::Named(it.0, it.1.clone())));
    let named = named.map(|it| Ports::Range(it.0, it.2, it.2));
    kept.map(|it| Ports::clone(it)).chain(named).collect::<BTreeSet<Ports>>().into_iter().collect()
}
