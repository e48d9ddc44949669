//! The segments of a directory: finds, makes and removes them, reads them and finds what is wrong with them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::error::{HeaderError, LogError};
use crate::consensus::ids::LogId;
use crate::log::disk::{Disk, LogFile};
use crate::log::frame::{self, End};
use crate::log::record::Record;

const MAGIC: &[u8; 8] = b"mk8s-log";
pub(super) const VERSION: u32 = 1;
/// Magic, version, first index, store, checksum.
pub(super) const SEGMENT_HEADER: usize = 32;

pub(super) struct Segment {
    pub(super) first: u64,
    /// Length of its frames, with the header.
    pub(super) length: u64,
}

pub(super) fn name(first: u64) -> String {
    format!("{first:016x}.log")
}

/// What the segments of a directory hold.
pub(super) struct Read {
    pub(super) store: Option<u64>,
    pub(super) segments: VecDeque<Segment>,
    pub(super) next: u64,
    /// What is to be cut off at the end, in words.
    pub(super) torn: Option<String>,
}

pub(super) fn read_segments(
    disk: &Arc<dyn Disk>,
    firsts: &[u64],
    store: Option<u64>,
    mut each: impl FnMut(Record),
) -> Result<Read, LogError> {
    let directory = disk.path();
    let io = |source| LogError::Io { path: directory.clone(), source };
    let next = firsts.first().copied().unwrap_or(0);
    let mut read = Read { store, segments: VecDeque::new(), next, torn: None };
    for (position, first) in firsts.iter().enumerate() {
        let last = position + 1 == firsts.len();
        let path = directory.join(name(*first));
        let damaged = |what| LogError::Damaged { path: path.clone(), what };
        let bytes = disk.read(&name(*first)).map_err(io)?;
        let id = match read_header(&bytes, *first) {
            Ok(id) => id,
            // A crash came while it was created. Nothing in it was ever acknowledged.
            Err(_) if last && bytes.iter().skip(SEGMENT_HEADER).all(|b| *b == 0) && position > 0 => {
                disk.remove(&name(*first)).map_err(io)?;
                break;
            }
            Err(_) if last && bytes.iter().all(|b| *b == 0) => {
                disk.remove(&name(*first)).map_err(io)?;
                break;
            }
            Err(error) => return Err(damaged(error.to_string())),
        };
        if *read.store.get_or_insert(id) != id {
            return Err(damaged("it belongs to another store".to_string()));
        }
        if *first != read.next {
            return Err(damaged(format!("records {} to {} are missing", read.next, first.saturating_sub(1))));
        }
        let (end, after, how) = frame::scan(&bytes, SEGMENT_HEADER, read.next, &mut each);
        match how {
            End::Clean => {}
            End::Sealed if last => return Err(damaged("the segment after it is missing".to_string())),
            End::Torn(what) if last => read.torn = Some(format!("{}: {what}", path.display())),
            // A seal may be torn; that the next segment begins with the right record is checked below.
            End::Sealed | End::Torn(_) => {}
            End::Damaged(what) => return Err(damaged(what)),
        }
        read.next = after;
        read.segments.push_back(Segment { first: *first, length: end as u64 });
    }
    Ok(read)
}

/// The store that a segment belongs to.
fn read_header(bytes: &[u8], first: u64) -> Result<u64, HeaderError> {
    let header = bytes.get(..SEGMENT_HEADER).ok_or(HeaderError::Short)?;
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
    let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
    if !header.starts_with(MAGIC) || crc32fast::hash(&header[..28]) != word(28) {
        return Err(HeaderError::Checksum);
    }
    if word(8) != VERSION {
        return Err(HeaderError::Format(word(8)));
    }
    if long(12) != first {
        return Err(HeaderError::First { first: long(12), named: first });
    }
    Ok(long(20))
}

/// The last segment, ready to be written to.
pub(super) fn reopen(
    disk: &dyn Disk,
    segments: &VecDeque<Segment>,
    segment_bytes: u64,
    torn: bool,
) -> io::Result<Box<dyn LogFile>> {
    let Some(last) = segments.back() else { return Err(io::ErrorKind::NotFound.into()) };
    let mut file = disk.open(&name(last.first))?;
    if torn {
        file.truncate(last.length)?;
        file.sync()?;
    }
    file.allocate(segment_bytes.max(last.length))?;
    Ok(file)
}

/// The segments that exist, without purged ones that a power cut brought back. If the state that they were
/// purged for is gone, all of them are needed.
pub(super) fn present(disk: &dyn Disk, purged: LogId, applied: u64) -> io::Result<Vec<u64>> {
    let mut firsts = segments(disk)?;
    if applied < purged.index {
        return Ok(firsts);
    }
    let kept = firsts.partition_point(|first| *first <= purged.index + 1).saturating_sub(1);
    for first in firsts.drain(..kept) {
        disk.remove(&name(first))?;
    }
    Ok(firsts)
}

pub(super) fn remove(disk: &dyn Disk, segments: &VecDeque<Segment>) -> io::Result<()> {
    for segment in segments {
        disk.remove(&name(segment.first))?;
    }
    disk.sync_directory()
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

pub(super) fn create_segment(
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
        .and_then(|()| file.append(&header, 0))
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
