//! Removes directories of the built-in provisioner. Which ones stands in an annotation of the node's own
//! object; what is gone is taken off the list, and that is how the provisioner learns of it.
//!
//! Paths are somebody else's word, so they are taken with care. Directories are made and removed only
//! directly below the kubelet's own directory for volumes, or one that the provisioner's ConfigMap names for
//! this node ([`Roots`]); what the Node object says of it does not count. They are named as the provisioner
//! names them, no pod of this node has those that are removed, and no link and no mount is crossed.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::volumes::{LOCAL_PATH_REMOVE, annotation};
use api::{ApiError, Patch};
use client::{Api, ObjectApi};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::persistent;
use crate::Config;
use crate::files;
use crate::host::Host;

/// Where the provisioner is configured.
const CONFIG: (&str, &str) = ("kube-system", "local-path-config");
/// The entry for nodes that have none of their own.
const OTHER_NODES: &str = "DEFAULT_PATH_FOR_NON_LISTED_NODES";
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Directories that volumes of the built-in provisioner are in on this node.
pub(crate) struct Roots {
    api: Arc<dyn ObjectApi>,
    node_name: String,
    /// The one that the kubelet was given.
    own: PathBuf,
}

impl Roots {
    pub(crate) fn of(config: &Config, api: &Arc<dyn ObjectApi>) -> Self {
        let (node_name, own) = (config.node_name.clone(), config.storage_dir.clone());
        Roots { api: api.clone(), node_name, own }
    }

    /// Whether the path is that of a directory which may be made or removed.
    pub(super) async fn hold(&self, path: &Path) -> Result<bool, ApiError> {
        Ok(is_below(&self.own, path) || self.configured().await?.iter().any(|root| is_below(root, path)))
    }

    /// Those of the paths that may be removed.
    async fn held(&self, paths: &[String]) -> Result<Vec<String>, ApiError> {
        let mut held = Vec::new();
        for path in paths {
            if self.hold(Path::new(path)).await? {
                held.push(path.clone());
            } else {
                tracing::warn!(path, "this is no volume of the local path provisioner, and is not removed");
            }
        }
        Ok(held)
    }

    /// What an administrator has named for this node.
    async fn configured(&self) -> Result<Vec<PathBuf>, ApiError> {
        let map = Api::<ConfigMap>::namespaced(self.api.clone(), CONFIG.0).find(CONFIG.1).await?;
        let text = map.as_ref().and_then(|map| map.data.as_ref()?.get("config.json"));
        let Some(text) = text else { return Ok(Vec::new()) };
        match serde_json::from_str::<Placement>(text) {
            Ok(placement) => Ok(placement.of(&self.node_name)),
            Err(error) => {
                tracing::warn!(%error, "the configuration of the local path provisioner is not readable");
                Ok(Vec::new())
            }
        }
    }
}

/// `config.json` of the provisioner's ConfigMap, as far as a node looks at it.
#[derive(Deserialize)]
struct Placement {
    #[serde(rename = "nodePathMap", default)]
    entries: Vec<NodePaths>,
}

#[derive(Deserialize)]
struct NodePaths {
    node: String,
    #[serde(default)]
    paths: Vec<PathBuf>,
}

impl Placement {
    fn of(&self, node: &str) -> Vec<PathBuf> {
        let entry = |wanted: &str| self.entries.iter().find(|entry| entry.node == wanted);
        entry(node).or_else(|| entry(OTHER_NODES)).map(|entry| entry.paths.clone()).unwrap_or_default()
    }
}

pub(crate) struct Remover {
    pub(crate) roots: Roots,
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
        let wanted = match self.roots.held(paths).await {
            Ok(held) => held,
            Err(error) => {
                tracing::debug!(%error, "where volumes may be was not read, will retry");
                return false;
            }
        };
        let (host, pods) = (self.host.clone(), self.pods.clone());
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

/// Whether the path is `ROOT/pvc-UID_NAMESPACE_NAME`.
fn is_below(root: &Path, path: &Path) -> bool {
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let is_deep = path.components().count() > 2;
    let is_named = name.starts_with("pvc-") && name.contains('_');
    path.is_absolute() && is_plain && is_deep && is_named && path.parent() == Some(root)
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
    use crate::testing::TestNode;

    fn hold(roots: &Roots, path: &str) -> bool {
        futures::executor::block_on(roots.hold(Path::new(path))).unwrap()
    }

    #[tokio::test]
    async fn only_directories_in_their_place_are_made_and_removed() {
        let node = TestNode::new();
        let api: Arc<dyn ObjectApi> = node.api.clone();
        let roots = Roots::of(&node.agent.config, &api);
        assert!(hold(&roots, "/storage/pvc-1_ns_a"), "the kubelet's own");
        for path in [
            "/",
            "/etc",
            "/etc/pvc-1",
            "/etc/cron.d/pvc-1_ns_a",
            "/storage/mine",
            "/storage/pvc-1",
            "/storage/deep/pvc-1_ns_a",
            "/storage/../etc/pvc-1_ns_a",
            "/storage/pvc-1_ns_a/..",
            "pvc-1_ns_a",
            "/pvc-1_ns_a",
            "/fast/pvc-1_ns_a",
        ] {
            assert!(!hold(&roots, path), "{path}");
        }
        let map = json!([{"node": "n", "paths": ["/fast/", "/slow"]}, {"node": "other", "paths": ["/etc"]}]);
        node.api.put_object(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "local-path-config", "namespace": "kube-system"},
            "data": {"config.json": json!({"nodePathMap": map}).to_string()},
        }));
        for path in ["/fast/pvc-1_ns_a", "/slow/pvc-1_ns_a", "/storage/pvc-1_ns_a"] {
            assert!(hold(&roots, path), "{path}");
        }
        assert!(!hold(&roots, "/etc/pvc-1_ns_a"), "it is another node's");
        let asked = ["/etc/pvc-1_ns_a", "/fast/pvc-1_ns_a"].map(str::to_string);
        assert_eq!(roots.held(&asked).await.unwrap(), ["/fast/pvc-1_ns_a"]);
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
        let (used, free) = (made("pvc-1_ns_a"), made("pvc-2_ns_b"));
        let note = pods.join("u/plugins/kubernetes.io~local-volume/v");
        std::fs::create_dir_all(&note).unwrap();
        std::fs::write(note.join("ready"), &used).unwrap();
        let host = Linux::new();
        let asked = [used.clone(), free.clone()];
        assert_eq!(remove_all(&host, &pods, &asked), std::slice::from_ref(&free));
        assert!(!Path::new(&free).exists());
        assert!(Path::new(&used).exists());
        std::fs::remove_dir_all(pods.join("u")).unwrap();
        assert_eq!(remove_all(&host, &pods, &asked), [used.clone(), free], "what is gone already is gone");
        assert!(!Path::new(&used).exists());
    }
}
