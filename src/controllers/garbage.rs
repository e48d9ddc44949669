//! The garbage collector: deletes what belongs to nobody any more, over all kinds.
//!
//! Informers feed a graph of owners and dependents (`graph`); it names objects to look at. Each is then read
//! from the API, its owners too, before anything is deleted: the graph may lag, the API does not. Foreground
//! deletion holds an owner back (finalizer `foregroundDeletion`) until the dependents that block it are gone;
//! `orphan` takes the owner's references off its dependents first. Patches and deletions carry uid and
//! resource version.

use std::sync::Arc;

use api::{
    ApiError, DeleteOptions, KindRow, Object, OwnerReference, Patch, Preconditions, PropagationPolicy,
    UpdateOptions,
};
use client::events::{EventType, Recorder};
use client::{Change, ObjectApi, ObjectRef, ServedKinds, WorkQueue};
use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::context::{ControllerContext, ReconcileResult, unless_gone};
use graph::{Graph, Identity, Seen, Work};

mod graph;

const ACCOUNT: &str = "generic-garbage-collector";
const WORKERS: usize = 8;

pub(crate) const ORPHAN: &str = "orphan";
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

struct Controller {
    api: Arc<dyn ObjectApi>,
    recorder: Recorder,
    served: ServedKinds,
    graph: Mutex<Graph>,
    queue: WorkQueue<Work>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("garbage collector");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, "garbage-collector-controller"),
        served: context.served(),
        graph: Mutex::default(),
        queue: queue.clone(),
    });
    let handler = controller.clone();
    let ready = context.follow_kinds("garbage collector", is_collected, move |row, change| {
        handler.changed(row, change);
    });
    context.run(&queue, WORKERS, ready, move |work| {
        let controller = controller.clone();
        async move {
            match &work {
                Work::Delete(uid) => controller.attempt_to_delete(uid).await,
                Work::Orphan(uid) => controller.attempt_to_orphan(uid).await,
            }
        }
    });
}

/// Whether objects of a kind can be owned or own; events come and go by themselves.
fn is_collected(row: &KindRow) -> bool {
    row.stored_as.is_none()
        && !(row.kind == "Event" && row.storage.as_deref() == Some("events"))
        && ["list", "watch", "delete"].iter().all(|verb| row.allows(verb))
}

/// What the object's owners come to.
#[derive(Default)]
struct Owners {
    solid: Vec<OwnerReference>,
    /// Not there.
    dangling: Vec<OwnerReference>,
    /// Being deleted in the foreground.
    waiting: Vec<OwnerReference>,
}

impl Controller {
    fn changed(&self, row: &KindRow, change: &Change<Object>) {
        let mut work = Vec::new();
        let mut graph = self.graph.lock();
        let replaced = |old: &&Arc<Object>| change.new.as_ref().is_none_or(|new| new.uid() != old.uid());
        if let Some(old) = change.old.as_ref().filter(replaced) {
            work.extend(graph.removed(old.uid()));
        }
        if let Some(new) = &change.new {
            work.extend(graph.observe(Seen::of(row, new)));
        }
        drop(graph);
        for one in work {
            self.queue.add(one);
        }
    }

    fn add(&self, work: Vec<Work>) {
        for one in work {
            self.queue.add(one);
        }
    }

    /// The kind of an object, if it is served.
    fn row(&self, identity: &Identity) -> Option<Arc<KindRow>> {
        self.served.borrow().by_kind(&identity.api_version, &identity.kind).cloned()
    }

    /// The object itself, if it still is the one of this uid.
    async fn live(&self, identity: &Identity) -> Result<Option<Arc<Object>>, ApiError> {
        let Some(row) = self.row(identity) else {
            // A kind takes its objects with it: what was seen to go is gone, whether the kind comes back or
            // not.
            if self.graph.lock().view(&identity.uid).is_some_and(|view| view.was_removed) {
                return Ok(None);
            }
            let (version, kind) = (&identity.api_version, &identity.kind);
            return Err(ApiError::internal(format!("no kind {kind:?} is registered for {version:?}")));
        };
        // A cluster-scoped owner of a namespaced object is looked up without a namespace.
        let namespace = identity.namespace.as_deref().filter(|_| row.namespaced());
        if row.namespaced() && namespace.is_none() {
            return Ok(None);
        }
        match self.api.get(&row, ObjectRef::new(namespace, &identity.name)).await {
            Ok(object) => Ok(Some(object).filter(|object| object.uid() == identity.uid)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn attempt_to_delete(&self, uid: &str) -> ReconcileResult {
        let Some(item) = self.graph.lock().view(uid) else { return Ok(None) };
        if item.being_deleted && !item.deleting_dependents {
            // The API server and others see to it.
            return Ok(None);
        }
        let Some(object) = self.live(&item.identity).await? else {
            let work = self.graph.lock().absent(uid);
            self.add(work);
            return Ok(None);
        };
        if item.deleting_dependents {
            return self.finish_foreground(&item.identity, &object).await;
        }
        if item.is_virtual {
            // It is there, but no informer has told yet.
            return Err(ApiError::unavailable(format!("{object:?} has not been observed yet")));
        }
        if object.metadata().owner_references.is_empty() {
            return Ok(None);
        }
        let Some(owners) = self.classify(&item.identity, &object).await? else { return Ok(None) };
        self.act(&item, &object, owners).await?;
        Ok(None)
    }

    async fn act(&self, item: &graph::View, object: &Object, owners: Owners) -> Result<(), ApiError> {
        if !owners.solid.is_empty() {
            if owners.dangling.is_empty() && owners.waiting.is_empty() {
                return Ok(());
            }
            // Someone still holds it: only let go of the others.
            let keep = object
                .metadata()
                .owner_references
                .iter()
                .filter(|one| !owners.dangling.contains(one) && !owners.waiting.contains(one));
            return self.set_owners(&item.identity, object, keep).await;
        }
        if !owners.waiting.is_empty() && item.has_dependents {
            if item.dependents_wait {
                // A circle of foreground deletions: this one stops blocking, or none would ever end.
                let released: Vec<OwnerReference> = object
                    .metadata()
                    .owner_references
                    .iter()
                    .cloned()
                    .map(|one| OwnerReference { block_owner_deletion: Some(false), ..one })
                    .collect();
                self.set_owners(&item.identity, object, released.iter()).await?;
                let Some(object) = self.live(&item.identity).await? else { return Ok(()) };
                return self.delete(&item.identity, &object, PropagationPolicy::Foreground).await;
            }
            return self.delete(&item.identity, object, PropagationPolicy::Foreground).await;
        }
        let has = |finalizer: &str| object.metadata().finalizers.iter().any(|one| one == finalizer);
        let policy = if has(ORPHAN) {
            PropagationPolicy::Orphan
        } else if has(FOREGROUND) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        self.delete(&item.identity, object, policy).await
    }

    /// Sorts the owners; none if a reference can never be resolved.
    async fn classify(&self, item: &Identity, object: &Object) -> Result<Option<Owners>, ApiError> {
        let mut owners = Owners::default();
        for reference in &object.metadata().owner_references {
            let identity = Identity::of_owner(reference, item.namespace.clone());
            if self.row(&identity).is_some_and(|row| row.namespaced()) && item.namespace.is_none() {
                tracing::warn!(?object, owner = %reference.kind, "a cluster-scoped object cannot have a namespaced owner");
                return Ok(None);
            }
            match self.live(&identity).await? {
                None => {
                    self.tell_foreign_owner(item, object, reference);
                    owners.dangling.push(reference.clone());
                }
                Some(owner)
                    if owner.is_terminating()
                        && owner.metadata().finalizers.iter().any(|one| one == FOREGROUND) =>
                {
                    owners.waiting.push(reference.clone());
                }
                Some(_) => owners.solid.push(reference.clone()),
            }
        }
        Ok(Some(owners))
    }

    /// The owner exists, but in another namespace: owner references cannot reach there, which users should
    /// know.
    fn tell_foreign_owner(&self, item: &Identity, object: &Object, reference: &OwnerReference) {
        let Some(namespace) = &item.namespace else { return };
        let foreign = self.graph.lock().view(&reference.uid).is_some_and(|owner| {
            !owner.is_virtual && owner.identity.namespace.as_ref().is_some_and(|other| other != namespace)
        });
        if !foreign {
            return;
        }
        let OwnerReference { api_version, kind, name, uid, .. } = reference;
        let message = format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] does not exist in namespace {namespace:?}"
        );
        let regarding = ObjectReference {
            api_version: Some(item.api_version.clone()),
            kind: Some(item.kind.clone()),
            name: Some(item.name.clone()),
            namespace: Some(namespace.clone()),
            uid: Some(object.uid().to_string()),
            ..ObjectReference::default()
        };
        self.recorder.event(&regarding, EventType::Warning, "OwnerRefInvalidNamespace", message);
    }

    /// The owner waits for its dependents: let it go if none blocks it, else see to those.
    async fn finish_foreground(&self, identity: &Identity, object: &Object) -> ReconcileResult {
        let blocking = self.graph.lock().blocking_dependents(&identity.uid);
        if blocking.is_empty() {
            self.remove_finalizer(identity, object, FOREGROUND).await?;
            return Ok(None);
        }
        for (uid, deleting_dependents) in blocking {
            if !deleting_dependents {
                self.queue.add(Work::Delete(uid));
            }
        }
        Ok(None)
    }

    async fn attempt_to_orphan(&self, uid: &str) -> ReconcileResult {
        let (item, dependents) = {
            let graph = self.graph.lock();
            let Some(item) = graph.view(uid) else { return Ok(None) };
            (item, graph.dependents(uid))
        };
        for dependent in dependents {
            let Some(object) = self.live(&dependent).await? else { continue };
            let references = &object.metadata().owner_references;
            if references.iter().any(|one| one.uid == uid) {
                self.set_owners(&dependent, &object, references.iter().filter(|one| one.uid != uid)).await?;
            }
        }
        if let Some(object) = self.live(&item.identity).await? {
            self.remove_finalizer(&item.identity, &object, ORPHAN).await?;
        }
        Ok(None)
    }

    async fn set_owners<'a>(
        &self,
        identity: &Identity,
        object: &Object,
        owners: impl Iterator<Item = &'a OwnerReference>,
    ) -> Result<(), ApiError> {
        let owners: Vec<Value> = owners.map(owner_json).collect();
        self.patch(identity, object, json!({ "ownerReferences": owners })).await
    }

    async fn remove_finalizer(
        &self,
        identity: &Identity,
        object: &Object,
        finalizer: &str,
    ) -> Result<(), ApiError> {
        let finalizers = &object.metadata().finalizers;
        if !finalizers.iter().any(|one| one == finalizer) {
            return Ok(());
        }
        let left: Vec<&String> = finalizers.iter().filter(|one| *one != finalizer).collect();
        self.patch(identity, object, json!({ "finalizers": left })).await
    }

    async fn patch(&self, identity: &Identity, object: &Object, mut metadata: Value) -> Result<(), ApiError> {
        let Some(row) = self.row(identity) else { return Ok(()) };
        metadata["uid"] = json!(object.uid());
        metadata["resourceVersion"] = json!(object.resource_version().to_string());
        let patch = Patch::merge(json!({ "metadata": metadata }));
        unless_gone(self.api.patch(&row, ObjectRef::of(object), patch, &UpdateOptions::default()).await)
    }

    async fn delete(
        &self,
        identity: &Identity,
        object: &Object,
        policy: PropagationPolicy,
    ) -> Result<(), ApiError> {
        let Some(row) = self.row(identity) else { return Ok(()) };
        let preconditions = Preconditions {
            uid: Some(object.uid().to_string()),
            resource_version: Some(object.resource_version().to_string()),
        };
        let options =
            DeleteOptions { preconditions, propagation_policy: Some(policy), ..DeleteOptions::default() };
        unless_gone(self.api.delete(&row, ObjectRef::of(object), &options).await)
    }
}

fn owner_json(owner: &OwnerReference) -> Value {
    let mut json = json!({
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
    });
    if let Some(controller) = owner.controller {
        json["controller"] = json!(controller);
    }
    if let Some(block) = owner.block_owner_deletion {
        json["blockOwnerDeletion"] = json!(block);
    }
    json
}
