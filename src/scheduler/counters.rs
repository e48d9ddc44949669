//! How many pods there are by topology domain: kept up to date with every pod, so that spread constraints and
//! pod affinity cost the same however many pods a cluster has.
//!
//! A *counter* counts, by the value of one topology label, either the pods that match something (an incoming
//! pod's constraint or term) or the pods that own a term (existing pods' anti-affinity and preferences, which
//! count for incoming pods that match the term). Pods fall into *classes* of equal namespace and labels:
//! whether a class and a counter match is decided once. Counters of the first sort are made when first asked
//! for, and the ones not used for longest are dropped. Of owned terms there are only so many (`room`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::node::NodeInfo;
use crate::pod::{Key, Labels, PodInfo, Spread, Term};
use crate::weight::MOST_TERMS;
pub(crate) use counter::{Counted, Role};
use counter::{Counter, What, shifted};
use digest::Digest;
pub(crate) use room::crowded;
#[cfg(test)]
pub(crate) use room::{MOST_OWNED, SHARES};
use room::{OwnedIndex, Room};
pub(crate) use topology::NOWHERE;
use topology::{Eligibility, Topology, Values};

mod counter;
mod digest;
mod room;
mod topology;

/// Counters of matching pods that are kept, and about how many bytes their words may take.
const KEPT: usize = 1024;
const KEPT_BYTES: usize = 32 << 20;
/// One pod asks for no more counters than that in a row; a few times over, for it may be compared again.
const IN_USE: u64 = 2 * MOST_TERMS as u64;
/// What a counter takes beside its words.
const COUNTER_BYTES: usize = 512;

/// Pods of equal namespace and labels.
struct Class {
    namespace: String,
    labels: Labels,
    terminating: bool,
    on_node: HashMap<u32, u32>,
    /// Counters of matching pods that count this class.
    counted_by: Vec<u32>,
    /// Counters of owned terms that match this class.
    matched_by: Vec<u32>,
}

type ClassKey = (String, Labels, bool);

#[derive(Default)]
pub(crate) struct Counters {
    slots: Vec<Option<Counter>>,
    free: Vec<u32>,
    /// By the digest of what they count: texts of many terms are not kept.
    by_words: HashMap<u128, u32>,
    topologies: Vec<Option<Topology>>,
    free_topologies: Vec<u32>,
    /// By the digest of topology key and eligibility.
    by_place: HashMap<u128, u32>,
    classes: Vec<Option<Class>>,
    free_classes: Vec<u32>,
    by_labels: HashMap<Arc<ClassKey>, u32>,
    /// Classes of each namespace; no empty sets.
    by_namespace: HashMap<String, HashSet<u32>>,
    index: OwnedIndex,
    values: Values,
    namespaces: HashMap<String, Labels>,
    clock: u64,
    /// Counters of matching pods, and the bytes of their words.
    matching: HashSet<u32>,
    matching_bytes: usize,
    room: Room,
    /// Pods on nodes whose terms do not count, for want of room.
    crowded_out: HashSet<Key>,
    digest: Digest,
}

/// A term that a pod owns, by the digest of its words, and their bytes.
struct Owned<'a> {
    words: u128,
    bytes: usize,
    term: &'a Term,
    role: Role,
}

static NO_LABELS: Labels = Labels::new();

impl Counters {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Terms that pods on nodes own.
    #[cfg(test)]
    pub(crate) fn owned_terms(&self) -> usize {
        let owned = |counter: &&Counter| matches!(counter.what, What::Owning(..));
        self.slots.iter().flatten().filter(owned).count()
    }

    pub(crate) fn get(&self, id: u32) -> Option<Counted<'_>> {
        let counter = self.slots.get(id as usize)?.as_ref()?;
        let topology = self.topologies.get(counter.topology as usize)?.as_ref()?;
        Some(Counted { counter, topology })
    }

    fn topology(&mut self, nodes: &[NodeInfo], key: &str, eligibility: Eligibility) -> u32 {
        let words = self.digest.of(&format!("{key}|{eligibility:?}"));
        let id = match self.by_place.get(&words) {
            Some(id) => *id,
            None => {
                let new = Topology::new(key, eligibility, nodes, &mut self.values);
                let id = self.free_topologies.pop().unwrap_or_else(|| {
                    self.topologies.push(None);
                    self.topologies.len() as u32 - 1
                });
                self.topologies[id as usize] = Some(new);
                self.by_place.insert(words, id);
                id
            }
        };
        if let Some(topology) = self.topologies[id as usize].as_mut() {
            topology.users += 1;
        }
        id
    }

    /// Lets go of topologies that no counter uses.
    fn release_topologies(&mut self, counters: impl IntoIterator<Item = Counter>) {
        let mut unused = false;
        for counter in counters {
            let Some(topology) = self.topologies[counter.topology as usize].as_mut() else { continue };
            topology.users -= 1;
            if topology.users == 0 {
                self.topologies[counter.topology as usize] = None;
                self.free_topologies.push(counter.topology);
                unused = true;
            }
        }
        if unused {
            let topologies = &self.topologies;
            self.by_place.retain(|_, id| topologies[*id as usize].is_some());
        }
    }

    /// The counter for a spread constraint of a pod. `keys` are the topology keys of all its constraints of
    /// that sort.
    pub(crate) fn spread(
        &mut self,
        nodes: &[NodeInfo],
        pod: &PodInfo,
        spread: &Spread,
        keys: &[String],
    ) -> u32 {
        let required =
            spread.honor_affinity.then(|| pod.requirements.required.clone()).filter(|one| !one.is_empty());
        let tolerations = spread.honor_taints.then(|| pod.requirements.tolerations.clone());
        let eligibility = Eligibility { required, tolerations, keys: keys.to_vec() };
        let (nothing, selector) = (spread.selector.nothing, &spread.selector);
        let namespace = pod.namespace();
        let words = format!("s|{namespace}|{nothing}{selector}|{}|{eligibility:?}", spread.topology_key);
        let what = || What::Spread(namespace.to_string(), spread.selector.clone());
        self.obtain(nodes, &words, &spread.topology_key, eligibility, what)
    }

    /// The counter of pods that match all the terms, by the topology of `key`.
    pub(crate) fn matching(&mut self, nodes: &[NodeInfo], terms: &Arc<[Term]>, key: &str) -> u32 {
        let mut words = format!("m|{key}");
        for term in terms.iter() {
            words.push('|');
            words.push_str(&term.words());
        }
        self.obtain(nodes, &words, key, Eligibility::default(), || What::Matching(terms.clone()))
    }

    fn obtain(
        &mut self,
        nodes: &[NodeInfo],
        words: &str,
        key: &str,
        eligibility: Eligibility,
        what: impl FnOnce() -> What,
    ) -> u32 {
        self.clock += 1;
        let bytes = COUNTER_BYTES + 2 * words.len();
        let words = self.digest.of(words);
        if let Some(id) = self.by_words.get(&words) {
            let id = *id;
            if let Some(counter) = &mut self.slots[id as usize] {
                counter.used = self.clock;
            }
            return id;
        }
        let is_full = |own: &Self| own.matching.len() >= KEPT || own.matching_bytes + bytes > KEPT_BYTES;
        while is_full(self) && self.forget_oldest() {}
        self.matching_bytes += bytes;
        let topology = self.topology(nodes, key, eligibility);
        let id = self.insert(words, Counter::new(what(), topology, self.clock, bytes));
        self.matching.insert(id);
        for at in 0..self.classes.len() {
            self.relate(at as u32, id);
        }
        id
    }

    fn insert(&mut self, words: u128, counter: Counter) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[id as usize] = Some(counter);
        self.by_words.insert(words, id);
        id
    }

    /// Drops the half of the counters of matching pods that were not used for longest; never those of the pod
    /// that is being placed. The answer is whether there were any.
    fn forget_oldest(&mut self) -> bool {
        let now = self.clock;
        let is_old =
            |counter: &Counter| !matches!(counter.what, What::Owning(..)) && counter.used + IN_USE <= now;
        let mut ages: Vec<u64> =
            self.slots.iter().flatten().filter(|one| is_old(one)).map(|one| one.used).collect();
        if ages.is_empty() {
            return false;
        }
        let middle = ages.len() / 2;
        let median = *ages.select_nth_unstable(middle).1;
        self.drop_where(|counter| is_old(counter) && counter.used <= median);
        true
    }

    /// Drops counters of matching pods.
    fn drop_where(&mut self, gone: impl Fn(&Counter) -> bool) {
        let mut dropped = Vec::new();
        for (id, slot) in self.slots.iter_mut().enumerate() {
            if let Some(counter) = slot.take_if(|counter| gone(counter)) {
                self.matching.remove(&(id as u32));
                self.matching_bytes -= counter.bytes;
                self.free.push(id as u32);
                dropped.push(counter);
            }
        }
        self.release_topologies(dropped);
        let slots = &self.slots;
        let lives = |id: &u32| slots[*id as usize].is_some();
        self.by_words.retain(|_, id| lives(id));
        for class in self.classes.iter_mut().flatten() {
            class.counted_by.retain(lives);
            class.matched_by.retain(lives);
        }
    }

    /// Decides whether a class and a counter match, and counts the class's pods if so.
    fn relate(&mut self, class_id: u32, id: u32) {
        let Some(class) = self.classes[class_id as usize].as_mut() else { return };
        let Some(counter) = self.slots[id as usize].as_mut() else { return };
        let namespace_labels = self.namespaces.get(&class.namespace).unwrap_or(&NO_LABELS);
        let term_matches = |term: &Term| term.matches(&class.namespace, namespace_labels, &class.labels);
        let (matches, owned) = match &counter.what {
            What::Spread(namespace, selector) => {
                let here = !class.terminating && *namespace == class.namespace;
                (here && selector.matches(&class.labels), false)
            }
            What::Matching(terms) => (terms.iter().all(term_matches), false),
            What::Owning(term, ..) => (term_matches(term), true),
        };
        if !matches {
            return;
        }
        if owned {
            class.matched_by.push(id);
            return;
        }
        class.counted_by.push(id);
        let Some(topology) = self.topologies[counter.topology as usize].as_ref() else { return };
        for (node, count) in &class.on_node {
            counter.add(*node, topology.domain(*node), i64::from(*count));
        }
    }

    fn class(&mut self, pod: &PodInfo) -> u32 {
        let key = (pod.namespace().to_string(), pod.labels.clone(), pod.terminating);
        if let Some(id) = self.by_labels.get(&key) {
            return *id;
        }
        if self.by_labels.len() > 64 && self.by_labels.len().is_power_of_two() {
            self.forget_empty_classes();
        }
        let key = Arc::new(key);
        let class = Class {
            namespace: key.0.clone(),
            labels: key.1.clone(),
            terminating: key.2,
            on_node: HashMap::new(),
            counted_by: Vec::new(),
            matched_by: Vec::new(),
        };
        let id = self.free_classes.pop().unwrap_or_else(|| {
            self.classes.push(None);
            self.classes.len() as u32 - 1
        });
        self.by_namespace.entry(class.namespace.clone()).or_default().insert(id);
        self.classes[id as usize] = Some(class);
        self.by_labels.insert(key, id);
        let counters = self.matching.iter().copied().chain(self.index.of(pod.namespace()));
        for counter in counters.collect::<Vec<u32>>() {
            self.relate(id, counter);
        }
        id
    }

    fn forget_empty_classes(&mut self) {
        let (classes, free) = (&mut self.classes, &mut self.free_classes);
        let by_namespace = &mut self.by_namespace;
        self.by_labels.retain(|_, id| {
            let keep = classes[*id as usize].as_ref().is_some_and(|class| !class.on_node.is_empty());
            if !keep && let Some(gone) = classes[*id as usize].take() {
                free.push(*id);
                if let Some(others) = by_namespace.get_mut(&gone.namespace) {
                    others.remove(id);
                    if others.is_empty() {
                        by_namespace.remove(&gone.namespace);
                    }
                }
            }
            keep
        });
    }

    /// The classes that a term may match.
    fn classes_for(&self, term: &Term) -> Vec<u32> {
        if term.namespace_selector.is_some() {
            return (0..self.classes.len() as u32).collect();
        }
        let named: HashSet<&String> = term.namespaces.iter().collect();
        named.into_iter().filter_map(|one| self.by_namespace.get(one)).flatten().copied().collect()
    }

    pub(crate) fn namespace_labels(&self, namespace: &str) -> &Labels {
        self.namespaces.get(namespace).unwrap_or(&NO_LABELS)
    }

    /// The pod would satisfy its own required affinity.
    pub(crate) fn matches_itself(&self, pod: &PodInfo) -> bool {
        let namespace_labels = self.namespaces.get(pod.namespace()).unwrap_or(&NO_LABELS);
        pod.affinity.iter().all(|term| term.matches(pod.namespace(), namespace_labels, &pod.labels))
    }

    /// Counters of owned terms that match an incoming pod.
    pub(crate) fn matched_by(&mut self, pod: &PodInfo) -> Vec<(u32, Role)> {
        let class = self.class(pod);
        let Some(class) = &self.classes[class as usize] else { return Vec::new() };
        let role = |id: &u32| match &self.slots[*id as usize].as_ref()?.what {
            What::Owning(_, role, _) => Some((*id, *role)),
            _ => None,
        };
        class.matched_by.iter().filter_map(role).collect()
    }

    /// Counts a pod that is on the node now (`sign` 1) or is no more (-1).
    pub(crate) fn count(&mut self, nodes: &[NodeInfo], node: u32, pod: &PodInfo, sign: i64) {
        let class_id = self.class(pod);
        if let Some(class) = self.classes[class_id as usize].as_mut() {
            let own = class.on_node.entry(node).or_insert(0);
            *own = shifted(*own, sign);
            if *own == 0 {
                class.on_node.remove(&node);
            }
            for id in &class.counted_by {
                let Some(counter) = self.slots[*id as usize].as_mut() else { continue };
                let topology = self.topologies[counter.topology as usize].as_ref();
                counter.add(node, topology.map_or(NOWHERE, |topology| topology.domain(node)), sign);
            }
        }
        let owned = self.owned(pod);
        if owned.is_empty() {
            return;
        }
        if sign > 0 && !self.fits(pod.namespace(), &owned) {
            if self.crowded_out.is_empty() {
                let (namespace, name) = &pod.key;
                tracing::warn!(%namespace, %name, "there is no room for the affinity terms of a bound pod: they do not count");
            }
            self.crowded_out.insert(pod.key.clone());
            return;
        }
        if sign < 0 && self.crowded_out.remove(&pod.key) {
            return;
        }
        for one in &owned {
            self.own(nodes, node, pod.namespace(), one, sign);
        }
    }

    /// The terms of a pod that count for others.
    fn owned<'a>(&self, pod: &'a PodInfo) -> Vec<Owned<'a>> {
        let apart = pod.anti_affinity.iter().map(|term| (term, Role::Repels));
        // Upstream's hardPodAffinityWeight: a required affinity also draws the pods it wants, weakly.
        let together = pod.affinity.iter().map(|term| (term, Role::Draws(1)));
        let preferred = pod.preferred.iter().map(|(weight, term)| (term, Role::Draws(*weight)));
        let owned = apart.chain(together).chain(preferred).map(|(term, role)| {
            let words = format!("o|{role:?}|{}", term.words());
            Owned { words: self.digest.of(&words), bytes: COUNTER_BYTES + 2 * words.len(), term, role }
        });
        owned.collect()
    }

    /// Whether there is room for the terms of a pod.
    pub(crate) fn has_room(&self, pod: &PodInfo) -> bool {
        let terms = pod.anti_affinity.len() + pod.affinity.len() + pod.preferred.len();
        terms == 0 || self.fits(pod.namespace(), &self.owned(pod))
    }

    fn fits(&self, namespace: &str, owned: &[Owned<'_>]) -> bool {
        let new = owned.iter().filter(|one| !self.by_words.contains_key(&one.words));
        let (terms, bytes) = new.fold((0, 0), |(terms, bytes), one| (terms + 1, bytes + one.bytes));
        terms == 0 || self.room.fits(namespace, terms, bytes)
    }

    fn own(&mut self, nodes: &[NodeInfo], node: u32, namespace: &str, owned: &Owned<'_>, sign: i64) {
        let id = match self.by_words.get(&owned.words) {
            Some(id) => *id,
            None => {
                let what = What::Owning(owned.term.clone(), owned.role, namespace.to_string());
                let topology = self.topology(nodes, &owned.term.topology_key, Eligibility::default());
                self.room.take(namespace, owned.bytes);
                let id = self.insert(owned.words, Counter::new(what, topology, self.clock, owned.bytes));
                self.index.insert(owned.term, id);
                for class in self.classes_for(owned.term) {
                    self.relate(class, id);
                }
                id
            }
        };
        let slot = &mut self.slots[id as usize];
        if let Some(counter) = slot {
            let topology = self.topologies[counter.topology as usize].as_ref();
            counter.add(node, topology.map_or(NOWHERE, |topology| topology.domain(node)), sign);
        }
        let Some(gone) = slot.take_if(|counter| counter.on_node.is_empty()) else { return };
        if let What::Owning(_, _, namespace) = &gone.what {
            self.room.give_back(namespace, gone.bytes);
        }
        self.free.push(id);
        self.by_words.remove(&owned.words);
        self.index.remove(owned.term, id);
        for class in self.classes_for(owned.term) {
            if let Some(class) = self.classes[class as usize].as_mut() {
                class.matched_by.retain(|own| *own != id);
            }
        }
        self.release_topologies([gone]);
    }

    /// A node came, went, or changed labels or taints.
    pub(crate) fn node_changed(&mut self, index: u32, node: &NodeInfo) {
        let values = &mut self.values;
        let place = |topology: &mut Option<Topology>| topology.as_mut()?.place(index, node, values);
        let moves: Vec<Option<(u32, u32)>> = self.topologies.iter_mut().map(place).collect();
        for counter in self.slots.iter_mut().flatten() {
            if let Some(between) = moves[counter.topology as usize] {
                counter.moved(index, between);
            }
        }
    }

    /// A namespace's labels changed: terms with a namespace selector match other pods now.
    pub(crate) fn namespace_changed(&mut self, name: &str, labels: Option<Labels>) {
        let selects = |terms: &[Term]| terms.iter().any(|term| term.namespace_selector.is_some());
        let changed = match labels {
            Some(labels) => {
                self.namespaces.insert(name.to_string(), labels.clone()).as_ref() != Some(&labels)
            }
            None => self.namespaces.remove(name).is_some(),
        };
        if !changed {
            return;
        }
        self.drop_where(|counter| matches!(&counter.what, What::Matching(terms) if selects(terms)));
        for id in 0..self.slots.len() {
            let affected = matches!(
                self.slots[id].as_ref().map(|counter| &counter.what),
                Some(What::Owning(term, ..)) if term.namespace_selector.is_some()
            );
            if affected {
                for class in self.classes.iter_mut().flatten() {
                    class.matched_by.retain(|own| *own as usize != id);
                }
                for class in 0..self.classes.len() {
                    self.relate(class as u32, id as u32);
                }
            }
        }
    }
}
