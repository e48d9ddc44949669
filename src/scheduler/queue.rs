//! Pods that wait for a node.
//!
//! *Active* pods are tried next, by priority and then by age. A pod that fits nowhere becomes *unschedulable*, with the plugins
//! that rejected it; an event that one of them may be glad of moves it to *back-off* or, if that is over, to active. Back-off
//! only matters while there is something else to do: when no pod is active, the first one in back-off is tried (as
//! upstream does since 1.33), except after errors. Every pod is tried again after five minutes, whatever happens.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::filter::Plugins;
use crate::pod::{Key, PodInfo};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `spec.schedulingGates` is not empty.
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
    state: State,
    attempts: u32,
    plugins: Plugins,
    /// Order of arrival.
    sequence: u64,
    /// Rises with every change of state: entries of the heaps that carry an older one are void.
    turn: u64,
}

#[derive(Default)]
pub(crate) struct Queue {
    entries: HashMap<Key, Entry>,
    /// Keys of the entries that are unschedulable: events come often, and most pods wait for none.
    unschedulable: HashSet<Key>,
    active: BinaryHeap<(i32, Reverse<u64>, u64, Key)>,
    backoff: BinaryHeap<Reverse<(Instant, u64, Key)>>,
    errors: BinaryHeap<Reverse<(Instant, u64, Key)>>,
    waiting: BinaryHeap<Reverse<(Instant, u64, Key)>>,
    sequence: u64,
    turn: u64,
}

fn gated(pod: &PodInfo) -> bool {
    let gates = pod.pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

impl Queue {
    /// A pod without node came or changed.
    pub(crate) fn put(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let key = pod.key.clone();
        let gated = gated(&pod);
        let Some(entry) = self.entries.get_mut(&key) else {
            self.sequence += 1;
            let state = if gated { State::Gated } else { State::Active };
            let (attempts, plugins, sequence) = (0, Plugins::NONE, self.sequence);
            self.entries.insert(key.clone(), Entry { pod, state, attempts, plugins, sequence, turn: 0 });
            self.enter(&key, state);
            return;
        };
        let replaced = entry.pod.uid != pod.uid;
        let changed = replaced || entry.pod.labels != pod.labels || entry.pod.pod.spec != pod.pod.spec;
        entry.pod = pod;
        if replaced {
            (entry.attempts, entry.plugins) = (0, Plugins::NONE);
        }
        let next = match entry.state {
            _ if gated => State::Gated,
            State::Gated => State::Active,
            State::Unschedulable { since } if changed => backoff(entry.attempts, since, now),
            State::InFlight if replaced => State::Active,
            same => same,
        };
        if next != entry.state {
            self.enter(&key, next);
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        self.entries.remove(key);
        self.unschedulable.remove(key);
    }

    /// The next pod to try. It stays in the queue, in flight, until it is removed or fails.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
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

    fn fly(&mut self, key: &Key, turn: u64) -> Option<Arc<PodInfo>> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.turn == turn)?;
        entry.state = State::InFlight;
        entry.attempts += 1;
        self.turn += 1;
        entry.turn = self.turn;
        Some(entry.pod.clone())
    }

    /// The pod in flight fits nowhere, for these plugins.
    pub(crate) fn unschedulable(&mut self, key: &Key, plugins: Plugins, now: Instant) {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.state == State::InFlight) else {
            return;
        };
        entry.plugins = plugins;
        self.enter(key, State::Unschedulable { since: now });
    }

    /// Something went wrong with the pod in flight: try again after its back-off.
    pub(crate) fn failed(&mut self, key: &Key, now: Instant) {
        let Some(entry) = self.entries.get(key).filter(|entry| entry.state == State::InFlight) else {
            return;
        };
        let until = now + backoff_of(entry.attempts);
        self.enter(key, State::Backoff { until, error: true });
    }

    /// Something happened that pods rejected by these plugins may be glad of; `helps` has the last word per pod.
    pub(crate) fn wake(&mut self, plugins: Plugins, now: Instant, helps: impl Fn(&PodInfo) -> bool) {
        let glad = |key: &&Key| {
            self.entries.get(*key).is_some_and(|entry| {
                (entry.plugins.is_empty() || entry.plugins.intersects(plugins)) && helps(&entry.pod)
            })
        };
        let woken: Vec<Key> = self.unschedulable.iter().filter(glad).cloned().collect();
        for key in woken {
            self.reconsider(&key, now);
        }
    }

    fn reconsider(&mut self, key: &Key, now: Instant) {
        let Some(entry) = self.entries.get(key) else { return };
        if let State::Unschedulable { since } = entry.state {
            let next = backoff(entry.attempts, since, now);
            self.enter(key, next);
        }
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
        if matches!(state, State::Unschedulable { .. }) {
            self.unschedulable.insert(key.clone());
        } else {
            self.unschedulable.remove(key);
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

fn backoff_of(attempts: u32) -> Duration {
    let doubled = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_BACKOFF.saturating_mul(doubled).min(LONGEST_BACKOFF)
}

fn backoff(attempts: u32, since: Instant, now: Instant) -> State {
    let until = since + backoff_of(attempts);
    if until <= now { State::Active } else { State::Backoff { until, error: false } }
}

#[cfg(test)]
mod tests;
