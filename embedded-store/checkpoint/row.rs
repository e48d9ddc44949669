//! The order in which pieces are put into sled.

use std::collections::VecDeque;

/// Keys that are in sled ahead of their pieces: so many that its nodes are split before they hold any.
const AHEAD: usize = 32;

/// Puts pieces into sled in the order of their keys.
///
/// sled writes a node anew with all it holds when it splits it, after 17 entries, and after 10 changes of it: of pieces
/// put in one after the other each would be written three times. So the keys come first, without a value; what is split
/// are nodes of keys, and each half has room for its 8 pieces without being written again.
pub(super) struct Row<'a> {
    db: &'a sled::Db,
    waiting: VecDeque<(Vec<u8>, Vec<u8>)>,
    bytes: u64,
}

impl<'a> Row<'a> {
    pub(super) fn new(db: &'a sled::Db) -> Self {
        Row { db, waiting: VecDeque::with_capacity(AHEAD + 1), bytes: 0 }
    }

    pub(super) fn add(&mut self, (key, piece): (Vec<u8>, Vec<u8>)) -> sled::Result<()> {
        self.bytes += piece.len() as u64;
        self.db.insert(&key, &[])?;
        self.waiting.push_back((key, piece));
        if self.waiting.len() > AHEAD { self.put() } else { Ok(()) }
    }

    fn put(&mut self) -> sled::Result<()> {
        if let Some((key, piece)) = self.waiting.pop_front() {
            self.db.insert(key, piece)?;
        }
        Ok(())
    }

    /// Puts in what still waits; returns how many bytes all pieces have.
    pub(super) fn end(mut self) -> sled::Result<u64> {
        while !self.waiting.is_empty() {
            self.put()?;
        }
        Ok(self.bytes)
    }
}
