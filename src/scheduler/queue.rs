//! Pods that wait for a node.
//!
//! *Active* pods are tried next, by priority and then by age. A pod that fits nowhere becomes
//! *unschedulable*, with the plugins that rejected it; an event that one of them registered for, and whose
//! hint does not deny it, moves the pod to *back-off* or, if that is over, to active. Back-off only matters
//! while there is something else to do: when no pod is active, the first one in back-off is tried (as
//! upstream does since 1.33), except after errors. Every pod is tried again after five minutes, whatever
//! happens. Before a pod enters (or comes back), PreEnqueue plugins are asked; one that they hold back is
//! *gated*.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::framework::{ClusterEvent, ObservedEvent, PluginSet, Profile, Recent, Requeue};
use crate::pod::{Key, PodInfo};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A PreEnqueue plugin holds it back.
    Gated,
    Active,
    /// To become active at this time.
    Backoff {
        until: Instant,
        error: bool,
    },
    /// Waits for an event since this time.
    Unschedulable {
        since: Instant,
    },
    /// Being placed or bound.
    InFlight,
}

struct Entry {
    pod: Arc<PodInfo>,
    profile: Arc<Profile>,
    state: State,
    /// How often it was rejected, and how often in a row something went wrong: what its back-off is counted
    /// by.
    rejections: u32,
    errors: u32,
    /// When it last came back.
    returned: Instant,
    /// Plugins that rejected it, and those of them that only wait for something outside.
    rejectors: PluginSet,
    pending: PluginSet,
    /// Order of arrival.
    sequence: u64,
    /// Rises with every change of state: entries of the heaps that carry an older one are void.
    turn: u64,
    /// The event that was the latest when it took off, and whether the pod itself has changed since.
    took_off: u64,
    changed: bool,
}

#[derive(Default)]
pub(crate) struct Queue {
    entries: HashMap<Key, Entry>,
    /// Keys of the entries that wait for an event (unschedulable or gated): events come often, and most pods
    /// wait for none.
    waiting_for_event: HashSet<Key>,
    active: BinaryHeap<(i32, Reverse<u64>, u64, Key)>,
    backoff: BinaryHeap<Reverse<(Instant, u64, Key)>>,
    errors: BinaryHeap<Reverse<(Instant, u64, Key)>>,
    waiting: BinaryHeap<Reverse<(Instant, u64, Key)>>,
    sequence: u64,
    turn: u64,
    recent: Recent,
}

impl Entry {
    /// Where it goes that may be schedulable now, if no PreEnqueue plugin holds it back.
    fn next(&self, requeue: Requeue, now: Instant) -> State {
        let count = if self.errors > 0 { self.errors } else { self.rejections };
        let until = self.returned + backoff_of(count);
        match requeue {
            Requeue::AfterBackoff if until > now => State::Backoff { until, error: false },
            _ => State::Active,
        }
    }
}

impl Queue {
    /// A pod without node came or changed.
    pub(crate) fn put(&mut self, pod: Arc<PodInfo>, profile: &Arc<Profile>, now: Instant) {
        let key = pod.key.clone();
        let Some(entry) = self.entries.get_mut(&key) else {
            self.sequence += 1;
            let entry = Entry {
                pod,
                profile: profile.clone(),
                state: State::Gated,
                rejections: 0,
                errors: 0,
                returned: now,
                rejectors: PluginSet::NONE,
                pending: PluginSet::NONE,
                sequence: self.sequence,
                turn: 0,
                took_off: 0,
                changed: false,
            };
            self.entries.insert(key.clone(), entry);
            self.enqueue(&key, State::Active);
            return;
        };
        let replaced = entry.pod.uid != pod.uid;
        let changed = replaced || entry.pod.labels != pod.labels || entry.pod.pod.spec != pod.pod.spec;
        (entry.pod, entry.profile) = (pod, profile.clone());
        if replaced {
            (entry.rejections, entry.errors) = (0, 0);
            (entry.rejectors, entry.pending) = (PluginSet::NONE, PluginSet::NONE);
        }
        entry.changed |= changed;
        match entry.state {
            _ if replaced => self.enqueue(&key, State::Active),
            State::Gated | State::Unschedulable { .. } if changed => {
                let next = entry.next(Requeue::AfterBackoff, now);
                self.enqueue(&key, next);
            }
            _ => {}
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        self.entries.remove(key);
        self.waiting_for_event.remove(key);
    }

    /// The next pod to try. It stays in the queue, in flight, until it is removed or comes back.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Arc<PodInfo>, Arc<Profile>)> {
        self.ripen(now);
        while let Some((_, _, turn, key)) = self.active.pop() {
            if let Some(pod) = self.fly(&key, turn) {
                return Some(pod);
            }
        }
        while let Some(Reverse((_, turn, key))) = self.backoff.pop() {
            if let Some(pod) = self.fly(&key, turn) {
                return Some(pod);
            }
        }
        None
    }

    fn fly(&mut self, key: &Key, turn: u64) -> Option<(Arc<PodInfo>, Arc<Profile>)> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.turn == turn)?;
        entry.state = State::InFlight;
        self.turn += 1;
        entry.turn = self.turn;
        (entry.took_off, entry.changed) = (self.recent.now(), false);
        Some((entry.pod.clone(), entry.profile.clone()))
    }

    fn in_flight(&mut self, pod: &PodInfo) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&pod.key)?;
        (entry.state == State::InFlight && entry.pod.uid == pod.uid).then_some(entry)
    }

    /// The pod in flight is rejected by these plugins. Tells whether it was still in flight.
    pub(crate) fn unschedulable(
        &mut self,
        pod: &PodInfo,
        rejectors: PluginSet,
        pending: PluginSet,
        now: Instant,
    ) -> bool {
        let Some(entry) = self.in_flight(pod) else { return false };
        (entry.rejectors, entry.pending) = (rejectors, pending);
        (entry.rejections, entry.errors, entry.returned) = (entry.rejections.saturating_add(1), 0, now);
        let Some(entry) = self.entries.get(&pod.key) else { return false };
        // What it waits for may have happened while it was in flight.
        let missed = |plugins| entry.profile.missed(plugins, &self.recent, entry.took_off);
        let requeue = match () {
            () if missed(pending) => Requeue::Immediately,
            () if entry.changed || missed(rejectors) => Requeue::AfterBackoff,
            () => {
                self.enter(&pod.key, State::Unschedulable { since: now });
                return true;
            }
        };
        let next = entry.next(requeue, now);
        self.enqueue(&pod.key, next);
        true
    }

    /// Something went wrong with the pod in flight: try again after its back-off. Tells whether it was still
    /// in flight.
    pub(crate) fn failed(&mut self, pod: &PodInfo, now: Instant) -> bool {
        let Some(entry) = self.in_flight(pod) else { return false };
        (entry.errors, entry.returned) = (entry.errors.saturating_add(1), now);
        (entry.rejectors, entry.pending) = (PluginSet::NONE, PluginSet::NONE);
        let until = now + backoff_of(entry.errors);
        self.enter(&pod.key, State::Backoff { until, error: true });
        true
    }

    /// Something happened that rejected pods may be glad of; their plugins' hints decide, and `helps` has the
    /// last word per pod.
    pub(crate) fn wake(
        &mut self,
        happening: &ObservedEvent<'_>,
        now: Instant,
        helps: impl Fn(&PodInfo) -> bool,
    ) {
        self.recent.note(happening.event);
        let mut interested = Interested { event: happening.event, by_profile: Vec::new() };
        let mut woken = Vec::new();
        for key in &self.waiting_for_event {
            let Some(entry) = self.entries.get(key) else { continue };
            let nobody_rejected = entry.rejectors.is_empty();
            if !nobody_rejected && !interested.of(&entry.profile).intersects(entry.rejectors) {
                continue;
            }
            // Nothing that happens makes such a pod lighter.
            if entry.pod.too_heavy || !helps(&entry.pod) {
                continue;
            }
            let (pod, profile) = (&entry.pod, &entry.profile);
            let requeue = match nobody_rejected {
                true => Requeue::AfterBackoff,
                false => profile.worth_requeuing(pod, entry.rejectors, entry.pending, happening),
            };
            if requeue != Requeue::Skip {
                woken.push((key.clone(), entry.next(requeue, now)));
            }
        }
        for (key, next) in woken {
            self.enqueue(&key, next);
        }
    }

    fn reconsider(&mut self, key: &Key, now: Instant) {
        let Some(entry) = self.entries.get(key) else { return };
        if matches!(entry.state, State::Unschedulable { .. }) {
            let next = entry.next(Requeue::AfterBackoff, now);
            self.enqueue(key, next);
        }
    }

    /// Lets the pod in, to be active or in back-off, unless a PreEnqueue plugin holds it back.
    fn enqueue(&mut self, key: &Key, next: State) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let held_back = entry.profile.run_pre_enqueue(&entry.pod);
        if let Some(by) = held_back {
            entry.rejectors = by;
        }
        self.enter(key, if held_back.is_some() { State::Gated } else { next });
    }

    /// Makes active whose back-off is over, and reconsiders who has waited too long.
    fn ripen(&mut self, now: Instant) {
        for errors in [false, true] {
            loop {
                let heap = if errors { &mut self.errors } else { &mut self.backoff };
                if heap.peek().is_none_or(|Reverse((until, _, _))| *until > now) {
                    break;
                }
                let Some(Reverse((_, turn, key))) = heap.pop() else { break };
                if self.entries.get(&key).is_some_and(|entry| entry.turn == turn) {
                    self.enter(&key, State::Active);
                }
            }
        }
        while self.waiting.peek().is_some_and(|Reverse((until, _, _))| *until <= now) {
            let Some(Reverse((_, turn, key))) = self.waiting.pop() else { break };
            if self.entries.get(&key).is_some_and(|entry| entry.turn == turn) {
                self.reconsider(&key, now);
            }
        }
    }

    /// When to look again if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let first =
            |heap: &BinaryHeap<Reverse<(Instant, u64, Key)>>| heap.peek().map(|Reverse((at, _, _))| *at);
        [first(&self.errors), first(&self.waiting)].into_iter().flatten().min()
    }

    fn enter(&mut self, key: &Key, state: State) {
        self.turn += 1;
        let turn = self.turn;
        let Some(entry) = self.entries.get_mut(key) else { return };
        (entry.state, entry.turn) = (state, turn);
        if matches!(state, State::Unschedulable { .. } | State::Gated) {
            self.waiting_for_event.insert(key.clone());
        } else {
            self.waiting_for_event.remove(key);
        }
        match state {
            State::Active => {
                self.active.push((entry.pod.priority, Reverse(entry.sequence), turn, key.clone()))
            }
            State::Backoff { until, error: false } => self.backoff.push(Reverse((until, turn, key.clone()))),
            State::Backoff { until, error: true } => self.errors.push(Reverse((until, turn, key.clone()))),
            State::Unschedulable { since } => {
                self.waiting.push(Reverse((since + LONGEST_WAIT, turn, key.clone())));
            }
            State::Gated | State::InFlight => {}
        }
    }
}

/// Which plugins registered for an event, found out once per profile.
struct Interested {
    event: ClusterEvent,
    by_profile: Vec<(*const Profile, PluginSet)>,
}

impl Interested {
    fn of(&mut self, profile: &Arc<Profile>) -> PluginSet {
        let at = Arc::as_ptr(profile);
        if let Some((_, known)) = self.by_profile.iter().find(|(known, _)| *known == at) {
            return *known;
        }
        let set = profile.interested(self.event);
        self.by_profile.push((at, set));
        set
    }
}

fn backoff_of(count: u32) -> Duration {
    if count == 0 {
        return Duration::ZERO;
    }
    let doubled = 1u32.checked_shl(count - 1).unwrap_or(u32::MAX);
    FIRST_BACKOFF.saturating_mul(doubled).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests;
