//! Opening files that others may have put in place of the ones we expect.
//!
//! The kubelet runs as root and opens files whose names or contents containers can influence. Three rules
//! hold here: a symbolic link is not followed, a file that is not regular (a FIFO would block the opener, a
//! device may act when opened) is not opened at all, and no more is read than the caller asked for. Trees are
//! walked by descriptors ([`tree`]), so a name that changes during the walk leads nowhere else. Blocking
//! calls run off the reactor's threads ([`blocking`]): a slow disk or a dead network file system then holds
//! up one pod, not the node.

pub(crate) mod tree;

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};

/// Whether symbolic links on the way to a file are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// For files of the node's own administrator, such as `/etc/resolv.conf`.
    Follow,
    Refuse,
}

/// Runs work that may block, away from the threads that drive tasks.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Brings a file of the node's own, in a directory that only the node writes to, to this content for good.
/// The directories above it are made.
pub(crate) fn replace(path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(parent)?;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
    file.write_all(data)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(parent)?.sync_all()
}

/// A handle on whatever a name stands for, without opening it.
fn pin(base: impl AsFd, path: &Path, resolve: ResolveFlag, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_PATH | OFlag::O_CLOEXEC;
    Ok(File::from(openat2(base, path, OpenHow::new().flags(flags).resolve(resolve))?))
}

/// The name under which the kernel reaches the very file that a handle pins.
fn pinned(handle: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// Opens a regular file for reading. Never waits for another process.
pub(crate) fn open(path: &Path, links: Links) -> io::Result<File> {
    let (resolve, flags) = match links {
        Links::Follow => (ResolveFlag::empty(), OFlag::empty()),
        Links::Refuse => (ResolveFlag::RESOLVE_NO_SYMLINKS, OFlag::O_NOFOLLOW),
    };
    open_from(AT_FDCWD, path, resolve, flags)
}

fn open_from(base: impl AsFd, path: &Path, resolve: ResolveFlag, flags: OFlag) -> io::Result<File> {
    let handle = pin(base, path, resolve, flags)?;
    if !handle.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    // The handle pins the inode: what is opened is what was looked at.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened: OwnedFd = nix::fcntl::open(&pinned(&handle), flags, nix::sys::stat::Mode::empty())?;
    Ok(File::from(opened))
}

/// Makes a directory in another, which is made as well. Links lead to the other one, but the new name is
/// none, whoever put it there. What is there already keeps its mode.
pub(crate) fn make_inside(parent: &Path, name: &OsStr, mode: u32) -> io::Result<()> {
    std::fs::create_dir_all(parent)?;
    let parent = pin(AT_FDCWD, parent, ResolveFlag::empty(), OFlag::O_DIRECTORY)?;
    let is_new = match mkdirat(&parent, name, Mode::from_bits_truncate(mode)) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH;
    let made = pin(&parent, Path::new(name), resolve, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)?;
    if is_new {
        // Whatever the mask of new files is.
        std::fs::set_permissions(pinned(&made), Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// The last bytes of a file, at most so many.
pub(crate) fn read_end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = open(path, Links::Refuse)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file of the node's own administrator; `None` if it is larger than this.
pub(crate) fn read_bounded(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    bounded(open(path, Links::Follow)?, most)
}

/// A file of a volume; `None` if it is larger than this. The path begins at the volume's top, with or without
/// a slash. The kernel resolves it, and neither a link nor `..` leads out of the volume.
pub(crate) fn read_inside(volume: &Path, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    let top = pin(AT_FDCWD, volume, ResolveFlag::empty(), OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)?;
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let below = Path::new(path.trim_start_matches('/'));
    bounded(open_from(top, below, resolve, OFlag::O_NOFOLLOW)?, most)
}

fn bounded(file: File, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// The largest configuration file of the machine that is read (upstream's bound for `resolv.conf`).
const LARGEST_TEXT: u64 = 10 << 20;

/// A configuration file of the machine as text, empty if there is none.
pub(crate) fn read_text(path: &str) -> String {
    let mut bytes = Vec::new();
    let read =
        open(Path::new(path), Links::Follow).and_then(|file| file.take(LARGEST_TEXT).read_to_end(&mut bytes));
    if read.is_ok() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() }
}

#[cfg(test)]
mod tests;
