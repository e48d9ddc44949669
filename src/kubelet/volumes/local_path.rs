//! Removes directories of the built-in provisioner. Which ones stands in an annotation of the node's own
//! object; what is gone is taken off the list, and that is how the provisioner learns of it.
//!
//! The list is somebody else's word, so it is taken with care: only directories that are named as the
//! provisioner names them, none that a pod of this node still has, and never across a mount.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::volumes::{LOCAL_PATH_REMOVE, annotation};
use api::{ApiError, Patch};
use client::{Api, ObjectApi};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tokio::sync::watch;

use super::persistent;
use crate::files;
use crate::host::Host;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub(crate) struct Remover {
    pub(crate) api: Arc<dyn ObjectApi>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) node_name: String,
    /// The node's own object.
    pub(crate) node: watch::Receiver<Option<Arc<Node>>>,
    /// `DATA/pods`.
    pub(crate) pods: PathBuf,
}

/// What the node is to remove.
fn listed(node: &Node) -> Vec<String> {
    let list = annotation(&node.metadata.annotations, LOCAL_PATH_REMOVE).unwrap_or("[]");
    serde_json::from_str(list).unwrap_or_default()
}

/// Removes what is listed, for ever.
pub(crate) async fn run(mut remover: Remover) {
    let mut pause = FIRST_PAUSE;
    loop {
        let node = remover.node.borrow_and_update().clone();
        let paths = node.as_deref().map(listed).unwrap_or_default();
        let is_done = paths.is_empty() || remover.remove(&paths).await;
        if is_done {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            changed = remover.node.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause), if !is_done => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

impl Remover {
    /// Whether all of it is gone, and the API knows.
    async fn remove(&self, paths: &[String]) -> bool {
        let (host, pods, wanted) = (self.host.clone(), self.pods.clone(), paths.to_vec());
        let gone = files::blocking(move || remove_all(&*host, &pods, &wanted)).await;
        if gone.is_empty() {
            return false;
        }
        match self.tell(&gone).await {
            Ok(()) => gone.len() == paths.len(),
            Err(error) => {
                tracing::debug!(%error, "the node's list of volumes to remove was not written, will retry");
                false
            }
        }
    }

    /// Takes what is gone off the list as it is now.
    async fn tell(&self, gone: &[String]) -> Result<(), ApiError> {
        let nodes: Api<Node> = Api::all(self.api.clone());
        let node = nodes.get(&self.node_name).await?;
        let left: Vec<String> = listed(&node).into_iter().filter(|path| !gone.contains(path)).collect();
        let list = if left.is_empty() { json!(null) } else { json!(json!(left).to_string()) };
        let patch = Patch::merge(json!({"metadata": {
            "resourceVersion": node.metadata.resource_version, "annotations": {LOCAL_PATH_REMOVE: list},
        }}));
        nodes.patch(&self.node_name, patch).await.map(drop)
    }
}

/// Those of the directories that are gone now.
fn remove_all(host: &dyn Host, pods: &Path, paths: &[String]) -> Vec<String> {
    let mut gone = Vec::new();
    for path in paths {
        if !is_ours(path) {
            tracing::warn!(path, "this is no volume of the local path provisioner, and is not removed");
            continue;
        }
        if is_used(host, pods, path) {
            tracing::debug!(path, "a pod still has this volume");
            continue;
        }
        match host.remove_tree(Path::new(path)) {
            Ok(()) => gone.push(path.clone()),
            Err(error) => tracing::warn!(path, %error, "a volume cannot be removed yet, will retry"),
        }
    }
    gone
}

/// `…/pvc-UID_NAMESPACE_NAME`, below some directory.
fn is_ours(path: &str) -> bool {
    let path = Path::new(path);
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let is_deep = path.components().count() > 2;
    path.is_absolute() && is_plain && is_deep && name.starts_with("pvc-") && name.contains('_')
}

/// Whether a pod has noted that it uses the directory.
fn is_used(host: &dyn Host, pods: &Path, path: &str) -> bool {
    host.list(pods).iter().any(|uid| {
        let notes = pods.join(uid).join("plugins").join(format!("kubernetes.io~{}", persistent::NAME));
        let names = host.list(&notes);
        names.iter().any(|name| host.read_text(&notes.join(name).join("ready").to_string_lossy()) == path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Linux;

    #[test]
    fn only_directories_of_the_provisioner_are_removed() {
        for path in ["/data/storage/pvc-1_ns_a", "/a/pvc-1_b_c"] {
            assert!(is_ours(path), "{path}");
        }
        for path in
            ["/", "/etc", "/etc/pvc-1", "pvc-1_ns_a", "/pvc-1_ns_a", "/data/../pvc-1_ns_a", "/a/pvc-1_b/.."]
        {
            assert!(!is_ours(path), "{path}");
        }
    }

    #[test]
    fn a_volume_that_a_pod_has_stays() {
        let root = tempfile::tempdir().unwrap();
        let (pods, storage) = (root.path().join("pods"), root.path().join("storage"));
        let made = |name: &str| {
            let path = storage.join(name);
            std::fs::create_dir_all(path.join("deep")).unwrap();
            path.to_string_lossy().into_owned()
        };
        let (used, free, other) = (made("pvc-1_ns_a"), made("pvc-2_ns_b"), made("mine"));
        let note = pods.join("u/plugins/kubernetes.io~local-volume/v");
        std::fs::create_dir_all(&note).unwrap();
        std::fs::write(note.join("ready"), &used).unwrap();
        let host = Linux::new();
        let asked = [used.clone(), free.clone(), other.clone()];
        assert_eq!(remove_all(&host, &pods, &asked), std::slice::from_ref(&free));
        assert!(!Path::new(&free).exists());
        assert!(Path::new(&used).exists() && Path::new(&other).exists());
        std::fs::remove_dir_all(pods.join("u")).unwrap();
        assert_eq!(remove_all(&host, &pods, &asked), [used.clone(), free], "what is gone already is gone");
        assert!(!Path::new(&used).exists());
    }
}
