//! Makes a store from a snapshot.
//!
//! Restoring makes a new store: another identity, and revisions that begin far above all that were ever given
//! out, so that no client's cache can go back in time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{OURS, SnapshotError, StoredLease, bolt, read};
use crate::checkpoint::{CheckpointError, Checkpoints, Job};
use crate::consensus::ids::LogId;
use crate::consensus::storage::LogStorage;
use crate::log::Log;
use crate::log::disk::RealDisk;
use crate::log::record::{DecodeError, Group};
use crate::state::history::HistoryLimits;
use crate::state::{Lease, State};
use crate::types::KeyValue;
use crate::wire::mvccpb;

/// How far revisions are set forward by a restore.
pub(super) const REVISION_BUMP: u64 = 1_000_000_000;

/// Makes a new store in `dir` (which must not hold one) from a snapshot of this store or of etcd's. Returns
/// the revision it begins at.
pub fn restore(path: &Path, dir: &Path) -> Result<u64, SnapshotError> {
    let bytes = read(path, false)?;
    found(contents(path, &bytes)?, dir)
}

/// Makes a new store in `dir` (which must not hold one) that begins with what is current in a state. Returns
/// the revision it begins at.
pub(crate) fn found(mut state: State, dir: &Path) -> Result<u64, SnapshotError> {
    let io = |source| SnapshotError::Io { path: dir.to_path_buf(), source };
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(SnapshotError::NotEmpty { path: dir.to_path_buf() });
    }
    state.revision += REVISION_BUMP;
    state.compacted = state.revision;
    // A cluster of its own from now on.
    (state.index, state.term, state.time, state.ceiling) = (1, 1, 0, 0);
    state.group = Group::default();
    // Built beside its place and moved there when it is complete.
    let mut building = dir.as_os_str().to_owned();
    building.push(".restoring");
    let building = PathBuf::from(building);
    let _ = fs::remove_dir_all(&building);
    build(&building, &mut state)?;
    if dir.exists() {
        fs::remove_dir(dir).map_err(io)?;
    }
    fs::rename(&building, dir).map_err(io)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
        }
        _ => {}
    }
    Ok(state.revision)
}

fn build(dir: &Path, state: &mut State) -> Result<(), SnapshotError> {
    let store = |what: String| SnapshotError::Store { path: dir.to_path_buf(), what };
    fs::create_dir_all(dir).map_err(|source| SnapshotError::Io { path: dir.to_path_buf(), source })?;
    let identity = crate::identity::new_identity();
    let failed = |e: CheckpointError| store(e.to_string());
    let mut checkpoints = Checkpoints::open(&dir.join("state")).map_err(failed)?;
    state.ceiling = 0;
    checkpoints.write(Job::take(state, identity, true)).map_err(failed)?;
    drop(checkpoints);
    let disk = RealDisk::new(&dir.join("log")).map_err(|e| store(e.to_string()))?;
    let log = Log::create(Arc::new(disk), 1 << 20, identity, 1);
    // The log knows what its first record comes after, as an engine wants to when the store founds a group.
    let begun = LogId { term: state.term, index: state.index };
    log.map_err(|e| store(e.to_string()))?.purge(begun).map_err(|e| store(e.to_string()))?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| SnapshotError::Io { path: dir.to_path_buf(), source })
}

/// The newest values of all keys in a database in etcd's schema.
pub(crate) fn contents(path: &Path, bytes: &[u8]) -> Result<State, SnapshotError> {
    let damaged = |what: String| SnapshotError::Damaged { path: path.to_path_buf(), what };
    let mut state = State::new(HistoryLimits::default());
    let mut newest: BTreeMap<Bytes, Option<KeyValue>> = BTreeMap::new();
    let mut problem = None;
    let mut revision = state.revision;
    bolt::walk(
        bytes,
        |_| (),
        |entry| {
            let main = entry.key.first_chunk().map(|main| u64::from_be_bytes(*main));
            match (entry.bucket, main) {
                (b"key", Some(main)) if entry.key.len() >= 17 => {
                    revision = revision.max(main);
                    match mvccpb::KeyValue::decode(entry.value) {
                        // Revisions come in order, so the last one of a key is its newest; a tombstone ends
                        // in "t".
                        Ok(kv) if entry.key.get(17) == Some(&b't') => {
                            newest.insert(kv.key, None);
                        }
                        Ok(kv) => {
                            newest.insert(kv.key.clone(), Some(decode(kv)));
                        }
                        Err(e) => problem = Some(format!("a value cannot be decoded: {e}")),
                    }
                }
                (b"key", _) => problem = Some("a revision is too short".to_string()),
                (b"lease", _) => {
                    if let Ok(lease) = StoredLease::decode(entry.value) {
                        state.leases.insert(lease.id, Lease { ttl: lease.ttl, ..Lease::default() });
                    }
                }
                (b"meta", _) if entry.key == OURS => {
                    if let Err(error) = read_ours(&mut state, entry.value) {
                        problem.get_or_insert_with(|| error.to_string());
                    }
                }
                (b"meta", _) if entry.key == b"consistent_index" => {
                    state.index = entry.value.first_chunk().map_or(0, |index| u64::from_be_bytes(*index));
                }
                (b"meta", _) if entry.key == b"term" => {
                    state.term = entry.value.first_chunk().map_or(0, |term| u64::from_be_bytes(*term));
                }
                (b"meta", _) if entry.key == b"finishedCompactRev" => {
                    if let Some(compacted) = entry.value.first_chunk() {
                        revision = revision.max(u64::from_be_bytes(*compacted));
                    }
                }
                _ => {}
            }
        },
    )
    .map_err(|error| damaged(error.to_string()))?;
    if let Some(problem) = problem {
        return Err(damaged(problem));
    }
    for kv in newest.into_values().flatten() {
        state.restore(kv);
    }
    state.revision = revision;
    Ok(state)
}

fn read_ours(state: &mut State, value: &[u8]) -> Result<(), DecodeError> {
    let (words, group) = value.split_at_checked(24).ok_or(DecodeError("its numbers are cut short"))?;
    let word = |at: usize| words[at * 8..].first_chunk().map_or(0, |word| u64::from_be_bytes(*word));
    (state.time, state.ceiling, state.compacted) = (word(0), word(1), word(2));
    state.group = Group::decode(group)?;
    Ok(())
}

fn decode(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision.cast_unsigned(),
        mod_revision: kv.mod_revision.cast_unsigned(),
        version: kv.version.cast_unsigned(),
        lease: kv.lease,
    }
}
