//! How many pods there are by topology domain: kept up to date with every pod, so that spread constraints and
//! pod affinity cost the same however many pods a cluster has.
//!
//! A *counter* counts, by the value of one topology label, either the pods that match something (an incoming
//! pod's constraint or term) or the pods that own a term (existing pods' anti-affinity and preferences, which
//! count for incoming pods that match the term). Pods fall into *classes* of equal namespace and labels:
//! whether a class and a counter match is decided once. Counters of the first sort are made when first asked
//! for, and the ones not used for longest are dropped.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::node::NodeInfo;
use crate::pod::{Labels, PodInfo, Spread, Term};
pub(crate) use counter::{Counter, NOWHERE, Role};
use counter::{Eligibility, What, shifted};

mod counter;

/// Counters of matching pods that are kept.
const KEPT: usize = 1024;

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
    classes: Vec<Option<Class>>,
    free_classes: Vec<u32>,
    by_labels: HashMap<Arc<ClassKey>, u32>,
    values: HashMap<String, HashMap<String, u32>>,
    namespaces: HashMap<String, Labels>,
    clock: u64,
    matching: usize,
    digest: Digest,
}

/// Two keyed hashes side by side: nobody who does not know the keys finds texts that share one.
#[derive(Default)]
struct Digest(RandomState, RandomState);

impl Digest {
    fn of(&self, words: &str) -> u128 {
        u128::from(self.0.hash_one(words)) << 64 | u128::from(self.1.hash_one(words))
    }
}

static NO_LABELS: Labels = Labels::new();

impl Counters {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Counter> {
        self.slots.get(id as usize).and_then(Option::as_ref)
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
        let words = self.digest.of(words);
        if let Some(id) = self.by_words.get(&words) {
            let id = *id;
            if let Some(counter) = &mut self.slots[id as usize] {
                counter.used = self.clock;
            }
            return id;
        }
        if self.matching >= KEPT {
            self.forget_oldest();
        }
        self.matching += 1;
        let id = self.insert(nodes, words, what(), key, eligibility);
        for at in 0..self.classes.len() {
            self.relate(at as u32, id);
        }
        id
    }

    fn insert(
        &mut self,
        nodes: &[NodeInfo],
        words: u128,
        what: What,
        key: &str,
        eligibility: Eligibility,
    ) -> u32 {
        let mut counter = Counter::new(what, key, eligibility, self.clock);
        for (index, node) in nodes.iter().enumerate() {
            counter.place(index as u32, domain_of(&mut self.values, &counter, node));
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[id as usize] = Some(counter);
        self.by_words.insert(words, id);
        id
    }

    /// Drops the half of the counters of matching pods that were not used for longest.
    fn forget_oldest(&mut self) {
        let owning = |counter: &Counter| matches!(counter.what, What::Owning(..));
        let mut ages: Vec<u64> = self
            .slots
            .iter()
            .flatten()
            .filter(|counter| !owning(counter))
            .map(|counter| counter.used)
            .collect();
        if ages.is_empty() {
            return;
        }
        let middle = ages.len() / 2;
        let median = *ages.select_nth_unstable(middle).1;
        self.drop_where(|counter| !owning(counter) && counter.used <= median);
    }

    fn drop_where(&mut self, gone: impl Fn(&Counter) -> bool) {
        for (id, slot) in self.slots.iter_mut().enumerate() {
            if slot.as_ref().is_some_and(&gone) {
                if !matches!(slot.as_ref().map(|counter| &counter.what), Some(What::Owning(..))) {
                    self.matching -= 1;
                }
                *slot = None;
                self.free.push(id as u32);
            }
        }
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
            What::Owning(term, _) => (term_matches(term), true),
        };
        if !matches {
            return;
        }
        if owned {
            class.matched_by.push(id);
            return;
        }
        class.counted_by.push(id);
        for (node, count) in &class.on_node {
            counter.add(*node, i64::from(*count));
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
        self.classes[id as usize] = Some(class);
        self.by_labels.insert(key, id);
        for counter in 0..self.slots.len() {
            self.relate(id, counter as u32);
        }
        id
    }

    fn forget_empty_classes(&mut self) {
        let (classes, free) = (&mut self.classes, &mut self.free_classes);
        self.by_labels.retain(|_, id| {
            let keep = classes[*id as usize].as_ref().is_some_and(|class| !class.on_node.is_empty());
            if !keep {
                classes[*id as usize] = None;
                free.push(*id);
            }
            keep
        });
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
        let role = |id: &u32| match &self.get(*id)?.what {
            What::Owning(_, role) => Some((*id, *role)),
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
                if let Some(counter) = self.slots[*id as usize].as_mut() {
                    counter.add(node, sign);
                }
            }
        }
        for term in &pod.anti_affinity {
            self.own(nodes, node, term, Role::Repels, sign);
        }
        for term in pod.affinity.iter() {
            // Upstream's hardPodAffinityWeight: a required affinity also draws the pods it wants, weakly.
            self.own(nodes, node, term, Role::Draws(1), sign);
        }
        for (weight, term) in &pod.preferred {
            self.own(nodes, node, term, Role::Draws(*weight), sign);
        }
    }

    fn own(&mut self, nodes: &[NodeInfo], node: u32, term: &Term, role: Role, sign: i64) {
        let words = self.digest.of(&format!("o|{role:?}|{}", term.words()));
        let id = match self.by_words.get(&words) {
            Some(id) => *id,
            None => {
                let what = What::Owning(term.clone(), role);
                let id = self.insert(nodes, words, what, &term.topology_key, Eligibility::default());
                for class in 0..self.classes.len() {
                    self.relate(class as u32, id);
                }
                id
            }
        };
        let Some(counter) = self.slots[id as usize].as_mut() else { return };
        counter.add(node, sign);
        if counter.on_node.is_empty() {
            self.slots[id as usize] = None;
            self.free.push(id);
            self.by_words.remove(&words);
            for class in self.classes.iter_mut().flatten() {
                class.matched_by.retain(|own| *own != id);
            }
        }
    }

    /// A node came, went, or changed labels or taints.
    pub(crate) fn node_changed(&mut self, index: u32, node: &NodeInfo) {
        for counter in self.slots.iter_mut().flatten() {
            let domain = domain_of(&mut self.values, counter, node);
            counter.place(index, domain);
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
                Some(What::Owning(term, _)) if term.namespace_selector.is_some()
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

fn domain_of(values: &mut HashMap<String, HashMap<String, u32>>, counter: &Counter, node: &NodeInfo) -> u32 {
    if node.node.is_none() || !counter.eligibility.allows(node) {
        return NOWHERE;
    }
    let Some(value) = node.labels.get(&counter.topology_key) else { return NOWHERE };
    if !values.contains_key(&counter.topology_key) {
        values.insert(counter.topology_key.clone(), HashMap::new());
    }
    let Some(known) = values.get_mut(&counter.topology_key) else { return NOWHERE };
    if let Some(id) = known.get(value) {
        return *id;
    }
    let id = known.len() as u32;
    known.insert(value.clone(), id);
    id
}
