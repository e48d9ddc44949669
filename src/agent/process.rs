//! Processes of an instance: found by their command lines and by what these mean where the process runs,
//! waited for without polling, stopped with a grace period.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::signal::Signal;
use nix::sys::stat::fstat;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

/// A process that stays the same one even if its number is given to another.
pub(crate) struct Process {
    pub(crate) pid: i32,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// The running process of that number; none if there is none. Must be called inside the runtime.
    pub(crate) fn open(pid: i32) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // SAFETY: the `AsyncFd` owns the descriptor, and an `OwnedFd` neither closes nor changes it while it
        // lives.
        let fd = unsafe { AsyncFd::register(fd) }.ok()?;
        Some(Process { pid, fd })
    }

    /// Returns when it has ended.
    pub(crate) async fn ended(&self) {
        // An error can only mean that the descriptor cannot be watched; the process is then as good as gone.
        let _ = self.fd.readable().await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
            let _ = pidfd_send_signal(self.fd.get_ref(), signal);
        }
    }

    /// Asks it to end, and makes it end after `grace`.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.signal(Signal::SIGTERM);
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            self.kill().await;
        }
    }

    /// Ends it. One that hangs in the kernel is left behind after a while.
    pub(crate) async fn kill(&self) {
        self.signal(Signal::SIGKILL);
        let _ = tokio::time::timeout(Duration::from_secs(10), self.ended()).await;
    }
}

/// The arguments of a process.
pub(crate) fn arguments(pid: i32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// The processes whose arguments satisfy `is`, and for whom `place` is the directory that it is for us. A
/// machine in a container has the same paths, and they are its own.
pub(crate) fn find(place: &Path, is: impl Fn(&[String]) -> bool) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is(&arguments(*pid)) && shares(*pid, place)).collect()
}

/// Device and number of a file: the same file has the same under every path.
type FileId = (u64, u64);

fn file_id(path: impl AsRef<Path>) -> io::Result<FileId> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Whether a path is for a process what it is for us. One that neither has tells nothing: then both must at
/// least have the same root.
fn shares(pid: i32, place: &Path) -> bool {
    match (file_id(place), file_id_for(pid, place)) {
        (Ok(ours), Ok(theirs)) => ours == theirs,
        (Err(_), Err(_)) => {
            let root = file_id(format!("/proc/{pid}/root"));
            root.is_ok_and(|root| file_id("/").is_ok_and(|ours| ours == root))
        }
        _ => false,
    }
}

/// The file that an absolute path is for a process, with its root and its mounts.
fn file_id_for(pid: i32, path: &Path) -> io::Result<FileId> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let below = path.strip_prefix("/").unwrap_or(path);
    // Links on the way lead where they lead for the process.
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(File::open(&root)?.as_fd(), below, how) {
        Ok(file) => {
            let found = fstat(&file).map_err(io::Error::from)?;
            Ok((found.st_dev, found.st_ino))
        }
        // Linux before 5.6.
        Err(nix::errno::Errno::ENOSYS) => file_id(root.join(below)),
        Err(error) => Err(error.into()),
    }
}

/// Whether a process has a file open.
pub(crate) fn has_open(pid: i32, file: &Path) -> bool {
    let Ok(wanted) = file_id(file) else { return false };
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| file_id(entry.path()).ok()).any(|one| one == wanted)
}

#[cfg(test)]
mod tests;
