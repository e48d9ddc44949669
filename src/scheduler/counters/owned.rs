//! Terms that pods on nodes own, such as anti-affinity: they count for incoming pods that match them.

use super::counter::{Counter, Role, Subject};
use super::topology::{Eligibility, NOWHERE};
use super::{COUNTER_BYTES, Counters};
use crate::node::NodeInfo;
use crate::pod::{PodInfo, Term};

/// A term that a pod owns, by the digest of its words, and their bytes.
pub(super) struct Owned<'a> {
    words: u128,
    bytes: usize,
    term: &'a Term,
    role: Role,
}

impl Counters {
    /// The terms of a pod that count for others.
    pub(super) fn owned<'a>(&self, pod: &'a PodInfo) -> Vec<Owned<'a>> {
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

    pub(super) fn fits(&self, namespace: &str, owned: &[Owned<'_>]) -> bool {
        let new = owned.iter().filter(|one| !self.by_words.contains_key(&one.words));
        let (terms, bytes) = new.fold((0, 0), |(terms, bytes), one| (terms + 1, bytes + one.bytes));
        terms == 0 || self.room.fits(namespace, terms, bytes)
    }

    pub(super) fn own(
        &mut self,
        nodes: &[NodeInfo],
        node: u32,
        namespace: &str,
        owned: &Owned<'_>,
        sign: i64,
    ) {
        let id = match self.by_words.get(&owned.words) {
            Some(id) => *id,
            None => {
                let subject = Subject::Owning(owned.term.clone(), owned.role, namespace.to_string());
                let topology = self.topology(nodes, &owned.term.topology_key, Eligibility::default());
                self.room.take(namespace, owned.bytes);
                let id = self.insert(owned.words, Counter::new(subject, topology, self.clock, owned.bytes));
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
        if let Subject::Owning(_, _, namespace) = &gone.subject {
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
}
