//! Mounts and cgroups of an instance.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use crate::process::Process;

/// The mount points below the folders, innermost first. A folder that is itself a mount point was one before
/// the instance came (a disk of its own, say), and stays one.
fn mounts_below(table: &str, folders: &[PathBuf]) -> Vec<PathBuf> {
    let is_below = |point: &PathBuf, folder: &PathBuf| point != folder && point.starts_with(folder);
    let mut ours: Vec<PathBuf> =
        mount_points(table).filter(|point| folders.iter().any(|folder| is_below(point, folder))).collect();
    ours.reverse();
    ours
}

fn mount_points(table: &str) -> impl Iterator<Item = PathBuf> {
    mounts(table).map(|mount| mount.point)
}

/// A line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// What of its file system is mounted; of a namespace its name, such as `net:[4026531840]`.
    pub(crate) root: String,
    pub(crate) point: PathBuf,
}

fn mounts(table: &str) -> impl Iterator<Item = Mount> {
    table.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(3);
        Some(Mount { root: words.next()?.to_string(), point: unescape(words.next()?) })
    })
}

/// mountinfo writes blanks and backslashes as octal numbers.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

const TABLE: &str = "/proc/thread-self/mountinfo";

/// Why something is left on the machine.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeftBehind {
    #[error("{TABLE}: {0}")]
    MountTable(#[source] io::Error),
    #[error("{} is kept: {} is mounted in it", .folder.display(), .point.display())]
    Mounted { folder: PathBuf, point: PathBuf },
    #[error("{} is not removed whole: {source}", .folder.display())]
    Folder { folder: PathBuf, source: io::Error },
}

/// A table that cannot be read is no empty one: what is mounted must be known before anything is removed.
fn mount_table() -> Result<String, LeftBehind> {
    fs::read_to_string(TABLE).map_err(LeftBehind::MountTable)
}

/// Unmounts what is mounted below the folders; a sentence for each failure.
pub(super) fn unmount_below(folders: &[PathBuf]) -> Vec<String> {
    let table = match mount_table() {
        Ok(table) => table,
        Err(error) => return vec![error.to_string()],
    };
    mounts_below(&table, folders).into_iter().filter_map(unmount_point).collect()
}

/// Unmounts what is told, innermost first; a sentence for each failure.
pub(crate) fn unmount(is_told: impl Fn(&Mount) -> bool) -> Vec<String> {
    let table = match mount_table() {
        Ok(table) => table,
        Err(error) => return vec![error.to_string()],
    };
    let mut told: Vec<Mount> = mounts(&table).filter(is_told).collect();
    told.reverse();
    told.into_iter().filter_map(|mount| unmount_point(mount.point)).collect()
}

fn unmount_point(point: PathBuf) -> Option<String> {
    match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // What is not mounted any more went with the one around it.
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => None,
        Err(error) => Some(format!("{} stays mounted: {error}", point.display())),
    }
}

/// Removes a folder with everything in it, unless something is mounted in it still: that is somebody's data.
/// A folder that is a mount point is emptied.
pub(super) fn remove_folder(folder: &Path) -> Result<(), LeftBehind> {
    if !folder.exists() {
        return Ok(());
    }
    let table = mount_table()?;
    if let Some(point) = mounts_below(&table, &[folder.to_path_buf()]).last() {
        return Err(LeftBehind::Mounted { folder: folder.to_path_buf(), point: point.clone() });
    }
    let is_mount = mount_points(&table).any(|point| point == folder);
    let removed = if is_mount { kubelet::empty_tree(folder) } else { kubelet::remove_tree(folder) };
    removed.map_err(|source| LeftBehind::Folder { folder: folder.to_path_buf(), source })
}

/// The directories of a cgroup: one in each version 1 hierarchy, and one in version 2's.
fn cgroup_directories(cgroup: &str) -> Vec<PathBuf> {
    let name = cgroup.trim_start_matches('/');
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        hierarchies.chain([top.to_path_buf()]).map(|place| place.join(name)).collect();
    // `cpu` and `cpu,cpuacct` may be names of one hierarchy.
    found.retain(|place| place.is_dir());
    found.sort();
    found.dedup_by_key(|place| place.canonicalize().unwrap_or_else(|_| place.clone()));
    found
}

/// A directory and those below it, innermost first.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut all: Vec<PathBuf> = folders.flat_map(|entry| tree(&entry.path())).collect();
    all.push(folder.to_path_buf());
    all
}

/// Kills every process in a cgroup, until there are none: a process may fork while it is looked for.
pub(super) async fn kill_cgroup(cgroup: &str) {
    const ROUNDS: usize = 20;
    for _ in 0..ROUNDS {
        let directories = cgroup_directories(cgroup);
        let groups = directories.iter().flat_map(|folder| tree(folder));
        let lists: Vec<String> =
            groups.filter_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok()).collect();
        let mut pids: Vec<i32> =
            lists.iter().flat_map(|list| list.lines()).filter_map(|pid| pid.parse().ok()).collect();
        pids.sort_unstable();
        pids.dedup();
        if pids.is_empty() {
            return;
        }
        for process in pids.into_iter().filter_map(Process::open) {
            process.kill().await;
        }
    }
}

pub(super) fn remove_cgroup(cgroup: &str) -> Vec<String> {
    let groups = cgroup_directories(cgroup).into_iter().flat_map(|folder| tree(&folder));
    let remove = |group: PathBuf| match fs::remove_dir(&group) {
        Ok(()) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("{}: {error}", group.display())),
    };
    groups.filter_map(remove).collect()
}

#[cfg(test)]
mod tests;
