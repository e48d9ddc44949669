//! A pod's volumes on the host, below `DATA/pods/UID/volumes/`, in upstream's layout. Mounting is idempotent:
//! every sync of a pod calls it again, which is how changed config maps, secrets, labels and tokens reach
//! running containers. Files that containers may have written are never touched again: a volume is given to
//! the pod's group once, when it is made.

pub(crate) mod atomic;
mod claim;
mod cleanup;
mod content;
mod emptydir;
pub(crate) mod hostpath;
pub(crate) mod local_path;
mod persistent;
mod plugin;
pub(crate) mod subpath;
pub(crate) mod tmpfs;
mod tokens;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::ObjectApi;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Volume};
use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use atomic::Files;
pub(crate) use cleanup::unmount_below;
pub(crate) use plugin::{MountedVolume, VolumeError};

use crate::files;
use crate::files::tree::GroupChange;
use crate::host::Host;
use crate::sources::Sources;
use crate::spec::PodExt;
use crate::spec::amount::Resources;
use plugin::{VolumePlace, VolumePlugin, VolumeRequest};

/// By plugin and staging key.
type Staged = HashMap<(&'static str, String), Arc<StagedVolume>>;

/// What is staged on the node, or is about to be.
#[derive(Default)]
struct StagedVolume {
    /// Held while it is staged or taken back.
    turn: tokio::sync::Mutex<()>,
    /// Uids of the pods that use it.
    users: Mutex<HashSet<String>>,
}

/// The volumes of a node's pods. Clones share them.
#[derive(Clone)]
pub(crate) struct Volumes {
    /// `DATA/pods`.
    root: PathBuf,
    host: Arc<dyn Host>,
    plugins: Arc<[Box<dyn VolumePlugin>]>,
    /// Pods that use what is staged on the node, by plugin and key.
    staged: Arc<Mutex<Staged>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Mounted {
    pub(crate) volumes: HashMap<String, MountedVolume>,
    /// When a token in one of them must be renewed.
    pub(crate) refresh: Option<Timestamp>,
}

/// A volume that cannot be set up, in the words of upstream's `FailedMount` event.
#[derive(Debug, thiserror::Error)]
#[error("{}{why}", self.step())]
pub(crate) struct MountError {
    pub(crate) volume: String,
    pub(crate) why: VolumeError,
}

impl MountError {
    fn step(&self) -> String {
        let own = &self.volume;
        match &self.why {
            VolumeError::Claim { .. } | VolumeError::NotMadeForPod(_) | VolumeError::Mode { .. } => format!(
                "Unable to attach or mount volumes: unmounted volumes=[{own}], unattached volumes=[], failed to process volumes=[{own}]: "
            ),
            VolumeError::OtherNode { volume } => {
                format!("MountVolume.NodeAffinity check failed for volume \"{volume}\" : ")
            }
            VolumeError::NoDirectory { volume, .. } => {
                format!("MountVolume.NewMounter initialization failed for volume \"{volume}\" : ")
            }
            _ => format!("MountVolume.SetUp failed for volume \"{own}\" : "),
        }
    }
}

impl Volumes {
    pub(crate) fn new(
        root: PathBuf,
        host: Arc<dyn Host>,
        api: Arc<dyn ObjectApi>,
        node: watch::Receiver<Option<Arc<Node>>>,
        sources: Sources,
        roots: local_path::Roots,
    ) -> Self {
        let tokens = tokens::Tokens::new(api.clone());
        let mut plugins: Vec<Box<dyn VolumePlugin>> = vec![
            Box::new(emptydir::EmptyDir { host: host.clone() }),
            Box::new(hostpath::HostPath { host: host.clone() }),
            Box::new(persistent::Persistent {
                host: host.clone(),
                api,
                node,
                roots,
                ready: Mutex::default(),
            }),
        ];
        for kind in content::ContentKind::ALL {
            let (host, sources, tokens) = (host.clone(), sources.clone(), tokens.clone());
            plugins.push(Box::new(content::ContentPlugin { kind, host, sources, tokens }));
        }
        Self::with_plugins(root, host, plugins)
    }

    fn with_plugins(root: PathBuf, host: Arc<dyn Host>, plugins: Vec<Box<dyn VolumePlugin>>) -> Self {
        Volumes { root, host, plugins: plugins.into(), staged: Arc::default() }
    }

    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root.join(uid)
    }

    fn place(&self, uid: &str, plugin: &str, name: &str) -> VolumePlace {
        let pod = self.pod_dir(uid);
        let folder = format!("kubernetes.io~{plugin}");
        VolumePlace {
            path: pod.join("volumes").join(&folder).join(name),
            notes: pod.join("plugins").join(&folder).join(name),
        }
    }

    /// Brings all volumes of a pod to what they should be.
    pub(crate) async fn mount(
        &self,
        pod: &Pod,
        allocatable: &Resources,
        now: Timestamp,
    ) -> Result<Mounted, MountError> {
        let mut mounted = Mounted::default();
        for volume in pod.spec_ref().volumes.iter().flatten() {
            let one = self.mount_one(pod, volume, allocatable, now).await;
            let (one, refresh) = one.map_err(|why| MountError { volume: volume.name.clone(), why })?;
            mounted.volumes.insert(volume.name.clone(), one);
            mounted.refresh = mounted.refresh.into_iter().chain(refresh).min();
        }
        Ok(mounted)
    }

    async fn mount_one(
        &self,
        pod: &Pod,
        volume: &Volume,
        allocatable: &Resources,
        now: Timestamp,
    ) -> Result<(MountedVolume, Option<Timestamp>), VolumeError> {
        let plugin = self.plugins.iter().find(|plugin| plugin.supports(volume));
        let plugin = plugin.ok_or(VolumeError::NoPlugin)?;
        if let Some(key) = plugin.staging_key(volume) {
            self.stage(&**plugin, key, volume, pod.uid()).await?;
        }
        let context = pod.spec_ref().security_context.as_ref();
        let group = context.and_then(|context| context.fs_group);
        let request = VolumeRequest {
            pod,
            volume,
            place: self.place(pod.uid(), plugin.name(), &volume.name),
            allocatable,
            now,
            group: group.and_then(|group| u32::try_from(group).ok()),
            change: group_change(pod, plugin.outlives_pods()),
        };
        plugin.set_up(request).await
    }

    /// Tears all volumes of a pod down and removes its directory. Goes by what is on the disk, for the pod
    /// may be known no more.
    pub(crate) async fn remove(&self, uid: &str) -> Result<(), VolumeError> {
        let pod = self.pod_dir(uid);
        // Parts of volumes are bound elsewhere, and hold the volumes.
        self.on_host(&pod, |host, pod| host.unmount_below(&pod.join("volume-subpaths"))).await?;
        for plugin in self.plugins.iter() {
            let folder = self.place(uid, plugin.name(), "").path;
            for name in self.on_host(&folder, |host, folder| host.list(folder)).await {
                plugin.tear_down(uid, &self.place(uid, plugin.name(), &name)).await?;
            }
            plugin.forget_pod(uid);
            self.unstage(&**plugin, uid).await?;
        }
        let removed = self.on_host(&pod, |host, pod| {
            host.unmount_below(pod)?;
            // What stays mounted stops it: nobody's data is removed through a mount.
            host.remove_tree(pod)
        });
        Ok(removed.await?)
    }

    /// Stages what the pod's volume needs on the node, if no other pod's needs it already. Staging is
    /// idempotent, so that a restarted kubelet finds its way back.
    async fn stage(
        &self,
        plugin: &dyn VolumePlugin,
        key: String,
        volume: &Volume,
        uid: &str,
    ) -> Result<(), VolumeError> {
        let staged = self.staged.lock().entry((plugin.name(), key.clone())).or_default().clone();
        // One at a time for each key: what one pod is taking back another must not think to be there.
        let _turn = staged.turn.lock().await;
        if staged.users.lock().is_empty() {
            plugin.stage(&key, volume).await?;
        }
        staged.users.lock().insert(uid.to_string());
        Ok(())
    }

    /// Takes back what the pod was the last to use.
    async fn unstage(&self, plugin: &dyn VolumePlugin, uid: &str) -> Result<(), VolumeError> {
        let used: Vec<(String, Arc<StagedVolume>)> = {
            let staged = self.staged.lock();
            let used = staged
                .iter()
                .filter(|((name, _), staged)| *name == plugin.name() && staged.users.lock().contains(uid));
            used.map(|((_, key), staged)| (key.clone(), staged.clone())).collect()
        };
        for (key, staged) in used {
            let _turn = staged.turn.lock().await;
            if staged.users.lock().len() == 1 {
                plugin.unstage(&key).await?;
            }
            staged.users.lock().remove(uid);
        }
        // Whoever is about to use one holds it, too.
        let is_free =
            |staged: &Arc<StagedVolume>| Arc::strong_count(staged) == 1 && staged.users.lock().is_empty();
        self.staged.lock().retain(|_, staged| !is_free(staged));
        Ok(())
    }

    async fn on_host<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&dyn Host, &Path) -> T + Send + 'static,
    ) -> T {
        let (host, path) = (self.host.clone(), path.to_path_buf());
        files::blocking(move || work(&*host, &path)).await
    }

    /// Uids that have a directory.
    pub(crate) async fn present(&self) -> Vec<String> {
        self.on_host(&self.root, |host, root| host.list(root)).await
    }
}

/// When a volume's files are given to the pod's group. `fsGroupChangePolicy` is for volumes that outlive
/// their pods; others are new, and have no files of before.
fn group_change(pod: &Pod, outlives_pods: bool) -> GroupChange {
    let context = pod.spec_ref().security_context.as_ref();
    match context.and_then(|context| context.fs_group_change_policy.as_deref()) {
        Some("OnRootMismatch") if outlives_pods => GroupChange::OnRootMismatch,
        _ => GroupChange::Always,
    }
}

#[cfg(test)]
mod tests;
