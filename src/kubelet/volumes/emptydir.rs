//! `emptyDir`: a directory that lives as long as its pod, on disk or in memory.
//!
//! It is made, and given to the pod's group, once. A file outside of it tells that this is done, as upstream's does:
//! from then on it belongs to the containers, and nothing in it is walked as root while they can change it.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;

use super::{make_dir, tmpfs};
use crate::files::tree::{self, Access, GroupChange};

/// Where such a volume is.
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Directory of the file that tells that the volume is complete.
    pub(super) ready: PathBuf,
}

pub(super) fn set_up(
    place: &Place,
    source: &EmptyDirVolumeSource,
    group: Option<u32>,
    change: GroupChange,
) -> Result<(), String> {
    let path = &place.path;
    let in_memory = source.medium.as_deref() == Some("Memory");
    let ready = place.ready.join("ready");
    // A reboot takes what is in memory, and leaves the file.
    let is_there = if in_memory { tmpfs::is_mount_point(path) } else { path.is_dir() };
    if is_there && ready.exists() {
        return Ok(());
    }
    make_dir(path, 0o777)?;
    if in_memory {
        tmpfs::ensure(path, source.size_limit.as_ref().map(api::resources::units), 0o777)?;
    }
    if let Some(group) = group {
        tree::give(path, group, Access::Write, change)
            .map_err(|error| format!("cannot give {} to group {group}: {error}", path.display()))?;
    }
    note(&ready).map_err(|error| format!("cannot create {}: {error}", ready.display()))
}

fn note(ready: &Path) -> std::io::Result<()> {
    if let Some(parent) = ready.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(ready, b"")
}
