//! `hostPath`: the path must be what its type says.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::BoxFuture;
use k8s_openapi::api::core::v1::Volume;

use super::plugin::{MountedVolume, SetUp, VolumeError, VolumePlace, VolumePlugin, VolumeRequest};
use crate::files;
use crate::host::Host;

pub(super) struct HostPath {
    pub(super) host: Arc<dyn Host>,
}

impl VolumePlugin for HostPath {
    fn name(&self) -> &'static str {
        "host-path"
    }

    fn supports(&self, volume: &Volume) -> bool {
        volume.host_path.is_some()
    }

    fn set_up<'a>(&'a self, request: VolumeRequest<'a>) -> BoxFuture<'a, Result<SetUp, VolumeError>> {
        let (host, source) = (self.host.clone(), request.volume.host_path.clone().unwrap_or_default());
        Box::pin(files::blocking(move || {
            let path = host.host_path(&source.path, source.type_.as_deref().unwrap_or(""))?;
            Ok((MountedVolume { path, read_only: false }, None))
        }))
    }

    /// It is the node's, and stays.
    fn tear_down<'a>(
        &'a self,
        _uid: &'a str,
        _place: &'a VolumePlace,
    ) -> BoxFuture<'a, Result<(), VolumeError>> {
        Box::pin(async { Ok(()) })
    }
}

pub(crate) fn check(path: &str, kind: &str) -> Result<PathBuf, VolumeError> {
    let path = PathBuf::from(path);
    let fails = |wanted: &'static str| Err(VolumeError::HostPath { path: path.clone(), wanted });
    if kind.is_empty() {
        // As container runtimes do: what is not there becomes a directory.
        if !path.exists() {
            create_dir(&path)?;
        }
        return Ok(path);
    }
    match kind {
        "DirectoryOrCreate" if !path.exists() => create_dir(&path)?,
        "FileOrCreate" if !path.exists() => create_file(&path)?,
        _ => {}
    }
    let Ok(metadata) = std::fs::metadata(&path) else {
        return fails(match kind {
            "Directory" | "DirectoryOrCreate" => "directory",
            "Socket" => "socket file",
            "CharDevice" => "character device",
            "BlockDevice" => "block device",
            _ => "file",
        });
    };
    let of_type = metadata.file_type();
    match kind {
        "Directory" | "DirectoryOrCreate" if !metadata.is_dir() => fails("directory"),
        "File" | "FileOrCreate" if !metadata.is_file() => fails("file"),
        "Socket" if !of_type.is_socket() => fails("socket file"),
        "CharDevice" if !of_type.is_char_device() => fails("character device"),
        "BlockDevice" if !of_type.is_block_device() => fails("block device"),
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice"
        | "BlockDevice" => Ok(path),
        other => Err(VolumeError::HostPathType(other.to_string())),
    }
}

/// Makes an empty file where nothing is. A link that leads nowhere is something: nothing is made where it
/// points to.
fn create_file(path: &Path) -> Result<(), VolumeError> {
    let made = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o644)));
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(not_created(path, error)),
        _ => Ok(()),
    }
}

fn create_dir(path: &Path) -> Result<(), VolumeError> {
    std::fs::create_dir_all(path).map_err(|error| not_created(path, error))
}

fn not_created(path: &Path, source: std::io::Error) -> VolumeError {
    VolumeError::File { verb: "create", path: path.to_path_buf(), source }
}
