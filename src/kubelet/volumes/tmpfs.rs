//! Volumes in memory: emptyDir with `medium: Memory`, and whatever holds secrets, so that they never reach a
//! disk.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::plugin::VolumeError;

/// Mounts a tmpfs unless there is a mount already.
pub(crate) fn ensure(path: &Path, size: Option<i64>, mode: u32) -> Result<(), VolumeError> {
    if is_mount_point(path) {
        return Ok(());
    }
    let mut options = format!("mode={mode:04o}");
    if let Some(size) = size.filter(|size| *size > 0) {
        options.push_str(&format!(",size={size}"));
    }
    let flags = MsFlags::empty();
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|source| VolumeError::Memory { path: path.to_path_buf(), source })
}

/// A directory on another device than its parent.
pub(crate) fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|one| one.dev()).ok();
    match path.parent() {
        Some(parent) => device(path) != device(parent),
        None => true,
    }
}
