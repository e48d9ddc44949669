//! The built-in provisioner: a directory on the node of a claim's first pod is its volume.
//!
//! It answers claims of classes whose provisioner is `rancher.io/local-path`, as the one of k3s does, and
//! needs no pod. Nodes say in an annotation where their volumes are; the kubelet makes a directory when the
//! first pod uses it. A volume that is given up is put on its node's list of what to remove, in another
//! annotation, and deleted once the node has taken it off that list: then its directory is gone. A node that
//! is down keeps its volumes waiting, one whose object is deleted does not. Which node a volume is on is
//! known by the node's name, never by what a node says of itself. Absent: sizes are not enforced, and devices
//! are not made.

mod volume;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use api::kinds::STORAGE_CLASS;
use api::volumes::{
    BETA_STORAGE_PROVISIONER, LOCAL_PATH, LOCAL_PATH_DIRECTORY, LOCAL_PATH_REMOVE, SELECTED_NODE,
    STORAGE_PROVISIONER, annotation, class_of_claim, volume_name, waits_for_consumer,
};
use api::{ApiError, CreateOptions, DeleteOptions, Patch, Preconditions};
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Change, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text, unless_gone};
use volume::{FINALIZER, Leaving};

const ACCOUNT: &str = "local-path-provisioner-service-account";
/// The default class.
const CLASS: &str = "local-path";
/// Where k3s' provisioner is configured.
const CONFIG: (&str, &str) = ("kube-system", "local-path-config");
/// Volumes that a node is asked to remove at a time; the others wait.
const MOST_ASKED: usize = 100;
const LATER: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// The default class is to be there.
    Class,
    Claim(Key),
    Volume(String),
}

struct Controller {
    live: Arc<dyn ObjectApi>,
    recorder: Recorder,
    queue: WorkQueue<Work>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    nodes: Informer<Node>,
    /// Uids of volumes that their nodes have been asked to remove, by this process.
    asked: Mutex<HashSet<String>>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("local path provisioner");
    let controller = Arc::new(Controller {
        live: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, LOCAL_PATH),
        queue: queue.clone(),
        claims: context.informers.of(),
        volumes: context.informers.of(),
        classes: context.informers.of(),
        nodes: context.informers.of(),
        asked: Mutex::default(),
    });
    queue.add(Work::Class);
    let keys = queue.clone();
    controller.claims.on_change(move |change| {
        if change.new.as_ref().is_some_and(|claim| is_ours(claim)) {
            keys.add(Work::Claim(key_of(&change.latest().metadata)));
        }
    });
    let keys = queue.clone();
    controller.volumes.on_change(move |change| {
        if volume::is_ours(change.latest()) {
            keys.add(Work::Volume(text(&change.latest().metadata.name).to_string()));
        }
    });
    let handler = controller.clone();
    controller.classes.on_change(move |_| handler.look_at_claims());
    let handler = controller.clone();
    controller.nodes.on_change(move |change| handler.node_changed(change));
    let synced = controller.clone();
    let ready = async move {
        synced.claims.synced().await;
        synced.volumes.synced().await;
        synced.classes.synced().await;
        synced.nodes.synced().await;
    };
    context.run(&queue, 1, ready, move |work| {
        let controller = controller.clone();
        async move { controller.reconcile(&work).await }
    });
}

/// A claim without a volume that the binder has given to this provisioner.
fn is_ours(claim: &PersistentVolumeClaim) -> bool {
    let annotations = &claim.metadata.annotations;
    let by = [STORAGE_PROVISIONER, BETA_STORAGE_PROVISIONER];
    by.iter().find_map(|name| annotation(annotations, name)) == Some(LOCAL_PATH)
        && volume_name(claim).is_empty()
        && claim.metadata.deletion_timestamp.is_none()
}

impl Controller {
    fn look_at_claims(&self) {
        for claim in self.claims.list(None).iter().filter(|claim| is_ours(claim)) {
            self.queue.add(Work::Claim(key_of(&claim.metadata)));
        }
    }

    fn node_changed(&self, change: &Change<Node>) {
        let told = |node: &Option<Arc<Node>>, name| {
            let annotations = node.as_ref().map(|node| &node.metadata.annotations);
            annotations.and_then(|all| annotation(all, name)).map(str::to_string)
        };
        let differs = |name| told(&change.old, name) != told(&change.new, name);
        if differs(LOCAL_PATH_DIRECTORY) {
            self.look_at_claims();
        }
        if change.new.is_none() || differs(LOCAL_PATH_REMOVE) {
            let node = change.latest().metadata.name.as_deref();
            for volume in self.volumes.list(None).iter().filter(|one| volume::node_of(one) == node) {
                self.queue.add(Work::Volume(text(&volume.metadata.name).to_string()));
            }
        }
    }

    async fn reconcile(&self, work: &Work) -> ReconcileResult {
        match work {
            Work::Class => self.ensure_class().await.map(|()| None),
            Work::Claim((namespace, name)) => match self.claims.get(Some(namespace), name) {
                Some(claim) if is_ours(&claim) => self.provision(&claim).await,
                _ => Ok(None),
            },
            Work::Volume(name) => match self.volumes.get(None, name) {
                Some(volume) => self.give_up(&volume).await,
                None => Ok(None),
            },
        }
    }

    /// What is there is left as it is: an administrator may want another default.
    async fn ensure_class(&self) -> Result<(), ApiError> {
        let class = json!({
            "apiVersion": STORAGE_CLASS.api_version(), "kind": STORAGE_CLASS.kind,
            "metadata": {
                "name": CLASS,
                "annotations": {
                    "storageclass.kubernetes.io/is-default-class": "true", "defaultVolumeType": "local",
                },
            },
            "provisioner": LOCAL_PATH, "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete",
        });
        match self.live.create(&STORAGE_CLASS, None, class, &CreateOptions::default()).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }

    async fn provision(&self, claim: &PersistentVolumeClaim) -> ReconcileResult {
        let Some(class) = self.classes.get(None, class_of_claim(claim)) else { return Ok(None) };
        let selected = annotation(&claim.metadata.annotations, SELECTED_NODE);
        if class.provisioner != LOCAL_PATH || (waits_for_consumer(Some(&class)) && selected.is_none()) {
            return Ok(None);
        }
        let node = selected.and_then(|name| self.nodes.get(None, name));
        if let (Some(_), None) = (selected, &node) {
            return self.reschedule(claim).await.map(|()| None);
        }
        let config = Api::<ConfigMap>::namespaced(self.live.clone(), CONFIG.0).find(CONFIG.1).await?;
        let regarding = reference_to(claim);
        let made = match volume::for_claim(claim, &class, node.as_deref(), config.as_deref()) {
            Ok(volume) => volume,
            Err(why) => {
                let class = text(&class.metadata.name);
                let message = format!("failed to provision volume with StorageClass {class:?}: {why}");
                self.recorder.event(&regarding, EventType::Warning, "ProvisioningFailed", message);
                // What is in its way is an object that is followed, or the configuration.
                return Ok(Some(Duration::from_secs(60)));
            }
        };
        let (namespace, name) = key_of(&claim.metadata);
        let message = format!("External provisioner is provisioning volume for claim \"{namespace}/{name}\"");
        self.recorder.event(&regarding, EventType::Normal, "Provisioning", message);
        match Api::<PersistentVolume>::all(self.live.clone()).create(&made).await {
            Err(error) if !error.is_already_exists() => return Err(error),
            _ => {}
        }
        let message = format!("Successfully provisioned volume {}", text(&made.metadata.name));
        self.recorder.event(&regarding, EventType::Normal, "ProvisioningSucceeded", message);
        Ok(None)
    }

    /// The node is gone: the scheduler is to choose another.
    async fn reschedule(&self, claim: &PersistentVolumeClaim) -> Result<(), ApiError> {
        let node = annotation(&claim.metadata.annotations, SELECTED_NODE).unwrap_or("");
        let nodes: Api<Node> = Api::all(self.live.clone());
        if nodes.find(node).await?.is_some() {
            return Ok(());
        }
        let message = format!("failed to get target node: nodes {node:?} not found");
        self.recorder.event(&reference_to(claim), EventType::Warning, "ProvisioningFailed", message);
        let meta = &claim.metadata;
        let patch = Patch::merge(json!({"metadata": {
            "resourceVersion": meta.resource_version, "annotations": {SELECTED_NODE: null},
        }}));
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.live.clone(), text(&meta.namespace));
        unless_gone(claims.patch(text(&meta.name), patch).await)
    }

    async fn give_up(&self, known: &PersistentVolume) -> ReconcileResult {
        if volume::leaving(known) == Leaving::No {
            return Ok(None);
        }
        // What has been decided on is decided again on what is true now.
        let volumes: Api<PersistentVolume> = Api::all(self.live.clone());
        let Some(volume) = volumes.find(text(&known.metadata.name)).await? else {
            self.asked.lock().remove(text(&known.metadata.uid));
            return Ok(None);
        };
        match volume::leaving(&volume) {
            Leaving::No => Ok(None),
            Leaving::WithoutData => self.let_go(&volume).await.map(|()| None),
            Leaving::WithData => {
                if self.is_claimed(&volume).await? {
                    return Ok(None);
                }
                let Some(node) = volume::node_of(&volume) else { return Ok(None) };
                self.remove_from(&volume, node).await
            }
        }
    }

    /// Whether the claim that the volume was bound to is still there.
    async fn is_claimed(&self, volume: &PersistentVolume) -> Result<bool, ApiError> {
        let named = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let Some(named) = named else { return Ok(false) };
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.live.clone(), text(&named.namespace));
        let claim = claims.find(text(&named.name)).await?;
        let is_own = |claim: &PersistentVolumeClaim| claim.metadata.uid == named.uid;
        Ok(claim.is_some_and(|claim| {
            is_own(&claim) && [text(&volume.metadata.name), ""].contains(&volume_name(&claim))
        }))
    }

    /// Asks the node to remove the directory, or finds that it has, or that the node is no more.
    async fn remove_from(&self, volume: &PersistentVolume, node: &str) -> ReconcileResult {
        let Some(path) = volume::path_of(volume) else { return Ok(None) };
        let uid = text(&volume.metadata.uid).to_string();
        let nodes: Api<Node> = Api::all(self.live.clone());
        let Some(node) = nodes.find(node).await? else { return self.remove(volume).await.map(|()| None) };
        let mut paths = volume::to_remove(&node);
        let is_listed = paths.iter().any(|one| one == path);
        if !is_listed && self.asked.lock().contains(&uid) {
            self.remove(volume).await?;
            return Ok(None);
        }
        if !is_listed {
            if paths.len() >= MOST_ASKED {
                return Ok(Some(LATER));
            }
            paths.push(path.to_string());
            let patch = Patch::merge(json!({"metadata": {
                "resourceVersion": node.metadata.resource_version,
                "annotations": {LOCAL_PATH_REMOVE: json!(paths).to_string()},
            }}));
            nodes.patch(text(&node.metadata.name), patch).await?;
        }
        self.asked.lock().insert(uid);
        Ok(None)
    }

    async fn remove(&self, volume: &PersistentVolume) -> Result<(), ApiError> {
        let meta = &volume.metadata;
        self.let_go(volume).await?;
        let preconditions = Preconditions { uid: meta.uid.clone(), ..Preconditions::default() };
        let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
        let volumes: Api<PersistentVolume> = Api::all(self.live.clone());
        unless_gone(volumes.delete(text(&meta.name), &options).await)?;
        self.asked.lock().remove(text(&meta.uid));
        Ok(())
    }

    /// Takes our finalizer off.
    async fn let_go(&self, volume: &PersistentVolume) -> Result<(), ApiError> {
        let mut free = volume.clone();
        if let Some(finalizers) = &mut free.metadata.finalizers {
            finalizers.retain(|one| one != FINALIZER);
        }
        if free == *volume {
            return Ok(());
        }
        unless_gone(Api::<PersistentVolume>::all(self.live.clone()).update(&free).await)
    }
}
