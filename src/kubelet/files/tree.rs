//! Trees below a directory: removing them, giving them to a group, and measuring them.
//!
//! Every step is taken from a descriptor of the directory it happens in, follows no link and crosses no
//! mount. Only the present directory is open, and the way back up is `..`, checked against the directory that
//! was left: a tree of any depth needs two descriptors and no stack. Measuring holds some more, since a moved
//! directory must not end it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, ResolveFlag};
use nix::unistd::{Gid, UnlinkatFlags, fchownat, unlinkat};

use super::{pin, pinned};

/// Names of subdirectories that are noted at a time.
const BATCH: usize = 256;

/// A directory on the way down.
struct Level {
    identity: (u64, u64),
    /// The name of the entry that was descended into.
    name: OsString,
    /// Entries that are still to be looked at.
    pending: Vec<OsString>,
}

fn identity(directory: &File) -> io::Result<(u64, u64)> {
    let metadata = directory.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// An entry of a directory, not followed and on the same mount.
fn entry(directory: &File, name: &OsStr, flags: OFlag) -> io::Result<File> {
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    pin(directory, Path::new(name), resolve, flags | OFlag::O_NOFOLLOW)
}

/// Back to the directory that was descended from.
fn ascend(here: &File, level: &Level) -> io::Result<File> {
    let up = entry(here, OsStr::new(".."), OFlag::O_DIRECTORY)?;
    if identity(&up)? != level.identity {
        return Err(io::Error::other("a directory was moved while its tree was walked"));
    }
    Ok(up)
}

/// The error with the place where it happened.
fn at(root: &Path, above: &[Level], name: &OsStr, error: io::Error) -> io::Error {
    let mut path = root.to_path_buf();
    path.extend(above.iter().map(|level| &level.name));
    path.push(name);
    let what = match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::EXDEV | Errno::EBUSY => "something is mounted there".to_string(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("{}: {what}", path.display()))
}

/// Removes a file or a directory with everything in it. What is mounted in it stays, and is an error. No
/// error if there is nothing.
pub(crate) fn remove(root: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no parent directory"));
    };
    let parent = match pin(AT_FDCWD, parent, ResolveFlag::empty(), OFlag::O_DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        parent => parent?,
    };
    let failed = |error| at(root, &[], OsStr::new(""), error);
    if removed(&parent, name).map_err(failed)? {
        return Ok(());
    }
    let top = entry(&parent, name, OFlag::O_DIRECTORY).map_err(failed)?;
    empty_tree(root, top)?;
    removed(&parent, name).map_err(failed).map(|_| ())
}

/// Removes everything in a directory, which may itself be a mount point.
pub(crate) fn empty(root: &Path) -> io::Result<()> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    match pin(AT_FDCWD, root, ResolveFlag::empty(), flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        top => empty_tree(root, top?),
    }
}

/// Removes an entry that is no directory or an empty one; false if it is a directory with something in it.
fn removed(directory: &File, name: &OsStr) -> io::Result<bool> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(true),
        Err(Errno::EISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(directory, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn empty_tree(root: &Path, top: File) -> io::Result<()> {
    let mut above: Vec<Level> = Vec::new();
    let mut here = top;
    let mut pending = clear(root, &above, &here)?;
    loop {
        if pending.is_empty() {
            // A full batch may not have been all.
            pending = clear(root, &above, &here)?;
        }
        if let Some(name) = pending.pop() {
            let down =
                entry(&here, &name, OFlag::O_DIRECTORY).map_err(|error| at(root, &above, &name, error))?;
            above.push(Level { identity: identity(&here)?, name, pending });
            here = down;
            pending = clear(root, &above, &here)?;
            continue;
        }
        let Some(level) = above.pop() else { return Ok(()) };
        here = ascend(&here, &level)?;
        pending = level.pending;
        if !removed(&here, &level.name).map_err(|error| at(root, &above, &level.name, error))? {
            // Somebody puts things in while we take them out.
            let error = io::Error::from(Errno::ENOTEMPTY);
            return Err(at(root, &above, &level.name, error));
        }
    }
}

/// Removes what can go at once from a directory; answers with subdirectories that have something in them.
fn clear(root: &Path, above: &[Level], here: &File) -> io::Result<Vec<OsString>> {
    let mut full = Vec::new();
    for found in std::fs::read_dir(pinned(here))? {
        let name = found?.file_name();
        if !removed(here, &name).map_err(|error| at(root, above, &name, error))? {
            full.push(name);
        }
        if full.len() == BATCH {
            break;
        }
    }
    Ok(full)
}

/// When a volume's files are given to the pod's group (`fsGroupChangePolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupChange {
    Always,
    /// Not if the volume's top directory already is as it should be.
    OnRootMismatch,
}

/// What a group may do with a volume's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Access {
    fn mask(self, is_directory: bool) -> u32 {
        let mask = match self {
            Access::Read => 0o440,
            Access::Write => 0o660,
        };
        // New files in a directory get its group.
        if is_directory { mask | 0o2110 } else { mask }
    }
}

/// Gives a tree to a group: owned and usable by it, directories pass it on. The top comes last, so that a
/// walk that was cut short is done again under [`GroupChange::OnRootMismatch`].
pub(crate) fn give(root: &Path, group: u32, access: Access, change: GroupChange) -> io::Result<()> {
    let top = pin(AT_FDCWD, root, ResolveFlag::empty(), OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)?;
    if change == GroupChange::OnRootMismatch && fits(&top, group, access)? {
        return Ok(());
    }
    let mut above: Vec<Level> = Vec::new();
    let mut pending = names(&top)?;
    let mut here = top;
    loop {
        if let Some(name) = pending.pop() {
            let failed = |error| at(root, &above, &name, error);
            let down = match entry(&here, &name, OFlag::empty()) {
                // Removed since its directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                down => down.map_err(failed)?,
            };
            if down.metadata()?.is_dir() {
                above.push(Level { identity: identity(&here)?, name, pending });
                pending = names(&down)?;
                here = down;
            } else {
                give_one(&down, group, access).map_err(failed)?;
            }
            continue;
        }
        give_one(&here, group, access).map_err(|error| at(root, &above, OsStr::new(""), error))?;
        let Some(level) = above.pop() else { return Ok(()) };
        here = ascend(&here, &level)?;
        pending = level.pending;
    }
}

/// Gives a directory to a group, and nothing in it.
pub(crate) fn give_directory(path: &Path, group: u32, access: Access) -> io::Result<()> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    give_one(&pin(AT_FDCWD, path, ResolveFlag::empty(), flags)?, group, access)
}

fn names(directory: &File) -> io::Result<Vec<OsString>> {
    std::fs::read_dir(pinned(directory))?.map(|found| found.map(|found| found.file_name())).collect()
}

fn fits(top: &File, group: u32, access: Access) -> io::Result<bool> {
    let metadata = top.metadata()?;
    let mask = access.mask(true);
    Ok(metadata.gid() == group && metadata.mode() & mask == mask)
}

fn give_one(file: &File, group: u32, access: Access) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.gid() != group {
        fchownat(file, "", None, Some(Gid::from_raw(group)), AtFlags::AT_EMPTY_PATH)?;
    }
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = (metadata.mode() & 0o7777) | access.mask(metadata.is_dir());
    // A change of group takes setuid bits away: they are put back.
    if metadata.gid() != group || metadata.mode() & 0o7777 != mode {
        std::fs::set_permissions::<PathBuf>(pinned(file), std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// What a tree takes of its file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TreeUsage {
    /// Bytes of the blocks that are taken.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl std::ops::AddAssign for TreeUsage {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
    }
}

/// Measures a tree. What is mounted in it is not of it, and what cannot be looked at counts as nothing.
pub(crate) fn usage(root: &Path) -> io::Result<TreeUsage> {
    let mut total = TreeUsage::default();
    look_at_each(root, |metadata| total += TreeUsage { bytes: metadata.blocks() * 512, inodes: 1 })?;
    Ok(total)
}

/// Directories above the present one that a walk keeps open.
const HELD: usize = 64;

/// Gives the metadata of everything in a tree, and of its top. Whoever owns the tree may move directories
/// meanwhile: that takes nothing from what was seen, and the walk goes on in the nearest directory above that
/// it holds.
fn look_at_each(root: &Path, mut see: impl FnMut(&std::fs::Metadata)) -> io::Result<()> {
    let mut here = match pin(AT_FDCWD, root, ResolveFlag::empty(), OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        top => top?,
    };
    see(&here.metadata()?);
    let mut above: Vec<(Level, Option<File>)> = Vec::new();
    let mut pending = names(&here)?;
    loop {
        if let Some(name) = pending.pop() {
            let Ok(down) = entry(&here, &name, OFlag::empty()) else { continue };
            let Ok(metadata) = down.metadata() else { continue };
            see(&metadata);
            if metadata.is_dir() {
                let level = Level { identity: identity(&here)?, name, pending };
                pending = names(&down).unwrap_or_default();
                let left = std::mem::replace(&mut here, down);
                let held = (above.len() < HELD).then_some(left);
                above.push((level, held));
            }
            continue;
        }
        let Some(up) = back(&here, &mut above) else { return Ok(()) };
        (here, pending) = up;
    }
}

/// The directory above and what is left to be looked at in it; a held one further up if that has been moved.
fn back(here: &File, above: &mut Vec<(Level, Option<File>)>) -> Option<(File, Vec<OsString>)> {
    let mut is_moved = false;
    while let Some((level, held)) = above.pop() {
        let up = match held {
            None if is_moved => None,
            None => ascend(here, &level).ok(),
            held => held,
        };
        if let Some(up) = up {
            return Some((up, level.pending));
        }
        is_moved = true;
    }
    None
}

#[cfg(test)]
mod tests;
