//! Current reads: the leader is asked how far they have to see, once for all that wait, and this member waits
//! until it has come as far.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::error::{CheckIsLeaderError, RaftError};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::consensus::ReadIndex;
use crate::consensus::ids::LogId;
use crate::group::engine::Engine;
use crate::group::entry::our_id;
use crate::group::wire::{Message, Reply};
use crate::types::StoreError;

type Asking = oneshot::Sender<Result<u64, StoreError>>;

pub(crate) struct Reads {
    asking: mpsc::UnboundedSender<Asking>,
    /// When the last one has failed.
    failed: Mutex<Option<Instant>>,
}

/// A failure says nothing about the group any more after this, if nobody has asked since.
const FORGET_FAILURE: Duration = Duration::from_secs(10);

impl Reads {
    pub(crate) fn new() -> (Arc<Reads>, mpsc::UnboundedReceiver<Asking>) {
        // Bounded by the requests that the servers' ports take.
        let (asking, asked) = mpsc::unbounded_channel();
        (Arc::new(Reads { asking, failed: Mutex::default() }), asked)
    }
}

impl ReadIndex for Reads {
    fn read_index(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        let (asking, answer) = oneshot::channel();
        let _ = self.asking.send(asking);
        async {
            let answer = answer.await.unwrap_or(Err(StoreError::Stopped));
            *self.failed.lock() = answer.is_err().then(Instant::now);
            answer
        }
        .boxed()
    }

    fn fails(&self) -> bool {
        self.failed.lock().is_some_and(|at| at.elapsed() < FORGET_FAILURE)
    }
}

/// Answers those who ask. Who comes while a question is under way waits for the next one: the answer to this
/// one may be older than its call.
pub(super) async fn answer_all(engine: Arc<Engine>, mut asked: mpsc::UnboundedReceiver<Asking>) {
    while let Some(first) = asked.recv().await {
        let mut waiting = vec![first];
        while let Ok(more) = asked.try_recv() {
            waiting.push(more);
        }
        let answer = tokio::time::timeout(engine.timeouts.read, ask(&engine)).await;
        let answer = answer.unwrap_or(Err(StoreError::NoQuorum));
        for asking in waiting {
            let _ = asking.send(answer.clone());
        }
    }
}

async fn ask(engine: &Engine) -> Result<u64, StoreError> {
    let index = loop {
        let leader = engine.known_leader().await.ok_or(StoreError::Stopped)?;
        let reply = match leader == engine.id {
            true => own_index(engine).await,
            false => engine
                .call(leader, Message::ReadIndex.encode().into())
                .await
                .unwrap_or(Reply::NotLeader(None)),
        };
        match reply {
            Reply::ReadIndex(id) => break id,
            Reply::NoQuorum => return Err(StoreError::NoQuorum),
            _ => engine.look_again().await,
        }
    };
    let wanted = index.index.checked_sub(1);
    let applied = engine.raft.wait(None).applied_index_at_least(wanted, "read index").await;
    applied.map_err(|_| StoreError::Stopped)?;
    Ok(index.index)
}

/// The leader's answer, after it has made sure that it leads.
pub(super) async fn own_index(engine: &Engine) -> Reply {
    match engine.raft.get_read_log_id().await {
        Ok((index, _)) => Reply::ReadIndex(index.map_or(LogId::default(), our_id)),
        Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => Reply::NotLeader(to.leader_id),
        Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => Reply::NoQuorum,
        Err(RaftError::Fatal(e)) => Reply::Failed(e.to_string()),
    }
}
