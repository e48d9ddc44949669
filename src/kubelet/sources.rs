//! Config maps and secrets that pods of this node use: read when first needed, then watched one by one (a
//! node may not list them all) for as long as a pod uses them. A change wakes the pods.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, FieldSelector, KindRow, Kinded, ListOptions, Object, WatchEvent, WatchOptions};
use client::{ObjectApi, ObjectRef};
use futures::StreamExt;
use parking_lot::Mutex;
use supervisor::{CancellationToken, OnExit, Stage};

use crate::wake::{WakeReason, Wakers};

/// Resource, namespace and name.
type Key = (String, String, String);

#[derive(Clone)]
pub(crate) struct Sources {
    api: Arc<dyn ObjectApi>,
    stage: Stage,
    wakers: Wakers,
    entries: Arc<Mutex<HashMap<Key, Entry>>>,
}

struct Entry {
    users: HashSet<String>,
    stop: CancellationToken,
    /// The object, or that there is none; unknown until first read.
    value: Option<Option<Arc<Object>>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Sources {
    pub(crate) fn new(api: Arc<dyn ObjectApi>, stage: Stage, wakers: Wakers) -> Self {
        Sources { api, stage, wakers, entries: Arc::default() }
    }

    /// The object for a pod, which will be woken when it changes; `None` if it does not exist.
    pub(crate) async fn get<K: Kinded>(
        &self,
        user: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<K>>, ApiError> {
        let row = K::row();
        let key: Key = (row.plural.to_string(), namespace.to_string(), name.to_string());
        let known = {
            let mut entries = self.entries.lock();
            let entry = entries.entry(key.clone()).or_insert_with(|| self.begin(row, &key));
            entry.users.insert(user.to_string());
            entry.value.clone()
        };
        let object = match known {
            Some(object) => object,
            None => {
                let object = found(self.api.get(row, ObjectRef::new(Some(namespace), name)).await)?;
                if let Some(entry) = self.entries.lock().get_mut(&key) {
                    entry.value.get_or_insert_with(|| object.clone());
                }
                object
            }
        };
        let decoded = object.map(|object| object.typed::<K>()).transpose();
        decoded.map_err(|error| ApiError::internal(format!("decoding {} {name:?}: {error}", row.plural)))
    }

    /// The pod no longer uses anything.
    pub(crate) fn release(&self, user: &str) {
        self.entries.lock().retain(|_, entry| {
            entry.users.remove(user);
            !entry.users.is_empty()
        });
    }

    fn begin(&self, row: &'static KindRow, key: &Key) -> Entry {
        let stop = CancellationToken::new();
        let (sources, key, stopped) = (self.clone(), key.clone(), stop.clone());
        self.stage.spawn_cancellable("watch of a pod's source", OnExit::Done, async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = sources.follow(row, &key) => {}
            }
        });
        Entry { users: HashSet::new(), stop, value: None }
    }

    async fn follow(&self, row: &'static KindRow, key: &Key) {
        let fields = FieldSelector::equals("metadata.name", &key.2);
        let list = ListOptions { fields: fields.clone(), ..ListOptions::default() };
        let mut delay = Duration::from_secs(1);
        loop {
            let listed = self.api.list(row, Some(&key.1), &list).await;
            if let Ok(listed) = listed {
                delay = Duration::from_secs(1);
                self.set(key, listed.items.first().cloned());
                let version = Some(listed.resource_version.to_string());
                let watch = WatchOptions {
                    fields: fields.clone(),
                    resource_version: version,
                    ..WatchOptions::default()
                };
                if let Ok(mut events) = self.api.watch(row, Some(&key.1), &watch).await {
                    while let Some(event) = events.next().await {
                        match event {
                            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                                self.set(key, Some(object))
                            }
                            WatchEvent::Deleted(_) => self.set(key, None),
                            WatchEvent::Bookmark { .. } => {}
                            WatchEvent::Error(_) => break,
                        }
                    }
                }
            }
            tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..1.0))).await;
            delay = (delay * 2).min(Duration::from_secs(60));
        }
    }

    fn set(&self, key: &Key, object: Option<Arc<Object>>) {
        let users: Vec<String> = {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(key) else { return };
            let version = |object: &Option<Arc<Object>>| object.as_ref().map(|one| one.resource_version());
            let same = entry.value.as_ref().is_some_and(|old| version(old) == version(&object));
            entry.value = Some(object);
            if same { Vec::new() } else { entry.users.iter().cloned().collect() }
        };
        for user in users {
            self.wakers.wake(&user, WakeReason::Source);
        }
    }
}

fn found(outcome: Result<Arc<Object>, ApiError>) -> Result<Option<Arc<Object>>, ApiError> {
    match outcome {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
