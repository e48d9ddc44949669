//! The log: append-only segment files with a contiguous index, one sync for everything buffered.
//!
//! A segment is named after its first index and preallocated. It is only followed by another once all of it is on
//! disk, so a torn write can only be at the end of the last one. Segments go once their records are in a durable
//! checkpoint ([`Log::purge`]). The shape is that of a replicated log: append, sync, cut off from an index, purge.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, LogFile};
use crate::frame::{self, End};
use crate::record::Record;

const MAGIC: &[u8; 8] = b"mk8s-log";
const VERSION: u32 = 1;
/// Magic, version, first index, store, checksum.
const SEGMENT_HEADER: usize = 32;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {what}")]
    Damaged { path: PathBuf, what: String },
}

struct Segment {
    first: u64,
    /// Length of its frames, with the header.
    length: u64,
}

pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    store: u64,
    segment_bytes: u64,
    /// The last one is being written to.
    segments: VecDeque<Segment>,
    file: Box<dyn LogFile>,
    /// Index of the next record to be appended.
    next: u64,
    /// Newest index on disk.
    synced: u64,
    /// Frames appended but not written.
    buffer: Vec<u8>,
}

/// What [`Log::open`] found beside the records.
pub(crate) struct Opened {
    pub(crate) log: Log,
    /// What was cut off at the end, in words.
    pub(crate) torn: Option<String>,
}

fn name(first: u64) -> String {
    format!("{first:016x}.log")
}

impl Log {
    /// Makes the log of a new store, or goes on after a checkpoint with nothing else left: its first record will be
    /// `first`.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        store: u64,
        first: u64,
    ) -> Result<Log, LogError> {
        let path = disk.path();
        let file = create_segment(&*disk, segment_bytes, store, first)
            .map_err(|source| LogError::Io { path, source })?;
        let segments = VecDeque::from([Segment { first, length: SEGMENT_HEADER as u64 }]);
        let (next, synced) = (first, first - 1);
        Ok(Log { disk, store, segment_bytes, segments, file, next, synced, buffer: Vec::new() })
    }

    /// Reads all records after `applied`, in order, and makes the log ready to go on. `None` if there is no log.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        segment_bytes: u64,
        store: Option<u64>,
        applied: u64,
        mut replay: impl FnMut(Record),
    ) -> Result<Option<Opened>, LogError> {
        let directory = disk.path();
        let io = |source| LogError::Io { path: directory.clone(), source };
        let firsts = segments(&**disk).map_err(io)?;
        let mut found: VecDeque<Segment> = VecDeque::new();
        let mut ids = store;
        let mut next = firsts.first().copied().unwrap_or(0);
        let mut torn = None;
        for (position, first) in firsts.iter().enumerate() {
            let last = position + 1 == firsts.len();
            let path = directory.join(name(*first));
            let damaged = |what| LogError::Damaged { path: path.clone(), what };
            let bytes = disk.read(&name(*first)).map_err(io)?;
            let id = match read_header(&bytes, *first) {
                Ok(id) => id,
                // The crash came while it was being made: nothing was ever acknowledged from it.
                Err(_) if last && bytes.iter().skip(SEGMENT_HEADER).all(|b| *b == 0) && position > 0 => {
                    disk.remove(&name(*first)).map_err(io)?;
                    break;
                }
                Err(_) if last && bytes.iter().all(|b| *b == 0) => {
                    disk.remove(&name(*first)).map_err(io)?;
                    break;
                }
                Err(what) => return Err(damaged(what)),
            };
            if *ids.get_or_insert(id) != id {
                return Err(damaged("it belongs to another store".to_string()));
            }
            if *first != next {
                return Err(damaged(format!("records {next} to {} are missing", first.saturating_sub(1))));
            }
            let (end, after, how) = frame::scan(&bytes, SEGMENT_HEADER, next, |record| {
                if record.index > applied {
                    replay(record);
                }
            });
            match how {
                End::Clean => {}
                End::Sealed if last => return Err(damaged("the segment after it is missing".to_string())),
                End::Torn(what) if last => torn = Some(format!("{}: {what}", path.display())),
                // A seal may be torn; that the next segment begins with the right record is checked below.
                End::Sealed | End::Torn(_) => {}
                End::Damaged(what) => return Err(damaged(what)),
            }
            next = after;
            found.push_back(Segment { first: *first, length: end as u64 });
        }
        let (Some(last), Some(store)) = (found.back(), ids) else { return Ok(None) };
        if found.front().is_some_and(|oldest| oldest.first > applied + 1) {
            let what = format!("records {} to {} are missing", applied + 1, found[0].first - 1);
            return Err(LogError::Damaged { path: directory, what });
        }
        let mut file = disk.open(&name(last.first)).map_err(io)?;
        if torn.is_some() {
            file.truncate(last.length).and_then(|()| file.sync()).map_err(io)?;
        }
        file.allocate(segment_bytes.max(last.length)).map_err(io)?;
        let disk = Arc::clone(disk);
        let (segments, synced) = (found, next - 1);
        let log = Log { disk, store, segment_bytes, segments, file, next, synced, buffer: Vec::new() };
        Ok(Some(Opened { log, torn }))
    }

    pub(crate) fn store(&self) -> u64 {
        self.store
    }

    /// Index that the next record must have.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Buffers a record.
    pub(crate) fn append(&mut self, record: &Record) {
        debug_assert_eq!(record.index, self.next);
        frame::encode(record, self.synced, &mut self.buffer);
        self.next += 1;
    }

    /// Takes back records that are buffered and not written: `length` and `next` as they were before them.
    pub(crate) fn take_back(&mut self, length: usize, next: u64) {
        self.buffer.truncate(length);
        self.next = next;
    }

    /// Writes what is buffered and returns once it is on disk. On an error of kind `StorageFull` nothing has been
    /// written and the log goes on; after any other it must not be used again.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(segment) = self.segments.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(e) = self.file.write_at(&self.buffer, segment.length) {
            if e.kind() != io::ErrorKind::StorageFull {
                return Err(e);
            }
            // Part of it may be there: remove it, so that what comes next is not written over half a record.
            let undone = self.file.truncate(segment.length).and_then(|()| self.file.sync());
            return Err(if undone.is_ok() { e } else { io::Error::other(e) });
        }
        self.file.sync()?;
        segment.length += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(1 << 20);
        self.synced = self.next - 1;
        Ok(())
    }

    /// Begins a new segment if the last one is full. Failing to is no harm: the old one grows.
    pub(crate) fn roll(&mut self) -> io::Result<()> {
        let full = self.segments.back().is_some_and(|segment| segment.length >= self.segment_bytes);
        if !full || !self.buffer.is_empty() {
            return Ok(());
        }
        let file = create_segment(&*self.disk, self.segment_bytes, self.store, self.next)?;
        let mut old = std::mem::replace(&mut self.file, file);
        if let Some(segment) = self.segments.back() {
            // Only helps to find damage: a failure costs nothing else.
            let _ = old.write_at(&frame::seal(self.synced), segment.length);
        }
        self.segments.push_back(Segment { first: self.next, length: SEGMENT_HEADER as u64 });
        Ok(())
    }

    /// Deletes segments whose records all have an index up to `index`; the last one always stays.
    pub(crate) fn purge(&mut self, index: u64) -> io::Result<()> {
        let mut removed = false;
        while self.segments.get(1).is_some_and(|second| second.first <= index + 1) {
            let Some(oldest) = self.segments.front() else { break };
            self.disk.remove(&name(oldest.first))?;
            self.segments.pop_front();
            removed = true;
        }
        if removed { self.disk.sync_directory() } else { Ok(()) }
    }

    pub(crate) fn free(&self) -> io::Result<u64> {
        self.disk.free()
    }
}

/// First indexes of the segments, in order.
fn segments(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let names = disk.list()?;
    let first = |name: &String| u64::from_str_radix(name.strip_suffix(".log")?, 16).ok();
    let mut firsts: Vec<u64> = names.iter().filter_map(first).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// Whether the log has every record there ever was.
pub(crate) fn reaches_back(disk: &dyn Disk) -> bool {
    segments(disk).is_ok_and(|firsts| firsts.first() == Some(&1))
}

/// Whether there is a log that relies on a state for its beginning.
pub(crate) fn begins_late(disk: &dyn Disk) -> bool {
    segments(disk).is_ok_and(|firsts| firsts.first().is_some_and(|first| *first > 1))
}

/// Removes every segment; for a log that a newer checkpoint has made useless.
pub(crate) fn remove_all(disk: &dyn Disk) -> io::Result<()> {
    for first in segments(disk)? {
        disk.remove(&name(first))?;
    }
    disk.sync_directory()
}

fn create_segment(
    disk: &dyn Disk,
    segment_bytes: u64,
    store: u64,
    first: u64,
) -> io::Result<Box<dyn LogFile>> {
    let name = name(first);
    let mut file = disk.create(&name)?;
    let mut header = Vec::with_capacity(SEGMENT_HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&first.to_le_bytes());
    header.extend_from_slice(&store.to_le_bytes());
    let checksum = crc32fast::hash(&header);
    header.extend_from_slice(&checksum.to_le_bytes());
    let made = file
        .allocate(segment_bytes)
        .and_then(|()| file.write_at(&header, 0))
        .and_then(|()| file.sync())
        .and_then(|()| disk.sync_directory());
    match made {
        Ok(()) => Ok(file),
        Err(e) => {
            // A half-made segment must not be in the way of the next attempt.
            let _ = disk.remove(&name);
            Err(e)
        }
    }
}

/// The store that a segment belongs to.
fn read_header(bytes: &[u8], first: u64) -> Result<u64, String> {
    let header = bytes.get(..SEGMENT_HEADER).ok_or("it ends in its header")?;
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
    let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
    if !header.starts_with(MAGIC) || crc32fast::hash(&header[..28]) != word(28) {
        return Err("its header does not match its checksum".to_string());
    }
    if word(8) != VERSION {
        return Err(format!("it has format {}, this version reads {VERSION}", word(8)));
    }
    if long(12) != first {
        return Err(format!("it begins with record {}, its name says {first}", long(12)));
    }
    Ok(long(20))
}
