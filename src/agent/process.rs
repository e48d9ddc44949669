//! Processes of an instance: found by their command lines, waited for without polling, stopped with a grace
//! period.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::Signal;
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

/// The processes whose arguments satisfy `is`.
pub(crate) fn find(is: impl Fn(&[String]) -> bool) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is(&arguments(*pid))).collect()
}
