//! Classes of pods: whether a class and a counter match is decided once for all of its pods.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Counters;
use crate::pod::{Labels, PodInfo, Term};

/// Pods of equal namespace and labels.
pub(super) struct Class {
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) terminating: bool,
    pub(super) on_node: HashMap<u32, u32>,
    /// Counters of matching pods that count this class.
    pub(super) counted_by: Vec<u32>,
    /// Counters of owned terms that match this class.
    pub(super) matched_by: Vec<u32>,
}

pub(super) type ClassKey = (String, Labels, bool);

impl Counters {
    pub(super) fn class(&mut self, pod: &PodInfo) -> u32 {
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

    pub(super) fn forget_empty_classes(&mut self) {
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
    pub(super) fn classes_for(&self, term: &Term) -> Vec<u32> {
        if term.namespace_selector.is_some() {
            return (0..self.classes.len() as u32).collect();
        }
        let named: HashSet<&String> = term.namespaces.iter().collect();
        named.into_iter().filter_map(|one| self.by_namespace.get(one)).flatten().copied().collect()
    }
}
