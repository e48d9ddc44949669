//! Informers: a local, always current copy of a kind's objects, and a call on every change.
//!
//! One list, then a watch from the list's version; after `Expired` a new list whose difference to the copy is
//! delivered as changes, so no deletion is ever missed. In process the copy shares its objects with the watch
//! cache. Each handler has a task and a queue of its own ([`listener`]); it should only note what to look at
//! (add a key to a work queue). Indexes alone are kept up in step with the copy ([`Informer::index`]).
//! There is no periodic resync: controllers are level-triggered and retry what fails.
//!
//! An informer runs as long as somebody holds it: a handle, a [`Subscription`], or a handler that was
//! registered for good. With the last of them it stops and lets go of its copy, so kinds that come and go
//! leave nothing behind.

mod listener;

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::{FieldSelector, KindRow, Kinded, LabelSelector, ListOptions, Object, WatchEvent, WatchOptions};
use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use supervisor::{CancellationToken, Latch, OnExit, Stage};
use tokio::time::Instant;

use crate::ObjectApi;
use listener::Listener;

/// The informers of one component or process; each kind is listed and watched once, however many use it.
#[derive(Clone)]
pub struct Informers {
    api: Arc<dyn ObjectApi>,
    stage: Stage,
    shared: Arc<Mutex<ByKind>>,
}

/// What is listed and watched, and in which scope.
type SharedKey = (String, String);
type ByKind = HashMap<SharedKey, (Weak<Raw>, Weak<Hold>)>;

/// The copy of one kind. Clones share it.
pub struct Informer<K> {
    raw: Arc<Raw>,
    hold: Arc<Hold>,
    kind: PhantomData<fn() -> K>,
}

/// Keeps an informer running; the last one that is dropped stops it.
struct Hold {
    stop: CancellationToken,
    shared: Weak<Mutex<ByKind>>,
    key: SharedKey,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.stop.cancel();
        let Some(shared) = self.shared.upgrade() else { return };
        let mut shared = shared.lock();
        // Another informer of the same name may have begun since.
        if shared.get(&self.key).is_some_and(|(_, hold)| hold.strong_count() == 0) {
            shared.remove(&self.key);
        }
    }
}

/// A handler that can be taken away again: dropping this does.
pub struct Subscription {
    raw: Arc<Raw>,
    id: u64,
    _hold: Arc<Hold>,
}

impl Subscription {
    /// Ends the subscription because the kind itself is gone: the handler is told that every object is.
    pub fn end_of_kind(self) {
        let mut handlers = self.raw.handlers.lock();
        let Some(at) = handlers.listeners.iter().position(|(id, _)| *id == self.id) else { return };
        let (_, listener) = handlers.listeners.swap_remove(at);
        let gone: Vec<Arc<Object>> = self.raw.cache.read().values().cloned().collect();
        drop(handlers);
        listener.end_with(gone.into_iter().map(|object| Change { old: Some(object), new: None }));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut handlers = self.raw.handlers.lock();
        let Some(at) = handlers.listeners.iter().position(|(id, _)| *id == self.id) else { return };
        let (_, listener) = handlers.listeners.swap_remove(at);
        drop(handlers);
        listener.end();
    }
}

/// What happened to one object: created (no `old`), changed, or deleted (no `new`).
#[derive(Debug)]
pub struct Change<T> {
    pub old: Option<Arc<T>>,
    pub new: Option<Arc<T>>,
}

impl<T> Clone for Change<T> {
    fn clone(&self) -> Self {
        Change { old: self.old.clone(), new: self.new.clone() }
    }
}

impl<T> Change<T> {
    /// The object as it is, or as it last was.
    pub fn latest(&self) -> &Arc<T> {
        match (&self.new, &self.old) {
            (Some(object), _) | (None, Some(object)) => object,
            (None, None) => unreachable!("a change has an old or a new object"),
        }
    }
}

type Key = (String, String);
type Handler = Box<dyn Fn(&Change<Object>) + Send>;

struct Raw {
    row: KindRow,
    cache: RwLock<BTreeMap<Key, Arc<Object>>>,
    handlers: Mutex<Handlers>,
    synced: Latch,
    /// Where the handlers' tasks run.
    stage: Stage,
    stop: CancellationToken,
}

#[derive(Default)]
struct Handlers {
    /// Called before a change is anybody else's.
    indexes: Vec<Handler>,
    listeners: Vec<(u64, Arc<Listener>)>,
    next: u64,
    /// One of them was registered for good. The task that owns this ends with the stage.
    kept: Option<Arc<Hold>>,
}

impl Informers {
    /// Informers that read through `api` and run in `stage`.
    pub fn new(api: Arc<dyn ObjectApi>, stage: Stage) -> Self {
        Informers { api, stage, shared: Arc::default() }
    }

    pub fn api(&self) -> &Arc<dyn ObjectApi> {
        &self.api
    }

    /// All objects of a kind.
    pub fn of<K: Kinded>(&self) -> Informer<K> {
        self.selected::<K>(None, LabelSelector::everything(), FieldSelector::default())
    }

    /// The objects of a kind in a namespace (or all), that match both selectors.
    pub fn selected<K: Kinded>(
        &self,
        namespace: Option<&str>,
        labels: LabelSelector,
        fields: FieldSelector,
    ) -> Informer<K> {
        self.informer(K::row(), namespace, labels, fields)
    }

    /// The objects of a row without a Rust type, such as a custom resource; only metadata is decoded.
    pub fn untyped(&self, row: &KindRow) -> Informer<Object> {
        self.informer(row, None, LabelSelector::everything(), FieldSelector::default())
    }

    /// How many kinds (and selections of a kind) are being followed.
    pub fn running(&self) -> usize {
        self.shared.lock().len()
    }

    fn informer<K>(
        &self,
        row: &KindRow,
        namespace: Option<&str>,
        labels: LabelSelector,
        fields: FieldSelector,
    ) -> Informer<K> {
        let scope = format!("{}|{labels}|{fields}", namespace.unwrap_or(""));
        let key = (format!("{}/{}", row.api_version(), row.plural), scope);
        let mut shared = self.shared.lock();
        if let Some((raw, hold)) = shared.get(&key)
            && let (Some(raw), Some(hold)) = (raw.upgrade(), hold.upgrade())
        {
            return Informer { raw, hold, kind: PhantomData };
        }
        let stop = self.stage.stopping().child_token();
        let raw = Arc::new(Raw {
            row: row.clone(),
            cache: RwLock::default(),
            handlers: Mutex::default(),
            synced: Latch::new(&row.plural),
            stage: self.stage.clone(),
            stop: stop.clone(),
        });
        let hold =
            Arc::new(Hold { stop: stop.clone(), shared: Arc::downgrade(&self.shared), key: key.clone() });
        shared.insert(key, (Arc::downgrade(&raw), Arc::downgrade(&hold)));
        drop(shared);
        let task = reflect(self.api.clone(), raw.clone(), namespace.map(str::to_string), labels, fields);
        self.stage.spawn_until(&format!("informer of {}", row.plural), OnExit::Stop, stop, task);
        Informer { raw, hold, kind: PhantomData }
    }
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Informer { raw: self.raw.clone(), hold: self.hold.clone(), kind: PhantomData }
    }
}

impl<K> Informer<K> {
    /// Returns once the first list is in the copy and has been delivered to the handlers registered before.
    pub async fn synced(&self) {
        self.raw.synced.wait().await;
    }

    /// The object without decoding it.
    pub fn object(&self, namespace: Option<&str>, name: &str) -> Option<Arc<Object>> {
        let key = (namespace.unwrap_or("").to_string(), name.to_string());
        self.raw.cache.read().get(&key).cloned()
    }

    /// All objects of a namespace, or all, without decoding them, sorted by namespace and name.
    pub fn objects(&self, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let cache = self.raw.cache.read();
        match namespace {
            None => cache.values().cloned().collect(),
            Some(namespace) => cache
                .range((namespace.to_string(), String::new())..)
                .take_while(|(key, _)| key.0 == namespace)
                .map(|(_, object)| object.clone())
                .collect(),
        }
    }

    /// Calls `handler` for every change from now on, after one call per object that is already there. The
    /// informer runs as long as its stage from then on; [`Informer::subscribe`] is for those who stop before.
    pub fn on_object_change(&self, handler: impl Fn(&Change<Object>) + Send + 'static) {
        self.register(handler);
        self.raw.handlers.lock().kept = Some(self.hold.clone());
    }

    /// [`Informer::on_object_change`] until the subscription is dropped.
    pub fn subscribe(&self, handler: impl Fn(&Change<Object>) + Send + 'static) -> Subscription {
        let id = self.register(handler);
        Subscription { raw: self.raw.clone(), id, _hold: self.hold.clone() }
    }

    /// Keeps an index of the copy: `update` is called for every object that is there and then for every
    /// change, as soon as the copy has it and before any handler. It holds everybody up, so its cost must not
    /// depend on what an object says. The informer runs as long as its stage from then on.
    pub fn index(&self, update: impl Fn(&Change<Object>) + Send + 'static) {
        let mut handlers = self.raw.handlers.lock();
        for object in self.objects(None) {
            update(&Change { old: None, new: Some(object) });
        }
        handlers.indexes.push(Box::new(update));
        handlers.kept = Some(self.hold.clone());
    }

    fn register(&self, handler: impl Fn(&Change<Object>) + Send + 'static) -> u64 {
        let mut handlers = self.raw.handlers.lock();
        for object in self.objects(None) {
            handler(&Change { old: None, new: Some(object) });
        }
        let id = handlers.next;
        handlers.next += 1;
        let stop = self.raw.stop.child_token();
        let listener = Listener::new(Box::new(handler), stop.clone());
        handlers.listeners.push((id, listener.clone()));
        let name = format!("handlers of {}", self.raw.row.plural);
        self.raw.stage.spawn_until(&name, OnExit::Stop, stop, listener.run());
        id
    }
}

impl<K: Kinded> Informer<K> {
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        self.object(namespace, name).and_then(|object| decoded(&object))
    }

    /// All objects of a namespace, or all, sorted by namespace and name.
    pub fn list(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        self.objects(namespace).iter().filter_map(|object| decoded(object)).collect()
    }

    /// The typed form of [`Informer::on_object_change`].
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + 'static) {
        self.on_object_change(move |change| {
            let old = change.old.as_ref().and_then(|object| decoded(object));
            let new = change.new.as_ref().and_then(|object| decoded(object));
            if old.is_some() || new.is_some() {
                handler(&Change { old, new });
            }
        });
    }
}

fn decoded<K: Kinded>(object: &Object) -> Option<Arc<K>> {
    match object.typed() {
        Ok(typed) => Some(typed),
        Err(error) => {
            tracing::warn!(?object, kind = %K::row().kind, %error, "object cannot be decoded and is passed over");
            None
        }
    }
}

fn key_of(object: &Object) -> Key {
    (object.namespace().unwrap_or("").to_string(), object.name().to_string())
}

impl Raw {
    fn dispatch(&self, handlers: &Handlers, old: Option<Arc<Object>>, new: Option<Arc<Object>>) {
        let change = Change { old, new };
        handlers.indexes.iter().for_each(|update| update(&change));
        for (_, listener) in &handlers.listeners {
            listener.push(change.clone());
        }
    }

    /// Returns once no handler is too far behind.
    async fn room(&self) {
        let full = |listeners: &[(u64, Arc<Listener>)]| {
            listeners.iter().map(|(_, listener)| listener).find(|listener| listener.is_full()).cloned()
        };
        loop {
            let Some(behind) = full(&self.handlers.lock().listeners) else { return };
            behind.room().await;
        }
    }

    /// Returns once the handlers have seen all changes so far.
    async fn delivered(&self) {
        let listeners: Vec<_> =
            self.handlers.lock().listeners.iter().map(|(_, listener)| listener.clone()).collect();
        for listener in listeners {
            listener.delivered().await;
        }
    }

    fn apply(&self, event: &WatchEvent) {
        let handlers = self.handlers.lock();
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let old = self.cache.write().insert(key_of(object), object.clone());
                self.dispatch(&handlers, old, Some(object.clone()));
            }
            WatchEvent::Deleted(object) => {
                self.cache.write().remove(&key_of(object));
                self.dispatch(&handlers, Some(object.clone()), None);
            }
            WatchEvent::Bookmark { .. } | WatchEvent::Error(_) => {}
        }
    }

    /// Brings the copy to a list's content and delivers the difference.
    fn replace(&self, items: Vec<Arc<Object>>) {
        let handlers = self.handlers.lock();
        let fresh: BTreeMap<Key, Arc<Object>> =
            items.into_iter().map(|object| (key_of(&object), object)).collect();
        let stale = std::mem::replace(&mut *self.cache.write(), fresh.clone());
        for (key, old) in &stale {
            if !fresh.contains_key(key) {
                self.dispatch(&handlers, Some(old.clone()), None);
            }
        }
        for (key, new) in fresh {
            let old = stale.get(&key).cloned();
            if old.as_ref().is_none_or(|old| old.resource_version() != new.resource_version()) {
                self.dispatch(&handlers, old, Some(new));
            }
        }
    }
}

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Lists and watches for ever.
async fn reflect(
    api: Arc<dyn ObjectApi>,
    raw: Arc<Raw>,
    namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
) {
    let list = ListOptions { labels: labels.clone(), fields: fields.clone(), ..ListOptions::default() };
    let watch = WatchOptions { labels, fields, allow_bookmarks: true, ..WatchOptions::default() };
    let namespace = namespace.as_deref();
    let mut delay = FIRST_DELAY;
    loop {
        let error = match api.list(&raw.row, namespace, &list).await {
            Ok(list) => {
                raw.replace(list.items);
                if !raw.synced.is_open() {
                    raw.delivered().await;
                    raw.synced.open();
                }
                let began = Instant::now();
                let error = follow(&*api, &raw, namespace, &watch, list.resource_version, &mut delay).await;
                if began.elapsed() > LONGEST_DELAY {
                    delay = FIRST_DELAY;
                }
                error
            }
            Err(error) => error,
        };
        if !error.is_expired() {
            tracing::debug!(resource = %raw.row.plural, %error, "list or watch failed, will retry");
            tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..1.0))).await;
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }
}

/// Watches from a version until the server cannot go on from there. The delay begins anew with the first
/// event: where lists are answered and watches refused, as for want of streams, it has to grow.
async fn follow(
    api: &dyn ObjectApi,
    raw: &Raw,
    namespace: Option<&str>,
    options: &WatchOptions,
    mut version: u64,
    delay: &mut Duration,
) -> api::ApiError {
    loop {
        let options = WatchOptions { resource_version: Some(version.to_string()), ..options.clone() };
        let mut events = match api.watch(&raw.row, namespace, &options).await {
            Ok(events) => events,
            Err(error) => return error,
        };
        let mut moved = false;
        while let Some(event) = events.next().await {
            match &event {
                WatchEvent::Error(error) => return error.clone(),
                WatchEvent::Bookmark { resource_version, .. } => version = *resource_version,
                WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                    version = object.resource_version();
                }
            }
            moved = true;
            *delay = FIRST_DELAY;
            raw.apply(&event);
            raw.room().await;
        }
        if !moved {
            // A server that accepts watches and ends them at once must not be hammered.
            return api::ApiError::unavailable("the watch ended without an event");
        }
    }
}

#[cfg(test)]
mod tests;
