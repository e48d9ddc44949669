//! Reads the segments of a directory and finds what is wrong with them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::LogError;
use super::{MAGIC, SEGMENT_HEADER, Segment, VERSION, name};
use crate::log::disk::Disk;
use crate::log::frame::{self, End};
use crate::log::record::Record;

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
            Err(what) => return Err(damaged(what)),
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
