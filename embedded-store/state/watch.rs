//! Watches: cursors into the shared history, woken only when something in their range changes.
//!
//! A watch holds no queue that others fill: it reads the ring when its consumer asks, so a consumer that
//! never asks costs nothing and is told [`StoreError::Lagged`] once the ring has moved past it. Watches of
//! the same range share a group; publishing looks at groups, not at watches. A group remembers which
//! revisions concern it, which is also how a watch knows whether anything that fell out of the ring was its
//! own.
//!
//! Waking a watch and sending it a message costs far more than one more event in the message. So the watches
//! of a group share one chunk, and a large group pauses between two rounds (see [`pause`]). The publisher is
//! asked to look again when the pause is over.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;

use crate::state::core::Core;
use crate::types::{Event, StoreError, in_range};

mod cursor;

pub(crate) use cursor::{Chunk, Cursor, follow, open};

/// From this many watches on, a group pauses between rounds.
const BATCHING_WATCHES: usize = 32;
const PAUSE_PER_WATCH: Duration = Duration::from_micros(15);
const LONGEST_PAUSE: Duration = Duration::from_millis(25);
/// Revisions a group remembers; a watch further behind than this is cut off.
const REMEMBERED: usize = 16_384;

type Range = (Bytes, Option<Bytes>);

struct Group {
    range: Range,
    matches: Mutex<Matches>,
    /// Its watches, by number; changed under the lock of all groups only.
    members: Mutex<BTreeMap<u64, Arc<Member>>>,
    /// How many they are.
    watches: AtomicUsize,
}

/// A watch as its group knows it.
struct Member {
    notifier: Arc<Notifier>,
    /// What the owner of the notifier calls the watch.
    id: i64,
    /// The notifier was told and the watch has not looked since.
    notified: AtomicBool,
}

/// Wakes the owner of one or many watches and says which of them have something to look at.
#[derive(Default)]
pub(crate) struct Notifier {
    waker: AtomicWaker,
    notified: Mutex<Vec<i64>>,
}

impl Notifier {
    /// Adds the watches that may have something new to `ids`; whoever asks is woken for the next ones.
    pub(crate) fn listen(&self, cx: &Context<'_>, ids: &mut VecDeque<i64>) {
        self.waker.register(cx.waker());
        ids.extend(self.notified.lock().drain(..));
    }
}

impl Member {
    fn notify(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.notifier.notified.lock().push(self.id);
            self.notifier.waker.wake();
        }
    }
}

#[derive(Default)]
struct Matches {
    revisions: VecDeque<u64>,
    /// The newest revision that is no longer remembered; 0 if none.
    forgotten: u64,
    /// What a watch took last, for the others that are as far as it was.
    latest: Option<Arc<Chunk>>,
    /// When the watches were woken last.
    woken: Option<Instant>,
    /// There is something that they have not been woken for.
    held: bool,
}

#[derive(Default)]
struct Groups {
    /// Watches of one key.
    exact: HashMap<Bytes, Arc<Group>>,
    ranges: HashMap<Range, Arc<Group>>,
    /// The number of the last watch that joined.
    next: u64,
    /// The earliest time at which a group has to be woken that is being held back.
    due: Option<Instant>,
}

/// All groups of watches.
#[derive(Default)]
pub(crate) struct Hub {
    groups: Mutex<Groups>,
    /// Set if somebody calls [`Hub::release`] in time. Otherwise no group is held back.
    paced: AtomicBool,
}

impl Hub {
    /// Joins the group of a range.
    fn join(&self, range: Range, member: Arc<Member>) -> (Arc<Group>, u64) {
        let mut groups = self.groups.lock();
        groups.next += 1;
        let number = groups.next;
        let new = || {
            Arc::new(Group {
                range: range.clone(),
                matches: Mutex::default(),
                members: Mutex::default(),
                watches: AtomicUsize::new(0),
            })
        };
        let group = match range.1 {
            None => groups.exact.entry(range.0.clone()).or_insert_with(new),
            Some(_) => groups.ranges.entry(range.clone()).or_insert_with(new),
        };
        group.members.lock().insert(number, member);
        group.watches.fetch_add(1, Ordering::Relaxed);
        (Arc::clone(group), number)
    }

    /// Leaves a group, and drops it if that was its last watch.
    fn leave(&self, group: &Group, number: u64) {
        let mut groups = self.groups.lock();
        group.members.lock().remove(&number);
        if group.watches.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        match group.range.1 {
            None => groups.exact.remove(&group.range.0),
            Some(_) => groups.ranges.remove(&group.range),
        };
    }

    /// From now on somebody calls [`Hub::release`].
    pub(crate) fn pace(&self) {
        self.paced.store(true, Ordering::Relaxed);
    }

    /// Tells the groups that the changes concern; groups with many watches may be held back.
    pub(crate) fn publish(&self, changes: &[(Arc<[Event]>, u64)]) {
        let mut groups = self.groups.lock();
        let paced = self.paced.load(Ordering::Relaxed);
        let mut due = groups.due;
        let mut hold = |until: Option<Instant>| due = due.into_iter().chain(until).min();
        if !groups.exact.is_empty() {
            for (events, revision) in changes {
                for event in events.iter() {
                    if let Some(group) = groups.exact.get(&event.key) {
                        hold(group.tell(std::iter::once(*revision), paced));
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
                hold(group.tell(revisions, paced));
            }
        }
        groups.due = due;
    }

    /// When a group is to be woken that is being held back.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.groups.lock().due
    }

    /// Wakes the groups whose time has come; without a time all that are being held back.
    pub(crate) fn release(&self, now: Option<Instant>) {
        let mut groups = self.groups.lock();
        let Some(due) = groups.due else { return };
        if now.is_some_and(|now| now < due) {
            return;
        }
        let all = groups.exact.values().chain(groups.ranges.values());
        groups.due = all.filter_map(|group| group.release(now)).min();
    }

    /// Wakes every watch so that it sees that the store has stopped.
    pub(crate) fn wake_all(&self) {
        let groups = self.groups.lock();
        for group in groups.exact.values().chain(groups.ranges.values()) {
            group.notify();
        }
    }

    /// Open watches.
    pub(crate) fn watchers(&self) -> usize {
        let groups = self.groups.lock();
        groups.exact.values().chain(groups.ranges.values()).map(|group| group.watches()).sum()
    }
}

impl Group {
    fn watches(&self) -> usize {
        self.watches.load(Ordering::Relaxed)
    }

    fn notify(&self) {
        self.members.lock().values().for_each(|member| member.notify());
    }

    /// Remembers revisions that concern the group and wakes its watches, or says when they are to be woken.
    fn tell(&self, revisions: impl Iterator<Item = u64>, paced: bool) -> Option<Instant> {
        let mut matches = self.matches.lock();
        matches.revisions.extend(revisions);
        while matches.revisions.len() > REMEMBERED {
            matches.forgotten = matches.revisions.pop_front().unwrap_or(matches.forgotten);
        }
        let watches = self.watches();
        if paced && watches >= BATCHING_WATCHES {
            let now = Instant::now();
            let due = matches.woken.map(|woken| woken + pause(watches)).filter(|due| *due > now);
            matches.held = due.is_some();
            if due.is_some() {
                return due;
            }
            matches.woken = Some(now);
        }
        drop(matches);
        self.notify();
        None
    }

    /// Wakes watches that are being held back until `now`, or says until when they are.
    fn release(&self, now: Option<Instant>) -> Option<Instant> {
        let mut matches = self.matches.lock();
        if !matches.held {
            return None;
        }
        if let (Some(now), Some(woken)) = (now, matches.woken) {
            let due = woken + pause(self.watches());
            if due > now {
                return Some(due);
            }
        }
        matches.held = false;
        matches.woken = Some(Instant::now());
        drop(matches);
        self.notify();
        None
    }

    /// What the group was told of from a revision on.
    fn chunk(&self, core: &Core, next: u64) -> Result<Option<Arc<Chunk>>, StoreError> {
        let mut matches = self.matches.lock();
        if matches.forgotten >= next {
            return Err(StoreError::Lagged);
        }
        let start = matches.revisions.partition_point(|revision| *revision < next);
        let (Some(first), Some(last)) = (matches.revisions.get(start), matches.revisions.back()) else {
            return Ok(None);
        };
        let same = |chunk: &&Arc<Chunk>| chunk.first == *first && (chunk.last == *last || chunk.is_full());
        if let Some(chunk) = matches.latest.as_ref().filter(same) {
            return Ok(Some(Arc::clone(chunk)));
        }
        let mut chunk = Chunk::default();
        {
            let state = core.state.read();
            for revision in matches.revisions.range(start..) {
                let batch = state.history.at(*revision).ok_or(StoreError::Lagged)?;
                chunk.push(batch, &self.range);
                if chunk.is_full() {
                    break;
                }
            }
        }
        let chunk = Arc::new(chunk);
        // A single watch does not need it.
        matches.latest = (self.watches() > 1).then(|| Arc::clone(&chunk));
        Ok(Some(chunk))
    }
}

/// How long the watches of a group rest between two rounds: about what a round costs. Changes gather
/// meanwhile and reach each watch in one message, so many watches never take the processor from the writers,
/// and a change after a quiet time still goes out at once.
fn pause(watches: usize) -> Duration {
    let watches = u32::try_from(watches).unwrap_or(u32::MAX);
    PAUSE_PER_WATCH.saturating_mul(watches).min(LONGEST_PAUSE)
}
