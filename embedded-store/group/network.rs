//! How the engine reaches the other members: messages go as bytes through a [`Transport`], which is the
//! server's.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, Snapshot};

use crate::group::entry::{MemberId, Types, Vote, our_vote, their_vote};
use crate::group::wire::{Message, Piece, Reply, append_head, put_record};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The other member has certainly not received it.
    #[error("cannot reach the server: {0}")]
    NotSent(io::Error),
    /// It may have.
    #[error("the connection to the server is lost: {0}")]
    Lost(io::Error),
}

/// Carries messages between members.
pub trait Transport: Send + Sync {
    /// Brings a message to a member and its answer back. Calls to the same member may overtake each other.
    fn call(
        &self,
        member: u64,
        address: &str,
        message: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;
}

/// Bytes of records that one message carries.
const APPEND_BYTES: usize = 2 << 20;
/// Bytes of a snapshot that one message carries: heartbeats go between them.
const PIECE_BYTES: usize = 256 << 10;
/// A piece that is not answered by then has failed, and the snapshot with it.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// The last piece is answered when everything is installed and on disk.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) struct Peers(pub(super) Arc<dyn Transport>);

pub(super) struct Peer {
    transport: Arc<dyn Transport>,
    member: MemberId,
    address: String,
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, member: MemberId, node: &BasicNode) -> Peer {
        Peer { transport: Arc::clone(&self.0), member, address: node.addr.clone() }
    }
}

type Failed = RPCError<MemberId, BasicNode, RaftError<MemberId>>;

fn unexpected(reply: Reply) -> io::Error {
    match reply {
        Reply::Failed(why) => io::Error::other(why),
        _ => io::Error::other("the server answers something else than it was asked"),
    }
}

impl Peer {
    async fn call(&self, message: Vec<u8>) -> Result<Reply, Unreachable> {
        let answer = self.transport.call(self.member, &self.address, message.into()).await;
        Reply::decode(&answer.map_err(|e| Unreachable::new(&e))?).map_err(|e| Unreachable::new(&e))
    }

    async fn send_pieces(&self, vote: Vote, snapshot: Snapshot<Types>) -> Result<Vote, Unreachable> {
        let Snapshot { meta, snapshot: body } = snapshot;
        let file = tokio::task::spawn_blocking(move || body.into_file()).await;
        let file = file.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(|e| Unreachable::new(&e))?;
        let size = file.len();
        tracing::info!(member = self.member, bytes = size, "a snapshot is sent to a server");
        let mut offset = 0;
        loop {
            let end = (offset + PIECE_BYTES).min(size);
            let piece = Piece {
                vote: our_vote(&vote),
                meta: meta.clone(),
                offset: offset as u64,
                last: end == size,
                bytes: file[offset..end].to_vec(),
            };
            let timeout = if piece.last { INSTALL_TIMEOUT } else { PIECE_TIMEOUT };
            let call = self.call(Message::Piece(piece).encode());
            let reply = tokio::time::timeout(timeout, call).await.map_err(|e| Unreachable::new(&e))??;
            match reply {
                Reply::Piece(Some(vote)) => return Ok(their_vote(vote)),
                Reply::Piece(None) if end < size => offset = end,
                other => return Err(Unreachable::new(&unexpected(other))),
            }
        }
    }
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<MemberId>, Failed> {
        let mut message = append_head(&request);
        let mut sent = 0;
        for entry in &request.entries {
            if message.len() >= APPEND_BYTES {
                break;
            }
            put_record(&mut message, &entry.record);
            sent += 1;
        }
        let reply = match self.call(message).await? {
            Reply::Append(reply) => reply,
            other => return Err(Unreachable::new(&unexpected(other)).into()),
        };
        let all = sent == request.entries.len();
        Ok(match (reply, request.entries.get(..sent).and_then(<[_]>::last)) {
            (AppendEntriesResponse::Success, Some(last)) if !all => {
                AppendEntriesResponse::PartialSuccess(Some(*openraft::log_id::RaftLogId::get_log_id(last)))
            }
            (reply, _) => reply,
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<MemberId>,
        _: RPCOption,
    ) -> Result<VoteResponse<MemberId>, Failed> {
        match self.call(Message::Vote(request).encode()).await? {
            Reply::Vote(reply) => Ok(reply),
            other => Err(Unreachable::new(&unexpected(other)).into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<MemberId>, StreamingError<Types, Fatal<MemberId>>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send_pieces(vote, snapshot) => Ok(SnapshotResponse::new(sent?)),
        }
    }

    /// A member that is back is to catch up at once.
    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(Duration::from_millis(200)))
    }
}
