//! Back-off of restarts and image pulls: 10 s, doubling to 5 min, forgotten after 10 min without a failure.
//! Time is an argument.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

const INITIAL: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_secs(300);
const FORGOTTEN: SignedDuration = SignedDuration::from_secs(600);
const SKEW: SignedDuration = SignedDuration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    entries: HashMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

impl Backoff {
    /// How long to wait still, for something that last happened at `since`; `None` if it may happen now.
    pub(crate) fn remaining(&self, key: &str, since: Timestamp, now: Timestamp) -> Option<SignedDuration> {
        let entry = self.entries.get(key)?;
        // It cannot have happened in the future: the clock was set back, and nobody is to wait until it has
        // caught up.
        if since.duration_since(entry.updated) > FORGOTTEN || since.duration_since(now) > SKEW {
            return None;
        }
        let left = entry.delay.saturating_sub(now.duration_since(since));
        left.is_positive().then_some(left)
    }

    /// The present delay of a key.
    pub(crate) fn delay(&self, key: &str) -> SignedDuration {
        self.entries.get(key).map_or(SignedDuration::ZERO, |entry| entry.delay)
    }

    /// Notes that it happens again, at `at`: the next delay is longer.
    pub(crate) fn next(&mut self, key: &str, at: Timestamp) {
        let delay = match self.entries.get(key) {
            Some(entry) if at.duration_since(entry.updated) <= FORGOTTEN => {
                entry.delay.saturating_mul(2).min(LONGEST)
            }
            _ => INITIAL,
        };
        self.entries.insert(key.to_string(), Entry { delay, updated: at });
    }

    pub(crate) fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Forgets all keys that begin so.
    pub(crate) fn forget_all(&mut self, prefix: &str) {
        self.entries.retain(|key, _| !key.starts_with(prefix));
    }
}

/// `10s`, `1m20s`, `5m0s`: as Go prints durations of whole seconds.
pub(crate) fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests;
