//! What the tasks of a member share: the engine, who leads, and the answers to other members.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use openraft::{BasicNode, ServerState, Snapshot};
use parking_lot::Mutex;

use crate::clock::Stamps;
use crate::group::entry::{MemberId, Proposal, Raft, our_vote, their_vote};
use crate::group::forward::Forwards;
use crate::group::machine::Body;
use crate::group::network::{CallError, Transport};
use crate::group::reads::{own_index, own_time};
use crate::group::wire::{LONGEST, Message, Piece, Reply};
use crate::writer::queue::Shared;

/// How long things may take before they have failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// A write that has not been agreed on by then is given up.
    pub(crate) write: Duration,
    /// The same of a current read.
    pub(crate) read: Duration,
}

/// A call that another member has not answered by then is lost.
const CALL_TIMEOUT: Duration = Duration::from_millis(1000);
/// After a refused call the next one waits so long, if nothing is heard of a new leader.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(crate) struct Engine {
    pub(crate) id: MemberId,
    pub(crate) raft: Raft,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stamps: Arc<Stamps>,
    pub(crate) forwards: Arc<Forwards>,
    pub(crate) timeouts: Timeouts,
    /// Set before the engine is stopped on purpose.
    pub(crate) stopping: AtomicBool,
    /// Snapshots that come in, by sender.
    pub(crate) receiving: Mutex<HashMap<MemberId, Receiving>>,
}

/// A snapshot of which pieces are here.
pub(crate) struct Receiving {
    name: String,
    bytes: Vec<u8>,
}

impl Engine {
    pub(crate) fn leads(&self) -> bool {
        self.raft.metrics().borrow().state == ServerState::Leader
    }

    /// The leader, as soon as one is known. `None` if the engine has stopped.
    pub(crate) async fn known_leader(&self) -> Option<MemberId> {
        let mut metrics = self.raft.metrics();
        loop {
            if let Some(leader) = metrics.borrow_and_update().current_leader {
                return Some(leader);
            }
            metrics.changed().await.ok()?;
        }
    }

    /// Waits until another member may lead.
    pub(crate) async fn look_again(&self) {
        let mut metrics = self.raft.metrics();
        let leader = metrics.borrow_and_update().current_leader;
        let changed = async {
            while metrics.changed().await.is_ok() {
                if metrics.borrow_and_update().current_leader != leader {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LOOK_AGAIN, changed).await;
    }

    pub(crate) fn node(&self, member: MemberId) -> Option<BasicNode> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow();
        now.membership_config.membership().get_node(&member).cloned()
    }

    pub(crate) async fn call(&self, member: MemberId, message: Bytes) -> Result<Reply, CallError> {
        let unknown = || CallError::NotSent(io::Error::other("it is no member"));
        let node = self.node(member).ok_or_else(unknown)?;
        let call = self.transport.call(member, &node.addr, message);
        let answered = tokio::time::timeout(CALL_TIMEOUT, call).await;
        let answer = answered.unwrap_or_else(|_| Err(CallError::Lost(io::ErrorKind::TimedOut.into())))?;
        Reply::decode(&answer).map_err(|e| CallError::Lost(io::Error::other(e)))
    }

    /// Answers another member.
    pub(crate) async fn handle(&self, from: MemberId, message: &[u8]) -> Vec<u8> {
        let reply = match Message::decode(message) {
            Ok(message) => self.reply(from, message).await,
            Err(e) => Reply::Failed(e.to_string()),
        };
        reply.encode()
    }

    async fn reply(&self, from: MemberId, message: Message) -> Reply {
        let failed = |e: &dyn std::fmt::Display| Reply::Failed(e.to_string());
        match message {
            Message::Append(request) => match self.raft.append_entries(request).await {
                Ok(response) => Reply::Append(response),
                Err(e) => failed(&e),
            },
            Message::Vote(request) => match self.raft.vote(request).await {
                Ok(response) => Reply::Vote(response),
                Err(e) => failed(&e),
            },
            Message::Piece(piece) => self.receive(from, piece).await,
            Message::ReadIndex => own_index(self).await,
            Message::Lease { id, renew } => own_time(self, id, renew).await,
            Message::Forward(record) => {
                let leader = self.raft.metrics().borrow().current_leader;
                if !self.leads() {
                    return Reply::NotLeader(leader.filter(|leader| *leader != self.id));
                }
                let proposal = Proposal { time: self.stamps.next(0), request: record.request };
                match self.raft.client_write_ff(proposal).await {
                    // The sender learns the outcome when it applies the record.
                    Ok(_) => Reply::Taken,
                    Err(e) => failed(&e),
                }
            }
            Message::Lead => match self.raft.trigger().elect().await {
                Ok(()) => Reply::Taken,
                Err(e) => failed(&e),
            },
        }
    }

    /// Takes a piece of a snapshot; with the last one it is installed.
    async fn receive(&self, from: MemberId, piece: Piece) -> Reply {
        let whole = {
            let mut receiving = self.receiving.lock();
            if piece.offset == 0 {
                let name = piece.meta.snapshot_id.clone();
                receiving.insert(from, Receiving { name, bytes: Vec::new() });
            }
            let Some(part) = receiving.get_mut(&from) else {
                return Reply::Failed("the beginning of the snapshot is missing".to_string());
            };
            if part.name != piece.meta.snapshot_id || part.bytes.len() as u64 != piece.offset {
                receiving.remove(&from);
                return Reply::Failed("a piece of the snapshot is missing".to_string());
            }
            part.bytes.extend_from_slice(&piece.bytes);
            if !piece.last {
                return Reply::Piece(None);
            }
            receiving.remove(&from).map(|part| part.bytes).unwrap_or_default()
        };
        tracing::info!(from, bytes = whole.len(), "a snapshot has arrived");
        let snapshot = Snapshot { meta: piece.meta, snapshot: Box::new(Body::File(whole)) };
        match self.raft.install_full_snapshot(their_vote(piece.vote), snapshot).await {
            Ok(response) => Reply::Piece(Some(our_vote(&response.vote))),
            Err(e) => Reply::Failed(e.to_string()),
        }
    }
}

/// The largest message that members exchange.
pub const LONGEST_MESSAGE: usize = LONGEST;
