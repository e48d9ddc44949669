//! Files that appear whole or not at all, with the mode they need from the first byte.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::Problem;

/// Writes a file beside its place, syncs it and renames it over the old one.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = folder.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        // The process's mask may have taken bits that were asked for.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

/// As [`write_atomically`], as a [`Problem`] that names the file. A file that is so already is left alone: a
/// start needs no free space on the disk.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Problem> {
    if is_written(path, content, mode) {
        return Ok(());
    }
    write_atomically(path, content, mode).map_err(|error| {
        Problem::new(format!("write {}", path.display()), error, "check permissions and space of the disk")
    })
}

fn is_written(path: &Path, content: &[u8], mode: u32) -> bool {
    let is_ours = fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o7777 == mode);
    is_ours && fs::read(path).is_ok_and(|present| present == content)
}

/// The file's text, or none if there is no such file.
pub fn read(path: &Path) -> Result<Option<String>, Problem> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problem::new(
            format!("read {}", path.display()),
            error,
            "restore the file from a backup, or move it away to have it made anew",
        )),
    }
}

/// Gives a file or directory another name in the same directory. It is so on disk afterwards.
pub fn rename(from: &Path, to: &Path) -> Result<(), Problem> {
    renamed(from, to, RenameFlags::RENAME_NOREPLACE)
}

/// Has two files or directories in the same directory change places, in one step.
pub fn exchange(one: &Path, other: &Path) -> Result<(), Problem> {
    renamed(one, other, RenameFlags::RENAME_EXCHANGE)
}

fn renamed(from: &Path, to: &Path, how: RenameFlags) -> Result<(), Problem> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let moved = renameat2(AT_FDCWD, from, AT_FDCWD, to, how).map_err(io::Error::from);
    moved.and_then(|()| fs::File::open(folder)?.sync_all()).map_err(|error| {
        let what = format!("move {} to {}", from.display(), to.display());
        Problem::new(what, error, "check that the second is not there, and the disk")
    })
}

/// Creates a directory (and its parents) that only root may enter.
pub fn private_directory(path: &Path) -> Result<(), Problem> {
    let made =
        fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)));
    made.map_err(|error| {
        Problem::new(format!("create {}", path.display()), error, "choose a writable place with --data-dir")
    })
}

#[cfg(test)]
mod tests;
