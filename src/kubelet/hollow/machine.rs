//! A machine that has what it is told to have, and on which nothing is done.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::cgroups::usage::CgroupUsage;
use crate::files::tree::{Access, GroupChange, TreeUsage};
use crate::host::Host;
use crate::node::machine::{Disk, Machine};
use crate::spec::resources::PodLimits;
use crate::volumes::{Files, VolumeError};

pub(super) struct HollowMachine {
    pub(super) cpus: u64,
    /// Bytes.
    pub(super) memory: u64,
    pub(super) number: u32,
}

const DISK: u64 = 1 << 40;
const INODES: u64 = 1 << 26;

impl Host for HollowMachine {
    fn make_directory(&self, _path: &Path, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    fn make_inside(&self, _parent: &Path, _name: &OsStr, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    fn is_directory(&self, _path: &Path) -> bool {
        false
    }

    fn is_mount_point(&self, _path: &Path) -> bool {
        false
    }

    fn exists(&self, _path: &Path) -> bool {
        false
    }

    fn list(&self, _path: &Path) -> Vec<String> {
        Vec::new()
    }

    fn read_text(&self, _path: &str) -> String {
        String::new()
    }

    fn write_file(&self, _path: &Path, _data: &[u8], _mode: u32) -> io::Result<()> {
        Ok(())
    }

    fn replace_file(&self, _path: &Path, _data: &[u8], _mode: u32) -> io::Result<()> {
        Ok(())
    }

    fn remove_file(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_tree(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn mount_memory(&self, _path: &Path, _size: Option<i64>, _mode: u32) -> Result<(), VolumeError> {
        Ok(())
    }

    fn bind(&self, _volume: &Path, _part: &str, target: PathBuf) -> Result<PathBuf, VolumeError> {
        Ok(target)
    }

    fn unmount_below(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn host_path(&self, path: &str, _kind: &str) -> Result<PathBuf, VolumeError> {
        Ok(PathBuf::from(path))
    }

    fn write_volume(
        &self,
        _volume: &Path,
        _files: &Files,
        _group: Option<u32>,
        _now: Timestamp,
    ) -> io::Result<()> {
        Ok(())
    }

    fn give(&self, _volume: &Path, _group: u32, _access: Access, _change: GroupChange) -> io::Result<()> {
        Ok(())
    }

    fn has_cgroups_v2(&self) -> bool {
        true
    }

    fn ensure_cgroup(&self, _cgroup: &str, _limits: PodLimits) -> io::Result<()> {
        Ok(())
    }

    fn cgroup_exists(&self, _cgroup: &str) -> bool {
        false
    }

    fn cgroups_below(&self, _cgroup: &str) -> Vec<String> {
        Vec::new()
    }

    fn remove_cgroup(&self, _cgroup: &str) -> io::Result<()> {
        Ok(())
    }

    fn cgroup_usage(&self, _cgroup: &str) -> Option<CgroupUsage> {
        None
    }

    fn cgroup_network(&self, _cgroup: &str) -> String {
        String::new()
    }

    fn tree_usage(&self, _path: &Path) -> TreeUsage {
        TreeUsage::default()
    }

    fn machine(&self, _data_dir: &Path) -> Machine {
        let id = format!("{:032x}", self.number);
        Machine {
            cpus: self.cpus,
            memory: self.memory,
            disk: DISK,
            machine_id: id.clone(),
            system_uuid: id.clone(),
            boot_id: id,
            kernel: "hollow".to_string(),
            os_image: "minik8s hollow node".to_string(),
            ..Machine::default()
        }
    }

    fn disk(&self, _path: &Path) -> Option<Disk> {
        Some(Disk { total: DISK, usable: DISK, available: DISK, inodes: INODES, inodes_free: INODES })
    }

    fn available_memory(&self) -> u64 {
        self.memory
    }

    fn processes(&self) -> Option<(u64, u64)> {
        None
    }

    fn enforces_apparmor(&self) -> bool {
        false
    }
}
