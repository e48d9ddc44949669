//! Why a store cannot be opened.

use std::io;
use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::log::error::LogError;

/// Why a store cannot be opened: each a line that says what, why and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data directory {dir} is in use by another server: stop that one or choose another --data-dir")]
    Locked { dir: PathBuf },
    #[error("cannot open the store: {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the store is damaged: {path}: {what}; restore a snapshot into an empty data directory")]
    Damaged { path: PathBuf, what: String },
    #[error(
        "the store in {dir} belongs to the group of servers {cluster:016x}: start it as a member of that, or choose another --data-dir"
    )]
    OtherGroup { dir: PathBuf, cluster: u64 },
    #[error("the store in {dir} holds a cluster of its own: choose another --data-dir, or remove it")]
    Alone { dir: PathBuf },
}

impl From<CheckpointError> for OpenError {
    fn from(e: CheckpointError) -> Self {
        match e {
            CheckpointError::Io { path, source } => OpenError::Io { path, source },
            CheckpointError::Damaged { path, what } => OpenError::Damaged { path, what: what.to_string() },
        }
    }
}

impl From<LogError> for OpenError {
    fn from(e: LogError) -> Self {
        match e {
            LogError::Io { path, source } => OpenError::Io { path, source },
            LogError::Damaged { path, what } => OpenError::Damaged { path, what },
        }
    }
}
