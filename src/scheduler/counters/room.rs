//! How much of other pods' affinity the scheduler keeps.
//!
//! Each distinct term that a pod on a node owns is kept and compared with every pod that comes. Anybody who
//! may create pods writes them, so there are bounds: in all, and for each namespace, so that one does not
//! take the room of the others. A pod whose terms do not fit stays unschedulable until others are gone. Of
//! one that is bound all the same (by another scheduler, or before a restart), the terms do not count for
//! other pods; its own are kept to when it is placed.

use std::collections::{HashMap, HashSet};

use crate::pod::Term;

/// Distinct terms.
pub(crate) const MOST_OWNED: usize = 16_384;
pub(crate) const MOST_OWNED_BYTES: usize = 64 << 20;
/// The share of a namespace: one in so many of each.
pub(crate) const SHARES: usize = 4;

/// What a pod is told for whose terms there is no room.
pub(crate) fn crowded() -> String {
    format!(
        "the affinity terms of pods that are placed leave no room for those of this pod ({MOST_OWNED} different \
         ones of {} MiB in the cluster, a quarter of that in a namespace)",
        MOST_OWNED_BYTES >> 20
    )
}

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    terms: usize,
    bytes: usize,
}

/// What is taken of the bounds.
#[derive(Default)]
pub(super) struct Room {
    all: Taken,
    by_namespace: HashMap<String, Taken>,
}

impl Room {
    pub(super) fn fits(&self, namespace: &str, terms: usize, bytes: usize) -> bool {
        let own = self.by_namespace.get(namespace).copied().unwrap_or_default();
        let within = |taken: Taken, share: usize| {
            taken.terms + terms <= MOST_OWNED / share && taken.bytes + bytes <= MOST_OWNED_BYTES / share
        };
        within(self.all, 1) && within(own, SHARES)
    }

    pub(super) fn take(&mut self, namespace: &str, bytes: usize) {
        if !self.by_namespace.contains_key(namespace) {
            self.by_namespace.insert(namespace.to_string(), Taken::default());
        }
        for taken in [Some(&mut self.all), self.by_namespace.get_mut(namespace)].into_iter().flatten() {
            taken.terms += 1;
            taken.bytes += bytes;
        }
    }

    pub(super) fn give_back(&mut self, namespace: &str, bytes: usize) {
        for taken in [Some(&mut self.all), self.by_namespace.get_mut(namespace)].into_iter().flatten() {
            taken.terms -= 1;
            taken.bytes -= bytes;
        }
        if self.by_namespace.get(namespace).is_some_and(|taken| taken.terms == 0) {
            self.by_namespace.remove(namespace);
        }
    }
}

/// Counters of owned terms by the namespaces whose pods they may match, so that a pod is compared with no
/// others.
#[derive(Default)]
pub(super) struct OwnedIndex {
    /// No empty sets.
    by_namespace: HashMap<String, HashSet<u32>>,
    /// Terms that select namespaces by labels.
    anywhere: HashSet<u32>,
}

impl OwnedIndex {
    pub(super) fn of(&self, namespace: &str) -> impl Iterator<Item = u32> {
        self.by_namespace.get(namespace).into_iter().flatten().chain(&self.anywhere).copied()
    }

    pub(super) fn insert(&mut self, term: &Term, id: u32) {
        if term.namespace_selector.is_some() {
            self.anywhere.insert(id);
            return;
        }
        for namespace in &term.namespaces {
            self.by_namespace.entry(namespace.clone()).or_default().insert(id);
        }
    }

    pub(super) fn remove(&mut self, term: &Term, id: u32) {
        self.anywhere.remove(&id);
        for namespace in &term.namespaces {
            if let Some(ids) = self.by_namespace.get_mut(namespace) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_namespace.remove(namespace);
                }
            }
        }
    }
}
