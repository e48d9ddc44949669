//! The watch cache: every current object, by kind, fed by the store before a write is acknowledged.
//!
//! A kind's cache holds the present objects and a bounded ring of changes. A watcher is a cursor into a ring,
//! never a queue of its own: it costs nothing while it is idle, and one that falls behind the ring is cut
//! off. Values are decrypted when they are taken in. Reads never touch the disk; only lists at an older
//! revision go to the store, which has them in memory.

mod entry;
mod fields;
mod kind;
mod selectable;
mod topic;
mod watcher;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::{KindRow, Object};
use bytes::Bytes;
use embedded_store::{Event, RangeRequest, Store, StoreError};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use entry::{Entry, Filter};
pub(crate) use fields::pick;
pub(crate) use kind::{Follower, KindCache, ObjectChange, Selection};
pub(crate) use topic::{ALONE, Cut, Lagged, fitting};
pub(crate) use watcher::{Start, Watcher};

use topic::Topic;

use selectable::Selectable;

use crate::encryption::Encryption;
use crate::strategy::{CachedObjects, Strategy};

/// Everything the API server stores lives below this.
pub(crate) const ROOT: &str = "/registry/";

/// All kinds' objects. Reads are short and never touch the disk.
pub(crate) struct Caches {
    /// By storage path, such as `pods` or `services/specs`.
    kinds: RwLock<HashMap<Box<str>, Arc<KindCache>>>,
    revision: Arc<Progress>,
    announcer: Arc<Announcer>,
    encryption: Arc<Encryption>,
    /// Revisions that arrived while the caches were being filled; none once they are. The caches follow the
    /// store before they read it, because a change between reading and following would be lost; what comes
    /// meanwhile waits here until what was read is in.
    early: Mutex<Option<Vec<Arc<[Event]>>>>,
}

/// The newest revision whose changes are in the caches.
#[derive(Default)]
pub(crate) struct Progress {
    revision: AtomicU64,
    changed: Notify,
}

/// Wakes watchers from a task of the runtime rather than from the store's thread: that thread has writes to
/// get on with, and one wake-up then stands for all changes of a group commit. A topic with very many
/// watchers rests after each wake-up (`topic::rest`), so that under a stream of changes a wake-up stands for
/// several of them.
#[derive(Default)]
pub(crate) struct Announcer {
    topics: Mutex<Vec<Arc<Topic>>>,
    some: Notify,
}

impl Announcer {
    fn announce(&self, topic: &Arc<Topic>) {
        if topic.needs_announcement() {
            self.topics.lock().push(topic.clone());
            self.some.notify_one();
        }
    }

    /// Never ends.
    async fn run(&self) {
        let mut resting: Vec<(Instant, Arc<Topic>)> = Vec::new();
        loop {
            match resting.iter().map(|(until, _)| *until).min() {
                None => self.some.notified().await,
                Some(until) => {
                    tokio::select! {
                        () = self.some.notified() => {}
                        () = tokio::time::sleep_until(until) => {}
                    }
                }
            }
            let now = Instant::now();
            for topic in std::mem::take(&mut *self.topics.lock()) {
                resting.push((topic.rested(), topic));
            }
            resting.retain(|(until, topic)| {
                if *until <= now {
                    topic.announce(now);
                }
                *until > now
            });
        }
    }
}

impl Progress {
    pub(crate) fn get(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    fn advance(&self, revision: u64) {
        self.revision.store(revision, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits until a revision is in the caches; false if that takes too long.
    pub(crate) async fn reach(&self, revision: u64, timeout: Duration) -> bool {
        let reached = async {
            loop {
                let changed = self.changed.notified();
                if self.get() >= revision {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(timeout, reached).await.is_ok()
    }
}

impl Caches {
    /// Of a store in which nothing is encrypted.
    #[cfg(test)]
    pub(crate) fn new() -> Arc<Self> {
        Self::over(Arc::default())
    }

    pub(crate) fn over(encryption: Arc<Encryption>) -> Arc<Self> {
        Arc::new(Caches {
            kinds: RwLock::default(),
            revision: Arc::default(),
            announcer: Arc::default(),
            encryption,
            early: Mutex::new(Some(Vec::new())),
        })
    }

    /// The cache of a row's storage path, made on first use; none if the row's objects are not stored. Kinds
    /// are registered before [`Caches::fill`].
    pub(crate) fn register(&self, row: &KindRow, strategy: Arc<dyn Strategy>) -> Option<Arc<KindCache>> {
        let path = row.storage.as_deref()?;
        let made = self.make(row, strategy)?;
        Some(self.kinds.write().entry(path.into()).or_insert(made).clone())
    }

    fn make(&self, row: &KindRow, strategy: Arc<dyn Strategy>) -> Option<Arc<KindCache>> {
        let selectable = Selectable::of(strategy);
        let (progress, announcer) = (self.revision.clone(), self.announcer.clone());
        let prefix = row.storage_prefix(None)?;
        let encryption = self.encryption.clone();
        Some(Arc::new(KindCache::new(row, prefix, selectable, progress, announcer, encryption)))
    }

    /// The cache of a kind that comes while the server runs, if it is not there already (a kind's versions
    /// share it): its objects are read from the store, and what is written meanwhile is taken in after them.
    pub(crate) fn add(
        &self,
        row: &KindRow,
        strategy: Arc<dyn Strategy>,
        store: &dyn Store,
    ) -> Result<Option<Arc<KindCache>>, StoreError> {
        let Some(path) = row.storage.as_deref() else { return Ok(None) };
        if let Some(kind) = self.kind(row) {
            return Ok(Some(kind));
        }
        let Some(kind) = self.make(row, strategy) else { return Ok(None) };
        kind.hold_back();
        self.kinds.write().insert(path.into(), kind.clone());
        let prefix = kind.prefix(None);
        let present = store.range(&RangeRequest {
            range_end: Some(format!("{}0", &prefix[..prefix.len() - 1]).into()),
            key: prefix.into(),
            ..RangeRequest::default()
        })?;
        let revision = present.revision;
        present.kvs.into_iter().for_each(|kv| kind.load(kv));
        kind.catch_up(revision);
        Ok(Some(kind))
    }

    /// Forgets a kind. Its watches end once they have read what there is.
    pub(crate) fn remove(&self, row: &KindRow) {
        let removed = row.storage.as_deref().and_then(|path| self.kinds.write().remove(path));
        if let Some(kind) = removed {
            kind.close();
        }
    }

    /// Reads everything from the store and follows it from then on.
    pub(crate) fn fill(self: &Arc<Self>, store: &dyn Store) -> Result<(), StoreError> {
        let caches = self.clone();
        let revision = store.observe(Arc::new(move |events, revision| caches.observe(events, revision)));
        let end = format!("{}0", &ROOT[..ROOT.len() - 1]);
        let all = store.range(&RangeRequest {
            key: ROOT.into(),
            range_end: Some(end.into()),
            revision,
            ..RangeRequest::default()
        })?;
        for kv in all.kvs {
            if let Some(kind) = self.kind_of_key(&kv.key) {
                kind.load(kv);
            }
        }
        for kind in self.kinds.read().values() {
            kind.loaded(revision);
        }
        self.revision.advance(revision);
        let mut early = self.early.lock();
        for events in early.take().into_iter().flatten() {
            self.apply(&events);
        }
        Ok(())
    }

    fn observe(&self, events: &Arc<[Event]>, revision: u64) {
        if let Some(early) = &mut *self.early.lock() {
            early.push(events.clone());
            return;
        }
        self.apply(events);
        self.revision.advance(revision);
    }

    fn apply(&self, events: &[Event]) {
        for event in events {
            if let Some(kind) = self.kind_of_key(&event.key) {
                kind.apply(event);
            }
        }
        if let Some(last) = events.last() {
            self.revision.advance(last.revision);
        }
    }

    fn kind_of_key(&self, key: &[u8]) -> Option<Arc<KindCache>> {
        let path = std::str::from_utf8(key.strip_prefix(ROOT.as_bytes())?).ok()?;
        let kinds = self.kinds.read();
        // A storage path is one segment or two (`pods`, `services/specs`).
        let mut ends = path.match_indices('/').map(|(at, _)| at).take(2);
        ends.find_map(|end| kinds.get(&path[..end])).cloned()
    }

    /// The cache of a row's objects.
    pub(crate) fn kind(&self, row: &KindRow) -> Option<Arc<KindCache>> {
        self.kinds.read().get(row.storage.as_deref()?).cloned()
    }

    /// Keys of all values that cannot be decrypted.
    pub(crate) fn unreadable(&self) -> Vec<Bytes> {
        self.kinds.read().values().flat_map(|kind| kind.unreadable_keys()).collect()
    }

    /// How many kinds are cached.
    #[cfg(test)]
    pub(crate) fn kinds(&self) -> usize {
        self.kinds.read().len()
    }

    /// Drops history that is past its age.
    pub(crate) fn sweep(&self) {
        let kinds: Vec<_> = self.kinds.read().values().cloned().collect();
        for kind in kinds {
            kind.sweep();
        }
    }

    /// Wakes watchers whenever there is something to see; never ends.
    pub(crate) async fn announce(&self) {
        self.announcer.run().await;
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.revision
    }

    /// The newest revision that can be read.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.get()
    }

    /// One object, as stored.
    pub(crate) fn get(&self, row: &KindRow, namespace: Option<&str>, name: &str) -> Option<Arc<Object>> {
        let kind = self.kind(row)?;
        kind.get(&kind.key(namespace, name)).map(|entry| entry.object.clone())
    }

    /// All objects of a kind, or of one namespace of it, in key order.
    pub(crate) fn list(&self, row: &KindRow, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let Some(kind) = self.kind(row) else { return Vec::new() };
        kind.list(&kind.prefix(namespace)).into_iter().map(|entry| entry.object.clone()).collect()
    }

    /// Objects whose indexed field has this value ([`Strategy::indexed_fields`]).
    pub(crate) fn indexed(&self, row: &KindRow, field: &str, value: &str) -> Vec<Arc<Object>> {
        let Some(kind) = self.kind(row) else { return Vec::new() };
        kind.indexed(field, value).into_iter().map(|entry| entry.object.clone()).collect()
    }

    /// Objects that refer to this name in their namespace ([`Strategy::indexed_references`]).
    pub(crate) fn referring(&self, row: &KindRow, namespace: Option<&str>, name: &str) -> Vec<Arc<Object>> {
        let Some(kind) = self.kind(row) else { return Vec::new() };
        kind.referring(namespace, name).into_iter().map(|entry| entry.object.clone()).collect()
    }

    /// Calls a follower for every object that a kind has, and then for each change: see [`ObjectChange`]. A
    /// kind that is not cached has nothing to tell of. A kind has one follower at most.
    pub(crate) fn follow(&self, row: &KindRow, follower: Box<Follower>) {
        if let Some(kind) = self.kind(row) {
            kind.follow(follower);
        }
    }
}

impl CachedObjects for Caches {
    fn get(&self, row: &KindRow, namespace: Option<&str>, name: &str) -> Option<Arc<Object>> {
        Caches::get(self, row, namespace, name)
    }

    fn list(&self, row: &KindRow, namespace: Option<&str>) -> Vec<Arc<Object>> {
        Caches::list(self, row, namespace)
    }

    fn indexed(&self, row: &KindRow, field: &str, value: &str) -> Vec<Arc<Object>> {
        Caches::indexed(self, row, field, value)
    }
}
