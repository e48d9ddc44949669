//! `hostPath`: the path must be what its type says.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub(crate) fn check(path: &str, kind: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    let fails = |what: &str| Err(format!("hostPath type check failed: {} is not a {what}", path.display()));
    if kind.is_empty() {
        // As container runtimes do: what is not there becomes a directory.
        if !path.exists() {
            create_dir(&path)?;
        }
        return Ok(path);
    }
    match kind {
        "DirectoryOrCreate" if !path.exists() => create_dir(&path)?,
        "FileOrCreate" if !path.exists() => {
            std::fs::write(&path, b"")
                .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
            let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644));
        }
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
        other => Err(format!("{other} is an invalid volume type")),
    }
}

fn create_dir(path: &Path) -> Result<(), String> {
    std::fs::create_dir_all(path).map_err(|error| format!("cannot create {}: {error}", path.display()))
}
