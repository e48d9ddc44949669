//! The machine that we run on.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Host;
use crate::cgroups::tree::{self, Hierarchy};
use crate::cgroups::usage::CgroupUsage;
use crate::files;
use crate::files::tree::{Access, GroupChange, TreeUsage};
use crate::node::machine::{self, Disk, Machine};
use crate::pods::admit::apparmor;
use crate::spec::resources::PodLimits;
use crate::volumes::{self, Files, VolumeError};

pub(crate) struct Linux {
    cgroups: Hierarchy,
}

impl Linux {
    pub(crate) fn new() -> Self {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Linux { cgroups: tree::detect(&mountinfo) }
    }
}

impl Host for Linux {
    fn make_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    }

    fn make_inside(&self, parent: &Path, name: &OsStr, mode: u32) -> io::Result<()> {
        files::make_inside(parent, name, mode)
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn is_mount_point(&self, path: &Path) -> bool {
        volumes::tmpfs::is_mount_point(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn list(&self, path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn read_text(&self, path: &str) -> String {
        files::read_text(path)
    }

    fn write_file(&self, path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, data)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    }

    fn replace_file(&self, path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
        files::replace(path, data, mode)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        files::tree::remove(path)
    }

    fn mount_memory(&self, path: &Path, size: Option<i64>, mode: u32) -> Result<(), VolumeError> {
        volumes::tmpfs::ensure(path, size, mode)
    }

    fn bind(&self, volume: &Path, part: &str, target: PathBuf) -> Result<PathBuf, VolumeError> {
        volumes::subpath::bind(volume, part, target)
    }

    fn unmount_below(&self, path: &Path) -> io::Result<()> {
        volumes::unmount_below(path)
    }

    fn host_path(&self, path: &str, kind: &str) -> Result<PathBuf, VolumeError> {
        volumes::hostpath::check(path, kind)
    }

    fn write_volume(
        &self,
        volume: &Path,
        files: &Files,
        group: Option<u32>,
        now: Timestamp,
    ) -> io::Result<()> {
        volumes::atomic::write(volume, files, group, now)
    }

    fn give(&self, volume: &Path, group: u32, access: Access, change: GroupChange) -> io::Result<()> {
        files::tree::give(volume, group, access, change)
    }

    fn has_cgroups_v2(&self) -> bool {
        matches!(self.cgroups, Hierarchy::V2(_))
    }

    fn ensure_cgroup(&self, cgroup: &str, limits: PodLimits) -> io::Result<()> {
        self.cgroups.create(cgroup)?;
        self.cgroups.limit(cgroup, limits);
        Ok(())
    }

    fn cgroup_exists(&self, cgroup: &str) -> bool {
        self.cgroups.directories(cgroup, false).iter().any(|directory| directory.exists())
    }

    fn cgroups_below(&self, cgroup: &str) -> Vec<String> {
        self.cgroups.below(cgroup)
    }

    fn remove_cgroup(&self, cgroup: &str) -> io::Result<()> {
        self.cgroups.remove(cgroup)
    }

    fn cgroup_usage(&self, cgroup: &str) -> Option<CgroupUsage> {
        self.cgroups.usage(cgroup)
    }

    fn cgroup_network(&self, cgroup: &str) -> String {
        let process = self.cgroups.process(cgroup);
        process.map(|pid| files::read_text(&format!("/proc/{pid}/net/dev"))).unwrap_or_default()
    }

    fn tree_usage(&self, path: &Path) -> TreeUsage {
        files::tree::usage(path).unwrap_or_default()
    }

    fn machine(&self, data_dir: &Path) -> Machine {
        Machine::read(data_dir)
    }

    fn disk(&self, path: &Path) -> Option<Disk> {
        machine::disk(path)
    }

    fn available_memory(&self) -> u64 {
        machine::available_memory()
    }

    fn processes(&self) -> Option<(u64, u64)> {
        machine::processes()
    }

    fn enforces_apparmor(&self) -> bool {
        apparmor::is_enabled()
    }
}
