//! The lock that gives a directory to one store at a time.
//!
//! The lock belongs to the open file, so that two stores in one process exclude each other too. A child
//! process that has been forked but has not yet called exec holds a copy of the open file, and with it the
//! lock. Closing the file would not release such a copy, so the lock is released explicitly. A process that
//! was killed cannot do that; therefore opening waits a moment for its children to exec.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::OpenError;

/// How long a child may take from fork to exec.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Held until it is dropped.
pub(crate) struct DirectoryLock(File);

impl DirectoryLock {
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        Self::take_within(dir, TIMEOUT)
    }

    fn take_within(dir: &Path, timeout: Duration) -> Result<Self, OpenError> {
        let path = dir.join("LOCK");
        let file = File::create(&path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let deadline = Instant::now() + timeout;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(DirectoryLock(file)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { dir: dir.to_path_buf() }),
                Err(TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
            }
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        if let Err(e) = self.0.unlock() {
            tracing::warn!("cannot give up the lock of the store: {e}");
        }
    }
}

#[cfg(test)]
mod tests;
