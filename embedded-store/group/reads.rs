//! Current reads: the leader is asked how far they have to see, once for all that wait, and this member waits
//! until it has come as far. Leases: the leader has their deadlines, and is asked for each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::error::{CheckIsLeaderError, RaftError};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::consensus::ReadIndex;
use crate::consensus::ids::LogId;
use crate::group::engine::Engine;
use crate::group::entry::our_id;
use crate::group::wire::{Message, Reply};
use crate::types::{LeaseId, StoreError};

type Asking = oneshot::Sender<Result<u64, StoreError>>;

/// A question about a lease.
pub(crate) struct LeaseAsking {
    id: LeaseId,
    renew: bool,
    answer: oneshot::Sender<Result<i64, StoreError>>,
}

/// What is asked, as the engine's side takes it.
pub(crate) struct Asked {
    reads: mpsc::UnboundedReceiver<Asking>,
    leases: mpsc::UnboundedReceiver<LeaseAsking>,
}

pub(crate) struct Reads {
    asking: mpsc::UnboundedSender<Asking>,
    leases: mpsc::UnboundedSender<LeaseAsking>,
    /// When the last one has failed.
    failed: Mutex<Option<Instant>>,
}

/// A failure says nothing about the group any more after this, if nobody has asked since.
const FORGET_FAILURE: Duration = Duration::from_secs(10);

impl Reads {
    pub(crate) fn new() -> (Arc<Reads>, Asked) {
        // Bounded by the requests that the servers' ports take.
        let (asking, reads) = mpsc::unbounded_channel();
        let (leases, lease_askings) = mpsc::unbounded_channel();
        let asked = Asked { reads, leases: lease_askings };
        (Arc::new(Reads { asking, leases, failed: Mutex::default() }), asked)
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

    fn lease_time(&self, id: LeaseId, renew: bool) -> BoxFuture<'_, Result<i64, StoreError>> {
        let (sender, answer) = oneshot::channel();
        let _ = self.leases.send(LeaseAsking { id, renew, answer: sender });
        async { answer.await.unwrap_or(Err(StoreError::Stopped)) }.boxed()
    }
}

/// Answers those who ask.
pub(super) async fn answer_all(engine: Arc<Engine>, asked: Asked) {
    tokio::join!(answer_reads(&engine, asked.reads), answer_leases(&engine, asked.leases));
}

async fn answer_leases(engine: &Arc<Engine>, mut asked: mpsc::UnboundedReceiver<LeaseAsking>) {
    let mut under_way = JoinSet::new();
    while let Some(LeaseAsking { id, renew, answer }) = asked.recv().await {
        let engine = Arc::clone(engine);
        under_way.spawn(async move {
            let found = tokio::time::timeout(engine.timeouts.read, ask_time(&engine, id, renew)).await;
            let _ = answer.send(found.unwrap_or(Err(StoreError::NoQuorum)));
        });
        while under_way.try_join_next().is_some() {}
    }
}

async fn ask_time(engine: &Engine, id: LeaseId, renew: bool) -> Result<i64, StoreError> {
    loop {
        let leader = engine.known_leader().await.ok_or(StoreError::Stopped)?;
        let reply = match leader == engine.id {
            true => own_time(engine, id, renew).await,
            false => engine
                .call(leader, Message::Lease { id, renew }.encode().into())
                .await
                .unwrap_or(Reply::NotLeader(None)),
        };
        match reply {
            Reply::Lease(time) => return time.ok_or(StoreError::LeaseNotFound),
            Reply::NoQuorum => return Err(StoreError::NoQuorum),
            _ => engine.look_again().await,
        }
    }
}

/// The leader's answer, after it has made sure that it leads and knows every lease that was granted.
pub(super) async fn own_time(engine: &Engine, id: LeaseId, renew: bool) -> Reply {
    let index = match own_index(engine).await {
        Reply::ReadIndex(index) => index.index.checked_sub(1),
        other => return other,
    };
    if let Err(e) = engine.raft.wait(None).applied_index_at_least(index, "leases").await {
        return Reply::Failed(e.to_string());
    }
    let shared = &engine.shared;
    let found = shared.core.lease(id).and_then(|lease| match renew {
        true => shared.lessor.renew(id, lease.granted_ttl).ok(),
        false => shared.lessor.remaining(id),
    });
    match (found, shared.lessor.leads()) {
        (found, Ok(())) => Reply::Lease(found),
        (_, Err(_)) => Reply::NotLeader(None),
    }
}

/// Who comes while a question is under way waits for the next one: the answer to this one may be older than
/// its call.
async fn answer_reads(engine: &Engine, mut asked: mpsc::UnboundedReceiver<Asking>) {
    while let Some(first) = asked.recv().await {
        let mut waiting = vec![first];
        while let Ok(more) = asked.try_recv() {
            waiting.push(more);
        }
        let answer = tokio::time::timeout(engine.timeouts.read, ask(engine)).await;
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
