//! Makes a store of its own from what one member of a group has, for when the others are lost.
//!
//! Everything in the member's log counts, whether or not it is known here that the group has agreed on it:
//! what was acknowledged may be among it. The new store has another identity, so members of the group that
//! was never take it for one of theirs, and revisions far above all that any of them has given out.

use std::path::Path;

use super::{Config, EmbeddedStore, Loaded, OpenError, load};
use crate::snapshot::{self, SnapshotError};

/// Why no store is made from a member's.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    #[error("the member's store cannot be read: {0}")]
    Open(#[from] OpenError),
    #[error("the new store cannot be made: {0}")]
    Make(#[from] SnapshotError),
}

/// Makes a store in `into`, where there must be none, from the member's in `dir`, which nobody may have open
/// and which stays as it is. Returns the revision that the new one begins at. Blocks.
pub fn detach(dir: &Path, into: &Path) -> Result<u64, DetachError> {
    let config = Config::new(dir);
    let (disk, _lock) = EmbeddedStore::take_directory(&config)?;
    let Loaded { mut state, .. } = load(&config, &disk, true)?;
    state.dirty = None;
    Ok(snapshot::found(state, into)?)
}

#[cfg(test)]
mod tests;
