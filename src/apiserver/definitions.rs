//! Custom resources: definitions become kinds that are served.
//!
//! One loop, driven by changes of definitions, brings what is served to what is defined: names are accepted or refused,
//! the kind is put into the set of resources, and only then does the definition say `Established`, so whoever waits for
//! that finds it served. A definition that is deleted takes its instances with it first (finalizer
//! `customresourcecleanup.apiextensions.k8s.io`); its kind goes when the definition is gone. Definitions that were
//! established before are served before the port opens, so a restart does not show.

pub(crate) mod approval;
mod kind;
mod naming;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::kinds::CUSTOM_RESOURCE_DEFINITION as ROW;
use api::{ApiError, DeleteOptions, KindRow, ListOptions, Object, Patch, PropagationPolicy, UpdateOptions};
use client::{Informers, ObjectApi, ObjectRef, WorkQueue};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use supervisor::{OnExit, Stage};

use crate::cache::{Filter, Start};
use crate::printers::{items, text};
use crate::registry::{Registry, time};

/// The finalizer that holds a definition until its instances are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// A condition of a definition.
pub(crate) struct Condition<'a> {
    pub(crate) kind: &'a str,
    pub(crate) holds: bool,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
}

pub(crate) fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a Value> {
    items(definition, "status.conditions").iter().find(|one| one["type"] == kind)
}

pub(crate) fn is_true(definition: &Value, kind: &str) -> bool {
    condition(definition, kind).is_some_and(|one| one["status"] == "True")
}

/// Sets a condition; its time is that of the last change of its status. Tells whether anything changed.
pub(crate) fn set_condition(definition: &mut Value, condition: &Condition<'_>) -> bool {
    let status = if condition.holds { "True" } else { "False" };
    let mut all = items(definition, "status.conditions").to_vec();
    let old = all.iter().position(|one| one["type"] == condition.kind);
    let since = match old {
        Some(at) if all[at]["status"] == status => all[at]["lastTransitionTime"].clone(),
        _ => json!(time(Timestamp::now())),
    };
    let new = json!({
        "type": condition.kind, "status": status, "lastTransitionTime": since,
        "reason": condition.reason, "message": condition.message,
    });
    match old {
        Some(at) if all[at] == new => return false,
        Some(at) => all[at] = new,
        None => all.push(new),
    }
    definition["status"]["conditions"] = json!(all);
    true
}

/// What is served of a definition.
struct Kind {
    rows: Vec<Arc<KindRow>>,
    /// What it was made from: nothing is made anew while this is the same.
    from: Value,
}

/// The loop's state.
pub(crate) struct Definitions {
    registry: Arc<Registry>,
    api: Arc<dyn ObjectApi>,
    stage: Stage,
    queue: WorkQueue<String>,
    /// By name of the definition.
    kinds: Mutex<HashMap<String, Kind>>,
}

/// How soon a deletion is looked at again whose instances cannot be watched.
const AGAIN: Duration = Duration::from_secs(5);

/// Serves the definitions that were established before; from then on follows what is defined.
pub(crate) fn start(registry: &Arc<Registry>, api: Arc<dyn ObjectApi>, stage: &Stage) {
    let definitions = Arc::new(Definitions {
        registry: registry.clone(),
        api: api.clone(),
        stage: stage.clone(),
        queue: WorkQueue::new("custom resource definitions"),
        kinds: Mutex::default(),
    });
    for object in registry.caches.list(&ROW, None) {
        let served = object.tree().map_err(ApiError::internal).and_then(|definition| {
            if definitions.is_served(&definition) { definitions.serve(&definition) } else { Ok(()) }
        });
        if let Err(error) = served {
            tracing::error!(definition = object.name(), %error, "a custom resource is not served");
        }
    }
    let informer = Informers::new(api, stage.clone()).untyped(&ROW);
    let queue = definitions.queue.clone();
    informer.on_object_change(move |change| queue.add(change.latest().name().to_string()));
    definitions.queue.clone().run(stage, 1, move |name| {
        let definitions = definitions.clone();
        async move { definitions.sync(&name).await }
    });
}

impl Definitions {
    async fn sync(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(object) = self.registry.caches.get(&ROW, None, name) else {
            self.withdraw(name);
            // Its names are free: others of the group may have waited for them.
            self.reconsider(name);
            return Ok(None);
        };
        let definition = object.tree().map_err(ApiError::internal)?;
        if object.is_terminating() {
            return self.clean_up(definition).await;
        }
        self.establish(definition).await?;
        Ok(None)
    }

    /// Accepts names, serves the kind, says so.
    async fn establish(&self, mut definition: Value) -> Result<(), ApiError> {
        let others = self.others(&definition);
        let resources = self.registry.resources.load();
        let built_in = resources.built_in_group(text(&definition, "spec.group"));
        let named = naming::names(&definition, others.iter(), built_in.map(Arc::as_ref));
        let mut changed = definition["status"]["acceptedNames"] != named.accepted;
        definition["status"]["acceptedNames"] = named.accepted.clone();
        changed |= set_condition(&mut definition, &named.condition());
        changed |= approval::set_condition(&mut definition);
        // Once established is always established, but for what can never be served.
        let established = is_true(&definition, "Established") && built_in.is_none();
        if named.all() || established {
            self.serve(&definition)?;
        }
        if named.all() && !established {
            let (reason, message) = ("InitialNamesAccepted", "the initial names have been accepted");
            let accepted = Condition { kind: "Established", holds: true, reason, message };
            changed |= set_condition(&mut definition, &accepted);
        } else if !established {
            let (reason, message) = ("NotAccepted", "not all names are accepted");
            let refused = Condition { kind: "Established", holds: false, reason, message };
            changed |= set_condition(&mut definition, &refused);
        }
        if changed {
            self.tell(&definition).await?;
        }
        Ok(())
    }

    /// Whether a definition is established, and in a group where that counts.
    fn is_served(&self, definition: &Value) -> bool {
        let group = text(definition, "spec.group");
        is_true(definition, "Established") && self.registry.resources.load().built_in_group(group).is_none()
    }

    /// Other definitions of the same group.
    fn others(&self, definition: &Value) -> Vec<Value> {
        let (name, group) = (text(definition, "metadata.name"), text(definition, "spec.group"));
        let suffix = format!(".{group}");
        let all = self.registry.caches.list(&ROW, None).into_iter();
        all.filter(|other| other.name() != name && other.name().ends_with(&suffix))
            .filter_map(|other| other.tree().ok())
            .filter(|other| text(other, "spec.group") == group)
            .collect()
    }

    fn reconsider(&self, name: &str) {
        let Some((_, group)) = name.split_once('.') else { return };
        let suffix = format!(".{group}");
        for other in self.registry.caches.list(&ROW, None) {
            if other.name().ends_with(&suffix) {
                self.queue.add(other.name().to_string());
            }
        }
    }

    async fn tell(&self, definition: &Value) -> Result<(), ApiError> {
        let at = ObjectRef::new(None, text(definition, "metadata.name")).sub("status");
        match self.api.update(&ROW, at, definition.clone(), &UpdateOptions::default()).await {
            // Whoever changed or deleted it has woken us again.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Puts the kind of a definition into what is served, or brings it up to date.
    fn serve(&self, definition: &Value) -> Result<(), ApiError> {
        let name = text(definition, "metadata.name");
        let from = json!([
            definition["metadata"]["uid"],
            definition["metadata"]["deletionTimestamp"],
            definition["spec"],
            definition["status"]["acceptedNames"],
        ]);
        let mut kinds = self.kinds.lock();
        if kinds.get(name).is_some_and(|kind| kind.from == from) {
            return Ok(());
        }
        let (caches, store) = (&self.registry.caches, self.registry.store.as_ref());
        let resources = kind::resources(definition, &|row, strategy| {
            let cache = caches.add(row, strategy, store).map_err(crate::registry::store_error)?;
            cache.ok_or_else(|| ApiError::internal("a kind without storage"))
        })?;
        let rows: Vec<Arc<KindRow>> = resources.iter().map(|resource| resource.row.clone()).collect();
        let before = kinds.insert(name.to_string(), Kind { rows: rows.clone(), from });
        self.registry.resources.change(|set| {
            let gone = before.iter().flat_map(|kind| &kind.rows);
            gone.filter(|old| !rows.iter().any(|row| row.version == old.version))
                .for_each(|row| set.remove(row));
            resources.into_iter().for_each(|resource| set.put(Arc::new(resource)));
        });
        tracing::debug!(definition = name, "custom resource served");
        Ok(())
    }

    fn withdraw(&self, name: &str) {
        let Some(kind) = self.kinds.lock().remove(name) else { return };
        self.registry.resources.change(|set| kind.rows.iter().for_each(|row| set.remove(row)));
        kind.rows.iter().for_each(|row| self.registry.caches.remove(row));
        tracing::debug!(definition = name, "custom resource withdrawn");
    }

    /// Deletes the instances of a definition, then lets go of it.
    async fn clean_up(&self, mut definition: Value) -> Result<Option<Duration>, ApiError> {
        if !items(&definition, "metadata.finalizers").iter().any(|one| one == CLEANUP) {
            return Ok(None);
        }
        let name = text(&definition, "metadata.name").to_string();
        let progress = Condition {
            kind: "Terminating",
            holds: true,
            reason: "InstanceDeletionInProgress",
            message: "CustomResource deletion is in progress",
        };
        if set_condition(&mut definition, &progress) {
            // The change wakes us again, with a definition that says what is going on.
            self.tell(&definition).await?;
            return Ok(None);
        }
        let row = if self.is_served(&definition) {
            // Served as terminating: from now on nothing new is taken.
            self.serve(&definition)?;
            self.kinds.lock().get(&name).and_then(|kind| kind.rows.first().cloned())
        } else {
            None
        };
        if let Some(row) = row {
            let options = DeleteOptions {
                propagation_policy: Some(PropagationPolicy::Background),
                ..DeleteOptions::default()
            };
            self.api.delete_collection(&row, None, &ListOptions::default(), &options).await?;
            if let Some(again) = self.wait_for_instances(&name, &row) {
                return Ok(again);
            }
        }
        let left: Vec<&Value> =
            items(&definition, "metadata.finalizers").iter().filter(|one| *one != CLEANUP).collect();
        let metadata = json!({
            "finalizers": left,
            "uid": definition["metadata"]["uid"],
            "resourceVersion": definition["metadata"]["resourceVersion"],
        });
        let patch = Patch::merge(json!({ "metadata": metadata }));
        match self.api.patch(&ROW, ObjectRef::new(None, &name), patch, &UpdateOptions::default()).await {
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(None),
            outcome => outcome.map(|_: Arc<Object>| None),
        }
    }

    /// Instances with finalizers of others stay for a while: the definition is looked at again when one of them has
    /// changed. None if there are none.
    fn wait_for_instances(&self, name: &str, row: &KindRow) -> Option<Option<Duration>> {
        let resources = self.registry.resources.load();
        let cache = resources.of_row(row).ok().and_then(|resource| resource.cache().ok().cloned())?;
        // Before the look: a change in between is not missed.
        let watcher = cache.watch(Filter::everything(cache.selectable().clone()), Start::Now);
        if cache.len() == 0 {
            return None;
        }
        let Ok(watcher) = watcher else { return Some(Some(AGAIN)) };
        let (queue, name) = (self.queue.clone(), name.to_string());
        self.stage.spawn_cancellable("instances of a definition", OnExit::Done, async move {
            watcher.changed().await;
            queue.add(name);
        });
        Some(None)
    }
}
