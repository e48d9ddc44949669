//! The files of the log behind a small trait, so that tests can lose power, fail a sync or flip a bit.
//!
//! Only the log goes through here: it alone decides what is durable. sled's files are its own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

mod direct;

use direct::{Direct, is_unable};

/// A directory of log files.
pub(crate) trait Disk: Send + Sync {
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file; it must not be there yet.
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and removals durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free(&self) -> io::Result<u64>;
    /// For messages.
    fn path(&self) -> PathBuf;
}

pub(crate) trait LogFile: Send {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Writes at the end of the file: nothing behind it counts, and what was there may be zeros afterwards.
    fn append(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)
    }
    /// Reserves space up to `length`, which reads as zeros: a write within it changes no metadata and syncs
    /// faster.
    fn allocate(&mut self, length: u64) -> io::Result<()>;
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Returns once everything written is on disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// A real directory.
pub(crate) struct RealDisk {
    directory: PathBuf,
}

impl RealDisk {
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(RealDisk { directory: directory.to_path_buf() })
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let path = self.directory.join(name);
        Ok(Box::new(RealFile::open(OpenOptions::new().create_new(true), path)?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(RealFile::open(&mut OpenOptions::new(), self.directory.join(name))?))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.directory.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn free(&self) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.directory)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }

    fn path(&self) -> PathBuf {
        self.directory.clone()
    }
}

/// How a file is appended to.
enum Way {
    /// Nothing was appended yet.
    Unknown,
    Direct(Direct),
    /// Like any other file.
    Cached,
}

struct RealFile {
    path: PathBuf,
    file: File,
    way: Way,
}

impl RealFile {
    fn open(options: &mut OpenOptions, path: PathBuf) -> io::Result<Self> {
        let file = options.read(true).write(true).open(&path)?;
        Ok(RealFile { path, file, way: Way::Unknown })
    }

    fn direct(&mut self) -> Option<&mut Direct> {
        if let Way::Direct(direct) = &mut self.way { Some(direct) } else { None }
    }
}

impl LogFile for RealFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.direct() {
            direct.forget();
        }
        self.file.write_all_at(bytes, offset)
    }

    fn append(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if matches!(self.way, Way::Unknown) {
            self.way = Direct::open(&self.path).map_or(Way::Cached, Way::Direct);
        }
        if let Way::Direct(direct) = &mut self.way {
            match direct.append(&self.file, bytes, offset) {
                Err(e) if is_unable(&e) => self.way = Way::Cached,
                other => return other,
            }
        }
        self.file.write_all_at(bytes, offset)
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        let have = self.file.metadata()?.len();
        if length <= have {
            return Ok(());
        }
        let (from, more) = (i64::try_from(have), i64::try_from(length - have));
        let (Ok(from), Ok(more)) = (from, more) else { return Err(io::ErrorKind::FileTooLarge.into()) };
        match nix::fcntl::fallocate(&self.file, nix::fcntl::FallocateFlags::empty(), from, more) {
            // The file system has no preallocation. The log works all the same, a little slower.
            Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => self.file.set_len(length)?,
            other => other?,
        }
        if let Some(direct) = self.direct() {
            direct.reserve(length);
        }
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if let Some(direct) = self.direct() {
            direct.forget();
        }
        self.file.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
pub(crate) mod fake;
