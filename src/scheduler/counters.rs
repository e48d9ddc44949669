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
use classes::{Class, ClassKey};
pub(crate) use counter::{Counted, Role};
use counter::{Counter, Subject, shifted};
use digest::Digest;
pub(crate) use room::crowded;
#[cfg(test)]
pub(crate) use room::{MOST_OWNED, SHARES};
use room::{OwnedIndex, Room};
pub(crate) use topology::NOWHERE;
use topology::{Eligibility, Topology, Values};

mod classes;
mod counter;
mod digest;
mod owned;
mod room;
mod topology;

/// Counters of matching pods that are kept, and about how many bytes their words may take.
const KEPT: usize = 1024;
const KEPT_BYTES: usize = 32 << 20;
/// One pod asks for no more counters than that in a row; a few times over, for it may be compared again.
const IN_USE: u64 = 2 * MOST_TERMS as u64;
/// What a counter takes beside its words.
const COUNTER_BYTES: usize = 512;

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

static NO_LABELS: Labels = Labels::new();

impl Counters {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Terms that pods on nodes own.
    #[cfg(test)]
    pub(crate) fn owned_terms(&self) -> usize {
        let owned = |counter: &&Counter| matches!(counter.subject, Subject::Owning(..));
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
        let what = || Subject::Spread(namespace.to_string(), spread.selector.clone());
        self.obtain(nodes, &words, &spread.topology_key, eligibility, what)
    }

    /// The counter of pods that match all the terms, by the topology of `key`.
    pub(crate) fn matching(&mut self, nodes: &[NodeInfo], terms: &Arc<[Term]>, key: &str) -> u32 {
        let mut words = format!("m|{key}");
        for term in terms.iter() {
            words.push('|');
            words.push_str(&term.words());
        }
        self.obtain(nodes, &words, key, Eligibility::default(), || Subject::Matching(terms.clone()))
    }

    fn obtain(
        &mut self,
        nodes: &[NodeInfo],
        words: &str,
        key: &str,
        eligibility: Eligibility,
        what: impl FnOnce() -> Subject,
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
        let is_old = |counter: &Counter| {
            !matches!(counter.subject, Subject::Owning(..)) && counter.used + IN_USE <= now
        };
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
        let (matches, owned) = match &counter.subject {
            Subject::Spread(namespace, selector) => {
                let here = !class.terminating && *namespace == class.namespace;
                (here && selector.matches(&class.labels), false)
            }
            Subject::Matching(terms) => (terms.iter().all(term_matches), false),
            Subject::Owning(term, ..) => (term_matches(term), true),
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
        let role = |id: &u32| match &self.slots[*id as usize].as_ref()?.subject {
            Subject::Owning(_, role, _) => Some((*id, *role)),
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
        self.drop_where(|counter| matches!(&counter.subject, Subject::Matching(terms) if selects(terms)));
        for id in 0..self.slots.len() {
            let affected = matches!(
                self.slots[id].as_ref().map(|counter| &counter.subject),
                Some(Subject::Owning(term, ..)) if term.namespace_selector.is_some()
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
