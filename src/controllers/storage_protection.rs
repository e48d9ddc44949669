//! Volumes, claims and classes of attributes stay while they are used: each has a finalizer, which is taken
//! away once the object is being deleted and nobody uses it any more.
//!
//! A claim is used by pods that have a node, a volume by the claim it is bound to, a class by claims and
//! volumes. What the informers show is confirmed by the API before anything is let go.

use std::sync::Arc;

use api::kinds::{PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, VOLUME_ATTRIBUTES_CLASS};
use api::volumes::claim_names;
use api::{ApiError, KindRow, ListOptions, Object, UpdateOptions};
use client::{ObjectApi, ObjectRef, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use serde_json::{Value, json};

use crate::context::{ControllerContext, Key, ReconcileResult, key_of, unless_gone};

const CLAIM_ACCOUNT: &str = "pvc-protection-controller";
const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_ACCOUNT: &str = "pv-protection-controller";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const CLASS_ACCOUNT: &str = "volumeattributesclass-protection-controller";
const CLASS_FINALIZER: &str = "kubernetes.io/vac-protection";

/// What protects one kind.
struct Controller {
    live: Arc<dyn ObjectApi>,
    row: &'static KindRow,
    finalizer: &'static str,
}

pub(crate) fn start(context: &ControllerContext) {
    claims(context);
    volumes(context);
    classes(context);
}

fn claims(context: &ControllerContext) {
    let queue: WorkQueue<Key> = WorkQueue::new("pvc-protection");
    let claims = context.informers.of::<PersistentVolumeClaim>();
    let pods = context.informers.of::<Pod>();
    let keys = queue.clone();
    claims.on_change(move |change| keys.add(key_of(&change.latest().metadata)));
    let keys = queue.clone();
    pods.on_change(move |change| {
        let pod = change.latest();
        let (namespace, _) = key_of(&pod.metadata);
        for claim in claim_names(pod) {
            keys.add((namespace.clone(), claim));
        }
    });
    let controller = Controller::new(context, CLAIM_ACCOUNT, &PERSISTENT_VOLUME_CLAIM, CLAIM_FINALIZER);
    let ready = async move {
        claims.synced().await;
        pods.synced().await;
    };
    context.run(&queue, 1, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn volumes(context: &ControllerContext) {
    let queue: WorkQueue<Key> = WorkQueue::new("pv-protection");
    let volumes = context.informers.of::<PersistentVolume>();
    let keys = queue.clone();
    volumes.on_change(move |change| keys.add(key_of(&change.latest().metadata)));
    let controller = Controller::new(context, VOLUME_ACCOUNT, &PERSISTENT_VOLUME, VOLUME_FINALIZER);
    let ready = async move { volumes.synced().await };
    context.run(&queue, 1, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn classes(context: &ControllerContext) {
    let queue: WorkQueue<Key> = WorkQueue::new("vac-protection");
    let classes = context.informers.of::<VolumeAttributesClass>();
    let (claims, volumes) =
        (context.informers.of::<PersistentVolumeClaim>(), context.informers.of::<PersistentVolume>());
    let keys = queue.clone();
    classes.on_change(move |change| keys.add(key_of(&change.latest().metadata)));
    // One that uses another class than before, or none, may have let its class go.
    let (keys, known) = (queue.clone(), classes.clone());
    claims.on_change(move |_| going(&known).for_each(|key| keys.add(key)));
    let (keys, known) = (queue.clone(), classes.clone());
    volumes.on_change(move |_| going(&known).for_each(|key| keys.add(key)));
    let controller = Controller::new(context, CLASS_ACCOUNT, &VOLUME_ATTRIBUTES_CLASS, CLASS_FINALIZER);
    let ready = async move {
        classes.synced().await;
        claims.synced().await;
        volumes.synced().await;
    };
    context.run(&queue, 1, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// The classes that are being deleted.
fn going(classes: &client::Informer<VolumeAttributesClass>) -> impl Iterator<Item = Key> {
    let all = classes.list(None).into_iter();
    all.filter(|class| class.metadata.deletion_timestamp.is_some()).map(|class| key_of(&class.metadata))
}

impl Controller {
    fn new(
        context: &ControllerContext,
        account: &str,
        row: &'static KindRow,
        finalizer: &'static str,
    ) -> Arc<Controller> {
        Arc::new(Controller { live: context.act_as(account), row, finalizer })
    }

    async fn reconcile(&self, (namespace, name): &Key) -> ReconcileResult {
        let namespace = Some(namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let at = ObjectRef::new(namespace, name);
        let object = match self.live.get(self.row, at).await {
            Err(error) if error.is_not_found() => return Ok(None),
            object => object?,
        };
        let mut tree = object.tree().map_err(ApiError::internal)?;
        let mut finalizers: Vec<Value> =
            tree["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let is_guarded = finalizers.iter().any(|one| one == self.finalizer);
        let is_going = object.metadata().deletion_timestamp.is_some();
        match (is_going, is_guarded) {
            // Made before there was a plugin that guards what is new.
            (false, false) => finalizers.push(json!(self.finalizer)),
            (true, true) if !self.is_used(&object, &tree).await? => {
                finalizers.retain(|one| one != self.finalizer);
            }
            _ => return Ok(None),
        }
        tree["metadata"]["finalizers"] = json!(finalizers);
        unless_gone(self.live.update(self.row, at, tree, &UpdateOptions::default()).await)?;
        Ok(None)
    }

    async fn is_used(&self, object: &Object, tree: &Value) -> Result<bool, ApiError> {
        match self.finalizer {
            CLAIM_FINALIZER => self.claim_is_used(object).await,
            VOLUME_FINALIZER => Ok(tree["status"]["phase"] == "Bound"),
            _ => self.class_is_used(object.name()).await,
        }
    }

    /// A pod without a node does not count: no kubelet starts one whose claim is being deleted.
    async fn claim_is_used(&self, claim: &Object) -> Result<bool, ApiError> {
        let pods = self.live.list(&POD, claim.namespace(), &ListOptions::default()).await?.items;
        for pod in pods {
            let pod = pod.typed::<Pod>().map_err(ApiError::internal)?;
            let placed = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("");
            if !placed.is_empty() && claim_names(&pod).any(|name| name == claim.name()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn class_is_used(&self, class: &str) -> Result<bool, ApiError> {
        let paths = [
            "/spec/volumeAttributesClassName",
            "/status/currentVolumeAttributesClassName",
            "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
        ];
        for row in [&PERSISTENT_VOLUME_CLAIM, &PERSISTENT_VOLUME] {
            for object in self.live.list(row, None, &ListOptions::default()).await?.items {
                let tree = object.tree().map_err(ApiError::internal)?;
                if paths.iter().any(|path| tree.pointer(path).is_some_and(|name| name == class)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
