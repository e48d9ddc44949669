//! The durable state that cannot be among the log's records: the vote, and the record up to which the log was
//! purged.
//!
//! The file has two copies, which are written and synced one after the other. A torn write leaves the other
//! copy intact, and one flipped bit never revokes a vote.

use std::io;

use crate::consensus::ids::{LogId, Vote};
use crate::log::disk::{Disk, LogFile};
use crate::log::error::LogError;

pub(super) const NAME: &str = "hard-state";
const MAGIC: &[u8; 8] = b"mk8shard";
/// Magic, count, whether there is a vote and whether it is committed, term, member, purged term and index,
/// checksum.
const COPY: usize = 8 + 8 + 8 + 4 * 8 + 4;
/// Copies are in different blocks.
const APART: u64 = 4096;

/// Both, as they are on disk.
pub(crate) struct HardState {
    file: Option<Box<dyn LogFile>>,
    /// Counts saves: the copy with the higher one is newer.
    count: u64,
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: LogId,
}

impl HardState {
    pub(crate) fn new() -> Self {
        HardState { file: None, count: 0, vote: None, purged: LogId::default() }
    }

    /// Reads the file, of which one copy is enough.
    pub(crate) fn open(disk: &dyn Disk) -> Result<Self, LogError> {
        let path = disk.path().join(NAME);
        let io = |source| LogError::Io { path: path.clone(), source };
        if !disk.list().map_err(io)?.iter().any(|name| name == NAME) {
            return Ok(Self::new());
        }
        let bytes = disk.read(NAME).map_err(io)?;
        let copies = [0, APART as usize].map(|at| bytes.get(at..at + COPY).and_then(decode));
        let newest = copies.into_iter().flatten().max_by_key(|copy| copy.0);
        let mut state = Self::new();
        match newest {
            Some((count, vote, purged)) => (state.count, state.vote, state.purged) = (count, vote, purged),
            // The power failed while it was created, before anybody learned of its contents.
            None if bytes.iter().all(|byte| *byte == 0) || bytes.len() < APART as usize + COPY => {}
            None => {
                let what = "neither of its copies matches its checksum".to_string();
                return Err(LogError::Damaged { path, what });
            }
        }
        state.file = Some(disk.open(NAME).map_err(io)?);
        Ok(state)
    }

    /// Changes both, on disk first.
    pub(crate) fn save(&mut self, disk: &dyn Disk, vote: Option<Vote>, purged: LogId) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = disk.create(NAME)?;
                disk.sync_directory()?;
                none.insert(file)
            }
        };
        let copy = encode(self.count + 1, vote, purged);
        for at in [0, APART] {
            file.write_at(&copy, at)?;
            file.sync()?;
        }
        (self.count, self.vote, self.purged) = (self.count + 1, vote, purged);
        Ok(())
    }
}

fn encode(count: u64, vote: Option<Vote>, purged: LogId) -> Vec<u8> {
    let flags = u64::from(vote.is_some()) | u64::from(vote.is_some_and(|vote| vote.committed)) << 1;
    let Vote { term, member, .. } = vote.unwrap_or_default();
    let mut out = MAGIC.to_vec();
    for word in [count, flags, term, member, purged.term, purged.index] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let checksum = crc32fast::hash(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<(u64, Option<Vote>, LogId)> {
    let (body, checksum) = bytes.split_at_checked(COPY - 4)?;
    if !body.starts_with(MAGIC) || crc32fast::hash(body).to_le_bytes() != checksum {
        return None;
    }
    let word = |at: usize| body[8 + at * 8..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let flags = word(1);
    let vote = Vote { term: word(2), member: word(3), committed: flags & 2 != 0 };
    Some((word(0), (flags & 1 != 0).then_some(vote), LogId { term: word(4), index: word(5) }))
}
