//! Why a checkpoint could not be read or written, and which of sled's errors mean damage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::description::FORMAT;
use super::stream::StreamError;
use crate::log::record::DecodeError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {what}")]
    Damaged { path: PathBuf, what: Damage },
}

/// What does not add up in the applied state, or what sled did instead of an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error(transparent)]
    Sled(#[from] sled::Error),
    /// sled panicked.
    #[error("sled cannot read it")]
    Unreadable,
    #[error("sled cannot write it")]
    Unwritable,
    #[error("it is not open")]
    NotOpen,
    #[error("only a checkpoint of everything can follow a failed one")]
    NotFull,
    #[error("its description is missing")]
    NoDescription,
    #[error("its description is too short")]
    ShortDescription,
    #[error("its description does not match its checksum")]
    DescriptionChecksum,
    #[error("it has format {0}, this version reads {FORMAT}")]
    Format(u64),
    #[error("it holds {found} keys that do not add up to the {expected} of its description")]
    Sums { found: usize, expected: u64 },
    #[error("its membership does not match its checksum")]
    MembershipChecksum,
    #[error(transparent)]
    Membership(#[from] DecodeError),
    /// `of` is a base or the changes of one checkpoint.
    #[error("part {part} of {of} is missing")]
    MissingPart { part: usize, of: String },
    #[error("part {part} of {of} {source}")]
    Part { part: usize, of: String, source: StreamError },
    #[error("{of} {source}")]
    Entry { of: String, source: StreamError },
    #[error("the end of {of} is missing")]
    NoEnd { of: String },
}

/// Why a checkpoint that was requested is not on disk. Everybody who waits for it gets a copy.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CheckpointFailure {
    /// A checkpoint may hold only what the log on disk has, and the log cannot be written.
    #[error("{0}")]
    LogUnwritable(String),
    #[error(transparent)]
    Failed(Arc<CheckpointError>),
    #[error("its thread is gone")]
    NoThread,
    #[error("the store is stopped")]
    Stopped,
    #[error("{} MiB are free on the disk of the store, {} MiB are needed", .free >> 20, .needed >> 20)]
    NoSpace { free: u64, needed: u64 },
    #[error("a new file could not take the place of the old one, the server's log says why")]
    NotReplaced,
}

pub(super) fn is_busy(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::WouldBlock || e.to_string().contains("could not acquire lock")
}

pub(crate) fn damaged(path: &Path, what: impl Into<Damage>) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_path_buf(), what: what.into() }
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
