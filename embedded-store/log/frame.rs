//! The layout of records in a segment, and what the end of a segment means. Pure: bytes in, records and a
//! verdict out.
//!
//! A frame is a header (length, checksum of the payload, index, index known to be on disk when it was
//! written, checksum of the header) and the payload. Space not yet written reads as zeros.
//!
//! The verdict decides between a write that was torn by a crash, which is normal and was never acknowledged,
//! and damage to what was acknowledged, which must never be cut off silently. Two facts tell them apart: a
//! torn write leaves sectors that were never written (zeros, or the end of the file), and nothing after it
//! can have been written once it was known to be on disk.

use crate::log::record::Record;

pub(crate) const HEADER: usize = 28;
const SECTOR: usize = 512;

/// How a segment ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Only unwritten space follows.
    Clean,
    /// Another segment was begun after this one.
    Sealed,
    /// A write that never completed follows.
    Torn(String),
    /// Something that was on disk is no longer readable.
    Damaged(String),
}

/// Index of the frame that ends a segment which has a successor.
const SEAL: u64 = u64::MAX;

struct Header {
    length: usize,
    checksum: u32,
    index: u64,
    synced: u64,
}

/// Appends the frame of a record; `synced` is the newest index known to be on disk.
pub(crate) fn encode(record: &Record, synced: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEADER, 0);
    record.encode(out);
    let payload = &out[start + HEADER..];
    let header = header(payload, record.index, synced);
    out[start..start + HEADER].copy_from_slice(&header);
}

/// The frame that says that a segment has a successor: without it a missing newest segment would go
/// unnoticed.
pub(crate) fn seal(synced: u64) -> [u8; HEADER] {
    header(&[], SEAL, synced)
}

fn header(payload: &[u8], index: u64, synced: u64) -> [u8; HEADER] {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let checksum = crc32fast::hash(payload);
    let mut header = [0; HEADER];
    header[0..4].copy_from_slice(&length.to_le_bytes());
    header[4..8].copy_from_slice(&checksum.to_le_bytes());
    header[8..16].copy_from_slice(&index.to_le_bytes());
    header[16..24].copy_from_slice(&synced.to_le_bytes());
    let own = crc32fast::hash(&header[..24]);
    header[24..28].copy_from_slice(&own.to_le_bytes());
    header
}

/// Reads frames from `offset` on, the first of which must have index `next`. Returns where reading ended, and
/// why.
pub(crate) fn scan(
    bytes: &[u8],
    mut offset: usize,
    mut next: u64,
    mut each: impl FnMut(Record),
) -> (usize, u64, End) {
    loop {
        let rest = bytes.get(offset..).unwrap_or_default();
        if is_zero(rest) {
            return (offset, next, End::Clean);
        }
        let (header, length) = match read_frame(rest, offset) {
            Ok(frame) => frame,
            Err(Unreadable::Unwritten(what)) => return (offset, next, verdict(rest, next, what)),
            Err(Unreadable::Wrong(what)) => return (offset, next, End::Damaged(what)),
        };
        if header.index == SEAL {
            return (offset, next, End::Sealed);
        }
        if header.index != next {
            let what =
                format!("record {} is where record {next} should be, at offset {offset}", header.index);
            return (offset, next, End::Damaged(what));
        }
        match Record::decode(&rest[HEADER..length]) {
            Ok(record) if record.index == next => each(record),
            Ok(_) => return (offset, next, End::Damaged(format!("record {next} has two indexes"))),
            Err(e) => return (offset, next, End::Damaged(format!("record {next} at offset {offset}: {e}"))),
        }
        offset += length;
        next += 1;
    }
}

/// Where the frame of record `index` begins, or would begin, in bytes whose first frame is that of record
/// `next`.
pub(crate) fn find(bytes: &[u8], mut offset: usize, mut next: u64, index: u64) -> Option<usize> {
    while next < index {
        let (header, length) = read_frame(bytes.get(offset..)?, offset).ok()?;
        if header.index != next {
            return None;
        }
        offset += length;
        next += 1;
    }
    Some(offset)
}

enum Unreadable {
    /// Part of it was never written.
    Unwritten(String),
    /// All of it was written, and it is wrong.
    Wrong(String),
}

/// The header of the frame that `rest` starts with, and the length of the frame.
fn read_frame(rest: &[u8], offset: usize) -> Result<(Header, usize), Unreadable> {
    let Some(bytes) = rest.get(..HEADER) else {
        return Err(Unreadable::Unwritten(format!("the file ends in a header at offset {offset}")));
    };
    let Some(header) = parse_header(bytes) else {
        return Err(if has_unwritten_sector(bytes, offset) {
            Unreadable::Unwritten(format!("half a header at offset {offset}"))
        } else {
            Unreadable::Wrong(format!("the header at offset {offset} does not match its checksum"))
        });
    };
    let length = HEADER + header.length;
    let Some(frame) = rest.get(..length) else {
        let what = format!("the file ends in record {} at offset {offset}", header.index);
        return Err(Unreadable::Unwritten(what));
    };
    if crc32fast::hash(&frame[HEADER..]) != header.checksum {
        return Err(if has_unwritten_sector(frame, offset) {
            Unreadable::Unwritten(format!("half of record {} at offset {offset}", header.index))
        } else {
            let index = header.index;
            Unreadable::Wrong(format!("record {index} at offset {offset} does not match its checksum"))
        });
    }
    Ok((header, length))
}

/// Torn, unless something later shows that the unreadable record was on disk once.
fn verdict(rest: &[u8], next: u64, what: String) -> End {
    for start in 1..rest.len().saturating_sub(HEADER) {
        let bytes = &rest[start..start + HEADER];
        // The cheap check first: almost no position looks like a later index.
        let index = u64::from_le_bytes(bytes[8..16].try_into().unwrap_or_default());
        if index <= next || index - next > rest.len() as u64 {
            continue;
        }
        let Some(header) = parse_header(bytes) else { continue };
        let whole = rest.get(start + HEADER..start + HEADER + header.length);
        let valid = whole.is_some_and(|payload| crc32fast::hash(payload) == header.checksum);
        if valid && header.synced >= next {
            return End::Damaged(format!(
                "{what}, although record {} shows that it was on disk",
                header.index
            ));
        }
    }
    End::Torn(what)
}

fn parse_header(bytes: &[u8]) -> Option<Header> {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let long = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let header = Header { length: word(0)? as usize, checksum: word(4)?, index: long(8)?, synced: long(16)? };
    // A header of zeros is unwritten space, and the checksum of zeros is not zero.
    (crc32fast::hash(bytes.get(..24)?) == word(24)?).then_some(header)
}

/// Whether a part of the bytes that lies in one sector is all zeros.
fn has_unwritten_sector(bytes: &[u8], offset: usize) -> bool {
    let first = (SECTOR - offset % SECTOR).min(bytes.len());
    is_zero(&bytes[..first]) || bytes[first..].chunks(SECTOR).any(is_zero)
}

fn is_zero(bytes: &[u8]) -> bool {
    // In blocks: a fresh segment is megabytes of zeros.
    bytes.chunks(64).all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests;
