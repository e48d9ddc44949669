//! The applied state on disk, in sled: a base with every key, followed by the changes of each checkpoint
//! since.
//!
//! Base and changes are streams of entries, cut into pieces; each piece is one value in sled (see
//! [`stream`]). One sled entry per key would cost ten times as much, because sled copies a node with all its
//! entries for every entry that is put into it. A checkpoint is written piece by piece and is on disk before
//! the description names it, so it counts completely or not at all. When more entries are dead than alive,
//! the next checkpoint is a new base, and what it replaces is removed afterwards. When the file is far larger
//! than the live data, the new base goes into a new file (see [`rewrite`]).
//!
//! sled's flush is followed by a sync of our own handle of its file; only then may log be deleted. What sled
//! itself waits for before it overwrites an old place is made to reach the disk too (see [`barrier`]).
//! Reading checks every piece against its checksum and the whole against the description, so data that sled
//! dropped, or brought back from an older time, is noticed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::log::record::Group;
use crate::state::{Changes, State};
use crate::types::{KeyValue, LeaseId};

pub(crate) mod barrier;
pub(crate) mod checkpointer;
mod description;
mod error;
mod load;
mod pieces;
mod rewrite;
mod stream;

pub(crate) use description::Description;
use description::Layout;
pub(crate) use error::{CheckpointError, CheckpointFailure, Damage, damaged};
use error::{failed, is_busy, is_of_the_disk};
use pieces::PieceWriter;
pub(crate) use rewrite::{close, needed, oversized};
use stream::{Encoder, Item};

const DESCRIPTION: &[u8] = b"m";
const GROUP: &[u8] = b"g";
/// First byte of a piece's key: part of a base, part of the changes.
const BASE: u8 = b'b';
const CHANGES: u8 = b'd';
/// However little is alive, the dead entries of this many checkpoints may stay.
pub(crate) const GARBAGE_CHECKPOINTS: u64 = 4;
/// Bytes that an entry takes beside its key and value, and bytes of a lease.
const ENTRY: u64 = 41;
const LEASE: u64 = 17;
/// How many pieces are removed from sled at a time.
const TOGETHER: usize = 128;

/// The entries that a checkpoint writes.
pub(crate) enum Entries {
    /// The current entries of the keys that changed; `None` for deleted keys.
    Changes(Changes),
    All(Vec<KeyValue>),
}

/// A checkpoint to be written.
pub(crate) struct Job {
    pub(crate) description: Description,
    pub(crate) entries: Entries,
    /// All leases and their times to live.
    pub(crate) leases: Vec<(LeaseId, i64)>,
    pub(crate) group: Group,
    /// Bytes that all current entries would take.
    live: u64,
    /// Everything goes into a new file.
    pub(crate) rewrite: bool,
}

/// Bytes that all current entries would take in a base.
pub(crate) fn live(state: &State) -> u64 {
    state.bytes + state.keys.len() as u64 * ENTRY + state.leases.len() as u64 * LEASE
}

impl Job {
    /// Takes what has changed since the last one, or everything.
    pub(crate) fn take(state: &mut State, store: u64, all: bool) -> Job {
        let changes = state.dirty.as_mut().map(std::mem::take).unwrap_or_default();
        let entries = match all {
            true => Entries::All(state.keys.values().cloned().collect()),
            false => Entries::Changes(changes),
        };
        Job {
            entries,
            leases: state.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect(),
            group: state.group.clone(),
            live: live(state),
            rewrite: false,
            description: Description::of(state, store),
        }
    }
}

/// The part that every checkpoint replaces as a whole.
struct Header {
    description: Description,
    group: Group,
}

impl Header {
    fn add_to(&self, batch: &mut sled::Batch, layout: Layout) {
        let group = self.group.encode();
        let checksum = crc32fast::hash(&group);
        batch.insert(GROUP, group);
        batch.insert(DESCRIPTION, self.description.encode(layout, checksum));
    }
}

pub(crate) struct Checkpoints {
    db: sled::Db,
    file: File,
    path: PathBuf,
    layout: Layout,
    /// The highest number of any base, complete or not.
    bases: u64,
    /// Bytes of [`GARBAGE_CHECKPOINTS`] checkpoints.
    pub(crate) garbage_allowance: u64,
    /// The last attempt to replace the file by a smaller one failed.
    pub(crate) rewrite_failed: bool,
    /// As of the last checkpoint: bytes of the pieces that count, and bytes of the live entries in them.
    stored: u64,
    live: u64,
    /// Leases with their times to live, as stored.
    leases: BTreeMap<LeaseId, i64>,
}

impl Checkpoints {
    /// Opens sled in `path`. Waits a moment for its lock, because sled may still be closing in this process.
    pub(crate) fn open(path: &Path) -> Result<Checkpoints, CheckpointError> {
        rewrite::recover(path)?;
        Checkpoints::open_sled(path)
    }

    fn open_sled(path: &Path) -> Result<Checkpoints, CheckpointError> {
        remove_half_written(path)
            .map_err(|source| CheckpointError::Io { path: path.to_path_buf(), source })?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let config = sled::Config::new()
            .path(path)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(4 << 20)
            .flush_every_ms(None);
        let db = loop {
            // On some damage sled panics instead of returning an error.
            match catch_unwind(AssertUnwindSafe(|| config.open())) {
                Ok(Ok(db)) => break db,
                Ok(Err(sled::Error::Io(e))) if is_busy(&e) && Instant::now() < deadline => {
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                Ok(Err(sled::Error::Io(source))) if is_busy(&source) || is_of_the_disk(&source) => {
                    return Err(CheckpointError::Io { path: path.to_path_buf(), source });
                }
                Ok(Err(e)) => return Err(damaged(path, e)),
                Err(_) => return Err(damaged(path, Damage::Unreadable)),
            }
        };
        let file = File::open(path.join("db"))
            .map_err(|source| CheckpointError::Io { path: path.join("db"), source })?;
        // The directory entries must be on disk before log that these files replace is deleted.
        for folder in [Some(path), path.parent()].into_iter().flatten() {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|source| CheckpointError::Io { path: folder.to_path_buf(), source })?;
        }
        Ok(Checkpoints {
            db,
            file,
            path: path.to_path_buf(),
            layout: Layout::default(),
            bases: 0,
            garbage_allowance: 0,
            rewrite_failed: false,
            stored: 0,
            live: 0,
            leases: BTreeMap::new(),
        })
    }

    /// Opens the applied state after a failed checkpoint and writes a full one. The previous checkpoint
    /// counts until the new one is complete. If sled can no longer open its files, new files take their
    /// place.
    pub(crate) fn write_again(
        path: &Path,
        garbage_allowance: u64,
        job: Job,
    ) -> Result<Checkpoints, CheckpointError> {
        let Entries::All(all) = &job.entries else {
            return Err(damaged(path, Damage::NotFull));
        };
        let leases: BTreeMap<LeaseId, i64> = job.leases.iter().copied().collect();
        let header = Header { description: job.description, group: job.group.clone() };
        let mut checkpoints = match Checkpoints::open(path) {
            Ok(mut checkpoints) => {
                checkpoints.find_bases();
                checkpoints.garbage_allowance = garbage_allowance;
                checkpoints.write(job)?;
                return Ok(checkpoints);
            }
            Err(CheckpointError::Damaged { .. }) => rewrite::write_in_place_of(path, &header, all, &leases)?,
            Err(e) => return Err(e),
        };
        (checkpoints.garbage_allowance, checkpoints.live, checkpoints.leases) =
            (garbage_allowance, job.live, leases);
        Ok(checkpoints)
    }

    /// Finds out which pieces exist without reading them, which is enough to write a base beside them.
    fn find_bases(&mut self) {
        let description = self.db.get(DESCRIPTION).ok().flatten();
        if let Some(Ok((_, layout, _))) = description.map(|description| Description::decode(&description)) {
            self.layout = layout;
        }
        self.bases = self.layout.base.max(self.last_base());
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the next checkpoint should be a new base, because more is dead than alive.
    pub(crate) fn wants_all(&self) -> bool {
        self.stored > 2 * self.live + self.garbage_allowance
    }

    /// Writes a checkpoint. It is on disk when this returns.
    pub(crate) fn write(&mut self, job: Job) -> Result<(), CheckpointError> {
        let path = self.path.clone();
        let leases: BTreeMap<LeaseId, i64> = job.leases.into_iter().collect();
        let header = Header { description: job.description, group: job.group };
        self.live = job.live;
        match job.entries {
            Entries::All(all) => {
                if !(job.rewrite && self.rewrite(&header, &all, &leases)?) {
                    self.write_base(&header, &all, &leases).map_err(|e| failed(&path, e))?;
                }
            }
            Entries::Changes(changes) => {
                self.write_changes(&header, changes, &leases).map_err(|e| failed(&path, e))?;
            }
        }
        self.leases = leases;
        Ok(())
    }

    fn write_changes(
        &mut self,
        header: &Header,
        changes: Changes,
        leases: &BTreeMap<LeaseId, i64>,
    ) -> sled::Result<()> {
        let number = self.layout.next;
        let mut encoder = Encoder::new(|part| piece_key(CHANGES, number, part));
        let mut pieces = PieceWriter::new(&self.db);
        for (id, ttl) in leases.iter().filter(|(id, ttl)| self.leases.get(id) != Some(ttl)) {
            encoder.add(&Item::Lease(*id, *ttl));
        }
        for (key, now) in changes {
            encoder.add(&now.map_or(Item::Gone(key), Item::Put));
            encoder.full().try_for_each(|piece| pieces.add(piece))?;
        }
        for id in self.leases.keys().filter(|id| !leases.contains_key(id)) {
            encoder.add(&Item::LeaseGone(*id));
        }
        encoder.end().try_for_each(|piece| pieces.add(piece))?;
        let bytes = pieces.end()?;
        self.commit(header, Layout { next: number + 1, ..self.layout })?;
        self.stored += bytes;
        Ok(())
    }

    fn write_base(
        &mut self,
        header: &Header,
        all: &[KeyValue],
        leases: &BTreeMap<LeaseId, i64>,
    ) -> sled::Result<()> {
        self.bases += 1;
        let number = self.bases;
        let mut encoder = Encoder::new(|part| piece_key(BASE, number, part));
        let mut pieces = PieceWriter::new(&self.db);
        for (id, ttl) in leases {
            encoder.add(&Item::Lease(*id, *ttl));
        }
        for kv in all {
            encoder.add(&Item::Put(kv.clone()));
            encoder.full().try_for_each(|piece| pieces.add(piece))?;
        }
        encoder.end().try_for_each(|piece| pieces.add(piece))?;
        let bytes = pieces.end()?;
        self.commit(header, Layout { base: number, first: self.layout.next, next: self.layout.next })?;
        self.stored = bytes;
        self.remove_unused()
    }

    /// Makes the pieces in sled count, once they are on disk.
    fn commit(&mut self, header: &Header, layout: Layout) -> sled::Result<()> {
        self.flush()?;
        let mut batch = sled::Batch::default();
        header.add_to(&mut batch, layout);
        self.db.apply_batch(batch)?;
        self.flush()?;
        self.layout = layout;
        Ok(())
    }

    /// Brings everything that sled was given to disk.
    fn flush(&self) -> sled::Result<()> {
        if self.db.flush()? > 0 && crate::checkpoint::barrier::count() == 0 {
            return Err(sled::Error::Unsupported(
                "sled does not wait for the disk in this build".to_string(),
            ));
        }
        Ok(self.file.sync_data()?)
    }

    /// Removes the pieces that do not count.
    fn remove_unused(&self) -> sled::Result<()> {
        let Layout { base, first, next } = self.layout;
        let unused = [
            numbered(BASE, 0)..numbered(BASE, base),
            numbered(BASE, base + 1)..vec![BASE + 1],
            numbered(CHANGES, 0)..numbered(CHANGES, first),
            numbered(CHANGES, next)..vec![CHANGES + 1],
        ];
        for range in unused {
            loop {
                let keys: Vec<sled::IVec> =
                    self.db.range(range.clone()).keys().take(TOGETHER).collect::<Result<_, _>>()?;
                if keys.is_empty() {
                    break;
                }
                let mut batch = sled::Batch::default();
                keys.into_iter().for_each(|key| batch.remove(key));
                self.db.apply_batch(batch)?;
            }
        }
        self.db.flush().map(|_| ())
    }

    /// The highest number of a base that has any piece.
    fn last_base(&self) -> u64 {
        let last = self.db.range([BASE]..[BASE + 1]).keys().next_back();
        last.and_then(Result::ok).and_then(|key| key.get(1..9)?.try_into().ok()).map_or(0, u64::from_be_bytes)
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |file| file.len())
    }
}

/// While sled opens, it writes a file with what it has found. If it is killed meanwhile, the next open would
/// take the incomplete file for a complete one, so such files are removed first.
fn remove_half_written(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Key prefix of a base, or of the changes of one checkpoint.
fn numbered(kind: u8, number: u64) -> Vec<u8> {
    [&[kind], number.to_be_bytes().as_slice()].concat()
}

fn piece_key(kind: u8, number: u64, part: usize) -> Vec<u8> {
    let part = u32::try_from(part).unwrap_or(u32::MAX);
    [numbered(kind, number).as_slice(), &part.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
