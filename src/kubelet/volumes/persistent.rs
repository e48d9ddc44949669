//! Persistent volumes: a pod's claim leads to a volume, which is a directory of the node.
//!
//! Claim and volume are read when the pod's volumes are first set up; a binding does not change while a pod
//! uses it. The volume's files are given to the pod's group once, which a note on the disk remembers. The
//! directories of the built-in provisioner are made here, when a pod first needs them ([`super::local_path`]
//! removes them). Absent: network file systems, CSI, devices, file systems on devices.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::volumes::{
    LOCAL_PATH, PROVISIONED_BY, annotation, check_made_for, claim_name, fits_node, mode_of, volume_name,
};
use client::{Api, BoxFuture, ObjectApi};
use k8s_openapi::api::core::v1::{Container, Node, PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::claim::{ClaimError, check_claim, check_volume};
use super::local_path::Roots;
use super::plugin::{MountedVolume, SetUp, VolumeError, VolumePlace, VolumePlugin, VolumeRequest};
use crate::files;
use crate::files::tree::Access;
use crate::host::Host;
use crate::spec::PodExt;

/// As upstream names the plugin of most of them; it is part of paths.
pub(super) const NAME: &str = "local-volume";

pub(super) struct Persistent {
    pub(super) host: Arc<dyn Host>,
    pub(super) api: Arc<dyn ObjectApi>,
    /// The node's own object.
    pub(super) node: watch::Receiver<Option<Arc<Node>>>,
    /// Where directories of the built-in provisioner are made.
    pub(super) roots: Roots,
    /// What is set up, by the pod's uid and the volume's name.
    pub(super) ready: Mutex<HashMap<(String, String), MountedVolume>>,
}

/// Where a volume's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    /// The persistent volume's name.
    name: String,
    directory: Directory,
    read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Directory {
    /// A directory that is there, or is made if it is the provisioner's and in a place for these.
    Local {
        path: PathBuf,
        is_made: bool,
    },
    Host {
        path: String,
        kind: String,
    },
}

impl VolumePlugin for Persistent {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports(&self, volume: &Volume) -> bool {
        volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
    }

    fn outlives_pods(&self) -> bool {
        true
    }

    fn set_up<'a>(&'a self, request: VolumeRequest<'a>) -> BoxFuture<'a, Result<SetUp, VolumeError>> {
        Box::pin(async move {
            let key = (request.pod.uid().to_string(), request.volume.name.clone());
            if let Some(ready) = self.ready.lock().get(&key) {
                return Ok((ready.clone(), None));
            }
            let mut found = self.find(request.pod, request.volume).await?;
            if let Directory::Local { path, is_made: is_made @ true } = &mut found.directory {
                *is_made = self.roots.hold(path).await?;
            }
            let mounted = self.prepare(found, &request).await?;
            self.ready.lock().insert(key, mounted.clone());
            Ok((mounted, None))
        })
    }

    /// The directory stays; the notes go with the pod's own.
    fn tear_down<'a>(
        &'a self,
        _uid: &'a str,
        _place: &'a VolumePlace,
    ) -> BoxFuture<'a, Result<(), VolumeError>> {
        Box::pin(async { Ok(()) })
    }

    fn forget_pod(&self, uid: &str) {
        self.ready.lock().retain(|(owner, _), _| owner != uid);
    }
}

impl Persistent {
    async fn find(&self, pod: &Pod, volume: &Volume) -> Result<Found, VolumeError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
        let name = claim_name(pod, volume).unwrap_or_default();
        let processing = |why: ClaimError| VolumeError::Claim { claim: format!("{namespace}/{name}"), why };
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.api.clone(), namespace);
        let claim = claims.get(&name).await.map_err(|error| processing(ClaimError::NoClaim(error)))?;
        check_claim(&claim).map_err(processing)?;
        if volume.ephemeral.is_some() {
            check_made_for(pod, &claim)?;
        }
        let volumes: Api<PersistentVolume> = Api::all(self.api.clone());
        let found = volumes.get(volume_name(&claim)).await;
        let none = |source| ClaimError::NoVolume { volume: volume_name(&claim).to_string(), source };
        let persistent = found.map_err(|error| processing(none(error)))?;
        check_volume(&persistent, &claim).map_err(processing)?;
        let node = self.node.borrow().clone();
        locate(pod, volume, &persistent, node.as_deref())
    }

    async fn prepare(&self, found: Found, request: &VolumeRequest<'_>) -> Result<MountedVolume, VolumeError> {
        let (host, notes) = (self.host.clone(), request.place.notes.clone());
        let (group, change) = (request.group.filter(|_| !found.read_only), request.change);
        files::blocking(move || {
            let Found { name, directory, read_only } = found;
            let path = match directory {
                Directory::Host { path, kind } => host.host_path(&path, &kind)?,
                Directory::Local { path, is_made } => {
                    if let (true, Some(parent), Some(name)) = (is_made, path.parent(), path.file_name()) {
                        let made = host.make_inside(parent, name, 0o777);
                        made.map_err(|source| file("create", &path, source))?;
                    }
                    let text = path.to_string_lossy().into_owned();
                    let is_there = host.host_path(&text, "Directory");
                    is_there.map_err(|_| VolumeError::NoDirectory { volume: name, path: path.clone() })?;
                    let ready = notes.join("ready");
                    if !host.exists(&ready) {
                        if let Some(group) = group {
                            let given = host.give(&path, group, Access::Write, change);
                            given.map_err(|source| file("give its group", &path, source))?;
                        }
                        let noted = host.write_file(&ready, text.as_bytes(), 0o600);
                        noted.map_err(|source| file("note as ready", &path, source))?;
                    }
                    path
                }
            };
            Ok(MountedVolume { path, read_only })
        })
        .await
    }
}

fn file(verb: &'static str, path: &Path, source: std::io::Error) -> VolumeError {
    VolumeError::File { verb, path: path.to_path_buf(), source }
}

/// Containers of every kind.
fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.init_containers().iter().chain(&pod.spec_ref().containers)
}

/// What the volume is on this node, if the pod may use it so.
fn locate(
    pod: &Pod,
    volume: &Volume,
    persistent: &PersistentVolume,
    node: Option<&Node>,
) -> Result<Found, VolumeError> {
    let mode = mode_of(persistent);
    let used =
        |kind: &'static str| VolumeError::Mode { volume: volume.name.clone(), mode: mode.to_string(), kind };
    let is_mounted =
        containers(pod).any(|one| one.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name));
    let is_device =
        containers(pod).any(|one| one.volume_devices.iter().flatten().any(|own| own.name == volume.name));
    match mode {
        "Block" if is_mounted => return Err(used("volumeMounts")),
        "Filesystem" if is_device => return Err(used("volumeDevices")),
        "Block" => return Err(VolumeError::Device),
        _ => {}
    }
    let name = persistent.metadata.name.clone().unwrap_or_default();
    if let Some(node) = node {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        if !fits_node(persistent, node.metadata.name.as_deref().unwrap_or(""), &labels) {
            return Err(VolumeError::OtherNode { volume: name });
        }
    }
    let spec = persistent.spec.clone().unwrap_or_default();
    let is_made = annotation(&persistent.metadata.annotations, PROVISIONED_BY) == Some(LOCAL_PATH);
    let directory = match (spec.local, spec.host_path) {
        (Some(local), _) => Directory::Local { path: local.path.into(), is_made },
        (_, Some(host)) if is_made => Directory::Local { path: host.path.into(), is_made },
        (_, Some(host)) => Directory::Host { path: host.path, kind: host.type_.unwrap_or_default() },
        _ => return Err(VolumeError::NoPlugin),
    };
    let claim = volume.persistent_volume_claim.as_ref();
    let read_only = claim.and_then(|claim| claim.read_only).unwrap_or(false);
    Ok(Found { name, directory, read_only })
}

#[cfg(test)]
mod tests;
