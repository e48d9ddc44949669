//! The host of tests: writes down what it is asked to change, fails where it is told to, and knows which
//! files and directories it would have.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::Host;
use crate::cgroups::usage::CgroupUsage;
use crate::files::tree::{Access, GroupChange, TreeUsage};
use crate::node::machine::{Disk, Machine};
use crate::spec::resources::PodLimits;
use crate::testing::Journal;
use crate::volumes::{Files, VolumeError};

#[derive(Default)]
pub(crate) struct RecordingHost {
    pub(crate) journal: Journal,
    failures: Mutex<BTreeMap<&'static str, usize>>,
    present: Mutex<BTreeSet<PathBuf>>,
    mounts: Mutex<BTreeSet<PathBuf>>,
    /// What cgroups have used, and what trees take.
    pub(crate) used: Mutex<BTreeMap<String, CgroupUsage>>,
    pub(crate) taken: Mutex<BTreeMap<PathBuf, TreeUsage>>,
    pub(crate) disk: Mutex<Option<Disk>>,
    pub(crate) memory: Mutex<Option<u64>>,
}

impl RecordingHost {
    /// So many of the next calls of this method fail.
    pub(crate) fn fail(&self, call: &'static str, times: usize) {
        self.failures.lock().insert(call, times);
    }

    fn call(&self, method: &'static str, about: impl std::fmt::Display) -> io::Result<()> {
        self.journal.note(format!("{method} {about}"));
        match self.failures.lock().get_mut(method) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(io::Error::other(format!("{method} is to fail")))
            }
            _ => Ok(()),
        }
    }

    fn come(&self, path: &Path) {
        self.present.lock().extend(path.ancestors().map(Path::to_path_buf));
    }
}

impl Host for RecordingHost {
    fn make_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        if self.is_directory(path) {
            return Ok(());
        }
        self.call("make_directory", format!("{} {mode:o}", path.display()))?;
        self.come(path);
        Ok(())
    }

    fn make_inside(&self, parent: &Path, name: &OsStr, mode: u32) -> io::Result<()> {
        self.make_directory(&parent.join(name), mode)
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.present.lock().contains(path)
    }

    fn is_mount_point(&self, path: &Path) -> bool {
        self.mounts.lock().contains(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.present.lock().contains(path)
    }

    fn list(&self, path: &Path) -> Vec<String> {
        let present = self.present.lock();
        let inside = present.iter().filter(|one| one.parent() == Some(path));
        inside.filter_map(|one| one.file_name()).map(|name| name.to_string_lossy().into_owned()).collect()
    }

    fn read_text(&self, _path: &str) -> String {
        String::new()
    }

    fn write_file(&self, path: &Path, _data: &[u8], mode: u32) -> io::Result<()> {
        self.call("write_file", format!("{} {mode:o}", path.display()))?;
        self.come(path);
        Ok(())
    }

    fn replace_file(&self, path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
        self.write_file(path, data, mode)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call("remove_file", path.display())?;
        self.present.lock().remove(path);
        Ok(())
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.call("remove_tree", path.display())?;
        self.present.lock().retain(|one| !one.starts_with(path));
        Ok(())
    }

    fn mount_memory(&self, path: &Path, size: Option<i64>, mode: u32) -> Result<(), VolumeError> {
        if self.is_mount_point(path) {
            return Ok(());
        }
        let size = size.map(|size| format!(" of {size}")).unwrap_or_default();
        self.call("mount_memory", format!("{}{size} {mode:o}", path.display()))?;
        self.mounts.lock().insert(path.to_path_buf());
        Ok(())
    }

    fn bind(&self, volume: &Path, part: &str, target: PathBuf) -> Result<PathBuf, VolumeError> {
        self.call("bind", format!("{} {part}", volume.display()))?;
        Ok(target)
    }

    fn unmount_below(&self, path: &Path) -> io::Result<()> {
        self.call("unmount_below", path.display())?;
        self.mounts.lock().retain(|one| !one.starts_with(path));
        Ok(())
    }

    fn host_path(&self, path: &str, kind: &str) -> Result<PathBuf, VolumeError> {
        self.call("host_path", format!("{path} {kind}"))?;
        Ok(PathBuf::from(path))
    }

    fn write_volume(
        &self,
        volume: &Path,
        files: &Files,
        group: Option<u32>,
        _now: Timestamp,
    ) -> io::Result<()> {
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        let group = group.map(|group| format!(" for {group}")).unwrap_or_default();
        self.call("write_volume", format!("{} [{}]{group}", volume.display(), names.join(" ")))
    }

    fn give(&self, volume: &Path, group: u32, access: Access, change: GroupChange) -> io::Result<()> {
        self.call("give", format!("{} to {group}, {access:?}, {change:?}", volume.display()))
    }

    fn has_cgroups_v2(&self) -> bool {
        true
    }

    fn ensure_cgroup(&self, cgroup: &str, _limits: PodLimits) -> io::Result<()> {
        self.call("ensure_cgroup", cgroup)
    }

    fn cgroup_exists(&self, _cgroup: &str) -> bool {
        false
    }

    fn cgroups_below(&self, _cgroup: &str) -> Vec<String> {
        Vec::new()
    }

    fn remove_cgroup(&self, cgroup: &str) -> io::Result<()> {
        self.call("remove_cgroup", cgroup)
    }

    fn cgroup_usage(&self, cgroup: &str) -> Option<CgroupUsage> {
        self.used.lock().get(cgroup).copied()
    }

    fn cgroup_network(&self, _cgroup: &str) -> String {
        String::new()
    }

    fn tree_usage(&self, path: &Path) -> TreeUsage {
        self.taken.lock().get(path).copied().unwrap_or_default()
    }

    fn machine(&self, _data_dir: &Path) -> Machine {
        Machine::default()
    }

    fn disk(&self, _path: &Path) -> Option<Disk> {
        *self.disk.lock()
    }

    fn available_memory(&self) -> u64 {
        self.memory.lock().unwrap_or(u64::MAX)
    }

    fn processes(&self) -> Option<(u64, u64)> {
        None
    }

    fn enforces_apparmor(&self) -> bool {
        false
    }
}
