//! The consumer's side of a watch: a cursor that reads the ring when it is asked to, and the stream over it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;

use super::{Group, Member, Notifier, Range};
use crate::state::core::Core;
use crate::state::history::Batch;
use crate::types::{Event, StoreError, WatchBatch, WatchRequest, WatchStream, in_range};

/// The most revisions, and about the most bytes, that a watch takes from the ring at a time.
const CHUNK: usize = 1024;
const CHUNK_BYTES: usize = 512 * 1024;
/// How many revisions a watch of the past scans before it releases the state's lock.
const SCANNED: usize = 4096;

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
    pub(super) first: u64,
    pub(crate) last: u64,
    /// Keys and values in it.
    bytes: usize,
    /// The events in the form in which a front passes them on, without and with old values; made by the first
    /// to need it.
    pub(crate) encoded: [OnceLock<Vec<Bytes>>; 2],
}

impl Chunk {
    pub(super) fn is_full(&self) -> bool {
        self.batches.len() >= CHUNK || self.bytes >= CHUNK_BYTES
    }

    pub(super) fn push(&mut self, batch: &Batch, range: &Range) {
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
