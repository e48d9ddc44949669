//! Watches: cursors into the shared history, woken only when something in their range changes.
//!
//! A watch holds no queue that others fill: it reads the ring when its consumer asks, so a consumer that never asks
//! costs nothing and is told [`StoreError::Lagged`] once the ring has moved past it. Watches of the same range share a
//! group; publishing looks at groups, not at watches. A group remembers which revisions concern it, which is also how
//! a watch knows whether anything that fell out of the ring was its own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::core::Core;
use crate::history::Batch;
use crate::state::{State, in_range};
use crate::types::{Event, StoreError, WatchBatch, WatchRequest, WatchStream};

/// Revisions a watch takes from the ring at a time.
const READ_AHEAD: usize = 256;
/// Revisions a group remembers; a watch further behind than this is cut off.
const REMEMBERED: usize = 16_384;

type Range = (Bytes, Option<Bytes>);

struct Group {
    range: Range,
    matches: Mutex<Matches>,
    /// Counts up with every publication that concerns the group.
    wake: watch::Sender<u64>,
}

#[derive(Default)]
struct Matches {
    revisions: VecDeque<u64>,
    /// The newest revision that is no longer remembered; 0 if none.
    forgotten: u64,
}

#[derive(Default)]
struct Groups {
    /// Watches of one key.
    exact: HashMap<Bytes, Arc<Group>>,
    ranges: HashMap<Range, Arc<Group>>,
}

/// All groups of watches.
#[derive(Default)]
pub(crate) struct Hub {
    groups: Mutex<Groups>,
}

impl Hub {
    /// Joins the group of a range and says how to be woken.
    fn join(&self, range: Range) -> (Arc<Group>, watch::Receiver<u64>) {
        let mut groups = self.groups.lock();
        let new = || {
            Arc::new(Group { range: range.clone(), matches: Mutex::default(), wake: watch::Sender::new(0) })
        };
        let group = match range.1 {
            None => groups.exact.entry(range.0.clone()).or_insert_with(new),
            Some(_) => groups.ranges.entry(range.clone()).or_insert_with(new),
        };
        (Arc::clone(group), group.wake.subscribe())
    }

    /// Drops a group that its last watch has left.
    fn leave(&self, group: &Group) {
        let mut groups = self.groups.lock();
        if group.wake.receiver_count() > 0 {
            return;
        }
        match group.range.1 {
            None => groups.exact.remove(&group.range.0),
            Some(_) => groups.ranges.remove(&group.range),
        };
    }

    /// Tells the groups that the changes concern.
    pub(crate) fn publish(&self, changes: &[(Arc<[Event]>, u64)]) {
        let groups = self.groups.lock();
        if !groups.exact.is_empty() {
            for (events, revision) in changes {
                for event in events.iter() {
                    if let Some(group) = groups.exact.get(&event.key) {
                        group.tell(std::iter::once(*revision));
                    }
                }
            }
        }
        for group in groups.ranges.values() {
            let (start, end) = &group.range;
            let concerned =
                |events: &[Event]| events.iter().any(|event| in_range(&event.key, start, end.as_ref()));
            let mut revisions = changes
                .iter()
                .filter(|(events, _)| concerned(events))
                .map(|(_, revision)| *revision)
                .peekable();
            if revisions.peek().is_some() {
                group.tell(revisions);
            }
        }
    }

    /// Wakes every watch so that it sees that the store has stopped.
    pub(crate) fn wake_all(&self) {
        let groups = self.groups.lock();
        for group in groups.exact.values().chain(groups.ranges.values()) {
            group.wake.send_modify(|count| *count += 1);
        }
    }

    /// Open watches.
    pub(crate) fn watchers(&self) -> usize {
        let groups = self.groups.lock();
        groups.exact.values().chain(groups.ranges.values()).map(|group| group.wake.receiver_count()).sum()
    }
}

impl Group {
    fn tell(&self, revisions: impl Iterator<Item = u64>) {
        let mut matches = self.matches.lock();
        matches.revisions.extend(revisions);
        while matches.revisions.len() > REMEMBERED {
            matches.forgotten = matches.revisions.pop_front().unwrap_or(matches.forgotten);
        }
        drop(matches);
        self.wake.send_modify(|count| *count += 1);
    }
}

struct Watch {
    core: Arc<Core>,
    group: Arc<Group>,
    wake: Option<watch::Receiver<u64>>,
    /// The first revision not yet looked at.
    next: u64,
    /// Up to this revision the ring is scanned; after it the group says which revisions concern it.
    caught_up: u64,
    ready: VecDeque<WatchBatch>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.wake = None;
        self.core.hub.leave(&self.group);
    }
}

pub(crate) fn open(core: &Arc<Core>, request: &WatchRequest) -> Result<WatchStream, StoreError> {
    if request.key.is_empty() {
        return Err(StoreError::EmptyKey);
    }
    let (group, wake) = core.hub.join((request.key.clone(), request.range_end.clone()));
    let (revision, floor) = {
        let state = core.state.read();
        (state.revision, state.history.floor())
    };
    let next = if request.start_revision == 0 { revision + 1 } else { request.start_revision };
    let watch = Watch {
        core: Arc::clone(core),
        group,
        wake: Some(wake),
        next,
        caught_up: revision,
        ready: VecDeque::new(),
    };
    if next < floor && next <= revision {
        return Err(StoreError::Compacted { oldest: floor });
    }
    Ok(Box::pin(futures::stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.advance().await {
            Ok(batch) => Some((Ok(batch), Some(watch))),
            Err(e) => Some((Err(e), None)),
        }
    })))
}

impl Watch {
    async fn advance(&mut self) -> Result<WatchBatch, StoreError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            if self.core.is_stopped() {
                return Err(StoreError::Stopped);
            }
            if let Some(wake) = &mut self.wake {
                wake.borrow_and_update();
            }
            let more = if self.next <= self.caught_up { self.catch_up()? } else { self.follow()? };
            if more || !self.ready.is_empty() {
                continue;
            }
            let Some(wake) = &mut self.wake else { return Err(StoreError::Stopped) };
            wake.changed().await.map_err(|_| StoreError::Stopped)?;
        }
    }

    /// Scans history that is older than the watch.
    fn catch_up(&mut self) -> Result<bool, StoreError> {
        let core = Arc::clone(&self.core);
        let state = core.state.read();
        if self.next < state.history.floor() {
            return Err(StoreError::Lagged);
        }
        let from = self.next;
        self.next = self.caught_up + 1;
        let missed = state.history.since(from).take_while(|batch| batch.revision <= self.caught_up);
        for (scanned, batch) in missed.enumerate() {
            if scanned == READ_AHEAD * 16 || self.ready.len() == READ_AHEAD {
                self.next = batch.revision;
                break;
            }
            self.ready.extend(filter(batch, &self.group.range));
        }
        Ok(true)
    }

    /// Takes the revisions that the group was told of.
    fn follow(&mut self) -> Result<bool, StoreError> {
        let revisions: Vec<u64> = {
            let matches = self.group.matches.lock();
            if matches.forgotten >= self.next {
                return Err(StoreError::Lagged);
            }
            let start = matches.revisions.partition_point(|revision| *revision < self.next);
            matches.revisions.range(start..).take(READ_AHEAD).copied().collect()
        };
        let Some(last) = revisions.last() else { return Ok(false) };
        self.next = last + 1;
        let core = Arc::clone(&self.core);
        let state: &State = &core.state.read();
        for revision in revisions {
            let batch = state.history.at(revision).ok_or(StoreError::Lagged)?;
            self.ready.extend(filter(batch, &self.group.range));
        }
        Ok(true)
    }
}

/// The events of a revision that are in a range; shares the revision's own slice where that is all of them.
fn filter(batch: &Batch, range: &Range) -> Option<WatchBatch> {
    let mine = |event: &&Event| in_range(&event.key, &range.0, range.1.as_ref());
    let count = batch.events.iter().filter(mine).count();
    let events: Arc<[Event]> = match count {
        0 => return None,
        _ if count == batch.events.len() => Arc::clone(&batch.events),
        _ => batch.events.iter().filter(mine).cloned().collect(),
    };
    Some(WatchBatch { events, revision: batch.revision })
}
