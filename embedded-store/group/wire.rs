//! The messages between members, as bytes. Each begins with the version of this form; records are in the
//! log's own encoding.

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use openraft::{SnapshotMeta, StoredMembership};

use crate::consensus::ids::{LogId, Membership, Vote};
use crate::group::entry::{Entry, MemberId, Types, our_id, our_vote, ours, their_id, their_vote, theirs};
use crate::group::machine::Meta;
use crate::log::record::{DecodeError, Input, Record, put_bytes, put_u64};
use crate::types::LeaseId;

const VERSION: u8 = 1;

/// What a member asks another one.
pub(super) enum Message {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<MemberId>),
    Piece(Piece),
    /// How far a current read has to see.
    ReadIndex,
    /// A record for the leader to write; its term and index do not count.
    Forward(Record),
    /// The sender leaves: its reader, if it is as far as it can be, is to lead.
    Lead,
    /// The time that a lease has left; it is renewed before.
    Lease {
        id: LeaseId,
        renew: bool,
    },
}

/// A part of a snapshot.
pub(super) struct Piece {
    pub(super) vote: Vote,
    pub(super) meta: Meta,
    pub(super) offset: u64,
    pub(super) last: bool,
    pub(super) bytes: Vec<u8>,
}

pub(super) enum Reply {
    Append(AppendEntriesResponse<MemberId>),
    Vote(VoteResponse<MemberId>),
    /// The receiver's vote, once the whole snapshot is installed.
    Piece(Option<Vote>),
    ReadIndex(LogId),
    Taken,
    NotLeader(Option<MemberId>),
    NoQuorum,
    Failed(String),
    /// Seconds; none if there is no such lease.
    Lease(Option<i64>),
}

/// The largest message, so that nobody is made to reserve more.
pub(super) const LONGEST: usize = 64 << 20;

fn put_id(out: &mut Vec<u8>, id: LogId) {
    put_u64(out, id.term);
    put_u64(out, id.index);
}

fn put_their_id(out: &mut Vec<u8>, id: Option<crate::group::entry::LogId>) {
    put_id(out, id.map(our_id).unwrap_or_default());
}

fn put_vote(out: &mut Vec<u8>, vote: Vote) {
    put_u64(out, vote.term);
    put_u64(out, vote.member);
    out.push(u8::from(vote.committed));
}

fn id(input: &mut Input<'_>) -> Result<LogId, DecodeError> {
    Ok(LogId { term: input.u64()?, index: input.u64()? })
}

fn vote(input: &mut Input<'_>) -> Result<Vote, DecodeError> {
    Ok(Vote { term: input.u64()?, member: input.u64()?, committed: input.u8()? != 0 })
}

fn versioned(bytes: &[u8]) -> Result<Input<'_>, DecodeError> {
    let mut input = Input(bytes);
    match input.u8()? {
        VERSION => Ok(input),
        _ => Err(DecodeError("the message is of another version")),
    }
}

fn finished<T>(input: &Input<'_>, value: T) -> Result<T, DecodeError> {
    if input.0.is_empty() { Ok(value) } else { Err(DecodeError("bytes are left over")) }
}

/// A record with its length before it.
pub(super) fn put_record(out: &mut Vec<u8>, record: &Record) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    record.encode(out);
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

fn record(input: &mut Input<'_>) -> Result<Record, DecodeError> {
    let length = input.u32()? as usize;
    Record::decode(input.take(length)?)
}

/// A request to append without its records, which follow as [`put_record`] writes them.
pub(super) fn append_head(request: &AppendEntriesRequest<Types>) -> Vec<u8> {
    let mut out = vec![VERSION, 0];
    put_vote(&mut out, our_vote(&request.vote));
    put_their_id(&mut out, request.prev_log_id);
    put_their_id(&mut out, request.leader_commit);
    out
}

impl Message {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Message::Append(request) => {
                let mut out = append_head(request);
                request.entries.iter().for_each(|entry| put_record(&mut out, &entry.record));
                out
            }
            Message::Vote(request) => {
                let mut out = vec![VERSION, 1];
                put_vote(&mut out, our_vote(&request.vote));
                put_their_id(&mut out, request.last_log_id);
                out
            }
            Message::Piece(piece) => {
                let mut out = vec![VERSION, 2];
                put_vote(&mut out, piece.vote);
                put_their_id(&mut out, piece.meta.last_log_id);
                put_their_id(&mut out, *piece.meta.last_membership.log_id());
                ours(piece.meta.last_membership.membership()).encode(&mut out);
                put_bytes(&mut out, piece.meta.snapshot_id.as_bytes());
                put_u64(&mut out, piece.offset);
                out.push(u8::from(piece.last));
                put_bytes(&mut out, &piece.bytes);
                out
            }
            Message::ReadIndex => vec![VERSION, 3],
            Message::Forward(record) => {
                let mut out = vec![VERSION, 4];
                put_record(&mut out, record);
                out
            }
            Message::Lead => vec![VERSION, 5],
            Message::Lease { id, renew } => {
                let mut out = vec![VERSION, 6];
                put_u64(&mut out, id.cast_unsigned());
                out.push(u8::from(*renew));
                out
            }
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        let mut input = versioned(bytes)?;
        let message = match input.u8()? {
            0 => Message::Append(append(&mut input)?),
            1 => Message::Vote(VoteRequest::new(their_vote(vote(&mut input)?), their_id(id(&mut input)?))),
            2 => Message::Piece(piece(&mut input)?),
            3 => Message::ReadIndex,
            4 => Message::Forward(record(&mut input)?),
            5 => Message::Lead,
            6 => Message::Lease { id: input.u64()?.cast_signed(), renew: input.u8()? != 0 },
            _ => return Err(DecodeError("unknown kind of message")),
        };
        finished(&input, message)
    }
}

fn append(input: &mut Input<'_>) -> Result<AppendEntriesRequest<Types>, DecodeError> {
    let (vote, previous, commit) = (vote(input)?, id(input)?, id(input)?);
    let mut entries = Vec::new();
    while !input.0.is_empty() {
        entries.push(Entry::of(record(input)?).ok_or(DecodeError("a record has no index"))?);
    }
    Ok(AppendEntriesRequest {
        vote: their_vote(vote),
        prev_log_id: their_id(previous),
        entries,
        leader_commit: their_id(commit),
    })
}

fn piece(input: &mut Input<'_>) -> Result<Piece, DecodeError> {
    let vote = vote(input)?;
    let (last, since) = (their_id(id(input)?), their_id(id(input)?));
    let membership = theirs(&Membership::decode(input)?);
    let snapshot_id = String::from_utf8_lossy(&input.bytes()?).into_owned();
    let last_membership = StoredMembership::new(since, membership);
    let meta = SnapshotMeta { last_log_id: last, last_membership, snapshot_id };
    let (offset, last) = (input.u64()?, input.u8()? != 0);
    Ok(Piece { vote, meta, offset, last, bytes: input.bytes()?.to_vec() })
}

impl Reply {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Reply::Append(AppendEntriesResponse::Success) => out.push(0),
            Reply::Append(AppendEntriesResponse::PartialSuccess(id)) => {
                out.push(1);
                put_their_id(&mut out, *id);
            }
            Reply::Append(AppendEntriesResponse::Conflict) => out.push(2),
            Reply::Append(AppendEntriesResponse::HigherVote(vote)) => {
                out.push(3);
                put_vote(&mut out, our_vote(vote));
            }
            Reply::Vote(response) => {
                out.push(4);
                put_vote(&mut out, our_vote(&response.vote));
                out.push(u8::from(response.vote_granted));
                put_their_id(&mut out, response.last_log_id);
            }
            Reply::Piece(None) => out.push(5),
            Reply::Piece(Some(vote)) => {
                out.push(6);
                put_vote(&mut out, *vote);
            }
            Reply::ReadIndex(id) => {
                out.push(7);
                put_id(&mut out, *id);
            }
            Reply::Taken => out.push(8),
            Reply::NotLeader(leader) => {
                out.push(9);
                put_u64(&mut out, leader.unwrap_or_default());
            }
            Reply::NoQuorum => out.push(10),
            Reply::Failed(why) => {
                out.push(11);
                put_bytes(&mut out, why.as_bytes());
            }
            Reply::Lease(time) => {
                out.push(12);
                out.push(u8::from(time.is_some()));
                put_u64(&mut out, time.unwrap_or_default().cast_unsigned());
            }
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Reply, DecodeError> {
        let mut input = versioned(bytes)?;
        let reply = match input.u8()? {
            0 => Reply::Append(AppendEntriesResponse::Success),
            1 => Reply::Append(AppendEntriesResponse::PartialSuccess(their_id(id(&mut input)?))),
            2 => Reply::Append(AppendEntriesResponse::Conflict),
            3 => Reply::Append(AppendEntriesResponse::HigherVote(their_vote(vote(&mut input)?))),
            4 => Reply::Vote(VoteResponse {
                vote: their_vote(vote(&mut input)?),
                vote_granted: input.u8()? != 0,
                last_log_id: their_id(id(&mut input)?),
            }),
            5 => Reply::Piece(None),
            6 => Reply::Piece(Some(vote(&mut input)?)),
            7 => Reply::ReadIndex(id(&mut input)?),
            8 => Reply::Taken,
            9 => Reply::NotLeader(Some(input.u64()?).filter(|leader| *leader > 0)),
            10 => Reply::NoQuorum,
            11 => Reply::Failed(String::from_utf8_lossy(&input.bytes()?).into_owned()),
            12 => {
                let (found, time) = (input.u8()? != 0, input.u64()?.cast_signed());
                Reply::Lease(found.then_some(time))
            }
            _ => return Err(DecodeError("unknown kind of reply")),
        };
        finished(&input, reply)
    }
}
