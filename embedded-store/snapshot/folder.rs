//! A folder of snapshots: listing, naming, pruning.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Names of scheduled and of unnamed snapshots begin and end with these.
const PREFIX: &str = "snapshot-";
const SUFFIX: &str = ".db";

/// One snapshot of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    pub name: String,
    pub path: PathBuf,
    pub size: u64,
    pub modified: SystemTime,
}

/// The name of a snapshot saved at a time, in seconds since the epoch: names sort as times do.
pub fn name(seconds: u64) -> String {
    format!("{PREFIX}{seconds:012}{SUFFIX}")
}

/// The snapshots in a folder, oldest first; none if there is no such folder.
pub fn list(folder: &Path) -> io::Result<Vec<Saved>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut saved = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let metadata = entry.metadata()?;
        if !name.ends_with(SUFFIX) || !metadata.is_file() {
            continue;
        }
        saved.push(Saved { name, path: entry.path(), size: metadata.len(), modified: metadata.modified()? });
    }
    saved.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
    Ok(saved)
}

/// Deletes all but the newest `keep` of the snapshots that were named here, and returns the names of those that went.
/// What a person named is never touched.
pub fn prune(folder: &Path, keep: usize) -> io::Result<Vec<String>> {
    let mut ours: Vec<Saved> = list(folder)?;
    ours.retain(|saved| {
        let digits = saved.name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    });
    ours.sort_by(|a, b| a.name.cmp(&b.name));
    ours.truncate(ours.len().saturating_sub(keep));
    for saved in &ours {
        fs::remove_file(&saved.path)?;
    }
    if !ours.is_empty() {
        File::open(folder)?.sync_all()?;
    }
    Ok(ours.into_iter().map(|saved| saved.name).collect())
}
