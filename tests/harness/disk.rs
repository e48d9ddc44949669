//! A disk that a test may fill.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A small file system in memory; gone when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it.
    pub fn new(at: &Path, mebibytes: usize) -> Self {
        fs::create_dir_all(at).expect("the small disk");
        let options = format!("size={mebibytes}m");
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .expect("the small disk");
        SmallDisk(at.to_path_buf())
    }

    /// Takes space until it is full, or up to so many mebibytes.
    pub fn fill(&self, mebibytes: usize) {
        let chunk = vec![1u8; 1 << 20];
        let mut file = fs::File::create(self.0.join("junk")).expect("the small disk");
        for _ in 0..mebibytes {
            if std::io::Write::write_all(&mut file, &chunk).is_err() {
                return;
            }
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.0.join("junk")).expect("the small disk");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
