//! Back-off of nodes on which a daemon pod keeps failing: a kubelet that refuses a pod would otherwise have
//! us make and delete pods without end.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(15 * 60);

#[derive(Debug)]
pub(super) struct Backoff<K> {
    entries: HashMap<K, Entry>,
}

#[derive(Debug)]
struct Entry {
    delay: Duration,
    since: Instant,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Backoff { entries: HashMap::new() }
    }
}

impl Entry {
    /// After twice the longest delay it begins anew.
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) > 2 * MOST
    }
}

impl<K: Eq + Hash> Backoff<K> {
    /// How long to wait still, if at all.
    pub(super) fn left(&self, key: &K, now: Instant) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        let passed = now.duration_since(entry.since);
        entry.delay.checked_sub(passed).filter(|left| !left.is_zero())
    }

    /// It has failed again.
    pub(super) fn lengthen(&mut self, key: K, now: Instant) {
        self.entries.retain(|_, entry| !entry.is_over(now));
        let entry = self.entries.entry(key).or_insert(Entry { delay: Duration::ZERO, since: now });
        entry.delay = if entry.delay.is_zero() { FIRST } else { (2 * entry.delay).min(MOST) };
        entry.since = now;
    }
}

#[cfg(test)]
mod tests;
