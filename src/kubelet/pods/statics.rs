//! Static pods: manifests in a directory of the node, run whatever the API says.
//!
//! Each gets a worker like any other pod. The API shows it as a mirror pod, an object that this kubelet
//! makes and makes again, and whose status is the pod's. A manifest that cannot be run is named in the log
//! and in an event on the node, and the pod of its last good version goes on. Absent: manifests by URL.

mod manifest;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, DeleteOptions, Preconditions};
use client::events::{EventType, Recorder};
use client::{Api, Informer, ObjectApi};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::dirwatch::{Changes, DirWatch};
use crate::files;
use crate::images::import::node_reference;
use crate::spec::{MIRROR, PodExt, annotation, is_mirror};
use crate::wake::WakeReason;

const HASH: &str = "kubernetes.io/config.hash";
/// After a failure of the API or of reading the directory.
const RETRY: Duration = Duration::from_secs(5);
/// Editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// The static pods that run, by uid. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Statics(Arc<Mutex<HashMap<String, Arc<Pod>>>>);

impl Statics {
    /// The static pod that a mirror is of. The annotation alone tells nothing: whoever may make pods can
    /// write it, in any namespace.
    fn of_mirror(&self, mirror: &Pod) -> Option<Arc<Pod>> {
        let found = self.0.lock().get(annotation(mirror, MIRROR)?).cloned()?;
        ((found.namespace(), found.name()) == (mirror.namespace(), mirror.name())).then_some(found)
    }
}

/// A node's pods by name, with the static ones in place of their mirrors. Clones see the same.
#[derive(Clone)]
pub(crate) struct NodePods {
    pub(crate) informer: Informer<Pod>,
    pub(crate) statics: Statics,
}

impl NodePods {
    fn real(&self, pod: Arc<Pod>) -> Arc<Pod> {
        if is_mirror(&pod) { self.statics.of_mirror(&pod).unwrap_or(pod) } else { pod }
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.informer.get(Some(namespace), name).map(|pod| self.real(pod))
    }

    pub(crate) fn list(&self) -> Vec<Arc<Pod>> {
        self.informer.list(None).into_iter().map(|pod| self.real(pod)).collect()
    }

    /// What the API shows in place of a static pod.
    pub(crate) fn mirror_of(&self, pod: &Pod) -> Option<Arc<Pod>> {
        let found = self.informer.get(Some(pod.namespace()), pod.name())?;
        (annotation(&found, MIRROR) == Some(pod.uid())).then_some(found)
    }
}

/// What a node's workers do for static pods.
pub(crate) trait Workers: Send + Sync {
    fn begin(&self, pod: Arc<Pod>);
    fn end(&self, uid: &str);
    /// Returns once a pod's worker has ended.
    fn ended<'a>(&'a self, uid: &'a str) -> client::BoxFuture<'a, ()>;
    fn wake(&self, uid: &str, reason: WakeReason);
}

/// Keeps static pods running, and their mirrors in the API.
pub(crate) struct StaticPods {
    pub(crate) directory: PathBuf,
    pub(crate) node: watch::Receiver<Option<Arc<Node>>>,
    pub(crate) api: Arc<dyn ObjectApi>,
    pub(crate) pods: NodePods,
    pub(crate) recorder: Recorder,
    pub(crate) workers: Box<dyn Workers>,
    /// A mirror changed.
    pub(crate) changed: Arc<Notify>,
}

/// What was read of one manifest.
#[derive(Default)]
struct Manifests {
    /// The pod of the last good version, by file.
    pods: BTreeMap<String, Arc<Pod>>,
    /// What is wrong with the present version, by file.
    faults: BTreeMap<String, String>,
}

impl StaticPods {
    /// Reads the manifests that are there and starts their pods; then keeps both up to date for ever.
    pub(crate) async fn run(self, read_once: supervisor::Latch) {
        let mut manifests = Manifests::default();
        let watch = self.watch().await;
        self.read(&mut manifests).await;
        self.start_and_stop(&manifests).await;
        read_once.open();
        // Mirrors that are there already are not made again.
        self.pods.informer.synced().await;
        loop {
            let mirrored = self.keep_mirrors(&manifests).await;
            let changed = async {
                match &watch {
                    Some(watch) => drop(watch.changed().await),
                    None => std::future::pending().await,
                }
            };
            let retry = async {
                if mirrored { std::future::pending().await } else { tokio::time::sleep(RETRY).await }
            };
            tokio::select! {
                () = changed => {
                    tokio::time::sleep(QUIET).await;
                    self.read(&mut manifests).await;
                    self.start_and_stop(&manifests).await;
                }
                () = self.changed.notified() => {}
                () = retry => {}
            }
        }
    }

    async fn watch(&self) -> Option<DirWatch> {
        let directory = self.directory.clone();
        let made = files::blocking(move || {
            std::fs::create_dir_all(&directory)?;
            let changes =
                Changes::IN_CLOSE_WRITE | Changes::IN_MOVED_TO | Changes::IN_MOVED_FROM | Changes::IN_DELETE;
            DirWatch::new(&directory, changes)
        });
        match made.await {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(directory = %self.directory.display(), %error, "static pods are not watched");
                None
            }
        }
    }

    /// Reads the directory. A file that is wrong keeps its last good pod.
    async fn read(&self, manifests: &mut Manifests) {
        let Some(node) = self.node.borrow().as_ref().and_then(|node| node.metadata.name.clone()) else {
            return;
        };
        let directory = self.directory.clone();
        let found = files::blocking(move || read_directory(&directory, &node)).await;
        let mut pods = BTreeMap::new();
        let mut faults = BTreeMap::new();
        for (file, read) in found {
            match read {
                Ok(pod) => {
                    pods.insert(file, Arc::new(pod));
                }
                Err(error) => {
                    let text = error.to_string();
                    if manifests.faults.get(&file) != Some(&text) {
                        self.tell(&file, &text);
                    }
                    if let Some(last) = manifests.pods.get(&file) {
                        pods.insert(file.clone(), last.clone());
                    }
                    faults.insert(file, text);
                }
            }
        }
        *manifests = Manifests { pods, faults };
    }

    fn tell(&self, file: &str, fault: &str) {
        tracing::warn!(file, fault, "a static pod's manifest cannot be run");
        let node =
            self.node.borrow().as_ref().and_then(|node| node.metadata.name.clone()).unwrap_or_default();
        let message = format!("static pod manifest {file}: {fault}");
        self.recorder.event(&node_reference(&node), EventType::Warning, "FailedStaticPod", message);
    }

    /// Brings the running static pods to the manifests. Of two versions of a pod one runs at a time.
    async fn start_and_stop(&self, manifests: &Manifests) {
        let wanted: HashMap<&str, &Arc<Pod>> = manifests.pods.values().map(|pod| (pod.uid(), pod)).collect();
        let running: Vec<String> = self.pods.statics.0.lock().keys().cloned().collect();
        for uid in running.iter().filter(|uid| !wanted.contains_key(uid.as_str())) {
            self.workers.end(uid);
            self.workers.ended(uid).await;
            self.pods.statics.0.lock().remove(uid);
        }
        for (uid, pod) in wanted {
            if !running.iter().any(|one| one == uid) {
                self.pods.statics.0.lock().insert(uid.to_string(), pod.clone());
                self.workers.begin(pod.clone());
            }
        }
    }

    /// Makes and removes mirrors; false if something has to be tried again.
    async fn keep_mirrors(&self, manifests: &Manifests) -> bool {
        let mut all = true;
        for mirror in self.pods.informer.list(None).into_iter().filter(|pod| is_mirror(pod)) {
            // One that was deleted waits for its node; it is made again once it is gone.
            if mirror.is_deleted() || self.pods.statics.of_mirror(&mirror).is_none() {
                all &= self.delete(&mirror).await;
            }
        }
        for pod in manifests.pods.values() {
            match self.pods.mirror_of(pod) {
                None => all &= self.create(pod).await,
                // It was just made, and shows nothing yet.
                Some(mirror) if mirror.status.as_ref().is_none_or(|one| one.start_time.is_none()) => {
                    self.workers.wake(pod.uid(), WakeReason::Relist);
                }
                Some(_) => {}
            }
        }
        all
    }

    async fn delete(&self, mirror: &Pod) -> bool {
        let pods: Api<Pod> = Api::namespaced(self.api.clone(), mirror.namespace());
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            preconditions: Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None },
            ..DeleteOptions::default()
        };
        self.is_done("deleted", mirror, pods.delete(mirror.name(), &options).await.map(drop))
    }

    async fn create(&self, pod: &Pod) -> bool {
        let Some(node) = self.node.borrow().clone() else { return false };
        let pods: Api<Pod> = Api::namespaced(self.api.clone(), pod.namespace());
        let mirror = manifest::mirror(pod, &node);
        self.is_done("made", pod, pods.create(&mirror).await.map(drop))
    }

    fn is_done(&self, what: &str, pod: &Pod, outcome: Result<(), ApiError>) -> bool {
        match outcome {
            Err(error) if !error.is_not_found() && !error.is_conflict() && !error.is_already_exists() => {
                tracing::debug!(pod = %pod.described(), %error, "a mirror pod is not {what} yet, will retry");
                false
            }
            _ => true,
        }
    }
}

/// Every manifest of a directory, by name of the file.
fn read_directory(directory: &Path, node: &str) -> BTreeMap<String, Result<Pod, manifest::ManifestError>> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut all = BTreeMap::new();
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        let is_file = std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
        if !name.starts_with('.') && is_file {
            all.insert(name, manifest::read(&path, node));
        }
    }
    all
}

#[cfg(test)]
mod tests;
