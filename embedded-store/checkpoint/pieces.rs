//! Writes pieces into sled in an order that suits its nodes.

use std::collections::VecDeque;

/// How many keys are inserted ahead of their pieces: enough for sled to split a node before it holds any
/// piece.
const AHEAD: usize = 32;

/// Puts pieces into sled in the order of their keys.
///
/// sled rewrites a whole node when it splits it, after 17 entries, and after every 10 changes. Pieces
/// inserted one by one would each be written three times. So the keys are inserted first, without values:
/// sled then splits nodes that hold only keys, and each half takes its 8 pieces without being rewritten.
pub(super) struct PieceWriter<'a> {
    db: &'a sled::Db,
    waiting: VecDeque<(Vec<u8>, Vec<u8>)>,
    bytes: u64,
}

impl<'a> PieceWriter<'a> {
    pub(super) fn new(db: &'a sled::Db) -> Self {
        PieceWriter { db, waiting: VecDeque::with_capacity(AHEAD + 1), bytes: 0 }
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

    /// Inserts the pieces that still wait. Returns the bytes of all pieces.
    pub(super) fn end(mut self) -> sled::Result<u64> {
        while !self.waiting.is_empty() {
            self.put()?;
        }
        Ok(self.bytes)
    }
}
