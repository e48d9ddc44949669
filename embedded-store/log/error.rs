//! Why the log cannot be read.

use std::io;
use std::path::PathBuf;

use super::segments::VERSION;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {what}")]
    Damaged { path: PathBuf, what: String },
}

/// What is wrong with the header of a segment.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("it ends in its header")]
    Short,
    #[error("its header does not match its checksum")]
    Checksum,
    #[error("it has format {0}, this version reads {VERSION}")]
    Format(u32),
    #[error("it begins with record {first}, its name says {named}")]
    First { first: u64, named: u64 },
}
