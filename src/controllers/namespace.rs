//! Empties a namespace that is being deleted and then lets go of it.
//!
//! Pods go first (KEP-5080), so that a network policy or a secret never disappears under a running pod; then
//! every other namespaced kind, by `deletecollection`. What remains is told in the namespace's conditions.
//! The namespace is looked at again when its objects have gone; a delay from the pods' grace periods is only
//! the fallback.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, DeleteOptions, KindRow, Kinded, ListOptions, Object, PropagationPolicy, UpdateOptions};
use client::{Api, Informer, ObjectApi, ObjectRef, ServedKinds, WorkQueue};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::context::{ControllerContext, Key, ReconcileResult, text, unless_gone};
use crate::rests::Rests;
use plan::{Remains, conditions};

mod plan;

const FINALIZER: &str = "kubernetes";

struct Controller {
    api: Arc<dyn ObjectApi>,
    namespaces: Informer<Namespace>,
    served: ServedKinds,
    rests: Rests,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("namespace");
    let controller = Arc::new(Controller {
        api: context.act_as("namespace-controller"),
        namespaces: context.informers.of(),
        served: context.served(),
        rests: Rests::default(),
    });
    let keys = queue.clone();
    controller.namespaces.on_object_change(move |change| {
        if let Some(namespace) = change.new.as_ref().filter(|namespace| namespace.is_terminating()) {
            keys.add(namespace.name().to_string());
        }
    });
    let (keys, this) = (queue.clone(), controller.clone());
    // Whether all kinds are known does not matter here: what is in a namespace is read from the API.
    drop(context.follow_kinds("namespace controller", is_content, move |_, change| {
        let gone = change.new.is_none();
        let Some(name) = change.latest().namespace().filter(|_| gone) else { return };
        if this.namespaces.object(None, name).is_some_and(|namespace| namespace.is_terminating()) {
            keys.add_after(name.to_string(), this.rests.of(&key_of(name)));
        }
    }));
    let synced = controller.namespaces.clone();
    let ready = async move { synced.synced().await };
    context.run(&queue, 4, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn key_of(name: &str) -> Key {
    (String::new(), name.to_string())
}

/// Whether a namespace can hold objects of a kind: each kind in one version.
fn is_content(row: &KindRow) -> bool {
    row.namespaced()
        && row.stored_as.is_none()
        && ["delete", "list", "watch"].iter().all(|verb| row.allows(verb))
}

impl Controller {
    async fn reconcile(&self, name: &str) -> ReconcileResult {
        let api = Api::<Namespace>::all(self.api.clone());
        let Some(namespace) = api.find(name).await? else {
            self.rests.forget(&key_of(name));
            return Ok(None);
        };
        if namespace.metadata.deletion_timestamp.is_none() {
            return Ok(None);
        }
        let phase = namespace.status.as_ref().map_or("", |status| text(&status.phase));
        let namespace = if phase == "Terminating" {
            namespace
        } else {
            let mut marked = (*namespace).clone();
            marked.status.get_or_insert_default().phase = Some("Terminating".to_string());
            api.update_status(&marked).await?
        };
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if !finalizers.iter().any(|one| one == FINALIZER) {
            // Ours is gone; what is left is for others, who finalize it themselves.
            return Ok(None);
        }
        let begun = Instant::now();
        let remains = self.delete_content(name).await;
        // A look that only counts what is left takes no longer than that.
        if !remains.told {
            self.rests.took(&key_of(name), begun.elapsed());
        }
        let namespace = self.tell(&api, namespace, &remains).await?;
        if let Some(error) = remains.failure {
            return Err(error);
        }
        if !remains.is_empty() {
            let seconds = remains.grace_seconds.max(0) / 2 + 1;
            return Ok(Some(Duration::from_secs(seconds.unsigned_abs())));
        }
        self.finalize(&namespace).await?;
        Ok(None)
    }

    /// Deletes what is there and tells what remains.
    async fn delete_content(&self, namespace: &str) -> Remains {
        let mut remains = Remains::default();
        self.delete_kind(Pod::row(), namespace, &mut remains).await;
        if !remains.is_empty() {
            return remains;
        }
        let served = self.served.borrow().clone();
        let others = |row: &&Arc<KindRow>| row.plural != "pods" || !row.group.is_empty();
        for row in served.rows().iter().filter(|row| is_content(row)).filter(others) {
            self.delete_kind(row, namespace, &mut remains).await;
        }
        remains
    }

    async fn delete_kind(&self, row: &KindRow, namespace: &str, remains: &mut Remains) {
        match self.try_delete_kind(row, namespace, remains).await {
            // The kind has gone meanwhile, and its objects with it.
            Err(_) if self.served.borrow().by_kind(&row.api_version(), &row.kind).is_none() => {}
            Err(error) => remains.failed(row, error),
            Ok(()) => {}
        }
    }

    async fn try_delete_kind(
        &self,
        row: &KindRow,
        namespace: &str,
        remains: &mut Remains,
    ) -> Result<(), ApiError> {
        let all = ListOptions::default();
        let found = self.api.list(row, Some(namespace), &all).await?.items;
        if found.is_empty() {
            return Ok(());
        }
        // What has been told to go needs not be told again.
        let left = match found.iter().all(|object| object.is_terminating()) {
            true => found,
            false => {
                remains.told = true;
                self.delete_all(row, namespace, found).await?
            }
        };
        let mut grace = 0;
        let mut finalizers = BTreeMap::new();
        for object in &left {
            for finalizer in &object.metadata().finalizers {
                *finalizers.entry(finalizer.clone()).or_insert(0) += 1;
            }
            if let Some(pod) = (row.kind == "Pod").then(|| object.typed::<Pod>().ok()).flatten() {
                let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
                grace = grace.max(own.unwrap_or(0));
            }
        }
        remains.add(row, left.len(), grace, finalizers);
        Ok(())
    }

    /// Tells all objects of a kind to go; returns those that are left.
    async fn delete_all(
        &self,
        row: &KindRow,
        namespace: &str,
        found: Vec<Arc<Object>>,
    ) -> Result<Vec<Arc<Object>>, ApiError> {
        let all = ListOptions::default();
        let options = DeleteOptions {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteOptions::default()
        };
        if row.allows("deletecollection") {
            self.api.delete_collection(row, Some(namespace), &all, &options).await?;
        } else {
            for object in found {
                unless_gone(self.api.delete(row, ObjectRef::of(&object), &options).await)?;
            }
        }
        Ok(self.api.list(row, Some(namespace), &all).await?.items)
    }

    /// Writes the conditions, if they say anything new.
    async fn tell(
        &self,
        api: &Api<Namespace>,
        namespace: Arc<Namespace>,
        remains: &Remains,
    ) -> Result<Arc<Namespace>, ApiError> {
        let mut told = (*namespace).clone();
        let status = told.status.get_or_insert_default();
        let list = status.conditions.get_or_insert_default();
        if !conditions(list, remains, Timestamp::now()) {
            return Ok(namespace);
        }
        api.update_status(&told).await
    }

    /// Takes our finalizer off the namespace's spec; the API server removes the namespace when none is left.
    async fn finalize(&self, namespace: &Namespace) -> Result<(), ApiError> {
        let mut body = namespace.to_tree().map_err(ApiError::internal)?;
        if let Some(finalizers) = body.pointer_mut("/spec/finalizers").and_then(|list| list.as_array_mut()) {
            finalizers.retain(|one| one != FINALIZER);
        }
        let at = ObjectRef::new(None, text(&namespace.metadata.name)).sub("finalize");
        unless_gone(self.api.update(Namespace::row(), at, body, &UpdateOptions::default()).await)
    }
}
