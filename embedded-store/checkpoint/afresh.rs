//! Gives space back: sled never makes its file smaller, so once that has become far too large a new base goes into a new
//! sled, which takes the old one's place.
//!
//! It is built beside the old one, is on disk like any other base, and is then put in place by two renames; the log before
//! it may go only after that. A crash in between leaves the old one whole, where it was or beside it, and with the log all
//! that came after it. Absent: making the file smaller in place; sled does not say which parts of it are unused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::description::Layout;
use super::{CheckpointError, Checkpoints, Head, failed};
use crate::types::{KeyValue, LeaseId};

/// The file may be so many times as large as what is alive in it.
const BLOAT: u64 = 4;

/// Whether a file of so many bytes is worth replacing. `spare` more are never given back.
pub(crate) fn bloated(file: u64, live: u64, spare: u64) -> bool {
    file > live.saturating_mul(BLOAT).saturating_add(spare)
}

/// Free space that a base beside what is there takes, and what is not touched.
pub(crate) fn needed(live: u64, min_free: u64) -> u64 {
    min_free.saturating_add(live.saturating_mul(2))
}

/// The one being built.
fn new(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// The one whose place is being taken.
fn old(path: &Path) -> PathBuf {
    path.with_extension("old")
}

/// Ends what a crash has interrupted. What was moved away stays until the one in its place has been read.
pub(super) fn recover(path: &Path) -> Result<(), CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
    let old = old(path);
    if !path.exists() && old.exists() {
        fs::rename(&old, path).and_then(|()| sync_parent(path)).map_err(io)?;
    }
    remove(&new(path)).map_err(io)
}

/// Gives back the space of the one that was replaced. It is in nobody's way, so a failure is no harm.
pub(super) fn remove_replaced(path: &Path) {
    let old = old(path);
    if let Err(e) = remove(&old) {
        tracing::warn!("cannot give back the space of {}: {e}", old.display());
    }
}

impl Checkpoints {
    /// Writes a base into a new sled and goes on with that. `false` if that cannot be, as where folders cannot be renamed:
    /// then the old one is as it was.
    pub(super) fn write_afresh(
        &mut self,
        head: &Head,
        all: &[KeyValue],
        leases: &BTreeMap<LeaseId, i64>,
    ) -> Result<bool, CheckpointError> {
        let built = build(&self.path, head, all, leases);
        let placed = match built.and_then(|written| replace(&self.path).map(|()| written)) {
            Ok(written) => open_placed(&self.path, written)?,
            Err(e) if self.path.exists() => {
                tracing::warn!("the file of the applied state stays as large as it is: {e}");
                let _ = remove(&new(&self.path));
                self.kept = true;
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        let placed = Checkpoints { few_bytes: self.few_bytes, live: self.live, ..placed };
        if close(std::mem::replace(self, placed)).is_err() {
            tracing::warn!("sled cannot close {}", old(&self.path).display());
        }
        remove_replaced(&self.path);
        Ok(true)
    }
}

/// Writes a base into a new sled and puts that in the place of one that cannot be opened.
pub(super) fn write_in_place_of(
    path: &Path,
    head: &Head,
    all: &[KeyValue],
    leases: &BTreeMap<LeaseId, i64>,
) -> Result<Checkpoints, CheckpointError> {
    let written = build(path, head, all, leases)?;
    replace(path)?;
    let placed = open_placed(path, written)?;
    remove_replaced(path);
    Ok(placed)
}

/// Makes the new sled, beside the place of the old one, closed and on disk. sled finds some of its files by the path
/// that it was opened with, so it is not open while it is moved.
fn build(
    place: &Path,
    head: &Head,
    all: &[KeyValue],
    leases: &BTreeMap<LeaseId, i64>,
) -> Result<Written, CheckpointError> {
    let path = new(place);
    let io = |source| CheckpointError::Io { path: path.clone(), source };
    remove(&path).and_then(|()| remove(&old(place))).map_err(io)?;
    let mut fresh = Checkpoints::open_sled(&path)?;
    if let Err(e) = fresh.write_base(head, all, leases) {
        let _ = close(fresh);
        return Err(failed(&path, e));
    }
    let written = Written { layout: fresh.layout, bases: fresh.bases, stored: fresh.stored };
    close(fresh).map_err(|()| io(io::Error::other("sled cannot close it")))?;
    sync_files(&path).map_err(io)?;
    Ok(written)
}

/// Puts the new sled in the place of the old one.
fn replace(path: &Path) -> Result<(), CheckpointError> {
    let (new, old) = (new(path), old(path));
    let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
    fs::rename(path, &old).map_err(io)?;
    if let Err(e) = fs::rename(&new, path) {
        // If this fails as well, the next attempt or the next start does it.
        fs::rename(&old, path).map_err(io)?;
        return Err(io(e));
    }
    sync_parent(path).map_err(|e| {
        // Which of them a power cut leaves is not known: neither is gone on with.
        let _ = fs::rename(path, &new);
        io(e)
    })
}

/// Opens the new sled where it now is.
fn open_placed(path: &Path, written: Written) -> Result<Checkpoints, CheckpointError> {
    let Written { layout, bases, stored } = written;
    Ok(Checkpoints { layout, bases, stored, ..Checkpoints::open_sled(path)? })
}

/// What is known of a base that has been written.
struct Written {
    layout: Layout,
    bases: u64,
    stored: u64,
}

/// sled panics if the disk fails it while it is being closed.
pub(crate) fn close(checkpoints: Checkpoints) -> Result<(), ()> {
    catch_unwind(AssertUnwindSafe(|| drop(checkpoints))).map_err(|_| ())
}

/// sled leaves some of its files to the file system.
fn sync_files(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            File::open(path)?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
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
