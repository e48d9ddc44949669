//! A watcher: a cursor into a topic, what it starts with, and its filter.

use std::collections::VecDeque;
use std::sync::Arc;

use api::{Object, WatchEvent};
use bytes::{Bytes, BytesMut};

use super::Progress;
use super::entry::{Change, Filter};
use super::topic::{Cut, Topic};

/// Changes copied from the ring at a time. They are copied so that the ring is not locked while a slow client
/// is served, and bounded so that the client does not hold a whole ring.
const BATCH: usize = 256;

/// Where a watch begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// With the present objects, as if they were added now.
    Present,
    /// With the next change.
    Now,
    /// With the first change after a revision.
    After(u64),
}

/// What was there at the start. Watchers that begin alike share it, so that thousands that nobody reads hold
/// it once.
#[derive(Default)]
pub(super) struct Initial {
    /// None once all have been asked for.
    pub(super) objects: Option<Arc<[Arc<Object>]>>,
    pub(super) next: usize,
}

impl Iterator for Initial {
    type Item = Arc<Object>;

    fn next(&mut self) -> Option<Arc<Object>> {
        let next = self.objects.as_ref()?.get(self.next).cloned();
        self.next += 1;
        if next.is_none() {
            self.objects = None;
        }
        next
    }
}

pub(crate) struct Watcher {
    pub(super) topic: Arc<Topic>,
    pub(super) cursor: u64,
    /// Changes copied and not delivered yet.
    pub(super) backlog: VecDeque<Arc<Change>>,
    pub(super) initial: Initial,
    pub(super) filter: Filter,
    /// Revision that the initial objects were read at.
    pub(super) revision: u64,
    /// Changes up to this revision are not delivered: the client has them.
    pub(super) skip_to: u64,
    pub(super) progress: Arc<Progress>,
}

impl Watcher {
    /// Revision that the initial objects were read at.
    pub(crate) fn start_revision(&self) -> u64 {
        self.revision
    }

    /// The next object that was there at the start.
    pub(crate) fn next_initial(&mut self) -> Option<Arc<Object>> {
        self.initial.next()
    }

    /// The next change that is at hand, without waiting.
    pub(crate) fn try_next(&mut self) -> Result<Option<WatchEvent>, Cut> {
        loop {
            while let Some(change) = self.backlog.pop_front() {
                if change.revision <= self.skip_to {
                    continue;
                }
                if let Some(event) = self.filter.event(&change) {
                    return Ok(Some(event));
                }
            }
            self.cursor = self.topic.read(self.cursor, BATCH, &mut self.backlog)?;
            if self.backlog.is_empty() {
                return Ok(None);
            }
        }
    }

    /// The changes that are at hand, in writing, if this watcher wants every change of its topic and can
    /// share the bytes with others. None says nothing: ask [`Watcher::try_next`].
    pub(crate) fn try_written(
        &mut self,
        most: usize,
        write: impl Fn(WatchEvent, &mut BytesMut),
    ) -> Option<Bytes> {
        // A watcher that is confined to a namespace reads that namespace's topic, which holds nothing else.
        let everything = self.filter.is_everything() && self.skip_to <= self.revision;
        if !everything || !self.backlog.is_empty() {
            return None;
        }
        let (bytes, cursor) = self.topic.read_written(self.cursor, most, write).ok()??;
        self.cursor = cursor;
        Some(bytes)
    }

    /// Returns once there may be a change, or the news that changes are gone.
    pub(crate) async fn changed(&self) {
        loop {
            // Asked for before looking, so that a change in between is not missed.
            let changed = self.topic.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.backlog.is_empty() || self.topic.has_news(self.cursor) {
                return;
            }
            changed.await;
        }
    }

    /// The newest revision up to which nothing is missing once [`Watcher::try_next`] has returned nothing:
    /// ask before draining.
    pub(crate) fn progress(&self) -> u64 {
        self.progress.get().max(self.revision)
    }
}
