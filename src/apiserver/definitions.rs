//! Custom resources: definitions become kinds that are served.
//!
//! One loop, driven by changes of definitions, brings what is served to what is defined: names are accepted
//! or refused, the kind is put into the set of resources, and only then does the definition say
//! `Established`, so whoever waits for that finds it served. A definition that is deleted takes its instances
//! with it first (finalizer `customresourcecleanup.apiextensions.k8s.io`); its kind goes when the definition
//! is gone. Definitions that were established before are served before the port opens, so a restart does not
//! show.

pub(crate) mod approval;
pub(crate) mod conditions;
mod conversion;
mod kind;
mod naming;
pub(crate) mod rules;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::json::{items, text};
use api::kinds::CUSTOM_RESOURCE_DEFINITION as ROW;
use api::{ApiError, DeleteOptions, KindRow, ListOptions, Object, Patch, PropagationPolicy, UpdateOptions};
use client::{Informers, ObjectApi, ObjectRef, WorkQueue};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use supervisor::{OnExit, Stage};

use self::naming::{Held, Named};
use crate::cache::{Filter, Start};
use crate::registry::Registry;
use conditions::{CLEANUP, Condition, is_true, set_condition};

/// What is served of a definition.
struct Kind {
    uid: String,
    /// Those that it is served under.
    names: Value,
    rows: Vec<Arc<KindRow>>,
    /// A hash of what it was made from: nothing is made anew while that is the same.
    from: [u8; 32],
}

/// The loop's state.
pub(crate) struct Definitions {
    registry: Arc<Registry>,
    api: Arc<dyn ObjectApi>,
    stage: Stage,
    queue: WorkQueue<String>,
    /// By group, then by name of the definition. This, and no status, says who holds which names.
    kinds: Mutex<HashMap<String, HashMap<String, Kind>>>,
}

/// For whom the loop's heavy work is done.
const USER: &str = "system:apiserver";

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
    let mut stored: Vec<Value> =
        registry.caches.list(&ROW, None).iter().filter_map(|object| object.tree().ok()).collect();
    // Where two claim the same, the older one has it.
    let age =
        |one: &Value| ["creationTimestamp", "name"].map(|part| text(&one["metadata"], part).to_string());
    stored.sort_by_cached_key(age);
    for mut definition in stored.into_iter().filter(|one| is_true(one, "Established")) {
        let had = definition["status"]["acceptedNames"].take();
        let named = definitions.name(&definition, &had);
        if !named.suffices(&definition) {
            continue;
        }
        definition["status"]["acceptedNames"] = named.accepted;
        if let Err(error) = definitions.serve(&definition) {
            let name = text(&definition, "metadata.name");
            tracing::error!(definition = name, %error, "a custom resource is not served");
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

fn hash_of<const N: usize>(parts: [&Value; N]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part.to_string()));
    hash.finalize().into()
}

impl Definitions {
    async fn sync(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(object) = self.registry.caches.get(&ROW, None, name) else {
            self.withdraw(name);
            // Its names are free: others of the group may have waited for them.
            self.reconsider(name);
            return Ok(None);
        };
        // Large schemas are not read where everybody else has to wait.
        let size = object.stored_bytes().len();
        let work = async {
            let definition = object.tree().map_err(ApiError::internal)?;
            if object.is_terminating() {
                return self.clean_up(definition).await;
            }
            self.establish(definition).await.map(|()| None)
        };
        self.registry.turns.run(USER, size, pin!(work)).await
    }

    /// Accepts names, serves the kind, says so.
    async fn establish(&self, mut definition: Value) -> Result<(), ApiError> {
        let (named, established) = self.judge(&definition);
        let mut changed = definition["status"]["acceptedNames"] != named.accepted;
        definition["status"]["acceptedNames"] = named.accepted.clone();
        changed |= set_condition(&mut definition, &named.condition());
        changed |= approval::set_condition(&mut definition);
        if established {
            self.serve(&definition)?;
            if !is_true(&definition, "Established") {
                let (reason, message) = ("InitialNamesAccepted", "the initial names have been accepted");
                let accepted = Condition { kind: "Established", holds: true, reason, message };
                changed |= set_condition(&mut definition, &accepted);
            }
        } else {
            self.withdraw(text(&definition, "metadata.name"));
            let (reason, message) = ("NotAccepted", "not all names are accepted");
            let refused = Condition { kind: "Established", holds: false, reason, message };
            changed |= set_condition(&mut definition, &refused);
        }
        if changed {
            self.tell(&definition).await?;
        }
        Ok(())
    }

    /// A definition's names, and whether it is to be served. What is served goes on being served, under the
    /// names that it has; all others need all the names that they ask for, whatever their status says.
    fn judge(&self, definition: &Value) -> (Named, bool) {
        let had = self.names_served(definition);
        let named = self.name(definition, had.as_ref().unwrap_or(&Value::Null));
        let established = named.all() || had.is_some() && named.suffices(definition);
        (named, established)
    }

    /// The names that this very definition is served under.
    fn names_served(&self, definition: &Value) -> Option<Value> {
        let kinds = self.kinds.lock();
        let kind = kinds.get(text(definition, "spec.group"))?.get(text(definition, "metadata.name"))?;
        (kind.uid == text(definition, "metadata.uid")).then(|| kind.names.clone())
    }

    fn name(&self, definition: &Value, had: &Value) -> Named {
        let (name, group) = (text(definition, "metadata.name"), text(definition, "spec.group"));
        let mut held = Held::default();
        let mut served = HashSet::new();
        if let Some(kinds) = self.kinds.lock().get(group) {
            for (other, kind) in kinds.iter().filter(|(other, _)| *other != name) {
                held.served(&kind.names);
                served.insert(other.clone());
            }
        }
        let suffix = format!(".{group}");
        let all = self.registry.caches.list(&ROW, None).into_iter();
        all.filter(|other| other.name() != name && other.name().ends_with(&suffix))
            .filter(|other| !served.contains(other.name()))
            .filter_map(|other| other.tree().ok())
            .filter(|other| text(other, "spec.group") == group)
            .for_each(|other| held.reserved(&other));
        let resources = self.registry.resources.load();
        naming::names(definition, had, held, resources.built_in_group(group).map(Arc::as_ref))
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
            // Another write was faster, and its event wakes this loop again.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Puts the kind of a definition into what is served, or brings it up to date.
    fn serve(&self, definition: &Value) -> Result<(), ApiError> {
        let (name, group) = (text(definition, "metadata.name"), text(definition, "spec.group"));
        let names = &definition["status"]["acceptedNames"];
        let from = hash_of([
            &definition["metadata"]["uid"],
            &definition["metadata"]["deletionTimestamp"],
            &definition["spec"],
            names,
        ]);
        if self
            .kinds
            .lock()
            .get(group)
            .and_then(|kinds| kinds.get(name))
            .is_some_and(|kind| kind.from == from)
        {
            return Ok(());
        }
        let schemas = self.registry.schemas.take(definition);
        if !schemas.faults.is_empty() {
            let (faults, first) = (schemas.faults.len(), schemas.faults[0].to_string());
            tracing::warn!(definition = name, faults, first, "a stored definition would be refused now");
        }
        let (caches, store) = (&self.registry.caches, self.registry.store.stored());
        let outbound = &self.registry.outbound;
        let resources = kind::resources(definition, &schemas, outbound, &|row, strategy| {
            let cache = caches.add(row, strategy, store).map_err(crate::registry::store_error)?;
            cache.ok_or_else(|| ApiError::internal("a kind without storage"))
        })?;
        let rows: Vec<Arc<KindRow>> = resources.iter().map(|resource| resource.row.clone()).collect();
        let uid = text(definition, "metadata.uid").to_string();
        let kind = Kind { uid, names: names.clone(), rows: rows.clone(), from };
        let before = self.kinds.lock().entry(group.to_string()).or_default().insert(name.to_string(), kind);
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
        let Some(kind) = self.forget(name) else { return };
        self.registry.resources.change(|set| kind.rows.iter().for_each(|row| set.remove(row)));
        kind.rows.iter().for_each(|row| self.registry.caches.remove(row));
        tracing::debug!(definition = name, "custom resource withdrawn");
    }

    fn forget(&self, name: &str) -> Option<Kind> {
        let (_, group) = name.split_once('.')?;
        let mut kinds = self.kinds.lock();
        let of_group = kinds.get_mut(group)?;
        let kind = of_group.remove(name);
        if of_group.is_empty() {
            kinds.remove(group);
        }
        kind
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
        let (named, established) = self.judge(&definition);
        let row = if established {
            // Served as terminating: from now on nothing new is taken.
            definition["status"]["acceptedNames"] = named.accepted;
            self.serve(&definition)?;
            let kinds = self.kinds.lock();
            let kind = kinds.get(text(&definition, "spec.group")).and_then(|kinds| kinds.get(&name));
            kind.and_then(|kind| kind.rows.first().cloned())
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

    /// Instances with finalizers of others stay for a while: the definition is looked at again when one of
    /// them has changed. None if there are none.
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
