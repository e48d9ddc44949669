//! The answer to a range, made piece by piece as the client takes it.
//!
//! A page of an answer easily has megabytes. Encoded as a whole it would be written to memory that no cache
//! holds, and would wait there for its client. A piece is encoded, passed on and forgotten while the client
//! reads the one before.

use std::vec::IntoIter;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, int64, key_len};

use super::pb;
use super::unary::{PREFIX, put_prefix};
use crate::wire::mvccpb::KeyValue;

/// The number of the repeated field `kvs` in a `RangeResponse`.
const KVS: u32 = 2;
/// Bytes of a piece, about; it is larger only if a single key and value are.
const PIECE: usize = 64 * 1024;

/// What is still to be sent of an answer, framed for gRPC.
pub(super) struct Page {
    kvs: IntoIter<KeyValue>,
    /// What comes before the keys, and after them; fields are encoded in the order of their numbers.
    head: Option<Bytes>,
    tail: Option<pb::RangeResponse>,
}

impl Page {
    pub(super) fn new(mut answer: pb::RangeResponse) -> Self {
        let length = answer.encoded_len();
        let kvs = std::mem::take(&mut answer.kvs).into_iter();
        let first = pb::RangeResponse { header: answer.header.take(), ..Default::default() };
        let mut head = BytesMut::with_capacity(PREFIX + first.encoded_len());
        put_prefix(length, &mut head);
        first.encode_raw(&mut head);
        Page { kvs, head: Some(head.freeze()), tail: Some(answer) }
    }

    /// Whether there is a next piece.
    pub(super) fn goes_on(&self) -> bool {
        self.tail.is_some()
    }
}

impl Iterator for Page {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let tail = self.tail.as_ref()?;
        let head = self.head.take().unwrap_or_default();
        let (mut count, mut length) = (0, head.len());
        for kv in self.kvs.as_slice() {
            let more = encoded_len(kv);
            if count > 0 && length + more > PIECE {
                break;
            }
            (count, length) = (count + 1, length + more);
        }
        let last = count == self.kvs.len();
        if last {
            length += tail.encoded_len();
        }
        let mut piece = BytesMut::with_capacity(length);
        piece.put_slice(&head);
        for kv in self.kvs.by_ref().take(count) {
            put_key_value(&kv, &mut piece);
        }
        if last && let Some(tail) = self.tail.take() {
            tail.encode_raw(&mut piece);
        }
        Some(piece.freeze())
    }
}

/// The length of one key and value within the answer.
fn encoded_len(kv: &KeyValue) -> usize {
    let length = kv.encoded_len();
    key_len(KVS) + encoded_len_varint(length as u64) + length
}

/// Encodes one key and value. By hand because prost counts one more reference to each of them, in memory that
/// is read for nothing else.
fn put_key_value(kv: &KeyValue, out: &mut BytesMut) {
    encode_key(KVS, WireType::LengthDelimited, out);
    encode_varint(kv.encoded_len() as u64, out);
    put_bytes(1, &kv.key, out);
    put_number(2, kv.create_revision, out);
    put_number(3, kv.mod_revision, out);
    put_number(4, kv.version, out);
    put_bytes(5, &kv.value, out);
    put_number(6, kv.lease, out);
}

fn put_bytes(field: u32, bytes: &Bytes, out: &mut BytesMut) {
    if !bytes.is_empty() {
        encode_key(field, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

fn put_number(field: u32, number: i64, out: &mut BytesMut) {
    if number != 0 {
        int64::encode(field, &number, out);
    }
}

#[cfg(test)]
mod tests;
