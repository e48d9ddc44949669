//! The work queue of a controller: keys, each at most once, each worked on by one worker at a time.
//!
//! Semantics are client-go's: a key added while it is being worked on is worked on again afterwards; failures
//! back off exponentially per key (5 ms doubling to 1000 s by default). It holds at most one entry per
//! existing key, which is its bound. Delays are deadlines that `next` waits for; nothing polls.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use supervisor::{OnExit, Stage};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Back-off of failing keys.
#[derive(Clone, Copy, Debug)]
pub struct QueueConfig {
    pub base_delay: Duration,
    pub max_delay: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig { base_delay: Duration::from_millis(5), max_delay: Duration::from_secs(1000) }
    }
}

/// Clones share the queue.
pub struct WorkQueue<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    name: String,
    config: QueueConfig,
    state: Mutex<State<T>>,
    changed: Notify,
}

/// Invariant: a key in `ready` is in `dirty`; a key in `dirty` is in `ready` unless it is in `processing`.
struct State<T> {
    ready: VecDeque<T>,
    dirty: HashSet<T>,
    processing: HashSet<T>,
    failures: HashMap<T, u32>,
    /// Deadlines; the sequence number keeps the heap total without `T: Ord`.
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    waiting: HashMap<u64, T>,
    /// The earliest deadline of each delayed key, so that a later one replaces nothing.
    deadlines: HashMap<T, (Instant, u64)>,
    sequence: u64,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        WorkQueue { shared: self.shared.clone() }
    }
}

impl<T: Clone + Eq + Hash + Send + fmt::Debug + 'static> WorkQueue<T> {
    pub fn new(name: &str) -> Self {
        Self::with_config(name, QueueConfig::default())
    }

    pub(crate) fn with_config(name: &str, config: QueueConfig) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            failures: HashMap::new(),
            delayed: BinaryHeap::new(),
            waiting: HashMap::new(),
            deadlines: HashMap::new(),
            sequence: 0,
        };
        let shared =
            Shared { name: name.to_string(), config, state: Mutex::new(state), changed: Notify::new() };
        WorkQueue { shared: Arc::new(shared) }
    }

    /// Look at this key, soon.
    pub fn add(&self, key: T) {
        self.shared.state.lock().add(key);
        self.shared.changed.notify_one();
    }

    /// Look at this key after a while; of several delays the earliest counts.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.shared.state.lock().add_at(key, Instant::now() + delay);
        self.shared.changed.notify_one();
    }

    /// Look again after the key's back-off, which this call lengthens.
    pub(crate) fn add_rate_limited(&self, key: T) {
        let delay = {
            let mut state = self.shared.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let config = self.shared.config;
            let delay = config.base_delay.saturating_mul(1u32.checked_shl(*failures).unwrap_or(u32::MAX));
            *failures = failures.saturating_add(1).min(31);
            delay.min(config.max_delay)
        };
        self.add_after(key, delay);
    }

    /// Ends a key's back-off.
    pub fn forget(&self, key: &T) {
        self.shared.state.lock().failures.remove(key);
    }

    /// How often the key failed since it was last forgotten.
    pub fn failures(&self, key: &T) -> u32 {
        self.shared.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Keys that are ready or being worked on.
    pub fn len(&self) -> usize {
        let state = self.shared.state.lock();
        state.dirty.len() + state.processing.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next key, as soon as there is one. Call [`WorkQueue::done`] when it has been worked on.
    pub async fn next(&self) -> T {
        loop {
            let changed = self.shared.changed.notified();
            let deadline = {
                let mut state = self.shared.state.lock();
                let deadline = state.ripen(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        // Another worker may be asleep: one notification can stand for several keys.
                        self.shared.changed.notify_one();
                    }
                    return key;
                }
                deadline
            };
            match deadline {
                Some(deadline) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(deadline) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    pub fn done(&self, key: &T) {
        let mut state = self.shared.state.lock();
        state.processing.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// Runs workers until the stage stops. A reconcile that fails is logged and retried with back-off; one
    /// that returns a delay is looked at again after it.
    pub fn run<F, Fut, E>(&self, stage: &Stage, workers: usize, reconcile: F)
    where
        F: Fn(T) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Duration>, E>> + Send,
        E: fmt::Display + Send,
        T: Sync,
    {
        for _ in 0..workers {
            let queue = self.clone();
            let reconcile = reconcile.clone();
            let worker = async move {
                loop {
                    let key = queue.next().await;
                    let outcome = reconcile(key.clone()).await;
                    queue.settle(&key, outcome);
                }
            };
            stage.spawn_cancellable(&self.shared.name, OnExit::Stop, worker);
        }
    }

    fn settle<E: fmt::Display>(&self, key: &T, outcome: Result<Option<Duration>, E>) {
        match outcome {
            Ok(again) => {
                self.forget(key);
                if let Some(delay) = again {
                    self.add_after(key.clone(), delay);
                }
            }
            Err(error) => {
                tracing::debug!(queue = %self.shared.name, ?key, %error, "reconcile failed, will retry");
                self.add_rate_limited(key.clone());
            }
        }
        self.done(key);
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    fn add(&mut self, key: T) {
        if !self.dirty.insert(key.clone()) || self.processing.contains(&key) {
            return;
        }
        self.ready.push_back(key);
    }

    fn add_at(&mut self, key: T, deadline: Instant) {
        if let Some((earlier, sequence)) = self.deadlines.get(&key).copied() {
            if earlier <= deadline {
                return;
            }
            self.waiting.remove(&sequence);
        }
        self.sequence += 1;
        self.delayed.push(Reverse((deadline, self.sequence)));
        self.waiting.insert(self.sequence, key.clone());
        self.deadlines.insert(key, (deadline, self.sequence));
    }

    /// Moves keys whose time has come to `ready`; returns the next deadline.
    fn ripen(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((deadline, sequence))) = self.delayed.peek().copied() {
            if !self.waiting.contains_key(&sequence) {
                self.delayed.pop();
                continue;
            }
            if deadline > now {
                return Some(deadline);
            }
            self.delayed.pop();
            if let Some(key) = self.waiting.remove(&sequence) {
                self.deadlines.remove(&key);
                self.add(key);
            }
        }
        None
    }

    fn take(&mut self) -> Option<T> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.processing.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests;
