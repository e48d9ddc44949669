//! Reads the applied state and verifies it: every piece against its checksum, the whole against the
//! description.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::stream::{Decoder, Item};
use super::{
    BASE, CHANGES, CheckpointError, Checkpoints, DESCRIPTION, Damage, Description, GROUP, damaged, live,
    numbered, piece_key, rewrite,
};
use crate::log::record::Group;
use crate::state::State;
use crate::state::history::{History, HistoryLimits};

impl Checkpoints {
    /// Returns the verified state of the last checkpoint, or `None` if there never was one.
    pub(crate) fn load(
        &mut self,
        limits: HistoryLimits,
    ) -> Result<Option<(State, Description)>, CheckpointError> {
        let found = match catch_unwind(AssertUnwindSafe(|| self.read(limits))) {
            Ok(result) => result.map_err(|what| damaged(&self.path, what))?,
            Err(_) => return Err(damaged(&self.path, Damage::Unreadable)),
        };
        if found.is_some() {
            rewrite::remove_replaced(&self.path);
        }
        Ok(found)
    }

    fn read(&mut self, limits: HistoryLimits) -> Result<Option<(State, Description)>, Damage> {
        let Some(description) = self.db.get(DESCRIPTION)? else {
            return if self.db.is_empty() { Ok(None) } else { Err(Damage::NoDescription) };
        };
        let (description, layout, group) = Description::decode(&description)?;
        let mut state = State::new(limits);
        if layout.base > 0 {
            self.stored = self.replay(BASE, layout.base, &mut state)?;
        }
        for number in layout.first..layout.next {
            self.stored += self.replay(CHANGES, number, &mut state)?;
        }
        if state.keys.len() as u64 != description.keys || state.checksum != description.checksum {
            return Err(Damage::Sums { found: state.keys.len(), expected: description.keys });
        }
        self.layout = layout;
        self.live = live(&state);
        self.leases = state.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect();
        self.bases = layout.base.max(self.last_base());
        // Left over from a crash. A failure to remove them does no harm.
        let _ = self.remove_unused();
        state.revision = description.revision;
        state.compacted = description.compacted;
        state.index = description.index;
        state.term = description.term;
        state.time = description.time;
        state.ceiling = description.ceiling;
        let stored = self.db.get(GROUP)?.unwrap_or_default();
        if crc32fast::hash(&stored) != group {
            return Err(Damage::MembershipChecksum);
        }
        state.group = Group::decode(&stored)?;
        state.history = History::new(description.revision + 1, limits);
        Ok(Some((state, description)))
    }

    /// Applies a base, or the changes of one checkpoint, and returns its bytes.
    fn replay(&self, kind: u8, number: u64, state: &mut State) -> Result<u64, Damage> {
        let of = || format!("{} {number}", if kind == BASE { "base" } else { "checkpoint" });
        let mut decoder = Decoder::default();
        let mut bytes = 0;
        for (part, piece) in self.db.scan_prefix(numbered(kind, number)).enumerate() {
            let (key, piece) = piece?;
            if key != piece_key(kind, number, part) {
                return Err(Damage::MissingPart { part, of: of() });
            }
            bytes += piece.len() as u64;
            decoder.feed(&key, &piece).map_err(|source| Damage::Part { part, of: of(), source })?;
            while let Some(item) = decoder.next().map_err(|source| Damage::Entry { of: of(), source })? {
                match item {
                    Item::Put(kv) => state.restore(kv),
                    Item::Gone(key) => state.forget(&key),
                    Item::Lease(id, ttl) => state.leases.entry(id).or_default().ttl = ttl,
                    Item::LeaseGone(id) => {
                        state.leases.remove(&id);
                    }
                    Item::End => return Ok(bytes),
                }
            }
        }
        Err(Damage::NoEnd { of: of() })
    }
}
