//! An instance: one data directory, and the names of all it leaves elsewhere on the machine.
//!
//! The default data directory has plain names; any other has a suffix made from its path, so that several
//! instances share a machine and uninstalling one is a matter of its name.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::Problem;

pub const DEFAULT_DATA_DIR: &str = "/var/lib/minik8s";

/// Names and places of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    data_dir: PathBuf,
    /// Empty for the default data directory, else six hexadecimal digits.
    suffix: String,
}

/// Held while a process uses the data directory.
#[derive(Debug)]
pub struct InstanceLock {
    _file: Flock<File>,
}

impl Instance {
    /// The instance of a data directory, which need not exist.
    pub fn of(data_dir: &Path) -> Result<Self, Problem> {
        let absolute = std::path::absolute(data_dir).map_err(|error| {
            Problem::new(
                format!("use {} as data directory", data_dir.display()),
                error,
                "give another --data-dir",
            )
        })?;
        let data_dir = resolve(&absolute);
        let suffix = if data_dir == Path::new(DEFAULT_DATA_DIR) {
            String::new()
        } else {
            let hash = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
            hash[..3].iter().map(|byte| format!("{byte:02x}")).collect()
        };
        Ok(Instance { data_dir, suffix })
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn is_default(&self) -> bool {
        self.suffix.is_empty()
    }

    /// Empty for the default instance.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    fn named(&self, prefix: &str, separator: char) -> String {
        if self.suffix.is_empty() {
            prefix.to_string()
        } else {
            format!("{prefix}{separator}{}", self.suffix)
        }
    }

    /// `minik8s` or `minik8s-1a2b3c`: names the CNI network, the run directory and messages.
    pub fn name(&self) -> String {
        self.named("minik8s", '-')
    }

    /// Sockets and state that a reboot clears.
    pub(crate) fn run_dir(&self) -> PathBuf {
        Path::new("/run").join(self.name())
    }

    /// Name of the bridge; at most 15 bytes.
    pub fn bridge(&self) -> String {
        if self.suffix.is_empty() { "mk8s0".to_string() } else { format!("mk8s-{}", self.suffix) }
    }

    /// Name of nftables tables.
    pub fn table(&self) -> String {
        self.named("minik8s", '_')
    }

    /// Cgroup of all pods.
    pub(crate) fn pods_cgroup(&self) -> String {
        format!("/{}", self.named("kubepods-minik8s", '-'))
    }

    /// What belongs to the control plane.
    pub fn server_dir(&self) -> PathBuf {
        self.data_dir.join("server")
    }

    /// What belongs to the node.
    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.data_dir.join("agent")
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.run_dir().join("containerd.sock")
    }

    fn lock_file(&self) -> PathBuf {
        self.data_dir.join("lock")
    }

    /// Claims the data directory for this process.
    pub fn lock(&self) -> Result<InstanceLock, Problem> {
        crate::files::private_directory(&self.data_dir)?;
        let path = self.lock_file();
        let what = format!("use the data directory {}", self.data_dir.display());
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file =
            open.map_err(|error| Problem::new(&what, error, "choose a writable place with --data-dir"))?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => {
                let pid = fs::read_to_string(&path).unwrap_or_default();
                let why = format!("another minik8s runs on it (process {})", pid.trim());
                return Err(Problem::new(what, why, "stop that one, or give this one its own --data-dir"));
            }
            Err((_, error)) => return Err(Problem::new(what, error, "choose another --data-dir")),
        };
        let noted = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(|error| Problem::new(what, error, "check the space of the disk"))?;
        Ok(InstanceLock { _file: file })
    }

    /// The process that uses the data directory, found without touching its lock: a start at the same moment
    /// must not take whoever looks for another server.
    pub(crate) fn running_process(&self) -> Option<u32> {
        let path = self.lock_file();
        let pid: u32 = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        crate::process::has_open(i32::try_from(pid).ok()?, &path).then_some(pid)
    }

    /// The process that holds the data directory, if one does. One of another machine that has the same
    /// directory mounted is none: its number says nothing here.
    pub fn holder(&self) -> Option<i32> {
        let file = File::options().read(true).open(self.lock_file()).ok()?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => None,
            Err((mut file, _)) => {
                let mut text = String::new();
                file.rewind().ok()?;
                file.read_to_string(&mut text).ok()?;
                let pid = text.trim().parse().ok()?;
                crate::process::has_open(pid, &self.lock_file()).then_some(pid)
            }
        }
    }
}

/// Follows symbolic links of the part of a path that exists, so that one directory has one name.
fn resolve(path: &Path) -> PathBuf {
    if let Ok(resolved) = path.canonicalize() {
        return resolved;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => resolve(parent).join(name),
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests;
