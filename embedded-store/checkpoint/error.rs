//! Why a checkpoint could not be read or written, and which of sled's errors mean damage.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {what}")]
    Damaged { path: PathBuf, what: String },
}

pub(super) fn is_busy(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::WouldBlock || e.to_string().contains("could not acquire lock")
}

pub(crate) fn damaged(path: &Path, what: impl ToString) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_path_buf(), what: what.to_string() }
}

/// Whether the error is about the disk or the process, and not about the data on the disk: then nothing is
/// damaged.
pub(super) fn is_of_the_disk(e: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let descriptors = [nix::libc::EMFILE, nix::libc::ENFILE].map(Some).contains(&e.raw_os_error());
    descriptors
        || matches!(
            e.kind(),
            StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied | OutOfMemory
        )
}

pub(super) fn failed(path: &Path, e: sled::Error) -> CheckpointError {
    match e {
        sled::Error::Io(source) => CheckpointError::Io { path: path.to_path_buf(), source },
        other => damaged(path, other),
    }
}
