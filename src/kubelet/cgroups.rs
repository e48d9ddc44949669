//! Cgroups of pods: `PARENT/[burstable|besteffort]/podUID`, on cgroup v1 (hybrid too) and v2, made directly in the file
//! system (the "cgroupfs" driver). The runtime puts containers below.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use api::qos::QosClass;
use k8s_openapi::api::core::v1::Pod;

use crate::spec::PodExt;
use crate::spec::resources::{self, PodLimits};

const PERIOD: i64 = 100_000;
const MIN_SHARES: i64 = 2;

#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    hierarchy: Hierarchy,
    /// Such as `/kubepods`.
    parent: String,
}

#[derive(Clone, Debug)]
enum Hierarchy {
    /// Mount point by controller.
    V1(HashMap<String, PathBuf>),
    V2(PathBuf),
}

/// Controllers a pod's cgroup is made in on v1; the runtime makes the others as it needs them.
const V1_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
const V2_CONTROLLERS: [&str; 6] = ["cpu", "memory", "pids", "cpuset", "io", "hugetlb"];

fn detect(mountinfo: &str) -> Hierarchy {
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

fn v2_weight(shares: i64) -> i64 {
    1 + (shares.max(MIN_SHARES) - 2) * 9999 / 262_142
}

fn set(directory: &Path, file: &str, value: &str) {
    let path = directory.join(file);
    if let Err(error) = std::fs::write(&path, value) {
        tracing::debug!(path = %path.display(), value, %error, "cgroup limit not set");
    }
}

impl Cgroups {
    pub(crate) fn new(parent: &str) -> Self {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Cgroups { hierarchy: detect(&mountinfo), parent: format!("/{}", parent.trim_matches('/')) }
    }

    pub(crate) fn is_v2(&self) -> bool {
        matches!(self.hierarchy, Hierarchy::V2(_))
    }

    /// The directories of a cgroup, one per hierarchy.
    fn directories(&self, cgroup: &str, controllers: Option<&[&str]>) -> Vec<PathBuf> {
        let cgroup = cgroup.trim_start_matches('/');
        match &self.hierarchy {
            Hierarchy::V2(root) => vec![root.join(cgroup)],
            Hierarchy::V1(mounts) => {
                let mut all: Vec<PathBuf> = mounts
                    .iter()
                    .filter(|(name, _)| controllers.is_none_or(|wanted| wanted.contains(&name.as_str())))
                    .map(|(_, point)| point.join(cgroup))
                    .collect();
                all.sort();
                all.dedup();
                all
            }
        }
    }

    fn create(&self, cgroup: &str) -> io::Result<()> {
        for directory in self.directories(cgroup, Some(&V1_CONTROLLERS)) {
            if let Hierarchy::V2(root) = &self.hierarchy {
                enable_controllers(root, &directory);
            }
            std::fs::create_dir_all(&directory)?;
        }
        Ok(())
    }

    /// Makes the parents of all pods' cgroups.
    pub(crate) fn ensure_parents(&self, milli_cpus: i64) -> io::Result<()> {
        self.create(&format!("{}/burstable", self.parent))?;
        self.create(&format!("{}/besteffort", self.parent))?;
        self.limit(
            &self.parent,
            PodLimits { shares: resources::shares(milli_cpus), quota: None, memory: None },
        );
        let least = PodLimits { shares: MIN_SHARES, quota: None, memory: None };
        self.limit(&format!("{}/besteffort", self.parent), least);
        Ok(())
    }

    /// Burstable pods together weigh what they request together.
    pub(crate) fn weigh_burstable<'a>(&self, pods: impl Iterator<Item = &'a Pod>) {
        let total: i64 = pods
            .filter(|pod| resources::class_of(pod) == QosClass::Burstable)
            .map(|pod| resources::requested(pod).0)
            .fold(0, i64::saturating_add);
        let limits = PodLimits { shares: resources::shares(total), quota: None, memory: None };
        self.limit(&format!("{}/burstable", self.parent), limits);
    }

    fn limit(&self, cgroup: &str, limits: PodLimits) {
        for directory in self.directories(cgroup, Some(&V1_CONTROLLERS)) {
            if self.is_v2() {
                set(&directory, "cpu.weight", &v2_weight(limits.shares).to_string());
                if let Some(quota) = limits.quota {
                    set(&directory, "cpu.max", &format!("{quota} {PERIOD}"));
                }
                if let Some(memory) = limits.memory {
                    set(&directory, "memory.max", &memory.to_string());
                }
                continue;
            }
            if directory.join("cpu.shares").exists() {
                set(&directory, "cpu.shares", &limits.shares.to_string());
                if let Some(quota) = limits.quota {
                    set(&directory, "cpu.cfs_period_us", &PERIOD.to_string());
                    set(&directory, "cpu.cfs_quota_us", &quota.to_string());
                }
            }
            if let Some(memory) = limits.memory.filter(|_| directory.join("memory.limit_in_bytes").exists()) {
                set(&directory, "memory.limit_in_bytes", &memory.to_string());
            }
        }
    }

    /// Path of a pod's cgroup, as the runtime takes it.
    pub(crate) fn of_pod(&self, pod: &Pod) -> String {
        self.path(resources::class_of(pod), pod.uid())
    }

    fn path(&self, qos: QosClass, uid: &str) -> String {
        match qos {
            QosClass::Guaranteed => format!("{}/pod{uid}", self.parent),
            QosClass::Burstable => format!("{}/burstable/pod{uid}", self.parent),
            QosClass::BestEffort => format!("{}/besteffort/pod{uid}", self.parent),
        }
    }

    pub(crate) fn create_pod(&self, pod: &Pod) -> io::Result<()> {
        let cgroup = self.of_pod(pod);
        self.create(&cgroup)?;
        self.limit(&cgroup, resources::of_pod(pod));
        Ok(())
    }

    /// Removes a pod's cgroup, wherever it is.
    pub(crate) fn remove_pod(&self, uid: &str) -> io::Result<()> {
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            for directory in self.directories(&self.path(qos, uid), None) {
                remove_tree(&directory)?;
            }
        }
        Ok(())
    }

    /// Uids of pods that have a cgroup.
    pub(crate) fn present(&self) -> Vec<String> {
        let mut uids = Vec::new();
        for cgroup in ["", "/burstable", "/besteffort"] {
            for directory in self.directories(&format!("{}{cgroup}", self.parent), None) {
                let Ok(entries) = std::fs::read_dir(directory) else { continue };
                let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
                uids.extend(names.filter_map(|name| name.strip_prefix("pod").map(str::to_string)));
            }
        }
        uids.sort();
        uids.dedup();
        uids
    }

    /// Removes everything below and with the parent, for uninstalling.
    pub(crate) fn remove_all(&self) -> io::Result<()> {
        for directory in self.directories(&self.parent, None) {
            remove_tree(&directory)?;
        }
        Ok(())
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

#[cfg(test)]
mod tests;
