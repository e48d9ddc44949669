//! The machine as the kubelet changes and reads it: files and mounts of volumes, cgroups, what the machine
//! has.
//!
//! Every method blocks and is called through [`crate::files::blocking`]. [`Linux`] is the real one; a hollow
//! node ([`crate::hollow`]) has none of this, and tests write down what was asked for, in order
//! ([`recorder`]).

mod linux;
#[cfg(test)]
pub(crate) mod recorder;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::cgroups::usage::CgroupUsage;
use crate::files::tree::{Access, GroupChange, TreeUsage};
use crate::node::machine::{Disk, Machine};
use crate::spec::resources::PodLimits;
use crate::volumes::{Files, VolumeError};

pub(crate) use linux::Linux;

pub(crate) trait Host: Send + Sync {
    /// Makes a directory with those above it. One that is there keeps its mode.
    fn make_directory(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Makes a directory in one that may be reached by links; its own name must be none. One that is there
    /// keeps its mode.
    fn make_inside(&self, parent: &Path, name: &OsStr, mode: u32) -> io::Result<()>;
    fn is_directory(&self, path: &Path) -> bool;
    fn is_mount_point(&self, path: &Path) -> bool;
    fn exists(&self, path: &Path) -> bool;
    /// Names in a directory; none if it cannot be read.
    fn list(&self, path: &Path) -> Vec<String>;
    /// A file as text; empty if there is none.
    fn read_text(&self, path: &str) -> String;
    /// Writes a file of our own, and makes the directories above it.
    fn write_file(&self, path: &Path, data: &[u8], mode: u32) -> io::Result<()>;
    /// Brings a file of our own to this content for good: after a power cut it is there as before or whole.
    fn replace_file(&self, path: &Path, data: &[u8], mode: u32) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a tree across no mount; no error if there is none.
    fn remove_tree(&self, path: &Path) -> io::Result<()>;

    /// Mounts memory, unless something is mounted there.
    fn mount_memory(&self, path: &Path, size: Option<i64>, mode: u32) -> Result<(), VolumeError>;
    /// Binds a part of a volume to a place of our own; answers with that.
    fn bind(&self, volume: &Path, part: &str, target: PathBuf) -> Result<PathBuf, VolumeError>;
    /// Unmounts everything below a directory, and on it.
    fn unmount_below(&self, path: &Path) -> io::Result<()>;
    /// Checks, or makes, what a `hostPath` volume names.
    fn host_path(&self, path: &str, kind: &str) -> Result<PathBuf, VolumeError>;
    /// Brings a volume to these files, all at once.
    fn write_volume(
        &self,
        volume: &Path,
        files: &Files,
        group: Option<u32>,
        now: Timestamp,
    ) -> io::Result<()>;
    /// Gives a volume's files to a group.
    fn give(&self, volume: &Path, group: u32, access: Access, change: GroupChange) -> io::Result<()>;

    fn has_cgroups_v2(&self) -> bool;
    /// Makes a cgroup, or gives one that is there new limits.
    fn ensure_cgroup(&self, cgroup: &str, limits: PodLimits) -> io::Result<()>;
    fn cgroup_exists(&self, cgroup: &str) -> bool;
    /// Names of the cgroups directly below one.
    fn cgroups_below(&self, cgroup: &str) -> Vec<String>;
    /// Removes a cgroup with those below it.
    fn remove_cgroup(&self, cgroup: &str) -> io::Result<()>;

    /// What a cgroup's processes have used; the root's is the machine's.
    fn cgroup_usage(&self, cgroup: &str) -> Option<CgroupUsage>;
    /// `/proc/PID/net/dev` of a process of a cgroup: what went through its network.
    fn cgroup_network(&self, cgroup: &str) -> String;
    /// What a tree takes of its file system.
    fn tree_usage(&self, path: &Path) -> TreeUsage;

    fn machine(&self, data_dir: &Path) -> Machine;
    fn disk(&self, path: &Path) -> Option<Disk>;
    /// Bytes.
    fn available_memory(&self) -> u64;
    /// Processes that exist and that may exist.
    fn processes(&self) -> Option<(u64, u64)>;
    fn enforces_apparmor(&self) -> bool;
}
