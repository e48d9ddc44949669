//! The applied state on disk: every key's current value in sled, written in batches behind the log.
//!
//! One checkpoint is one sled batch: all keys changed since the last one, the leases, and a description with the index
//! it stands for and a checksum over all entries. sled's flush does not reach the disk, so it is followed by a sync of
//! our own handle of its file; only then may log be deleted. Values above 32 KiB are cut in chunks, because sled keeps
//! larger ones in files that it neither syncs nor gives back.
//!
//! Reading checks every value against its checksum and the whole against the description: what sled dropped or
//! brought back from an older time is noticed.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::history::{History, HistoryLimits};
use crate::record::Group;
use crate::state::{Lease, State};
use crate::types::{KeyValue, LeaseId};

const INLINE: usize = 32 * 1024;
const FORMAT: u64 = 1;
const DESCRIPTION: &[u8] = b"m";
const KEY: u8 = b'k';
const CHUNK: u8 = b'c';
const LEASE: u8 = b'l';
const GROUP: &[u8] = b"g";
/// Checksum, create and mod revision, version, lease, length of the value.
const ENTRY_HEADER: usize = 4 + 5 * 8;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {what}")]
    Damaged { path: PathBuf, what: String },
}

/// What a checkpoint stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) store: u64,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) time: u64,
    pub(crate) revision: u64,
    pub(crate) compacted: u64,
    pub(crate) ceiling: u64,
    pub(crate) keys: u64,
    pub(crate) checksum: u64,
}

/// The changes between two checkpoints.
pub(crate) struct Job {
    pub(crate) description: Description,
    /// Current entries of the keys that changed; `None` for those that are gone.
    pub(crate) changes: HashMap<Bytes, Option<KeyValue>>,
    /// All leases and their times to live.
    pub(crate) leases: Vec<(LeaseId, i64)>,
    pub(crate) group: Group,
}

impl Job {
    /// Takes what has changed since the last one.
    pub(crate) fn take(state: &mut State, store: u64) -> Job {
        Job {
            changes: state.dirty.as_mut().map(std::mem::take).unwrap_or_default(),
            leases: state.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect(),
            group: state.group.clone(),
            description: Description {
                store,
                index: state.index,
                term: state.term,
                time: state.time,
                revision: state.revision,
                compacted: state.compacted,
                ceiling: state.ceiling,
                keys: state.keys.len() as u64,
                checksum: state.checksum,
            },
        }
    }
}

pub(crate) struct Checkpoints {
    db: sled::Db,
    file: File,
    path: PathBuf,
    /// Chunks of the keys that have any.
    chunks: HashMap<Bytes, u32>,
    /// Leases and times to live as they are stored.
    leases: BTreeMap<LeaseId, i64>,
}

impl Checkpoints {
    /// Opens sled in `path`. It may still be closing in this process: waits a little for its lock.
    pub(crate) fn open(path: &Path) -> Result<Checkpoints, CheckpointError> {
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
                Ok(Err(sled::Error::Io(source))) if is_of_the_disk(&source) => {
                    return Err(CheckpointError::Io { path: path.to_path_buf(), source });
                }
                Ok(Err(e)) => return Err(damaged(path, e)),
                Err(_) => return Err(damaged(path, "sled cannot read it")),
            }
        };
        let file = File::open(path.join("db"))
            .map_err(|source| CheckpointError::Io { path: path.join("db"), source })?;
        Ok(Checkpoints {
            db,
            file,
            path: path.to_path_buf(),
            chunks: HashMap::new(),
            leases: BTreeMap::new(),
        })
    }

    /// The state of the last checkpoint, verified; `None` if there never was one.
    pub(crate) fn load(
        &mut self,
        limits: HistoryLimits,
    ) -> Result<Option<(State, Description)>, CheckpointError> {
        match catch_unwind(AssertUnwindSafe(|| self.read(limits))) {
            Ok(result) => result.map_err(|what| damaged(&self.path, what)),
            Err(_) => Err(damaged(&self.path, "sled cannot read it")),
        }
    }

    fn read(&mut self, limits: HistoryLimits) -> Result<Option<(State, Description)>, String> {
        let get = |key: &[u8]| self.db.get(key).map_err(|e| e.to_string());
        let Some(description) = get(DESCRIPTION)? else {
            return if self.db.is_empty() { Ok(None) } else { Err("its description is missing".to_string()) };
        };
        let description = Description::decode(&description)?;
        let mut state = State::new(limits);
        for item in self.db.scan_prefix([LEASE]) {
            let (key, value) = item.map_err(|e| e.to_string())?;
            let id = key.get(1..).and_then(|b| b.try_into().ok()).map(i64::from_be_bytes);
            let ttl = value.as_ref().try_into().ok().map(i64::from_le_bytes);
            let (Some(id), Some(ttl)) = (id, ttl) else { return Err("a lease cannot be read".to_string()) };
            state.leases.insert(id, Lease { ttl, ..Lease::default() });
            self.leases.insert(id, ttl);
        }
        for item in self.db.scan_prefix([KEY]) {
            let (key, value) = item.map_err(|e| e.to_string())?;
            let (kv, chunks) = decode_entry(&key[1..], &value, |key| get(key))?;
            if chunks > 0 {
                self.chunks.insert(kv.key.clone(), chunks);
            }
            state.restore(kv);
        }
        if state.keys.len() as u64 != description.keys || state.checksum != description.checksum {
            return Err(format!(
                "it holds {} keys that do not add up to the {} of its description",
                state.keys.len(),
                description.keys
            ));
        }
        state.revision = description.revision;
        state.compacted = description.compacted;
        state.index = description.index;
        state.term = description.term;
        state.time = description.time;
        state.ceiling = description.ceiling;
        if let Some(group) = get(GROUP)? {
            state.group = Group::decode(&group).map_err(|e| e.to_string())?;
        }
        state.history = History::new(description.revision + 1, limits);
        Ok(Some((state, description)))
    }

    /// Writes a checkpoint; on return it is on disk.
    pub(crate) fn write(&mut self, job: Job) -> Result<(), CheckpointError> {
        let mut batch = sled::Batch::default();
        for (key, now) in job.changes {
            let had = self.chunks.remove(&key).unwrap_or(0);
            let has = match &now {
                Some(kv) => encode_entry(kv, &mut batch),
                None => {
                    batch.remove([&[KEY], key.as_ref()].concat());
                    0
                }
            };
            for chunk in has..had {
                batch.remove(chunk_key(&key, chunk));
            }
            if has > 0 {
                self.chunks.insert(key, has);
            }
        }
        let leases: BTreeMap<LeaseId, i64> = job.leases.into_iter().collect();
        for gone in self.leases.keys().filter(|id| !leases.contains_key(id)) {
            batch.remove(lease_key(*gone));
        }
        for (id, ttl) in leases.iter().filter(|(id, ttl)| self.leases.get(id) != Some(ttl)) {
            batch.insert(lease_key(*id), &ttl.to_le_bytes());
        }
        self.leases = leases;
        if job.group != Group::default() {
            batch.insert(GROUP, job.group.encode());
        }
        batch.insert(DESCRIPTION, job.description.encode());
        let path = &self.path;
        self.db.apply_batch(batch).map_err(|e| failed(path, e))?;
        self.db.flush().map_err(|e| failed(path, e))?;
        self.file.sync_data().map_err(|source| CheckpointError::Io { path: path.join("db"), source })
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

fn is_busy(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::WouldBlock || e.to_string().contains("could not acquire lock")
}

fn damaged(path: &Path, what: impl ToString) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_path_buf(), what: what.to_string() }
}

/// Whether it says something of the disk and nothing of what is on it: then nothing is damaged.
fn is_of_the_disk(e: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(e.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied)
}

fn failed(path: &Path, e: sled::Error) -> CheckpointError {
    match e {
        sled::Error::Io(source) => CheckpointError::Io { path: path.to_path_buf(), source },
        other => damaged(path, other),
    }
}

impl Description {
    fn words(&self) -> [u64; 10] {
        [
            FORMAT,
            self.store,
            self.index,
            self.term,
            self.time,
            self.revision,
            self.compacted,
            self.ceiling,
            self.keys,
            self.checksum,
        ]
    }

    fn encode(&self) -> Vec<u8> {
        let mut out: Vec<u8> = self.words().iter().flat_map(|word| word.to_le_bytes()).collect();
        let checksum = crc32fast::hash(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Description, String> {
        let (words, checksum) = bytes.split_at_checked(80).ok_or("its description is too short")?;
        if checksum != crc32fast::hash(words).to_le_bytes() {
            return Err("its description does not match its checksum".to_string());
        }
        let word = |at: usize| u64::from_le_bytes(words[at * 8..at * 8 + 8].try_into().unwrap_or_default());
        if word(0) != FORMAT {
            return Err(format!("it has format {}, this version reads {FORMAT}", word(0)));
        }
        Ok(Description {
            store: word(1),
            index: word(2),
            term: word(3),
            time: word(4),
            revision: word(5),
            compacted: word(6),
            ceiling: word(7),
            keys: word(8),
            checksum: word(9),
        })
    }
}

fn lease_key(id: LeaseId) -> Vec<u8> {
    [&[LEASE], id.to_be_bytes().as_slice()].concat()
}

fn chunk_key(key: &[u8], chunk: u32) -> Vec<u8> {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[CHUNK], length.as_slice(), key, &chunk.to_be_bytes()].concat()
}

/// The checksum of an entry: its key, all its numbers and its value.
fn entry_checksum(key: &[u8], header: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(header);
    hasher.update(value);
    hasher.finalize()
}

/// Adds an entry to a batch and returns how many chunks it has.
fn encode_entry(kv: &KeyValue, batch: &mut sled::Batch) -> u32 {
    let numbers =
        [kv.create_revision, kv.mod_revision, kv.version, kv.lease.cast_unsigned(), kv.value.len() as u64];
    let header: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let checksum = entry_checksum(&kv.key, &header, &kv.value).to_le_bytes();
    let key = [&[KEY], kv.key.as_ref()].concat();
    if kv.value.len() <= INLINE {
        batch.insert(key, [checksum.as_slice(), &header, &kv.value].concat());
        return 0;
    }
    batch.insert(key, [checksum.as_slice(), &header].concat());
    let mut chunks = 0;
    for chunk in kv.value.chunks(INLINE) {
        batch.insert(chunk_key(&kv.key, chunks), chunk);
        chunks += 1;
    }
    chunks
}

fn decode_entry(
    key: &[u8],
    stored: &[u8],
    get: impl Fn(&[u8]) -> Result<Option<sled::IVec>, String>,
) -> Result<(KeyValue, u32), String> {
    let name = || String::from_utf8_lossy(key).into_owned();
    let (header, inline) =
        stored.split_at_checked(ENTRY_HEADER).ok_or_else(|| format!("key {} is cut short", name()))?;
    let (checksum, numbers) = header.split_at(4);
    let number = |at: usize| u64::from_le_bytes(numbers[at * 8..at * 8 + 8].try_into().unwrap_or_default());
    let length = usize::try_from(number(4)).map_err(|_| format!("key {} has an absurd length", name()))?;
    let mut chunks = 0;
    let value = if length <= INLINE {
        Bytes::copy_from_slice(inline)
    } else {
        let mut whole = Vec::new();
        while whole.len() < length {
            let chunk = get(&chunk_key(key, chunks))?
                .ok_or_else(|| format!("part {chunks} of key {} is missing", name()))?;
            whole.extend_from_slice(&chunk);
            chunks += 1;
        }
        whole.into()
    };
    if entry_checksum(key, numbers, &value).to_le_bytes() != checksum || value.len() != length {
        return Err(format!("key {} does not match its checksum", name()));
    }
    let kv = KeyValue {
        key: Bytes::copy_from_slice(key),
        value,
        create_revision: number(0),
        mod_revision: number(1),
        version: number(2),
        lease: number(3).cast_signed(),
    };
    Ok((kv, chunks))
}
