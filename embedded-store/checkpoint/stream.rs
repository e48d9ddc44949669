//! Entries as a stream of bytes, cut into pieces that suit sled. Pure.
//!
//! sled keeps up to 17 values together in a node, 19 after it has merged two, and writes the node anew after
//! a few changes; what is larger than a quarter of its segment goes into a file of its own, which it neither
//! syncs nor gives back. So a piece is small enough for 19 of them to stay below that, and an entry is cut
//! wherever a piece ends.

use bytes::Bytes;

use crate::types::{KeyValue, LeaseId};

/// Bytes of a piece, with its checksum.
pub(super) const PIECE: usize = 6 * 1024;
const CHECKSUM: usize = 4;

const END: u8 = 0;
const PUT: u8 = 1;
const GONE: u8 = 2;
const LEASE: u8 = 3;
const LEASE_GONE: u8 = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Put(KeyValue),
    Gone(Bytes),
    Lease(LeaseId, i64),
    LeaseGone(LeaseId),
    /// Nothing follows.
    End,
}

/// Makes pieces of items.
pub(super) struct Encoder<K> {
    /// Makes the key of a piece.
    key: K,
    parts: usize,
    bytes: Vec<u8>,
    /// How much of it has gone into pieces.
    cut: usize,
}

impl<K: Fn(usize) -> Vec<u8>> Encoder<K> {
    pub(super) fn new(key: K) -> Self {
        Encoder { key, parts: 0, bytes: Vec::new(), cut: 0 }
    }

    pub(super) fn add(&mut self, item: &Item) {
        let out = &mut self.bytes;
        let length = |bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        match item {
            Item::Put(kv) => {
                out.push(PUT);
                out.extend_from_slice(&length(&kv.key));
                out.extend_from_slice(&length(&kv.value));
                for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease.cast_unsigned()] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                out.extend_from_slice(&kv.key);
                out.extend_from_slice(&kv.value);
            }
            Item::Gone(key) => {
                out.push(GONE);
                out.extend_from_slice(&length(key));
                out.extend_from_slice(key);
            }
            Item::Lease(id, ttl) => {
                out.push(LEASE);
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&ttl.to_le_bytes());
            }
            Item::LeaseGone(id) => {
                out.push(LEASE_GONE);
                out.extend_from_slice(&id.to_le_bytes());
            }
            Item::End => out.push(END),
        }
    }

    /// Keys and values of the pieces that are full.
    pub(super) fn full(&mut self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + use<'_, K> {
        if self.cut > 0 {
            self.bytes.drain(..self.cut);
            self.cut = 0;
        }
        std::iter::from_fn(|| (self.bytes.len() - self.cut >= PIECE - CHECKSUM).then(|| self.piece()))
    }

    /// Ends the stream and returns the pieces that are left.
    pub(super) fn end(mut self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.add(&Item::End);
        std::iter::from_fn(move || (self.bytes.len() > self.cut).then(|| self.piece()))
    }

    fn piece(&mut self) -> (Vec<u8>, Vec<u8>) {
        let key = (self.key)(self.parts);
        let end = self.bytes.len().min(self.cut + PIECE - CHECKSUM);
        let content = &self.bytes[self.cut..end];
        let piece = [checksum(&key, content).as_slice(), content].concat();
        self.cut = end;
        self.parts += 1;
        (key, piece)
    }
}

/// The checksum of a piece also says where it belongs.
fn checksum(key: &[u8], content: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(content);
    hasher.finalize().to_le_bytes()
}

/// What is wrong with a piece; the sentence begins with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("is cut short")]
    Short,
    #[error("does not match its checksum")]
    Checksum,
    #[error("has an entry of an unknown kind")]
    UnknownEntry,
}

/// Makes items of pieces.
#[derive(Default)]
pub(super) struct Decoder {
    bytes: Vec<u8>,
    /// How much of it has become items.
    read: usize,
}

impl Decoder {
    pub(super) fn feed(&mut self, key: &[u8], piece: &[u8]) -> Result<(), StreamError> {
        let (sum, content) = piece.split_first_chunk::<CHECKSUM>().ok_or(StreamError::Short)?;
        if *sum != checksum(key, content) {
            return Err(StreamError::Checksum);
        }
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(content);
        Ok(())
    }

    /// The next item, `None` if it is not all there yet.
    pub(super) fn next(&mut self) -> Result<Option<Item>, StreamError> {
        let mut rest = &self.bytes[self.read..];
        let item = match item(&mut rest) {
            Ok(item) => item,
            Err(Unread::More) => return Ok(None),
            Err(Unread::Unknown) => return Err(StreamError::UnknownEntry),
        };
        self.read = self.bytes.len() - rest.len();
        Ok(Some(item))
    }
}

enum Unread {
    More,
    Unknown,
}

fn item(rest: &mut &[u8]) -> Result<Item, Unread> {
    let kind = take(rest, 1)?[0];
    Ok(match kind {
        END => Item::End,
        PUT => {
            let (key, value) = (length(rest)?, length(rest)?);
            let (create_revision, mod_revision, version) = (number(rest)?, number(rest)?, number(rest)?);
            let lease = number(rest)?.cast_signed();
            let key = Bytes::copy_from_slice(take(rest, key)?);
            let value = Bytes::copy_from_slice(take(rest, value)?);
            Item::Put(KeyValue { key, value, create_revision, mod_revision, version, lease })
        }
        GONE => {
            let key = length(rest)?;
            Item::Gone(Bytes::copy_from_slice(take(rest, key)?))
        }
        LEASE => Item::Lease(number(rest)?.cast_signed(), number(rest)?.cast_signed()),
        LEASE_GONE => Item::LeaseGone(number(rest)?.cast_signed()),
        _ => return Err(Unread::Unknown),
    })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Unread> {
    let (header, tail) = rest.split_at_checked(length).ok_or(Unread::More)?;
    *rest = tail;
    Ok(header)
}

fn length(rest: &mut &[u8]) -> Result<usize, Unread> {
    let bytes = take(rest, 4)?.try_into().map_err(|_| Unread::More)?;
    Ok(u32::from_le_bytes(bytes) as usize)
}

fn number(rest: &mut &[u8]) -> Result<u64, Unread> {
    take(rest, 8)?.try_into().map(u64::from_le_bytes).map_err(|_| Unread::More)
}

#[cfg(test)]
mod tests;
