//! Gives space back: sled never makes its file smaller, so once that has become far too large a new base goes into a new
//! sled, which takes the old one's place.
//!
//! It is built beside the old one, is on disk like any other base, and is then put in place by two renames; the log before
//! it may go only after that. A crash in between leaves the old one whole, where it was or beside it, and with the log all
//! that came after it. Absent: making the file smaller in place; sled does not say which parts of it are unused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{CheckpointError, Checkpoints, Head, failed};
use crate::types::{KeyValue, LeaseId};

/// The file may be so many times as large as what is alive in it.
const BLOAT: u64 = 4;

/// Whether a file of so many bytes is worth replacing. `spare` more are never given back.
pub(crate) fn bloated(file: u64, live: u64, spare: u64) -> bool {
    file > live.saturating_mul(BLOAT).saturating_add(spare)
}

/// The one being built.
fn new(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// The one whose place is being taken.
fn old(path: &Path) -> PathBuf {
    path.with_extension("old")
}

/// Ends what a crash has interrupted.
pub(super) fn recover(path: &Path) -> Result<(), CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
    let old = old(path);
    if !path.exists() && old.exists() {
        fs::rename(&old, path).and_then(|()| sync_parent(path)).map_err(io)?;
    }
    remove(&new(path)).and_then(|()| remove(&old)).map_err(io)
}

impl Checkpoints {
    /// Writes a base into a new sled and goes on with that. `false` if that cannot be, as where folders cannot be renamed:
    /// then everything is as it was.
    pub(super) fn write_afresh(
        &mut self,
        head: &Head,
        all: &[KeyValue],
        leases: &BTreeMap<LeaseId, i64>,
    ) -> Result<bool, CheckpointError> {
        let (new, old) = (new(&self.path), old(&self.path));
        let taken = self.build(head, all, leases).and_then(|fresh| {
            let io = |source| CheckpointError::Io { path: new.clone(), source };
            fs::rename(&self.path, &old).map_err(io)?;
            let placed = fs::rename(&new, &self.path).map_err(io);
            if placed.is_err() {
                // If this fails as well, the next start does it.
                fs::rename(&old, &self.path).map_err(io)?;
            }
            placed.map(|()| fresh)
        });
        let mut fresh = match taken {
            Ok(fresh) => fresh,
            Err(e) if self.path.exists() => {
                tracing::warn!("the file of the applied state stays as large as it is: {e}");
                self.kept = true;
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        sync_parent(&self.path).map_err(|source| CheckpointError::Io { path: self.path.clone(), source })?;
        (fresh.few_bytes, fresh.live) = (self.few_bytes, self.live);
        fresh.path.clone_from(&self.path);
        drop(std::mem::replace(self, fresh));
        // It is in nobody's way, and the next start removes it.
        if let Err(e) = remove(&old) {
            tracing::warn!("cannot give back the space of {}: {e}", old.display());
        }
        Ok(true)
    }

    /// The new sled, beside the place of this one and on disk.
    fn build(
        &self,
        head: &Head,
        all: &[KeyValue],
        leases: &BTreeMap<LeaseId, i64>,
    ) -> Result<Checkpoints, CheckpointError> {
        let path = new(&self.path);
        let cleared = remove(&path).and_then(|()| remove(&old(&self.path)));
        cleared.map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
        let mut fresh = Checkpoints::open_sled(&path)?;
        fresh.write_base(head, all, leases).map_err(|e| failed(&path, e))?;
        Ok(fresh)
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests;
