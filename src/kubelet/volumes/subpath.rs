//! `subPath`: a part of a volume for one container. The path is resolved by the kernel inside the volume, so
//! that no symbolic link a container has put there leads out of it, and bound to a place of our own, so that
//! it stays what it was.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::plugin::VolumeError;

/// Binds `sub` of a volume to `target` (made as a file or directory) and returns it.
pub(crate) fn bind(volume: &Path, sub: &str, target: PathBuf) -> Result<PathBuf, VolumeError> {
    let failed =
        |step: &'static str, source: io::Error| VolumeError::Part { part: sub.to_string(), step, source };
    if Path::new(sub).is_absolute() || Path::new(sub).components().any(|part| part == Component::ParentDir) {
        return Err(VolumeError::PartOutside(sub.to_string()));
    }
    let root = open(None, volume, OFlag::O_DIRECTORY).map_err(|error| failed("volume", error.into()))?;
    let found = match open(Some(&root), Path::new(sub), OFlag::empty()) {
        Err(nix::errno::Errno::ENOENT) => {
            make(&root, sub).map_err(|error| failed("directory", error.into()))?;
            open(Some(&root), Path::new(sub), OFlag::empty())
        }
        other => other,
    }
    .map_err(|error| failed("open", error.into()))?;
    super::unmount_below(&target).map_err(|error| failed("unmount", error))?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let is_dir = std::fs::metadata(&source).map_err(|error| failed("stat", error))?.is_dir();
    let parent = target.parent().unwrap_or(&target);
    std::fs::create_dir_all(parent).map_err(|error| failed("target", error))?;
    if is_dir {
        std::fs::create_dir_all(&target).map_err(|error| failed("target", error))?;
    } else if !target.exists() {
        std::fs::write(&target, b"").map_err(|error| failed("target", error))?;
    }
    mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|error| failed("bind", error.into()))?;
    Ok(target)
}

fn open(root: Option<&OwnedFd>, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let flags = flags | OFlag::O_PATH | OFlag::O_CLOEXEC;
    match root {
        None => nix::fcntl::open(path, flags, Mode::empty()),
        Some(root) => {
            let how = OpenHow::new()
                .flags(flags)
                .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
            openat2(root, path, how)
        }
    }
}

/// A descriptor that only names a place cannot be changed itself.
fn set_mode(place: &OwnedFd, mode: Mode) -> nix::Result<()> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()));
    nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, &path, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
}

/// Makes the missing directories of a path, each inside the one that was opened before it, with the volume's
/// own mode: who may write into the volume may write into its part.
fn make(root: &OwnedFd, sub: &str) -> nix::Result<()> {
    let mut done = PathBuf::new();
    let mode = Mode::from_bits_truncate(nix::sys::stat::fstat(root)?.st_mode & 0o7777);
    for part in Path::new(sub).components() {
        let Component::Normal(name) = part else { continue };
        let parent = if done.as_os_str().is_empty() {
            root.try_clone().map_err(|_| nix::errno::Errno::EMFILE)?
        } else {
            open(Some(root), &done, OFlag::O_DIRECTORY)?
        };
        let name_c = CString::new(name.as_encoded_bytes()).map_err(|_| nix::errno::Errno::EINVAL)?;
        match nix::sys::stat::mkdirat(&parent, name_c.as_c_str(), mode) {
            // The process's mask may have taken bits that were asked for.
            Ok(()) => set_mode(&open(Some(root), &done.join(name), OFlag::O_DIRECTORY)?, mode)?,
            Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
        done.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
