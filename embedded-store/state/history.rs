//! The bounded ring of events: the only history there is, shared by all watches and by reads at old
//! revisions.
//!
//! Ordered by revision, with the old and the new value of each change. Bounded by age, count and bytes; what
//! falls out raises the floor. Pushing keeps the bounds; the writer also looks at the age when nothing is
//! written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::types::Event;

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    pub age: Duration,
    pub events: usize,
    pub bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        HistoryLimits { age: Duration::from_secs(300), events: 10_000, bytes: 64 << 20 }
    }
}

/// The changes of one revision.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) revision: u64,
    /// Time of its record, in milliseconds.
    pub(crate) time: u64,
    pub(crate) events: Arc<[Event]>,
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct History {
    batches: VecDeque<Batch>,
    /// Everything from this revision on is here.
    floor: u64,
    events: usize,
    bytes: usize,
    limits: HistoryLimits,
}

/// What an event costs beside its keys and values.
const EVENT_OVERHEAD: usize = 240;
/// How much older than its limit an event may become when nothing is written.
const LONGEST_SLACK: Duration = Duration::from_secs(10);

impl History {
    pub(crate) fn new(floor: u64, limits: HistoryLimits) -> Self {
        History { batches: VecDeque::new(), floor, events: 0, bytes: 0, limits }
    }

    /// One with the same limits that holds nothing before `floor`.
    pub(crate) fn emptied(&self, floor: u64) -> Self {
        Self::new(floor, self.limits)
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, revision: u64, time: u64, events: Arc<[Event]>) {
        debug_assert!(self.batches.back().is_none_or(|last| last.revision < revision));
        let bytes = events.iter().map(cost).sum();
        self.events += events.len();
        self.bytes += bytes;
        self.batches.push_back(Batch { revision, time, events, bytes });
        self.trim(time);
    }

    /// How long after `now` (in milliseconds, like the times of records) something is old enough to be
    /// dropped. A little more than the age limit, so that events of about the same time are dropped together.
    pub(crate) fn due(&self, now: u64) -> Option<Duration> {
        let oldest = self.batches.front().filter(|_| self.batches.len() > 1)?;
        let age = self.limits.age + (self.limits.age / 8).min(LONGEST_SLACK);
        Some((Duration::from_millis(oldest.time) + age).saturating_sub(Duration::from_millis(now)))
    }

    /// Drops what is beyond the limits. The newest revision stays.
    pub(crate) fn trim(&mut self, now: u64) {
        let age = u64::try_from(self.limits.age.as_millis()).unwrap_or(u64::MAX);
        while self.batches.len() > 1 {
            let Some(oldest) = self.batches.front() else { return };
            let over = self.events > self.limits.events
                || self.bytes > self.limits.bytes
                || now.saturating_sub(oldest.time) > age;
            if !over {
                return;
            }
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(oldest) = self.batches.pop_front() {
            self.events -= oldest.events.len();
            self.bytes -= oldest.bytes;
            self.floor = self.floor.max(oldest.revision + 1);
        }
    }

    /// Forgets everything before `revision`.
    pub(crate) fn compact(&mut self, revision: u64) {
        while self.batches.front().is_some_and(|oldest| oldest.revision < revision) {
            self.pop();
        }
        self.floor = self.floor.max(revision);
    }

    /// Batches from a revision on, oldest first.
    pub(crate) fn since(&self, revision: u64) -> impl Iterator<Item = &Batch> {
        let start = self.batches.partition_point(|batch| batch.revision < revision);
        self.batches.range(start..)
    }

    /// The batch of exactly this revision.
    pub(crate) fn at(&self, revision: u64) -> Option<&Batch> {
        let start = self.batches.partition_point(|batch| batch.revision < revision);
        self.batches.get(start).filter(|batch| batch.revision == revision)
    }
}

fn cost(event: &Event) -> usize {
    event.size() + EVENT_OVERHEAD
}
