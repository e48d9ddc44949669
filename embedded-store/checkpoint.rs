//! The applied state on disk: a base with every key and, after it, what changed from checkpoint to checkpoint, all of
//! it in sled and written behind the log.
//!
//! Base and changes are streams of entries cut into pieces; a piece is a value of sled's (see [`stream`]). An entry of
//! its own for every key would cost ten times as much: sled copies a node with all its entries for each one that is
//! put into it. A checkpoint is written piece by piece and is on disk before the description names it, so it counts wholly
//! or not at all. Once more is dead than alive a checkpoint is a new base, and what it replaces is removed after that; once
//! the file is far larger than what is alive the new base begins a new file (see [`afresh`]).
//!
//! sled's flush is followed by a sync of our own handle of its file, only then may log be deleted; and what sled itself
//! waits for before it writes over an old place is made to reach the disk, too (see [`crate::barrier`]). Reading checks
//! every piece against its checksum and the whole against the description: what sled dropped or brought back from an
//! older time is noticed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::history::{History, HistoryLimits};
use crate::record::Group;
use crate::state::{Changes, State};
use crate::types::{KeyValue, LeaseId};

mod afresh;
mod description;
mod error;
mod row;
mod stream;

pub(crate) use afresh::{bloated, close, needed};
pub(crate) use description::Description;
use description::Layout;
pub(crate) use error::{CheckpointError, damaged};
use error::{failed, is_busy, is_of_the_disk};
use row::Row;
use stream::{Decoder, Encoder, Item};

const DESCRIPTION: &[u8] = b"m";
const GROUP: &[u8] = b"g";
/// First byte of the keys of pieces: of a base, of changes.
const BASE: u8 = b'b';
const CHANGES: u8 = b'd';
/// Dead entries of so many checkpoints are kept however few live ones there are.
pub(crate) const FEW: u64 = 4;
/// What an entry takes beside its key and value, and what a lease takes.
const ENTRY: u64 = 41;
const LEASE: u64 = 17;
/// Pieces that are removed from sled at a time.
const TOGETHER: usize = 128;

/// What a checkpoint has to bring to disk.
pub(crate) enum Entries {
    /// Current entries of the keys that changed; `None` for those that are gone.
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
    pub(crate) afresh: bool,
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
            afresh: false,
            description: Description::of(state, store),
        }
    }
}

/// What every checkpoint replaces as a whole.
struct Head {
    description: Description,
    group: Group,
}

impl Head {
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
    /// The highest number that a base ever had, finished or not.
    bases: u64,
    /// What [`FEW`] checkpoints have.
    pub(crate) few_bytes: u64,
    /// A new file could not take the place of this one.
    pub(crate) kept: bool,
    /// Bytes of the pieces that count, and of the entries in them that are current, as of the last checkpoint.
    stored: u64,
    live: u64,
    /// Leases and times to live as they are stored.
    leases: BTreeMap<LeaseId, i64>,
}

impl Checkpoints {
    /// Opens sled in `path`. It may still be closing in this process: waits a little for its lock.
    pub(crate) fn open(path: &Path) -> Result<Checkpoints, CheckpointError> {
        afresh::recover(path)?;
        Checkpoints::open_sled(path)
    }

    fn open_sled(path: &Path) -> Result<Checkpoints, CheckpointError> {
        remove_half_written(path)
            .map_err(|source| CheckpointError::Io { path: path.to_path_buf(), source })?;
        let patience = Instant::now() + Duration::from_secs(5);
        let config = sled::Config::new()
            .path(path)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(4 << 20)
            .flush_every_ms(None);
        let db = loop {
            // sled asserts on some damage instead of returning an error.
            match catch_unwind(AssertUnwindSafe(|| config.open())) {
                Ok(Ok(db)) => break db,
                Ok(Err(sled::Error::Io(e))) if is_busy(&e) && Instant::now() < patience => {
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                Ok(Err(sled::Error::Io(source))) if is_busy(&source) || is_of_the_disk(&source) => {
                    return Err(CheckpointError::Io { path: path.to_path_buf(), source });
                }
                Ok(Err(e)) => return Err(damaged(path, e)),
                Err(_) => return Err(damaged(path, "sled cannot read it")),
            }
        };
        let file = File::open(path.join("db"))
            .map_err(|source| CheckpointError::Io { path: path.join("db"), source })?;
        // That the files are there must be on disk before log is deleted for what is in them.
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
            few_bytes: 0,
            kept: false,
            stored: 0,
            live: 0,
            leases: BTreeMap::new(),
        })
    }

    /// Opens the applied state after a failed checkpoint and writes one that holds everything. What was there before
    /// counts until that is complete. If sled cannot read it any more, the new one takes its place.
    pub(crate) fn write_again(path: &Path, few_bytes: u64, job: Job) -> Result<Checkpoints, CheckpointError> {
        let Entries::All(all) = &job.entries else {
            return Err(damaged(path, "only a checkpoint of everything can follow a failed one"));
        };
        let leases: BTreeMap<LeaseId, i64> = job.leases.iter().copied().collect();
        let head = Head { description: job.description, group: job.group.clone() };
        let mut checkpoints = match Checkpoints::open(path) {
            Ok(mut checkpoints) => {
                checkpoints.find_bases();
                checkpoints.few_bytes = few_bytes;
                checkpoints.write(job)?;
                return Ok(checkpoints);
            }
            Err(CheckpointError::Damaged { .. }) => afresh::write_in_place_of(path, &head, all, &leases)?,
            Err(e) => return Err(e),
        };
        (checkpoints.few_bytes, checkpoints.live, checkpoints.leases) = (few_bytes, job.live, leases);
        Ok(checkpoints)
    }

    /// Learns which pieces there are, without reading them: enough to put a base beside them.
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

    /// The state of the last checkpoint, verified; `None` if there never was one.
    pub(crate) fn load(
        &mut self,
        limits: HistoryLimits,
    ) -> Result<Option<(State, Description)>, CheckpointError> {
        let found = match catch_unwind(AssertUnwindSafe(|| self.read(limits))) {
            Ok(result) => result.map_err(|what| damaged(&self.path, what))?,
            Err(_) => return Err(damaged(&self.path, "sled cannot read it")),
        };
        if found.is_some() {
            afresh::remove_replaced(&self.path);
        }
        Ok(found)
    }

    fn read(&mut self, limits: HistoryLimits) -> Result<Option<(State, Description)>, String> {
        let Some(description) = self.db.get(DESCRIPTION).map_err(|e| e.to_string())? else {
            return if self.db.is_empty() { Ok(None) } else { Err("its description is missing".to_string()) };
        };
        let (description, layout, group) = Description::decode(&description)?;
        let mut state = State::new(limits);
        if layout.base > 0 {
            self.stored = self.replay(BASE, layout.base, &mut state)?;
        }
        for number in layout.first..layout.next {
            self.stored += self.replay(CHANGES, number, &mut state)?;
        }
        if state.keys.len() as u64 != description.keys || state.checksum != description.checksum {
            return Err(format!(
                "it holds {} keys that do not add up to the {} of its description",
                state.keys.len(),
                description.keys
            ));
        }
        self.layout = layout;
        self.live = live(&state);
        self.leases = state.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect();
        self.bases = layout.base.max(self.last_base());
        // What a crash has left: it is in nobody's way, so a failure is no harm.
        let _ = self.remove_unused();
        state.revision = description.revision;
        state.compacted = description.compacted;
        state.index = description.index;
        state.term = description.term;
        state.time = description.time;
        state.ceiling = description.ceiling;
        let stored = self.db.get(GROUP).map_err(|e| e.to_string())?.unwrap_or_default();
        if crc32fast::hash(&stored) != group {
            return Err("its membership does not match its checksum".to_string());
        }
        state.group = Group::decode(&stored).map_err(|e| e.to_string())?;
        state.history = History::new(description.revision + 1, limits);
        Ok(Some((state, description)))
    }

    /// Applies a base or the changes of a checkpoint and returns how many bytes they have.
    fn replay(&self, kind: u8, number: u64, state: &mut State) -> Result<u64, String> {
        let name = || format!("{} {number}", if kind == BASE { "base" } else { "checkpoint" });
        let mut decoder = Decoder::default();
        let mut bytes = 0;
        for (part, piece) in self.db.scan_prefix(numbered(kind, number)).enumerate() {
            let (key, piece) = piece.map_err(|e| e.to_string())?;
            if key != piece_key(kind, number, part) {
                return Err(format!("part {part} of {} is missing", name()));
            }
            bytes += piece.len() as u64;
            decoder.feed(&key, &piece).map_err(|what| format!("part {part} of {} {what}", name()))?;
            while let Some(item) = decoder.next().map_err(|what| format!("{} {what}", name()))? {
                match item {
                    Item::Put(kv) => state.restore(kv),
                    Item::Gone(key) => state.forget(&key),
                    Item::Lease(id, ttl) => state.leases.entry(id).or_default().ttl = ttl,
                    Item::LeaseGone(id) => {
                        state.leases.remove(&id);
                    }
                    Item::End => return Ok(bytes),
                }
            }
        }
        Err(format!("the end of {} is missing", name()))
    }

    /// Whether the next checkpoint should be a new base: once more is dead than alive.
    pub(crate) fn wants_all(&self) -> bool {
        self.stored > 2 * self.live + self.few_bytes
    }

    /// Writes a checkpoint; on return it is on disk.
    pub(crate) fn write(&mut self, job: Job) -> Result<(), CheckpointError> {
        let path = self.path.clone();
        let leases: BTreeMap<LeaseId, i64> = job.leases.into_iter().collect();
        let head = Head { description: job.description, group: job.group };
        self.live = job.live;
        match job.entries {
            Entries::All(all) => {
                if !(job.afresh && self.write_afresh(&head, &all, &leases)?) {
                    self.write_base(&head, &all, &leases).map_err(|e| failed(&path, e))?;
                }
            }
            Entries::Changes(changes) => {
                self.write_changes(&head, changes, &leases).map_err(|e| failed(&path, e))?;
            }
        }
        self.leases = leases;
        Ok(())
    }

    fn write_changes(
        &mut self,
        head: &Head,
        changes: Changes,
        leases: &BTreeMap<LeaseId, i64>,
    ) -> sled::Result<()> {
        let number = self.layout.next;
        let mut encoder = Encoder::new(|part| piece_key(CHANGES, number, part));
        let mut row = Row::new(&self.db);
        for (id, ttl) in leases.iter().filter(|(id, ttl)| self.leases.get(id) != Some(ttl)) {
            encoder.add(&Item::Lease(*id, *ttl));
        }
        for (key, now) in changes {
            encoder.add(&now.map_or(Item::Gone(key), Item::Put));
            encoder.full().try_for_each(|piece| row.add(piece))?;
        }
        for id in self.leases.keys().filter(|id| !leases.contains_key(id)) {
            encoder.add(&Item::LeaseGone(*id));
        }
        encoder.end().try_for_each(|piece| row.add(piece))?;
        let bytes = row.end()?;
        self.conclude(head, Layout { next: number + 1, ..self.layout })?;
        self.stored += bytes;
        Ok(())
    }

    fn write_base(
        &mut self,
        head: &Head,
        all: &[KeyValue],
        leases: &BTreeMap<LeaseId, i64>,
    ) -> sled::Result<()> {
        self.bases += 1;
        let number = self.bases;
        let mut encoder = Encoder::new(|part| piece_key(BASE, number, part));
        let mut row = Row::new(&self.db);
        for (id, ttl) in leases {
            encoder.add(&Item::Lease(*id, *ttl));
        }
        for kv in all {
            encoder.add(&Item::Put(kv.clone()));
            encoder.full().try_for_each(|piece| row.add(piece))?;
        }
        encoder.end().try_for_each(|piece| row.add(piece))?;
        let bytes = row.end()?;
        self.conclude(head, Layout { base: number, first: self.layout.next, next: self.layout.next })?;
        self.stored = bytes;
        self.remove_unused()
    }

    /// Lets pieces count that were put into sled, once they are on disk.
    fn conclude(&mut self, head: &Head, layout: Layout) -> sled::Result<()> {
        self.settle()?;
        let mut batch = sled::Batch::default();
        head.add_to(&mut batch, layout);
        self.db.apply_batch(batch)?;
        self.settle()?;
        self.layout = layout;
        Ok(())
    }

    /// Brings to disk what sled was given.
    fn settle(&self) -> sled::Result<()> {
        if self.db.flush()? > 0 && crate::barrier::count() == 0 {
            return Err(sled::Error::Unsupported(
                "sled does not wait for the disk in this build".to_string(),
            ));
        }
        Ok(self.file.sync_data()?)
    }

    /// Removes the pieces that do not count (any more).
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

    /// The highest number of a base of which there is a piece.
    fn last_base(&self) -> u64 {
        let last = self.db.range([BASE]..[BASE + 1]).keys().next_back();
        last.and_then(Result::ok).and_then(|key| key.get(1..9)?.try_into().ok()).map_or(0, u64::from_be_bytes)
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |file| file.len())
    }
}

/// While it opens sled writes down what it has found, and takes the half of that, if it was killed meanwhile, for the whole.
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

/// Beginning of the keys of a base or of the changes of a checkpoint.
fn numbered(kind: u8, number: u64) -> Vec<u8> {
    [&[kind], number.to_be_bytes().as_slice()].concat()
}

fn piece_key(kind: u8, number: u64, part: usize) -> Vec<u8> {
    let part = u32::try_from(part).unwrap_or(u32::MAX);
    [numbered(kind, number).as_slice(), &part.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
