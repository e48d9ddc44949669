//! Snapshots of a server: the whole store and, sealed, the keys without which a restored cluster would be a
//! stranger to its nodes and users.
//!
//! The file is the store's (etcd's own tools read it); the keys ride in it as an extra that only the right
//! secret opens: a passphrase, or by default the seal key of the data directory (in snapshots of earlier
//! versions, the server token). It is written to a directory and, if flags say so, then uploaded.

pub(crate) mod keys;
mod past;
mod s3;
mod schedule;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use agent::problem::chain;
use agent::{Instance, Problem, files};
use bytes::Bytes;
use embedded_store::EmbeddedStore;
use embedded_store::snapshot::{SnapshotStatus, seal};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::secrets;

pub(crate) use past::Past;
pub(crate) use s3::{Client, S3Args, Target};
pub(crate) use schedule::{Schedule, start};

/// What to do where a cluster is already. Pods and their data outlive it.
pub(crate) const MAKE_ROOM: &str = "move DATA/server away and leave DATA/agent and DATA/storage, which belong to the pods; or give another --data-dir";

/// Name of the extra that holds the sealed keys.
pub(crate) const KEYS: &str = "keys";

/// What opens the sealed keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Secret {
    SealKey,
    Passphrase,
}

/// A snapshot that was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) path: PathBuf,
    pub(crate) hash: u32,
    pub(crate) revision: u64,
    pub(crate) keys: u64,
    pub(crate) size: u64,
    pub(crate) secret: Secret,
    /// Where it was uploaded to.
    pub(crate) uploaded: Option<String>,
}

/// What the running server needs to save snapshots.
#[derive(Clone)]
pub(crate) struct Saver {
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) instance: Instance,
    pub(crate) folder: PathBuf,
    /// Where every snapshot is uploaded to.
    pub(crate) upload: Option<Arc<Client>>,
    pub(crate) past: Arc<Past>,
    /// One at a time: two would only take the disk from each other.
    pub(crate) turn: Arc<Mutex<()>>,
}

/// A snapshot as it is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SaveRequest {
    /// An absolute path; without it, a name of its own in the folder.
    pub(crate) path: Option<PathBuf>,
    pub(crate) passphrase: Option<String>,
    /// Another place to upload it to than the server's own.
    pub(crate) s3: Option<S3Args>,
}

/// Where snapshots of an instance are kept unless told otherwise.
pub(crate) fn default_folder(instance: &Instance) -> PathBuf {
    instance.server_dir().join("snapshots")
}

impl Saver {
    /// Saves a snapshot and uploads it; what comes of it is kept for the status and told as an event if it
    /// fails.
    pub(crate) async fn save(&self, request: SaveRequest) -> Result<Saved, Problem> {
        let _turn = self.turn.lock().await;
        let client = match request.s3.as_ref().map(S3Args::target).transpose()?.flatten() {
            Some(target) => Some(Arc::new(Client::new(target)?)),
            None => self.upload.clone(),
        };
        let saver = self.clone();
        let writing =
            tokio::task::spawn_blocking(move || saver.write(request.path, request.passphrase.as_deref()));
        let written = writing.await.map_err(|error| Problem::new("save the snapshot", error, "see the log"));
        let mut saved = self.past.saved(written.and_then(|outcome| outcome))?;
        if let Some(client) = client {
            let name = saved.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let place = format!("{}/{name}", client.target());
            let outcome = client.upload(&saved.path, &name).await;
            self.past.uploaded(&name, saved.size, outcome).map_err(|problem| {
                Problem::plain(format!("{problem}; it is kept in {}", saved.path.display()))
            })?;
            saved.uploaded = Some(place);
        }
        Ok(saved)
    }

    /// Saves to `path`, or under a name of its own in the folder. Blocks.
    fn write(&self, path: Option<PathBuf>, passphrase: Option<&str>) -> Result<Saved, Problem> {
        let path = match path {
            Some(path) => path,
            None => {
                files::private_directory(&self.folder)?;
                fresh_name(&self.folder, jiff::Timestamp::now())
            }
        };
        let (secret, kind) = match passphrase {
            Some(passphrase) => (passphrase.to_string(), Secret::Passphrase),
            None => (seal_key(&self.instance)?, Secret::SealKey),
        };
        let failed = |why: &dyn std::fmt::Display| {
            let advice = "check the place and the space of its disk";
            Problem::new(format!("save the snapshot {}", path.display()), why, advice)
        };
        let keys = keys::collect(&self.instance)?;
        let sealed = seal(secret.as_bytes(), KEYS, &keys).map_err(|error| failed(&error))?;
        let extras = [(KEYS, Bytes::from(sealed))];
        let status = self.store.save_snapshot(&path, &extras).map_err(|error| failed(&chain(&error)))?;
        let SnapshotStatus { hash, revision, total_keys, total_size } = status;
        Ok(Saved { path, hash, revision, keys: total_keys, size: total_size, secret: kind, uploaded: None })
    }
}

/// The key that seals by default.
pub(crate) fn seal_key(instance: &Instance) -> Result<String, Problem> {
    secrets::seal_keys(instance)?.into_iter().next().ok_or_else(|| {
        let why = format!("there is no {}", secrets::seal_key_file(instance).display());
        Problem::new("seal the snapshot", why, "start the server once, or give --passphrase-file")
    })
}

const PREFIX: &str = "snapshot-";
const SUFFIX: &str = ".db";

/// `snapshot-20261121T093000Z`: sorts by time.
fn stem_of(now: jiff::Timestamp) -> String {
    format!("{PREFIX}{}", now.strftime("%Y%m%dT%H%M%SZ"))
}

/// The stem with its ending. A second one within a second gets a number.
pub(crate) fn fresh_name(folder: &Path, now: jiff::Timestamp) -> PathBuf {
    let stem = stem_of(now);
    let named = |more: String| folder.join(format!("{stem}{more}{SUFFIX}"));
    (1..)
        .map(|count| if count == 1 { named(String::new()) } else { named(format!("-{count}")) })
        .find(|path| !path.exists())
        .unwrap_or_else(|| named(String::new()))
}

/// A file in the folder of snapshots.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
}

/// Snapshots in a folder, oldest first. A folder that does not exist has none.
pub(crate) fn list(folder: &Path) -> Result<Vec<Entry>, Problem> {
    let failed =
        |error| Problem::new(format!("read {}", folder.display()), error, "check --dir or --data-dir");
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = entry.metadata().map_err(failed)?;
        if metadata.is_file() && name.ends_with(SUFFIX) {
            let modified = metadata.modified().map_err(failed)?;
            found.push(Entry { name, size: metadata.len(), modified });
        }
    }
    found.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
    Ok(found)
}

/// Removes all but the newest `keep` of the snapshots that were named here; those that a user named stay.
/// Returns the names of the removed ones.
pub(crate) fn prune(folder: &Path, keep: usize) -> Result<Vec<String>, Problem> {
    let names = list(folder)?.into_iter().map(|entry| entry.name).collect();
    let own = outdated(names, keep);
    for name in &own {
        remove(folder, name)?;
    }
    Ok(own)
}

/// All but the newest of the names that were given here.
fn outdated(mut names: Vec<String>, keep: usize) -> Vec<String> {
    names.retain(|name| name.starts_with(PREFIX));
    // By name, which is by the time in it: copying files about changes when they were modified.
    // Those from a future are of a time when the clock was ahead: older than what is saved since.
    let now = stem_of(jiff::Timestamp::now());
    names.sort_by_key(|name| (name.as_str() <= now.as_str() || name.starts_with(&now), name.clone()));
    names.truncate(names.len().saturating_sub(keep));
    names
}

/// Refuses what is no name of a snapshot, such as a path.
pub(crate) fn check_name(name: &str, what: &str) -> Result<(), Problem> {
    let is_name = Path::new(name).file_name().is_some_and(|file| file == name) && name.ends_with(SUFFIX);
    if is_name {
        return Ok(());
    }
    let advice = "give a name that 'minik8s snapshot list' shows";
    Err(Problem::new(format!("{what} the snapshot {name:?}"), "it is not a snapshot's name", advice))
}

pub(crate) fn remove(folder: &Path, name: &str) -> Result<(), Problem> {
    check_name(name, "delete")?;
    let path = folder.join(name);
    fs::remove_file(&path).map_err(|error| {
        let advice = "see 'minik8s snapshot list' for what there is";
        Problem::new(format!("delete the snapshot {}", path.display()), error, advice)
    })
}

#[cfg(test)]
mod tests;
