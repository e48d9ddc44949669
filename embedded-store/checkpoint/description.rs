//! What a checkpoint says of itself: where it stands, what its entries add up to, and which pieces make it.

use super::error::Damage;
use crate::state::State;

pub(super) const FORMAT: u64 = 2;
/// Numbers in a description.
const WORDS: usize = 14;

/// What a checkpoint stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) store: u64,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) time: u64,
    pub(crate) revision: u64,
    pub(crate) compacted: u64,
    pub(crate) ceiling: u64,
    pub(crate) keys: u64,
    pub(crate) checksum: u64,
}

/// Which pieces count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Number of the base; 0 if there is none.
    pub(super) base: u64,
    /// Numbers of the changes after it: from the first to before the next.
    pub(super) first: u64,
    pub(super) next: u64,
}

impl Description {
    pub(crate) fn of(state: &State, store: u64) -> Description {
        Description {
            store,
            index: state.index,
            term: state.term,
            time: state.time,
            revision: state.revision,
            compacted: state.compacted,
            ceiling: state.ceiling,
            keys: state.keys.len() as u64,
            checksum: state.checksum,
        }
    }

    /// `group` is the checksum of the membership beside it.
    pub(super) fn encode(&self, layout: Layout, group: u32) -> Vec<u8> {
        let words: [u64; WORDS] = [
            FORMAT,
            self.store,
            self.index,
            self.term,
            self.time,
            self.revision,
            self.compacted,
            self.ceiling,
            self.keys,
            self.checksum,
            layout.base,
            layout.first,
            layout.next,
            u64::from(group),
        ];
        let mut out: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let checksum = crc32fast::hash(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<(Description, Layout, u32), Damage> {
        let (words, checksum) = bytes.split_last_chunk::<4>().ok_or(Damage::ShortDescription)?;
        if *checksum != crc32fast::hash(words).to_le_bytes() {
            return Err(Damage::DescriptionChecksum);
        }
        let word = |at: usize| -> u64 {
            let bytes = words.get(at * 8..at * 8 + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        if word(0) != FORMAT || words.len() != WORDS * 8 {
            return Err(Damage::Format(word(0)));
        }
        let description = Description {
            store: word(1),
            index: word(2),
            term: word(3),
            time: word(4),
            revision: word(5),
            compacted: word(6),
            ceiling: word(7),
            keys: word(8),
            checksum: word(9),
        };
        let layout = Layout { base: word(10), first: word(11), next: word(12) };
        Ok((description, layout, u32::try_from(word(13)).unwrap_or_default()))
    }
}
