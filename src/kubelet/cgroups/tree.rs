//! The cgroup file system: which hierarchies a machine has, and what is read from and written to them.
//! Version 1 (hybrid too) and version 2.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::spec::resources::PodLimits;

const PERIOD: i64 = 100_000;
pub(crate) const MIN_SHARES: i64 = 2;

/// The mounted hierarchies.
#[derive(Clone, Debug)]
pub(crate) enum Hierarchy {
    /// Mount point by controller.
    V1(HashMap<String, PathBuf>),
    V2(PathBuf),
}

/// Controllers a pod's cgroup is made in on v1; the runtime makes the others as it needs them.
const V1_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
const V2_CONTROLLERS: [&str; 6] = ["cpu", "memory", "pids", "cpuset", "io", "hugetlb"];

pub(crate) fn detect(mountinfo: &str) -> Hierarchy {
    let mut v1 = HashMap::new();
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut right = right.split(' ');
        match right.next() {
            Some("cgroup2") => v2 = Some(point),
            Some("cgroup") => {
                for option in right.nth(1).unwrap_or("").split(',') {
                    v1.insert(option.to_string(), point.clone());
                }
            }
            _ => {}
        }
    }
    // With v1's controllers mounted, a v2 tree beside them has none: the hybrid form.
    if v1.contains_key("memory") || v1.contains_key("cpu") {
        // The runtime makes its cgroups in that one too, so it has to be tidied.
        if let Some(point) = v2 {
            v1.insert("unified".to_string(), point);
        }
        return Hierarchy::V1(v1);
    }
    Hierarchy::V2(v2.unwrap_or_else(|| PathBuf::from("/sys/fs/cgroup")))
}

/// Shares of version 1 as a weight of version 2, as the runtime converts them.
pub(crate) fn v2_weight(shares: i64) -> i64 {
    1 + (shares.max(MIN_SHARES) - 2) * 9999 / 262_142
}

fn set(directory: &Path, file: &str, value: &str) {
    let path = directory.join(file);
    if let Err(error) = std::fs::write(&path, value) {
        tracing::debug!(path = %path.display(), value, %error, "cgroup limit not set");
    }
}

impl Hierarchy {
    /// The directories of a cgroup: in the hierarchies where its limits are, or in all.
    pub(crate) fn directories(&self, cgroup: &str, limited_only: bool) -> Vec<PathBuf> {
        let cgroup = cgroup.trim_start_matches('/');
        match self {
            Hierarchy::V2(root) => vec![root.join(cgroup)],
            Hierarchy::V1(mounts) => {
                let mut all: Vec<PathBuf> = mounts
                    .iter()
                    .filter(|(name, _)| !limited_only || V1_CONTROLLERS.contains(&name.as_str()))
                    .map(|(_, point)| point.join(cgroup))
                    .collect();
                all.sort();
                all.dedup();
                all
            }
        }
    }

    pub(crate) fn create(&self, cgroup: &str) -> io::Result<()> {
        for directory in self.directories(cgroup, true) {
            if let Hierarchy::V2(root) = self {
                enable_controllers(root, &directory);
            }
            std::fs::create_dir_all(&directory)?;
        }
        Ok(())
    }

    pub(crate) fn limit(&self, cgroup: &str, limits: PodLimits) {
        for directory in self.directories(cgroup, true) {
            if matches!(self, Hierarchy::V2(_)) {
                set(&directory, "cpu.weight", &v2_weight(limits.shares).to_string());
                let quota = limits.quota.map_or_else(|| "max".to_string(), |quota| quota.to_string());
                set(&directory, "cpu.max", &format!("{quota} {PERIOD}"));
                set(
                    &directory,
                    "memory.max",
                    &limits.memory.map_or_else(|| "max".to_string(), |one| one.to_string()),
                );
                continue;
            }
            if directory.join("cpu.shares").exists() {
                set(&directory, "cpu.shares", &limits.shares.to_string());
                set(&directory, "cpu.cfs_period_us", &PERIOD.to_string());
                set(&directory, "cpu.cfs_quota_us", &limits.quota.unwrap_or(-1).to_string());
            }
            if directory.join("memory.limit_in_bytes").exists() {
                set(&directory, "memory.limit_in_bytes", &limits.memory.unwrap_or(-1).to_string());
            }
        }
    }

    /// Removes a cgroup with those below it.
    pub(crate) fn remove(&self, cgroup: &str) -> io::Result<()> {
        self.directories(cgroup, false).iter().try_for_each(|directory| remove_tree(directory))
    }

    /// Names of the cgroups directly below one.
    pub(crate) fn below(&self, cgroup: &str) -> Vec<String> {
        let directories = self.directories(cgroup, false);
        let entries = directories.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten();
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// On v2 every ancestor must pass controllers down.
fn enable_controllers(root: &Path, directory: &Path) {
    let Ok(relative) = directory.strip_prefix(root) else { return };
    let mut path = root.to_path_buf();
    for part in relative.components() {
        let _ = std::fs::create_dir(&path);
        for controller in V2_CONTROLLERS {
            // One that does not exist must not keep the others from being passed on.
            let _ = std::fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        path.push(part);
    }
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
