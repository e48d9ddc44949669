//! `emptyDir`: a directory that lives as long as its pod, on disk or in memory.
//!
//! It is made, and given to the pod's group, once. A file outside of it tells that this is done, as
//! upstream's does: from then on it belongs to the containers, and nothing in it is walked as root while they
//! can change it.

use std::sync::Arc;

use client::BoxFuture;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Volume};

use super::plugin::{MountedVolume, SetUp, VolumeError, VolumePlace, VolumePlugin, VolumeRequest};
use crate::files;
use crate::files::tree::{Access, GroupChange};
use crate::host::Host;

pub(super) struct EmptyDir {
    pub(super) host: Arc<dyn Host>,
}

impl VolumePlugin for EmptyDir {
    fn name(&self) -> &'static str {
        "empty-dir"
    }

    fn supports(&self, volume: &Volume) -> bool {
        volume.empty_dir.is_some()
    }

    fn set_up<'a>(&'a self, request: VolumeRequest<'a>) -> BoxFuture<'a, Result<SetUp, VolumeError>> {
        let (host, place) = (self.host.clone(), request.place);
        let source = request.volume.empty_dir.clone().unwrap_or_default();
        Box::pin(files::blocking(move || {
            set_up(&*host, &place, &source, request.group, request.change)?;
            Ok((MountedVolume { path: place.path, read_only: false }, None))
        }))
    }

    fn tear_down<'a>(
        &'a self,
        _uid: &'a str,
        place: &'a VolumePlace,
    ) -> BoxFuture<'a, Result<(), VolumeError>> {
        Box::pin(take_away(&self.host, place))
    }
}

/// Unmounts and removes a volume that is its pod's alone.
pub(super) async fn take_away(host: &Arc<dyn Host>, place: &VolumePlace) -> Result<(), VolumeError> {
    let (host, path) = (host.clone(), place.path.clone());
    files::blocking(move || {
        host.unmount_below(&path)?;
        Ok(host.remove_tree(&path)?)
    })
    .await
}

pub(super) fn set_up(
    host: &dyn Host,
    place: &VolumePlace,
    source: &EmptyDirVolumeSource,
    group: Option<u32>,
    change: GroupChange,
) -> Result<(), VolumeError> {
    let path = &place.path;
    let failed = |verb| {
        let path = path.clone();
        move |source| VolumeError::File { verb, path, source }
    };
    let in_memory = source.medium.as_deref() == Some("Memory");
    let ready = place.notes.join("ready");
    // A reboot takes what is in memory, and leaves the file.
    let is_there = if in_memory { host.is_mount_point(path) } else { host.is_directory(path) };
    if is_there && host.exists(&ready) {
        return Ok(());
    }
    host.make_directory(path, 0o777).map_err(failed("create"))?;
    if in_memory {
        host.mount_memory(path, source.size_limit.as_ref().map(api::resources::units), 0o777)?;
    }
    if let Some(group) = group {
        host.give(path, group, Access::Write, change).map_err(failed("give its group"))?;
    }
    host.write_file(&ready, b"", 0o600).map_err(failed("note as ready"))
}
