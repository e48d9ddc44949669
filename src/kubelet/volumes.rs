//! A pod's volumes on the host, below `DATA/pods/UID/volumes/`, in upstream's layout. Mounting is idempotent: every sync of a
//! pod calls it again, which is how changed config maps, secrets, labels and tokens reach running containers. Files that
//! containers may have written are never touched again: a volume is given to the pod's group once, when it is made.

mod atomic;
mod cleanup;
mod content;
mod emptydir;
mod hostpath;
pub(crate) mod subpath;
mod tmpfs;
mod tokens;

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::ObjectApi;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};

pub(crate) use cleanup::{unmount_all, unmount_below};

use crate::files::tree::GroupChange;
use crate::files::{self, tree};
use crate::sources::Sources;
use crate::spec::PodExt;
use crate::spec::amount::Resources;
use tokens::Tokens;

#[derive(Clone)]
pub(crate) struct Volumes {
    /// `DATA/pods`.
    root: PathBuf,
    sources: Sources,
    tokens: Tokens,
}

/// A volume on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountedVolume {
    pub(crate) path: PathBuf,
    /// Containers can only ever read it.
    pub(crate) read_only: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Mounted {
    pub(crate) volumes: HashMap<String, MountedVolume>,
    /// When a token in one of them must be renewed.
    pub(crate) refresh: Option<Timestamp>,
}

/// A volume that cannot be set up, in the words of upstream's `FailedMount` event.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {why}")]
pub(crate) struct MountError {
    pub(crate) volume: String,
    pub(crate) why: String,
}

impl Volumes {
    pub(crate) fn new(root: PathBuf, api: Arc<dyn ObjectApi>, sources: Sources) -> Self {
        Volumes { root, sources, tokens: Tokens::new(api) }
    }

    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root.join(uid)
    }

    fn volume_dir(&self, pod: &Pod, plugin: &str, name: &str) -> PathBuf {
        self.pod_dir(pod.uid()).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
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
            let one = self.mount_one(pod, volume, allocatable, now, &mut mounted.refresh).await;
            let one = one.map_err(|why| MountError { volume: volume.name.clone(), why })?;
            mounted.volumes.insert(volume.name.clone(), one);
        }
        Ok(mounted)
    }

    async fn mount_one(
        &self,
        pod: &Pod,
        volume: &Volume,
        allocatable: &Resources,
        now: Timestamp,
        refresh: &mut Option<Timestamp>,
    ) -> Result<MountedVolume, String> {
        let group = pod.spec_ref().security_context.as_ref().and_then(|context| context.fs_group);
        if let Some(source) = &volume.empty_dir {
            let place = emptydir::Place {
                path: self.volume_dir(pod, "empty-dir", &volume.name),
                ready: self.pod_dir(pod.uid()).join("plugins/kubernetes.io~empty-dir").join(&volume.name),
            };
            let (source, change) = (source.clone(), group_change(pod, false));
            return files::blocking(move || {
                emptydir::set_up(&place, &source, group_of(group), change)?;
                Ok(MountedVolume { path: place.path, read_only: false })
            })
            .await;
        }
        if let Some(source) = &volume.host_path {
            let source = source.clone();
            return files::blocking(move || {
                let path = hostpath::check(&source.path, source.type_.as_deref().unwrap_or(""))?;
                Ok(MountedVolume { path, read_only: false })
            })
            .await;
        }
        let needs =
            content::Needs { pod, sources: &self.sources, tokens: &self.tokens, allocatable, now, group };
        let (plugin, in_memory, files) = if let Some(source) = &volume.config_map {
            ("configmap", false, content::config_map(&needs, source).await?)
        } else if let Some(source) = &volume.secret {
            ("secret", true, content::secret(&needs, source).await?)
        } else if let Some(source) = &volume.downward_api {
            ("downward-api", true, content::downward(&needs, source)?)
        } else if let Some(source) = &volume.projected {
            ("projected", true, content::projected(&needs, &volume.name, source, refresh).await?)
        } else {
            return Err("no volume plugin matched".to_string());
        };
        let path = self.volume_dir(pod, plugin, &volume.name);
        files::blocking(move || {
            make_dir(&path, 0o755)?;
            if in_memory {
                tmpfs::ensure(&path, None, 0o755)?;
            }
            atomic::write(&path, &files, group_of(group), now).map_err(|error| error.to_string())?;
            Ok(MountedVolume { path, read_only: true })
        })
        .await
    }

    /// Unmounts and removes everything of a pod.
    pub(crate) async fn remove(&self, uid: &str) -> std::io::Result<()> {
        self.tokens.forget(uid);
        let path = self.pod_dir(uid);
        files::blocking(move || {
            unmount_below(&path)?;
            // What stays mounted stops it: nobody's data is removed through a mount.
            tree::remove(&path)
        })
        .await
    }

    /// Uids that have a directory.
    pub(crate) fn present(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), String> {
    let said = |error: std::io::Error| format!("cannot create {}: {error}", path.display());
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(said)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(said)
}

/// When a volume's files are given to the pod's group. `fsGroupChangePolicy` is for volumes that outlive their pods; others
/// are new, and have no files of before.
fn group_change(pod: &Pod, outlives_pods: bool) -> GroupChange {
    let context = pod.spec_ref().security_context.as_ref();
    match context.and_then(|context| context.fs_group_change_policy.as_deref()) {
        Some("OnRootMismatch") if outlives_pods => GroupChange::OnRootMismatch,
        _ => GroupChange::Always,
    }
}

/// The pod's `fsGroup` as the kernel takes it.
fn group_of(group: Option<i64>) -> Option<u32> {
    group.and_then(|group| u32::try_from(group).ok())
}

#[cfg(test)]
mod tests;
