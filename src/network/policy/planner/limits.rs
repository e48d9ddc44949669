//! How much of the rule set a profile may take. A policy is small beside what it can come to: the peers of a
//! rule times its ports, and of ranges that overlap every piece has ports of its own.
//!
//! A profile that would grow beyond it allows nothing from then on, until the policies are others: dropping
//! is the safe side, and a part of what was asked for would be a guess. Work is counted before it is done,
//! so that too much is found out early. Absent: shares of namespaces in what the node has.

use super::{Planner, Rule};
use crate::policy::facts::{Direction, Peer, Ports};
use crate::policy::rules::{Element, Profile, Set};

/// Ranges of a profile, and pairs of peers and ports that its rules name.
pub(super) const MOST_RANGES: usize = 1 << 15;
/// Elements of a profile, ranges and addresses of pods.
const MOST_OF_PROFILE: usize = 1 << 17;
/// Elements of all profiles of the node.
const MOST_OF_NODE: usize = 1 << 20;

/// What peers times ports come to at most.
pub(super) fn cost(rule: &Rule, ports: &[Ports]) -> usize {
    let peers = rule.peers.iter().map(|peer| match peer {
        Peer::Anybody => super::profiles::FAMILIES.len(),
        Peer::Block(block) => block.except.len() + 1,
        Peer::Pods(_) => 1,
    });
    peers.sum::<usize>().saturating_mul(ports.len())
}

impl Planner {
    pub(super) fn is_too_large(&self, direction: Direction, profile: Profile) -> bool {
        self.too_large.contains(&(direction, profile))
    }

    /// Notes that a profile is to have no elements, as soon as this round's changes are taken in.
    pub(super) fn give_up(&mut self, direction: Direction, profile: Profile) {
        if self.too_large.insert((direction, profile)) {
            self.given_up.insert((direction, profile));
        }
    }

    /// A profile has so many elements more, or fewer.
    pub(super) fn charge(&mut self, direction: Direction, profile: Profile, count: usize, more: bool) {
        let held = self.held.entry((direction, profile)).or_default();
        if more {
            *held += count;
            self.all_held += count;
            if *held > MOST_OF_PROFILE || self.all_held > MOST_OF_NODE {
                self.give_up(direction, profile);
            }
        } else {
            *held = held.saturating_sub(count);
            self.all_held = self.all_held.saturating_sub(count);
        }
    }

    /// Takes away all that a profile allows.
    pub(super) fn clear(&mut self, direction: Direction, profile: Profile) {
        let Some(key) = self.numbers.get(&(direction, profile)) else { return };
        let Some((_, state)) = self.profiles.get_mut(key) else { return };
        let groups = std::mem::take(&mut state.groups);
        state.fixed = Vec::new();
        state.ranges.clear();
        for (id, ports) in groups {
            self.use_group(id, (direction, profile, ports), false);
        }
        self.forget_elements(direction, profile);
    }

    pub(super) fn forget_elements(&mut self, direction: Direction, profile: Profile) {
        let own = |element: &&Element| element.set.is_allowance(direction) && element.key.is_of(profile);
        let gone: Vec<Element> = self.elements.keys().filter(own).copied().collect();
        for element in gone {
            self.touched.entry(element).or_insert(true);
            self.elements.remove(&element);
        }
        let held = self.held.remove(&(direction, profile)).unwrap_or_default();
        self.all_held = self.all_held.saturating_sub(held);
    }

    /// Clears what has become too large; a sentence for each.
    pub(super) fn clear_given_up(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for (direction, profile) in std::mem::take(&mut self.given_up) {
            self.clear(direction, profile);
            let Some(key) = self.numbers.get(&(direction, profile)) else { continue };
            let is_of = |id| key.policies.contains(id);
            let policies = self.policies.iter().flat_map(|(namespace, of_namespace)| {
                let own = of_namespace.iter().filter(|(_, (id, _))| is_of(id));
                own.map(move |(name, _)| format!("{namespace}/{name}"))
            });
            let mut policies: Vec<String> = policies.collect();
            policies.sort();
            told.push(format!("{direction:?} of NetworkPolicy {}", policies.join(", ")));
        }
        told
    }
}

impl Set {
    /// Holds what profiles of the direction allow.
    fn is_allowance(self, direction: Direction) -> bool {
        match self {
            Set::Peers(of) | Set::Ports(of) | Set::Blocks(of) | Set::Ranges(of) => of == direction,
            Set::Pods(_) | Set::Selves | Set::OnNode => false,
        }
    }
}
