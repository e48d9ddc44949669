//! The objects of one kind, its indexes and its topics.
//!
//! All that must agree changes under one lock, the state's: objects, indexes, rings, and what the follower is
//! told. So a list never sees half a change, and a watch that begins meanwhile gets each change exactly once,
//! from the objects or from the ring. Readers do nothing but clone `Arc`s under it. Locks are taken in the
//! order early, state, confined, and then those of a topic.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, OnceLock, Weak};

use api::{KindRow, Object};
use bytes::Bytes;
use embedded_store::{Event, KeyValue};
use parking_lot::{Mutex, RwLock};

use super::entry::{Change, Entry, Filter};
use super::selectable::{Selectable, reference};
use super::topic::{Topic, TopicKey};
use super::{Announcer, Progress, ROOT};
use crate::encryption::{self, Encryption};

mod watch;

pub(crate) struct KindCache {
    /// `/registry/pods/`.
    prefix: String,
    namespaced: bool,
    selectable: Arc<Selectable>,
    state: RwLock<State>,
    /// All changes of the kind.
    all: Arc<Topic>,
    /// Topics of namespaces, objects and field values. Their watchers own them: a topic without watchers
    /// costs nothing, and the entry goes when the next change meets it.
    confined: Mutex<HashMap<TopicKey, Weak<Topic>>>,
    progress: Arc<Progress>,
    announcer: Arc<Announcer>,
    encryption: Arc<Encryption>,
    /// Changes that arrive while the objects of a kind that has just come are read; none otherwise.
    early: Mutex<Option<Vec<Event>>>,
    follower: OnceLock<Box<Follower>>,
}

/// What a follower is told: the state of one object.
pub(crate) struct ObjectChange<'a> {
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    /// Whether there was no such object before.
    pub(crate) is_new: bool,
    /// None if it is gone.
    pub(crate) object: Option<&'a Arc<Object>>,
}

/// Called under the kind's lock and on the store's thread, before a write is acknowledged: it notes what it
/// is told, works on it elsewhere, and asks the caches nothing.
pub(crate) type Follower = dyn Fn(&ObjectChange<'_>) + Send + Sync;

#[derive(Default)]
struct State {
    /// Changes up to this revision were in what was read from the store; they arrive again as changes that
    /// were held back, and are then left out.
    loaded: u64,
    /// By storage key.
    objects: BTreeMap<Bytes, Arc<Entry>>,
    /// By position of the indexed field and value; no empty maps.
    index: HashMap<(usize, Box<str>), BTreeMap<Bytes, Arc<Entry>>>,
    /// By what an object refers to; no empty maps.
    referring: HashMap<Box<str>, BTreeMap<Bytes, Arc<Entry>>>,
    /// Values that cannot be decrypted, and why. Of an object that could be read before, the version from
    /// then stays among the objects: it is not gone, and nobody is to be told that it is.
    unreadable: BTreeMap<Bytes, Arc<str>>,
    /// Revision of the newest change.
    revision: u64,
}

/// What a list finds.
#[derive(Default)]
pub(crate) struct Selection {
    pub(crate) objects: Vec<Arc<Object>>,
    /// Storage key of the last entry, if there may be more after it.
    pub(crate) last_key: Option<Bytes>,
    /// How many keys follow `last_key`, whether they match or not.
    pub(crate) remaining: u64,
    pub(crate) revision: u64,
}

impl KindCache {
    /// The cache of a row whose objects are stored below `prefix`.
    pub(super) fn new(
        row: &KindRow,
        prefix: String,
        selectable: Selectable,
        progress: Arc<Progress>,
        announcer: Arc<Announcer>,
        encryption: Arc<Encryption>,
    ) -> Self {
        KindCache {
            prefix,
            namespaced: row.namespaced(),
            selectable: Arc::new(selectable),
            state: RwLock::default(),
            all: Arc::new(Topic::new(0)),
            confined: Mutex::default(),
            progress,
            announcer,
            encryption,
            early: Mutex::new(None),
            follower: OnceLock::new(),
        }
    }

    /// [`super::Caches::follow`].
    pub(super) fn follow(&self, follower: Box<Follower>) {
        // Held throughout: a change is either among the objects, or told after them.
        let state = self.state.write();
        for (key, entry) in &state.objects {
            self.told(key, None, Some(entry), &*follower);
        }
        let is_first = self.follower.set(follower).is_ok();
        debug_assert!(is_first, "a kind has one follower");
    }

    fn told(&self, key: &[u8], old: Option<&Arc<Entry>>, new: Option<&Arc<Entry>>, follower: &Follower) {
        let Some(path) = key.strip_prefix(self.prefix.as_bytes()) else { return };
        let Ok(path) = std::str::from_utf8(path) else { return };
        let (namespace, name) = match path.split_once('/').filter(|_| self.namespaced) {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, path),
        };
        let object = new.map(|entry| &entry.object);
        follower(&ObjectChange { namespace, name, is_new: old.is_none(), object });
    }

    /// Changes wait until [`KindCache::catch_up`].
    pub(super) fn hold_back(&self) {
        *self.early.lock() = Some(Vec::new());
    }

    /// The objects as of this revision are loaded: changes after it are taken in, and nothing waits any more.
    pub(super) fn catch_up(&self, revision: u64) {
        let mut early = self.early.lock();
        self.loaded(revision);
        self.state.write().loaded = revision;
        early.take().into_iter().flatten().for_each(|event| self.take(&event));
    }

    /// The kind is gone.
    pub(super) fn close(&self) {
        self.all.close();
        self.confined.lock().values().filter_map(Weak::upgrade).for_each(|topic| topic.close());
    }

    /// Takes an object in while the caches are filled.
    pub(super) fn load(&self, kv: KeyValue) {
        let entry = match self.decode(&kv) {
            Decoded::Object(entry) => entry,
            Decoded::Unreadable(why) => {
                self.state.write().unreadable.insert(kv.key, why);
                return;
            }
            Decoded::Nothing => return,
        };
        let mut state = self.state.write();
        self.index(&mut state, &kv.key, None, Some(&entry));
        state.revision = state.revision.max(kv.mod_revision);
        state.objects.insert(kv.key, entry);
    }

    /// Filling is over. There is no history before this revision: what was read says what is there, not how
    /// it came about, so a watch from an earlier revision must list again.
    pub(super) fn loaded(&self, revision: u64) {
        self.all.set_floor(revision);
    }

    pub(super) fn apply(&self, event: &Event) {
        let mut early = self.early.lock();
        match &mut *early {
            Some(waiting) => waiting.push(event.clone()),
            None => self.take(event),
        }
    }

    fn take(&self, event: &Event) {
        let decoded = event.new.as_ref().map(|kv| self.decode(kv));
        let mut state = self.state.write();
        if event.revision <= state.loaded {
            return;
        }
        let new = match decoded {
            Some(Decoded::Object(entry)) => Some(entry),
            Some(Decoded::Unreadable(why)) => {
                state.unreadable.insert(event.key.clone(), why);
                return;
            }
            Some(Decoded::Nothing) | None => None,
        };
        if !state.unreadable.is_empty() {
            state.unreadable.remove(&event.key);
        }
        let old = match &new {
            Some(entry) => state.objects.insert(event.key.clone(), entry.clone()),
            None => state.objects.remove(&event.key),
        };
        self.index(&mut state, &event.key, old.as_ref(), new.as_ref());
        state.revision = event.revision;
        if old.is_some() || new.is_some() {
            if let Some(follower) = self.follower.get() {
                self.told(&event.key, old.as_ref(), new.as_ref(), &**follower);
            }
            let change = Arc::new(Change::new(event.revision, old, new));
            self.publish(&event.key, &change);
            // Under the lock, so that a watcher that subscribes gets it either from the objects or from the
            // ring.
            self.all.push(change);
            self.announcer.announce(&self.all);
        }
    }

    fn index(&self, state: &mut State, key: &Bytes, old: Option<&Arc<Entry>>, new: Option<&Arc<Entry>>) {
        for (at, field) in self.selectable.indexed.iter().enumerate() {
            if let Some(old) = old {
                let slot = (at, Box::from(old.field(&self.selectable, field)));
                if let Some(entries) = state.index.get_mut(&slot) {
                    entries.remove(key);
                    if entries.is_empty() {
                        state.index.remove(&slot);
                    }
                }
            }
            if let Some(new) = new {
                let slot = (at, Box::from(new.field(&self.selectable, field)));
                state.index.entry(slot).or_default().insert(key.clone(), new.clone());
            }
        }
        for name in old.map(|old| self.selectable.references(&old.object)).unwrap_or_default() {
            if let Some(entries) = state.referring.get_mut(&name) {
                entries.remove(key);
                if entries.is_empty() {
                    state.referring.remove(&name);
                }
            }
        }
        if let Some(new) = new {
            for name in self.selectable.references(&new.object) {
                state.referring.entry(name).or_default().insert(key.clone(), new.clone());
            }
        }
    }

    /// Hands a change to the confined topics that it concerns: by the old object as well as by the new one,
    /// since a watcher must learn of an object that leaves its namespace, its node or its value.
    fn publish(&self, key: &Bytes, change: &Arc<Change>) {
        let mut confined = self.confined.lock();
        if confined.is_empty() {
            return;
        }
        let mut keys = Vec::with_capacity(4);
        if let Ok(key) = std::str::from_utf8(key) {
            keys.push(TopicKey::Object(key.into()));
        }
        for entry in [&change.old, &change.new].into_iter().flatten() {
            if let Some(namespace) = entry.object.namespace() {
                keys.push(TopicKey::Namespace(namespace.into()));
            }
            for (at, field) in self.selectable.indexed.iter().enumerate() {
                keys.push(TopicKey::Field(at, entry.field(&self.selectable, field).into()));
            }
        }
        // Old and new object most often name the same topics, and each topic gets the change once.
        let mut done: Vec<&TopicKey> = Vec::with_capacity(keys.len());
        for key in &keys {
            if done.contains(&key) {
                continue;
            }
            done.push(key);
            match confined.get(key).map(Weak::upgrade) {
                Some(Some(topic)) => {
                    topic.push(change.clone());
                    self.announcer.announce(&topic);
                }
                Some(None) => drop(confined.remove(key)),
                None => {}
            }
        }
    }

    pub(crate) fn selectable(&self) -> &Arc<Selectable> {
        &self.selectable
    }

    /// `/registry/pods/`, or of one namespace `/registry/pods/NS/`.
    pub(crate) fn prefix(&self, namespace: Option<&str>) -> String {
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{}{namespace}/", self.prefix),
            None => self.prefix.clone(),
        }
    }

    /// `/registry/pods/NS/NAME`.
    pub(crate) fn key(&self, namespace: Option<&str>, name: &str) -> String {
        let mut key = self.prefix(namespace);
        key.push_str(name);
        key
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.read().objects.get(key.as_bytes()).cloned()
    }

    pub(crate) fn list(&self, prefix: &str) -> Vec<Arc<Entry>> {
        let state = self.state.read();
        if prefix == self.prefix {
            return state.objects.values().cloned().collect();
        }
        below(&state.objects, None, prefix).map(|(_, entry)| entry.clone()).collect()
    }

    pub(super) fn indexed(&self, field: &str, value: &str) -> Vec<Arc<Entry>> {
        let Some(at) = self.selectable.indexed.iter().position(|one| *one == field) else {
            return Vec::new();
        };
        let state = self.state.read();
        state
            .index
            .get(&(at, Box::from(value)))
            .map(|found| found.values().cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn referring(&self, namespace: Option<&str>, name: &str) -> Vec<Arc<Entry>> {
        let state = self.state.read();
        let found = state.referring.get(&reference(namespace, name));
        found.map(|found| found.values().cloned().collect()).unwrap_or_default()
    }

    /// Why a value cannot be read, below a prefix or at a key; none if all can.
    pub(crate) fn unreadable(&self, prefix: &str) -> Option<Arc<str>> {
        let state = self.state.read();
        if state.unreadable.is_empty() {
            return None;
        }
        let (key, why) = state
            .unreadable
            .range::<[u8], _>((Bound::Included(prefix.as_bytes()), Bound::Unbounded))
            .next()?;
        let is_it =
            if prefix.ends_with('/') { key.starts_with(prefix.as_bytes()) } else { key == prefix.as_bytes() };
        is_it.then(|| why.clone())
    }

    pub(super) fn unreadable_keys(&self) -> Vec<Bytes> {
        self.state.read().unreadable.keys().cloned().collect()
    }

    /// Revision of the newest change.
    pub(crate) fn last_change(&self) -> u64 {
        self.state.read().revision
    }

    /// Number of objects.
    pub(crate) fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// Objects that match, in key order, from the key after `after` on, at most `limit` (0: all).
    pub(crate) fn select(&self, filter: &Filter, after: Option<&str>, limit: usize) -> Selection {
        let prefix = self.prefix_of(filter);
        let state = self.state.read();
        let revision = self.progress.get().max(state.revision);
        let mut selection = Selection { revision, ..Selection::default() };
        // The index has the pods of a node; without it each kubelet's list would look at every pod. An empty
        // value is what most objects have, so its index would be no smaller than the whole.
        let indexed = self.selectable.indexed.iter().enumerate().find_map(|(at, field)| {
            filter.demands(field).filter(|value| !value.is_empty()).map(|value| (at, Box::from(value)))
        });
        let empty = BTreeMap::new();
        let source = match indexed {
            Some(slot) => state.index.get(&slot).unwrap_or(&empty),
            None => &state.objects,
        };
        let mut candidates = below(source, after, &prefix);
        // The keys say which namespace an object is in; looking into each would fetch as much memory as the
        // list itself.
        let all = filter.is_everything();
        for (key, entry) in candidates.by_ref() {
            if !all && !filter.matches(entry) {
                continue;
            }
            selection.objects.push(entry.object.clone());
            if limit != 0 && selection.objects.len() == limit {
                selection.last_key = Some(key.clone());
                break;
            }
        }
        if selection.last_key.is_some() {
            selection.remaining = candidates.count() as u64;
            if selection.remaining == 0 {
                selection.last_key = None;
            }
        }
        selection
    }

    fn prefix_of(&self, filter: &Filter) -> String {
        self.prefix(filter.namespace.as_deref())
    }

    pub(super) fn sweep(&self) {
        self.all.sweep();
        let mut confined = self.confined.lock();
        confined.retain(|_, topic| match topic.upgrade() {
            Some(topic) => {
                topic.sweep();
                true
            }
            None => false,
        });
    }
}

/// What has a key with this prefix, which ends in `/`, behind the key `after`. `0` follows `/` in ASCII, so
/// the prefix with `0` in its place is the first key that is not below it.
fn below<'a>(
    objects: &'a BTreeMap<Bytes, Arc<Entry>>,
    after: Option<&str>,
    prefix: &str,
) -> impl Iterator<Item = (&'a Bytes, &'a Arc<Entry>)> {
    let from = match after {
        Some(after) => Bound::Excluded(after.as_bytes()),
        None => Bound::Included(prefix.as_bytes()),
    };
    let end = format!("{}0", prefix.trim_end_matches('/'));
    // Nothing can be behind a key that lies behind the prefix; such a range would be no range.
    let within = after.is_none_or(|after| after < end.as_str());
    within.then(|| objects.range::<[u8], _>((from, Bound::Excluded(end.as_bytes())))).into_iter().flatten()
}

/// What a stored value is.
enum Decoded {
    Object(Arc<Entry>),
    /// It is encrypted and does not open, for this reason.
    Unreadable(Arc<str>),
    /// No object, whatever it is.
    Nothing,
}

impl KindCache {
    fn decode(&self, kv: &KeyValue) -> Decoded {
        let value = match self.encryption.read(&kv.key, &kv.value) {
            Ok(value) => value,
            Err(why) => {
                let why = encryption::unreadable(&kv.key, &why);
                tracing::error!("{why}");
                return Decoded::Unreadable(why.into());
            }
        };
        match Object::from_stored(value, kv.mod_revision) {
            Ok(object) => Decoded::Object(Arc::new(Entry::new(Arc::new(object)))),
            Err(error) => {
                let key = String::from_utf8_lossy(&kv.key);
                tracing::error!(%key, %error, "a value below {ROOT} is not an object; it is not served");
                Decoded::Nothing
            }
        }
    }
}
