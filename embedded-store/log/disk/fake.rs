//! A disk in memory that can lose power, fill up, fail a sync and flip bits.
//!
//! It knows of every file what is on the platter and what is only written. Losing power keeps the first and,
//! sector by sector, a chosen part of the second.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, LogFile};

const SECTOR: usize = 512;

#[derive(Clone, Default)]
struct Contents {
    /// As a program sees it.
    current: Vec<u8>,
    /// As it is on the platter.
    durable: Vec<u8>,
    /// Whether the directory entry is on the platter.
    named: bool,
}

/// What goes wrong next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Every operation fails: the disk is gone.
    pub(crate) dead: bool,
    /// Syncs fail.
    pub(crate) sync: bool,
    /// Bytes of log that still fit; a write beyond it is cut short and fails.
    pub(crate) room: Option<u64>,
    /// Writes stop half-way and fail.
    pub(crate) write: bool,
    /// So many more operations that change something, then the disk is gone.
    pub(crate) operations: Option<u64>,
    /// What `free` says.
    pub(crate) free: Option<u64>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, Contents>,
    /// Removed, which the directory on the platter does not know yet.
    removed: BTreeMap<String, Contents>,
    faults: Faults,
    syncs: u64,
}

#[derive(Clone, Default)]
pub(crate) struct FakeDisk(Arc<Mutex<Inner>>);

impl FakeDisk {
    pub(crate) fn set(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// The disk after the power was lost: `keep` decides for each sector that was written and not synced.
    /// This one is dead from now on.
    pub(crate) fn lose_power(&self, mut keep: impl FnMut() -> bool) -> FakeDisk {
        let mut inner = self.0.lock();
        inner.faults.dead = true;
        let mut files = BTreeMap::new();
        for (name, contents) in &inner.files {
            if !contents.named && !keep() {
                continue;
            }
            let mut after = contents.durable.clone();
            after.resize(if keep() { contents.current.len() } else { contents.durable.len() }, 0);
            for (position, sector) in after.chunks_mut(SECTOR).enumerate() {
                let start = position * SECTOR;
                let written = contents.current.get(start..).unwrap_or_default();
                let length = sector.len().min(written.len());
                if sector[..length] != written[..length] && keep() {
                    sector[..length].copy_from_slice(&written[..length]);
                }
            }
            files.insert(name.clone(), Contents { current: after.clone(), durable: after, named: true });
        }
        for (name, contents) in &inner.removed {
            if keep() && !files.contains_key(name) {
                let durable = contents.durable.clone();
                files.insert(name.clone(), Contents { current: durable.clone(), durable, named: true });
            }
        }
        FakeDisk(Arc::new(Mutex::new(Inner { files, ..Inner::default() })))
    }

    /// The same files, as they are, on a disk without faults.
    pub(crate) fn copy(&self) -> FakeDisk {
        let files = self.0.lock().files.clone();
        FakeDisk(Arc::new(Mutex::new(Inner { files, ..Inner::default() })))
    }

    /// The segments.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().files.keys().filter(|name| name.ends_with(".log")).cloned().collect()
    }

    /// Changes bytes behind everybody's back.
    pub(crate) fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(contents) = self.0.lock().files.get_mut(name) {
            change(&mut contents.current);
            contents.durable = contents.current.clone();
        }
    }

    pub(crate) fn delete(&self, name: &str) {
        self.0.lock().files.remove(name);
    }
}

impl Inner {
    fn alive(&self) -> io::Result<()> {
        if self.faults.dead { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }

    /// Before an operation that changes something.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.faults.operations {
            Some(0) => self.faults.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.alive()
    }

    fn file(&mut self, name: &str) -> io::Result<&mut Contents> {
        self.alive()?;
        self.files.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for FakeDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let inner = self.0.lock();
        inner.alive()?;
        Ok(inner.files.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut inner = self.0.lock();
        inner.change()?;
        if inner.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.files.insert(name.to_string(), Contents::default());
        Ok(Box::new(FakeFile { disk: self.clone(), name: name.to_string() }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        self.0.lock().file(name)?;
        Ok(Box::new(FakeFile { disk: self.clone(), name: name.to_string() }))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().file(name)?.current.clone())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.change()?;
        if let Some(contents) = inner.files.remove(name).filter(|contents| contents.named) {
            inner.removed.insert(name.to_string(), contents);
        }
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.change()?;
        inner.removed.clear();
        inner.files.values_mut().for_each(|contents| contents.named = true);
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(self.0.lock().faults.free.unwrap_or(u64::MAX))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("fake")
    }
}

struct FakeFile {
    disk: FakeDisk,
    name: String,
}

impl LogFile for FakeFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        inner.change()?;
        let room = inner.faults.room.unwrap_or(u64::MAX);
        let broken = inner.faults.write;
        let whole = if broken { bytes.len() / 2 } else { bytes.len() };
        let fits = whole.min(usize::try_from(room).unwrap_or(usize::MAX));
        if let Some(room) = &mut inner.faults.room {
            *room -= fits as u64;
        }
        let contents = inner.file(&self.name)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        if contents.current.len() < start + fits {
            contents.current.resize(start + fits, 0);
        }
        contents.current[start..start + fits].copy_from_slice(&bytes[..fits]);
        match fits < bytes.len() {
            true if broken => Err(io::Error::other("the write failed")),
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        inner.change()?;
        let contents = inner.file(&self.name)?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        if contents.current.len() < length {
            contents.current.resize(length, 0);
        }
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        inner.change()?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        inner.file(&self.name)?.current.resize(length, 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        inner.change()?;
        if inner.faults.sync {
            return Err(io::Error::other("the sync failed"));
        }
        inner.syncs += 1;
        let contents = inner.file(&self.name)?;
        contents.durable = contents.current.clone();
        Ok(())
    }
}
