//! Snapshots: the whole store at one revision in one file, which etcd's own tools read.
//!
//! The file is a bbolt database in etcd's schema followed by the SHA-256 of it, so nobody is locked in:
//! `etcdctl snapshot restore` makes a real etcd of it. What a cluster needs beside its keys (its CA, say)
//! goes into one more bucket that etcd ignores; sealing it is the caller's business.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::embedded::EmbeddedStore;
use crate::state::frozen::Frozen;
use crate::types::KeyValue;
use crate::wire::mvccpb;

mod bolt;
mod castagnoli;
mod restore;
mod seal;

#[cfg(test)]
use restore::REVISION_BUMP;
pub use restore::restore;
pub(crate) use restore::{contents, found};
pub use seal::{SealError, seal, unseal};

use bolt::{Bucket, Database};
use castagnoli::Castagnoli;

/// Key, among etcd's own numbers, for those that etcd does not have.
const OURS: &[u8] = b"minik8s";
/// Bucket for what is not etcd's.
const EXTRAS: &[u8] = b"minik8s";
const SHA256: u64 = 32;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("snapshot {path} is damaged: {what}")]
    Damaged { path: PathBuf, what: String },
    #[error("{path} is not empty: a snapshot is restored into a data directory of its own")]
    NotEmpty { path: PathBuf },
    #[error("{path}: {what}")]
    Store { path: PathBuf, what: String },
}

/// What `etcdctl snapshot status` prints, computed the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotStatus {
    pub hash: u32,
    pub revision: u64,
    pub total_keys: u64,
    pub total_size: u64,
}

impl Frozen {
    /// Writes the database and its hash; returns the length of both.
    pub(crate) fn write(
        mut self,
        out: &mut (impl Write + Seek),
        extras: &[(&str, Bytes)],
    ) -> io::Result<u64> {
        self.kvs.sort_by(|a, b| a.mod_revision.cmp(&b.mod_revision).then_with(|| a.key.cmp(&b.key)));
        let mut database = Database::new(&mut *out)?;
        let mut buckets: Vec<(Vec<u8>, Bucket)> = Vec::new();
        let empty: [&[u8]; 7] =
            [b"alarm", b"auth", b"authRoles", b"authUsers", b"cluster", b"members", b"members_removed"];
        for name in empty {
            buckets.push((name.to_vec(), database.bucket(std::iter::empty())?));
        }
        let (mut last, mut sub) = (0, 0u64);
        let entries = self.kvs.iter().map(|kv| {
            // Changes of one transaction share their revision and are told apart by a second number.
            sub = if kv.mod_revision == last { sub + 1 } else { 0 };
            last = kv.mod_revision;
            (revision_key(kv.mod_revision, sub), encode(kv))
        });
        buckets.push((b"key".to_vec(), database.bucket(entries)?));
        let leases = self.leases.iter().map(|(id, ttl)| {
            let stored = StoredLease { id: *id, ttl: *ttl, remaining_ttl: 0 };
            (id.to_be_bytes().to_vec(), stored.encode_to_vec())
        });
        buckets.push((b"lease".to_vec(), database.bucket(leases)?));
        let compacted = revision_key(self.revision, 0);
        let meta = [
            (b"consistent_index".to_vec(), self.index.to_be_bytes().to_vec()),
            // Only current values are here: all before is compacted, which also tells etcd the revision.
            (b"finishedCompactRev".to_vec(), compacted.clone()),
            // What a member of our own needs beside it.
            (OURS.to_vec(), [self.words.map(u64::to_be_bytes).concat(), self.group.encode()].concat()),
            (b"scheduledCompactRev".to_vec(), compacted),
            (b"term".to_vec(), self.term.max(1).to_be_bytes().to_vec()),
        ];
        buckets.push((b"meta".to_vec(), database.bucket(meta.into_iter())?));
        if !extras.is_empty() {
            let mut extras: Vec<_> =
                extras.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
            extras.sort();
            buckets.push((EXTRAS.to_vec(), database.bucket(extras.into_iter())?));
        }
        database.finish(buckets)
    }
}

/// etcd's message for a lease in its database.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

fn revision_key(revision: u64, sub: u64) -> Vec<u8> {
    [&revision.to_be_bytes()[..], b"_", &sub.to_be_bytes()].concat()
}

fn encode(kv: &KeyValue) -> Vec<u8> {
    let message = mvccpb::KeyValue {
        key: kv.key.clone(),
        create_revision: kv.create_revision.cast_signed(),
        mod_revision: kv.mod_revision.cast_signed(),
        version: kv.version.cast_signed(),
        value: kv.value.clone(),
        lease: kv.lease,
    };
    message.encode_to_vec()
}

/// Appends the hash of all that was written.
fn append_hash(file: &mut File) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Sha256::new();
    io::copy(file, &mut hasher)?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(&hasher.finalize())
}

impl EmbeddedStore {
    /// Saves a snapshot, with `extras` beside the keys, while the store goes on. The file appears whole or
    /// not at all. Blocks.
    pub fn save_snapshot(
        &self,
        path: &Path,
        extras: &[(&str, Bytes)],
    ) -> Result<SnapshotStatus, SnapshotError> {
        let io = |source| SnapshotError::Io { path: path.to_path_buf(), source };
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let written = self.write_snapshot(&part, extras).and_then(|file| {
            file.sync_all()?;
            fs::rename(&part, path)?;
            match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
                _ => File::open(".")?.sync_all(),
            }
        });
        if let Err(e) = written {
            let _ = fs::remove_file(&part);
            return Err(io(e));
        }
        status(path)
    }

    /// Writes a snapshot to a new file and returns it, at its end.
    pub(crate) fn write_snapshot(&self, path: &Path, extras: &[(&str, Bytes)]) -> io::Result<File> {
        let frozen = self.freeze();
        // Whoever can read it can read every secret of the cluster.
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(path)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        frozen.write(&mut out, extras)?;
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        append_hash(&mut file)?;
        Ok(file)
    }
}

/// Reads a snapshot into memory and checks its hash. A file without one (a copy of an etcd's database) is
/// taken only if `unsealed` allows it.
fn read(path: &Path, unsealed: bool) -> Result<Vec<u8>, SnapshotError> {
    let io = |source| SnapshotError::Io { path: path.to_path_buf(), source };
    let damaged = |what: &str| SnapshotError::Damaged { path: path.to_path_buf(), what: what.to_string() };
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.read_to_end(&mut bytes).map_err(io)?;
    // Pages are multiples of 512 bytes, which is how etcd knows too.
    match bytes.len() as u64 % 512 {
        SHA256 => {
            let hash = bytes.split_off(bytes.len() - SHA256 as usize);
            if Sha256::digest(&bytes).as_slice() != hash {
                return Err(damaged("it does not match its SHA-256"));
            }
            Ok(bytes)
        }
        0 if unsealed && !bytes.is_empty() => Ok(bytes),
        0 => Err(damaged("its SHA-256 is missing")),
        _ => Err(damaged("it is cut short")),
    }
}

/// What a snapshot holds. Needs no server.
pub fn status(path: &Path) -> Result<SnapshotStatus, SnapshotError> {
    let bytes = read(path, true)?;
    let damaged = |what| SnapshotError::Damaged { path: path.to_path_buf(), what };
    let (mut total_keys, mut revision) = (0, 0);
    // Both visitors feed the one hash: each bucket's name, then its entries.
    let hash = std::cell::Cell::new(Castagnoli::default());
    let feed = |parts: &[&[u8]]| {
        let mut fed = hash.get();
        parts.iter().for_each(|part| fed.update(part));
        hash.set(fed);
    };
    let total_size = bolt::walk(
        &bytes,
        |bucket| feed(&[bucket]),
        |entry| {
            feed(&[entry.key, entry.value]);
            total_keys += 1;
            if entry.bucket == b"key"
                && let Some(main) = entry.key.first_chunk()
            {
                revision = u64::from_be_bytes(*main);
            }
        },
    )
    .map_err(|error| damaged(error.to_string()))?;
    let hash = hash.get().finish();
    Ok(SnapshotStatus { hash, revision, total_keys, total_size })
}

/// What is in a snapshot beside the keys.
pub fn extras(path: &Path) -> Result<Vec<(String, Bytes)>, SnapshotError> {
    let bytes = read(path, true)?;
    let mut extras = Vec::new();
    let walked = bolt::walk(
        &bytes,
        |_| (),
        |entry| {
            if entry.bucket == EXTRAS {
                let name = String::from_utf8_lossy(entry.key).into_owned();
                extras.push((name, Bytes::copy_from_slice(entry.value)));
            }
        },
    );
    walked.map_err(|error| SnapshotError::Damaged { path: path.to_path_buf(), what: error.to_string() })?;
    Ok(extras)
}

#[cfg(test)]
mod tests;
