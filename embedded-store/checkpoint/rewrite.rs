//! Gives space back. sled never shrinks its file, so once the file is far too large a new base goes into a
//! new sled, which then takes the old one's place.
//!
//! The new sled is built beside the old one and is on disk like any other base. Two renames put it in place;
//! only then may the log before it be deleted. A crash in between leaves the old sled whole, in its place or
//! beside it, and the log has everything since. Absent: shrinking the file in place, because sled does not
//! tell which parts are unused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::description::Layout;
use super::{CheckpointError, Checkpoints, Header, failed};
use crate::types::{KeyValue, LeaseId};

/// The file may be this many times as large as its live data.
const OVERSIZE: u64 = 4;

/// Whether a file of this many bytes is worth replacing. `spare` bytes on top are always tolerated.
pub(crate) fn oversized(file: u64, live: u64, spare: u64) -> bool {
    file > live.saturating_mul(OVERSIZE).saturating_add(spare)
}

/// Free space that is needed to write another base, including the reserve that must stay.
pub(crate) fn needed(live: u64, min_free: u64) -> u64 {
    min_free.saturating_add(live.saturating_mul(2))
}

/// Where the new sled is built.
fn new(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Where the old sled waits until it is removed.
fn old(path: &Path) -> PathBuf {
    path.with_extension("old")
}

/// Completes or undoes what a crash interrupted. The old sled stays until the one in its place has been read.
pub(super) fn recover(path: &Path) -> Result<(), CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
    let old = old(path);
    if !path.exists() && old.exists() {
        fs::rename(&old, path).and_then(|()| sync_parent(path)).map_err(io)?;
    }
    remove(&new(path)).map_err(io)
}

/// Removes the sled that was replaced. A failure does no harm.
pub(super) fn remove_replaced(path: &Path) {
    let old = old(path);
    if let Err(e) = remove(&old) {
        tracing::warn!("cannot give back the space of {}: {e}", old.display());
    }
}

impl Checkpoints {
    /// Writes a base into a new sled and continues with that. Returns `false` if it cannot, for example
    /// because a folder cannot be renamed; the old sled is then unchanged.
    pub(super) fn rewrite(
        &mut self,
        header: &Header,
        all: &[KeyValue],
        leases: &BTreeMap<LeaseId, i64>,
    ) -> Result<bool, CheckpointError> {
        let built = build(&self.path, header, all, leases);
        let placed = match built.and_then(|written| replace(&self.path).map(|()| written)) {
            Ok(written) => open_placed(&self.path, written)?,
            Err(e) if self.path.exists() => {
                tracing::warn!("the file of the applied state stays as large as it is: {e}");
                let _ = remove(&new(&self.path));
                self.rewrite_failed = true;
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        let placed = Checkpoints { garbage_allowance: self.garbage_allowance, live: self.live, ..placed };
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
    header: &Header,
    all: &[KeyValue],
    leases: &BTreeMap<LeaseId, i64>,
) -> Result<Checkpoints, CheckpointError> {
    let written = build(path, header, all, leases)?;
    replace(path)?;
    let placed = open_placed(path, written)?;
    remove_replaced(path);
    Ok(placed)
}

/// Builds the new sled beside the old one, closed and on disk. sled finds some of its files by the path that
/// it was opened with, so it must not be open while it is moved.
fn build(
    place: &Path,
    header: &Header,
    all: &[KeyValue],
    leases: &BTreeMap<LeaseId, i64>,
) -> Result<Written, CheckpointError> {
    let path = new(place);
    let io = |source| CheckpointError::Io { path: path.clone(), source };
    remove(&path).and_then(|()| remove(&old(place))).map_err(io)?;
    let mut fresh = Checkpoints::open_sled(&path)?;
    if let Err(e) = fresh.write_base(header, all, leases) {
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
        // If this fails too, the next attempt or the next start moves it back.
        fs::rename(&old, path).map_err(io)?;
        return Err(io(e));
    }
    sync_parent(path).map_err(|e| {
        // It is unknown which of the two a power cut would leave, so neither is used.
        let _ = fs::rename(path, &new);
        io(e)
    })
}

/// Opens the new sled where it now is.
fn open_placed(path: &Path, written: Written) -> Result<Checkpoints, CheckpointError> {
    let Written { layout, bases, stored } = written;
    Ok(Checkpoints { layout, bases, stored, ..Checkpoints::open_sled(path)? })
}

/// What is known about a base that has been written.
struct Written {
    layout: Layout,
    bases: u64,
    stored: u64,
}

/// Closes sled, which panics if the disk fails meanwhile.
pub(crate) fn close(checkpoints: Checkpoints) -> Result<(), ()> {
    catch_unwind(AssertUnwindSafe(|| drop(checkpoints))).map_err(|_| ())
}

/// Syncs all files, because sled does not sync some of its own.
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
