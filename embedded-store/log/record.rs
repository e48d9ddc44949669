//! Log records: a record is a request, never its outcome, so that replaying the log (or, later, a follower
//! applying it) comes to the same state. Time and generated ids are part of the record because applying reads
//! no clock.
//!
//! The encoding is fixed-width little endian with length-prefixed byte strings; framing and checksums are the
//! log's.

use bytes::Bytes;

use crate::consensus::ids::{LogId, Membership};
use crate::types::{Durability, LeaseId, MAX_DEPTH, Txn};

mod txn;

use txn::{decode_txn, encode_txn};

/// What a record asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Txn(Txn),
    /// Forget history before the revision.
    Compact {
        revision: u64,
    },
    LeaseGrant {
        id: LeaseId,
        ttl: i64,
    },
    /// Also what expiry proposes.
    LeaseRevoke {
        id: LeaseId,
    },
    /// The same for somebody who may not delete keys under these prefixes: refused if the lease holds any
    /// when the record is applied, whatever it held when somebody looked before.
    LeaseRevokeUnless {
        id: LeaseId,
        protected: Vec<Bytes>,
    },
    /// Revisions up to this one may be shown before their records are on disk; 0 after a clean stop.
    Ceiling {
        revision: u64,
    },
    /// Continue from the ceiling: a crash may have lost revisions below it that somebody has seen.
    SkipToCeiling,
    /// Nothing; what a new leader begins its term with.
    Blank,
    /// The members of the group from now on.
    Members(Membership),
    /// Several requests, in this order, that a group agrees on together with one sync. Batches are never
    /// nested.
    Batch(Vec<Request>),
    /// The same, asked for by a member that does not lead: it answers those who wait once it applies this.
    Forwarded {
        member: u64,
        number: u64,
        requests: Vec<Request>,
    },
}

impl Request {
    pub(crate) fn is_lazy(&self) -> bool {
        match self {
            Request::Txn(txn) => txn.durability == Durability::Lazy,
            Request::Batch(requests) | Request::Forwarded { requests, .. } => {
                requests.iter().all(Request::is_lazy)
            }
            _ => false,
        }
    }

    /// The requests of a batch.
    pub(crate) fn batch(&self) -> &[Request] {
        match self {
            Request::Batch(requests) | Request::Forwarded { requests, .. } => requests,
            _ => &[],
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Always 1 for a single server; replication counts it up.
    pub(crate) term: u64,
    /// Contiguous, from 1.
    pub(crate) index: u64,
    /// Milliseconds since the epoch, never going back.
    pub(crate) time: u64,
    pub(crate) request: Request,
}

/// The payload of a record cannot be read although its checksum holds.
#[derive(Debug, thiserror::Error)]
#[error("record cannot be decoded: {0}")]
pub(crate) struct DecodeError(pub(crate) &'static str);

impl Record {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.term);
        put_u64(out, self.index);
        put_u64(out, self.time);
        self.request.encode(out);
    }

    pub(crate) fn id(&self) -> LogId {
        LogId { term: self.term, index: self.index }
    }

    pub(crate) fn decode(input: &[u8]) -> Result<Record, DecodeError> {
        let mut input = Input(input);
        let (term, index, time) = (input.u64()?, input.u64()?, input.u64()?);
        let request = Request::decode(&mut input, true)?;
        if !input.0.is_empty() {
            return Err(DecodeError("bytes are left over"));
        }
        Ok(Record { term, index, time, request })
    }
}

impl Request {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Request::Txn(txn) => {
                out.push(0);
                encode_txn(out, txn);
            }
            Request::Compact { revision } => {
                out.push(1);
                put_u64(out, *revision);
            }
            Request::LeaseGrant { id, ttl } => {
                out.push(2);
                put_u64(out, id.cast_unsigned());
                put_u64(out, ttl.cast_unsigned());
            }
            Request::LeaseRevoke { id } => {
                out.push(3);
                put_u64(out, id.cast_unsigned());
            }
            Request::Ceiling { revision } => {
                out.push(4);
                put_u64(out, *revision);
            }
            Request::SkipToCeiling => out.push(5),
            Request::Blank => out.push(6),
            Request::Members(membership) => {
                out.push(7);
                membership.encode(out);
            }
            Request::LeaseRevokeUnless { id, protected } => {
                out.push(9);
                put_u64(out, id.cast_unsigned());
                put_u64(out, protected.len() as u64);
                protected.iter().for_each(|prefix| put_bytes(out, prefix));
            }
            Request::Batch(requests) => {
                out.push(8);
                put_u64(out, requests.len() as u64);
                requests.iter().for_each(|request| request.encode(out));
            }
            Request::Forwarded { member, number, requests } => {
                out.push(10);
                put_u64(out, *member);
                put_u64(out, *number);
                put_u64(out, requests.len() as u64);
                requests.iter().for_each(|request| request.encode(out));
            }
        }
    }

    /// `outermost` may be a batch.
    fn decode(input: &mut Input<'_>, outermost: bool) -> Result<Request, DecodeError> {
        Ok(match input.u8()? {
            0 => Request::Txn(decode_txn(input, MAX_DEPTH)?),
            1 => Request::Compact { revision: input.u64()? },
            2 => Request::LeaseGrant { id: input.i64()?, ttl: input.i64()? },
            3 => Request::LeaseRevoke { id: input.i64()? },
            4 => Request::Ceiling { revision: input.u64()? },
            5 => Request::SkipToCeiling,
            6 => Request::Blank,
            7 => Request::Members(Membership::decode(input)?),
            8 if outermost => Request::Batch(Request::decode_several(input)?),
            10 if outermost => Request::Forwarded {
                member: input.u64()?,
                number: input.u64()?,
                requests: Request::decode_several(input)?,
            },
            9 => {
                let (id, mut protected) = (input.i64()?, Vec::new());
                for _ in 0..input.u64()? {
                    protected.push(input.bytes()?);
                }
                Request::LeaseRevokeUnless { id, protected }
            }
            _ => return Err(DecodeError("unknown kind of request")),
        })
    }

    fn decode_several(input: &mut Input<'_>) -> Result<Vec<Request>, DecodeError> {
        let mut requests = Vec::new();
        for _ in 0..input.u64()? {
            requests.push(Request::decode(input, false)?);
        }
        Ok(requests)
    }
}

impl Membership {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.configs.len() as u64);
        for config in &self.configs {
            put_u64(out, config.len() as u64);
            config.iter().for_each(|member| put_u64(out, *member));
        }
        put_u64(out, self.members.len() as u64);
        for (member, address) in &self.members {
            put_u64(out, *member);
            put_bytes(out, address);
        }
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let mut membership = Membership::default();
        for _ in 0..input.u64()? {
            let mut config = Vec::new();
            for _ in 0..input.u64()? {
                config.push(input.u64()?);
            }
            membership.configs.push(config);
        }
        for _ in 0..input.u64()? {
            membership.members.push((input.u64()?, input.bytes()?));
        }
        Ok(membership)
    }
}

/// The part of a state that is neither a key nor a lease, as checkpoints and snapshots store it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// The record that brought the membership.
    pub(crate) since: LogId,
    pub(crate) membership: Membership,
}

impl Group {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_u64(&mut out, self.since.term);
        put_u64(&mut out, self.since.index);
        self.membership.encode(&mut out);
        let checksum = crc32fast::hash(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (body, checksum) =
            bytes.split_last_chunk::<4>().ok_or(DecodeError("the membership ends early"))?;
        if crc32fast::hash(body).to_le_bytes() != *checksum {
            return Err(DecodeError("the membership does not match its checksum"));
        }
        let mut input = Input(body);
        let since = LogId { term: input.u64()?, index: input.u64()? };
        Ok(Group { since, membership: Membership::decode(&mut input)? })
    }
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    // Requests are limited to far less than 4 GiB before they get here.
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(value);
}

fn put_optional(out: &mut Vec<u8>, value: Option<&Bytes>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put_bytes(out, value);
    }
}

pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(DecodeError("it ends early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(DecodeError("it ends early"))?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Copied, so that a value does not keep a whole segment in memory.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u32()? as usize;
        Ok(Bytes::copy_from_slice(self.take(length)?))
    }

    fn optional(&mut self) -> Result<Option<Bytes>, DecodeError> {
        Ok(if self.u8()? == 0 { None } else { Some(self.bytes()?) })
    }
}

/// `depth` is how many transactions deep it may go.
#[cfg(test)]
mod tests;
