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
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use futures::task::AtomicWaker;
use parking_lot::Mutex;

use crate::state::core::Core;
use crate::state::history::Batch;
use crate::types::{Event, StoreError, WatchBatch, WatchRequest, WatchStream, in_range};

/// The most revisions, and about the most bytes, that a watch takes from the ring at a time.
const CHUNK: usize = 1024;
const CHUNK_BYTES: usize = 512 * 1024;
/// How many revisions a watch of the past scans before it releases the state's lock.
const SCANNED: usize = 4096;
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

/// A cursor in the changes of a range. It never waits; its notifier says when to look again.
pub(crate) struct Cursor {
    core: Arc<Core>,
    group: Arc<Group>,
    member: Arc<Member>,
    number: u64,
    /// The first revision not yet looked at.
    next: u64,
    /// Up to this revision the ring is scanned; after it the group says which revisions concern it.
    caught_up: u64,
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.core.hub.leave(&self.group, self.number);
    }
}

/// A new watch; the notifier is told `id` when there is something to look at, which there may be at once.
pub(crate) fn follow(
    core: &Arc<Core>,
    request: &WatchRequest,
    notifier: &Arc<Notifier>,
    id: i64,
) -> Result<Cursor, StoreError> {
    if request.key.is_empty() {
        return Err(StoreError::EmptyKey);
    }
    let member = Arc::new(Member { notifier: Arc::clone(notifier), id, notified: AtomicBool::new(false) });
    let range = (request.key.clone(), request.range_end.clone());
    let (group, number) = core.hub.join(range, Arc::clone(&member));
    let (revision, floor) = {
        let state = core.state.read();
        (state.revision, state.history.floor())
    };
    let next = if request.start_revision == 0 { revision + 1 } else { request.start_revision };
    member.notify();
    let cursor = Cursor { core: Arc::clone(core), group, member, number, next, caught_up: revision };
    if next < floor && next <= revision {
        return Err(StoreError::Compacted { oldest: floor });
    }
    Ok(cursor)
}

/// A watch as the store's interface has it: revision by revision.
pub(crate) fn open(core: &Arc<Core>, request: &WatchRequest) -> Result<WatchStream, StoreError> {
    let notifier = Arc::new(Notifier::default());
    let cursor = follow(core, request, &notifier, 0)?;
    let (ready, notified) = (VecDeque::new(), VecDeque::new());
    Ok(Box::pin(Single { cursor: Some(cursor), notifier, ready, notified }))
}

struct Single {
    /// `None` once the watch has failed.
    cursor: Option<Cursor>,
    notifier: Arc<Notifier>,
    ready: VecDeque<WatchBatch>,
    notified: VecDeque<i64>,
}

impl Stream for Single {
    type Item = Result<WatchBatch, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(batch) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(batch)));
            }
            let Some(cursor) = &mut this.cursor else { return Poll::Ready(None) };
            match cursor.take() {
                Ok(Some(chunk)) => this.ready.extend(chunk.batches.iter().cloned()),
                Ok(None) => {
                    this.notifier.listen(cx, &mut this.notified);
                    if this.notified.drain(..).next().is_none() {
                        return Poll::Pending;
                    }
                }
                Err(e) => {
                    this.cursor = None;
                    return Poll::Ready(Some(Err(e)));
                }
            }
        }
    }
}

impl Cursor {
    /// The next changes that are there, `None` if there are none now. Watches of a range that are equally far
    /// get the same chunk.
    pub(crate) fn take(&mut self) -> Result<Option<Arc<Chunk>>, StoreError> {
        // Changes from here on notify again.
        self.member.notified.store(false, Ordering::Release);
        if self.core.is_stopped() {
            return Err(StoreError::Stopped);
        }
        while self.next <= self.caught_up {
            if let Some(chunk) = self.catch_up()? {
                return Ok(Some(chunk));
            }
        }
        let chunk = self.group.chunk(&self.core, self.next)?;
        if let Some(chunk) = &chunk {
            self.next = chunk.last + 1;
        }
        Ok(chunk)
    }

    /// Scans history that is older than the watch, a part at a time.
    fn catch_up(&mut self) -> Result<Option<Arc<Chunk>>, StoreError> {
        let state = self.core.state.read();
        if self.next < state.history.floor() {
            return Err(StoreError::Lagged);
        }
        let mut chunk = Chunk::default();
        let from = self.next;
        self.next = self.caught_up + 1;
        let missed = state.history.since(from).take_while(|batch| batch.revision <= self.caught_up);
        for (scanned, batch) in missed.enumerate() {
            if scanned == SCANNED || chunk.is_full() {
                self.next = batch.revision;
                break;
            }
            chunk.push(batch, &self.group.range);
        }
        Ok((!chunk.batches.is_empty()).then(|| Arc::new(chunk)))
    }
}

/// Changes of a range, some revisions of them, shared by the watches that are equally far.
#[derive(Default)]
pub(crate) struct Chunk {
    pub(crate) batches: Vec<WatchBatch>,
    /// The revisions it reaches from and to.
    first: u64,
    pub(crate) last: u64,
    /// Keys and values in it.
    bytes: usize,
    /// The events in the form in which a front passes them on, without and with old values; made by the first
    /// to need it.
    pub(crate) encoded: [OnceLock<Vec<Bytes>>; 2],
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.batches.len() >= CHUNK || self.bytes >= CHUNK_BYTES
    }

    fn push(&mut self, batch: &Batch, range: &Range) {
        self.last = batch.revision;
        if self.first == 0 {
            self.first = batch.revision;
        }
        if let Some(batch) = filter(batch, range) {
            self.bytes += batch.events.iter().map(Event::size).sum::<usize>();
            self.batches.push(batch);
        }
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
