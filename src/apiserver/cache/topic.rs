//! Rings of changes that watchers read by cursor.
//!
//! Every kind has one topic with all its changes. Watches that are confined to a namespace, an object or the
//! value of an indexed field share a topic of their own, which exists as long as somebody watches it: a
//! node's kubelet is not woken for the pods of other nodes.
//!
//! Watchers that want every change of a topic are sent the same bytes: the newest piece of a topic's history
//! is written out once and shared by all who are about to read there.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use api::{Object, WatchEvent};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::entry::Change;

/// Bounds of one ring. A watcher that is further behind lists again, which costs it more than it costs
/// others: the bounds keep one slow reader from holding the memory of all.
const MOST_CHANGES: usize = 8192;
const MOST_BYTES: usize = 16 << 20;
/// Changes that are written out together, however small they are.
const MOST_WRITTEN: usize = 256;
/// Bytes that are written out for one watcher alone. Any number of them may hold such a piece unread, while
/// of pieces that are shared there are no more than there is history.
pub(crate) const ALONE: usize = 16 * 1024;
/// As long as upstream's etcd keeps history for clients that resume.
const OLDEST: Duration = Duration::from_secs(300);
/// How many changes ago an object must have been replaced for its typed form to be released. By the first age
/// components in this process have looked at the old and the new object. One that is late decodes the old one
/// again, which the second age releases.
const FORGOTTEN: [usize; 2] = [1024, 4096];

/// What waking one watcher and writing to it takes, about. A topic rests for as long as its watchers need:
/// with thousands of them a stream of changes would otherwise leave the processors nothing for the writers.
const EACH_WATCHER: Duration = Duration::from_micros(10);
const SHORTEST_REST: Duration = Duration::from_millis(1);
/// What a change may be late for.
const LONGEST_REST: Duration = Duration::from_millis(25);

/// What a topic is confined to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    Namespace(Box<str>),
    /// The storage key of one object.
    Object(Box<str>),
    /// Position among the strategy's indexed fields, and the value.
    Field(usize, Box<str>),
}

pub(crate) struct Topic {
    ring: Mutex<Ring>,
    pub(crate) changed: Notify,
    /// Watchers have changes to read and have not been woken for them yet. Set by the first change, so that
    /// the others of a burst cost no announcement.
    unannounced: AtomicBool,
    /// Watchers are not woken again before.
    rested: Mutex<Option<tokio::time::Instant>>,
    /// The newest changes, written out, for whoever reads there next. Locked before the ring.
    piece: Mutex<Option<Piece>>,
    present: Mutex<Option<Present>>,
}

/// What a watcher started with, as long as one has not read it to the end.
struct Present {
    state: (u64, usize),
    objects: Weak<[Arc<Object>]>,
}

/// Some consecutive changes, written out.
struct Piece {
    from: u64,
    /// The cursor behind them.
    to: u64,
    bytes: Bytes,
}

struct Ring {
    changes: VecDeque<Arc<Change>>,
    /// Sequence number of the first change held.
    first: u64,
    bytes: usize,
    /// Every change after this revision is in the ring.
    floor: u64,
    /// Nothing follows: the kind is gone.
    closed: bool,
}

/// The cursor points at changes that are gone.
#[derive(Debug)]
pub(crate) struct Lagged {
    pub(crate) floor: u64,
}

/// Why a watcher gets no further.
#[derive(Debug)]
pub(crate) enum Cut {
    Lagged(Lagged),
    /// The kind is gone, and everything has been read.
    Closed,
}

impl From<Lagged> for Cut {
    fn from(lagged: Lagged) -> Self {
        Cut::Lagged(lagged)
    }
}

impl Topic {
    pub(crate) fn new(floor: u64) -> Self {
        let ring = Ring { changes: VecDeque::new(), first: 0, bytes: 0, floor, closed: false };
        Topic {
            ring: Mutex::new(ring),
            changed: Notify::new(),
            unannounced: AtomicBool::new(false),
            rested: Mutex::new(None),
            piece: Mutex::new(None),
            present: Mutex::new(None),
        }
    }

    /// The objects that are there, in a state that a revision and their number tell from others: those that
    /// another watcher still holds, or what `find` finds.
    pub(crate) fn present(
        &self,
        state: (u64, usize),
        find: impl FnOnce() -> Arc<[Arc<Object>]>,
    ) -> Arc<[Arc<Object>]> {
        let mut present = self.present.lock();
        let known = present.as_ref().filter(|known| known.state == state);
        if let Some(objects) = known.and_then(|known| known.objects.upgrade()) {
            return objects;
        }
        let objects = find();
        *present = Some(Present { state, objects: Arc::downgrade(&objects) });
        objects
    }

    pub(crate) fn set_floor(&self, floor: u64) {
        self.ring.lock().floor = floor;
    }

    /// Nothing follows any more: watchers end once they have read what is there.
    pub(crate) fn close(&self) {
        self.ring.lock().closed = true;
        self.changed.notify_waiters();
    }

    pub(crate) fn push(&self, change: Arc<Change>) {
        let mut ring = self.ring.lock();
        ring.bytes += change.size();
        ring.changes.push_back(change);
        for age in FORGOTTEN {
            if let Some(at) = ring.changes.len().checked_sub(age + 1) {
                ring.changes[at].forget_typed();
            }
        }
        while ring.changes.len() > MOST_CHANGES || ring.bytes > MOST_BYTES {
            ring.drop_first();
        }
    }

    /// Whether this is the first change since the watchers were last woken.
    pub(crate) fn needs_announcement(&self) -> bool {
        !self.unannounced.swap(true, Ordering::AcqRel)
    }

    /// When the watchers may be woken.
    pub(crate) fn rested(&self) -> tokio::time::Instant {
        self.rested.lock().unwrap_or_else(tokio::time::Instant::now)
    }

    /// Wakes the watchers.
    pub(crate) fn announce(self: &Arc<Self>, now: tokio::time::Instant) {
        // Before waking: a change that comes later has to be announced again.
        self.unannounced.store(false, Ordering::Release);
        self.changed.notify_waiters();
        // Every watcher holds the topic.
        *self.rested.lock() = rest(Arc::strong_count(self)).map(|rest| now + rest);
    }

    /// Drops changes that are older than anyone can reasonably resume from.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let mut ring = self.ring.lock();
        while ring.changes.front().is_some_and(|change| now.duration_since(change.at) > OLDEST) {
            ring.drop_first();
        }
        if ring.changes.is_empty() {
            ring.changes.shrink_to_fit();
        }
        ring.changes.iter().for_each(|change| change.forget_typed());
        drop(ring);
        self.piece.lock().take();
    }

    /// Whether a watcher with this cursor has something to read, if only that it is too late.
    pub(crate) fn has_news(&self, cursor: u64) -> bool {
        let ring = self.ring.lock();
        ring.closed || cursor != ring.first + ring.changes.len() as u64
    }

    /// The changes from a cursor on in writing, up to about `most` bytes, and the new cursor; none if there
    /// are none. Those who share a topic write alike.
    pub(crate) fn read_written(
        &self,
        cursor: u64,
        most: usize,
        write: impl Fn(WatchEvent, &mut BytesMut),
    ) -> Result<Option<(Bytes, u64)>, Cut> {
        let mut piece = self.piece.lock();
        if let Some(piece) = &*piece
            && piece.from == cursor
        {
            return Ok(Some((piece.bytes.clone(), piece.to)));
        }
        // A watcher that is behind the others reads alone: its piece would push out the one that they share.
        let is_newest = piece.as_ref().is_none_or(|last| last.from < cursor);
        let most = if is_newest { most } else { most.min(ALONE) };
        let mut changes = VecDeque::new();
        self.read(cursor, MOST_WRITTEN, &mut changes)?;
        let mut to = cursor;
        let mut out = BytesMut::new();
        for change in changes {
            if out.len() >= most {
                break;
            }
            to += 1;
            if let Some(event) = change.event() {
                write(event, &mut out);
            }
        }
        if out.is_empty() {
            return Ok(None);
        }
        let bytes = fitting(out);
        if is_newest {
            *piece = Some(Piece { from: cursor, to, bytes: bytes.clone() });
        }
        Ok(Some((bytes, to)))
    }

    /// The cursor behind the newest change.
    pub(crate) fn end(&self) -> u64 {
        let ring = self.ring.lock();
        ring.first + ring.changes.len() as u64
    }

    /// The cursor before the first change after a revision.
    pub(crate) fn after(&self, revision: u64) -> Result<u64, Lagged> {
        let ring = self.ring.lock();
        if revision < ring.floor {
            return Err(Lagged { floor: ring.floor });
        }
        Ok(ring.first + ring.changes.partition_point(|change| change.revision <= revision) as u64)
    }

    /// Copies up to `most` changes from a cursor on and returns the new cursor.
    pub(crate) fn read(&self, cursor: u64, most: usize, out: &mut VecDeque<Arc<Change>>) -> Result<u64, Cut> {
        let ring = self.ring.lock();
        if cursor < ring.first {
            return Err(Lagged { floor: ring.floor }.into());
        }
        let skip = (cursor - ring.first) as usize;
        let available = ring.changes.len().saturating_sub(skip).min(most);
        if available == 0 && ring.closed {
            return Err(Cut::Closed);
        }
        out.extend(ring.changes.range(skip..skip + available).cloned());
        Ok(cursor + available as u64)
    }
}

/// The bytes in a buffer of their size: one that has grown is up to twice as large.
pub(crate) fn fitting(written: BytesMut) -> Bytes {
    match written.capacity() > written.len() + written.len() / 4 {
        true => Bytes::copy_from_slice(&written),
        false => written.freeze(),
    }
}

/// How long a topic is left alone after so many watchers have been woken: about as long as serving them takes
/// one processor. None below what timers can tell.
fn rest(watchers: usize) -> Option<Duration> {
    let rest = EACH_WATCHER * u32::try_from(watchers).unwrap_or(u32::MAX);
    (rest >= SHORTEST_REST).then(|| rest.min(LONGEST_REST))
}

impl Ring {
    fn drop_first(&mut self) {
        if let Some(change) = self.changes.pop_front() {
            self.first += 1;
            self.bytes = self.bytes.saturating_sub(change.size());
            self.floor = self.floor.max(change.revision);
        }
    }
}
