//! [`Consensus`] by openraft: batches go to the engine in order, answers come back once they are applied.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use openraft::{Raft, ServerState};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::raft::adapter::{Answer, Group, Proposal, SharedLog};
use super::network::Network;
use super::our_index;
use crate::clock::Stamps;
use crate::consensus::ids::LogId;
use crate::consensus::{Consensus, ReadIndex, Written};
use crate::log::record::Request;
use crate::state::ApplyOutcome;
use crate::types::StoreError;
use crate::writer::batch::Batch;
use crate::writer::queue::Shared;

/// What the writer holds of it.
pub(super) struct Agreement {
    log: SharedLog,
    committed: Arc<Mutex<LogId>>,
    reads: Arc<Reads>,
    proposals: mpsc::UnboundedSender<Vec<Batch>>,
    /// Lazy ones that wait for a sync, and until when.
    held: Vec<Batch>,
    due: Option<Instant>,
    lazy: Duration,
}

impl Agreement {
    pub(super) fn new(
        log: SharedLog,
        committed: Arc<Mutex<LogId>>,
        reads: Arc<Reads>,
        lazy: Duration,
    ) -> (Agreement, mpsc::UnboundedReceiver<Vec<Batch>>) {
        // Bounded by the slots of the queue of the store.
        let (proposals, receiver) = mpsc::unbounded_channel();
        (Agreement { log, committed, reads, proposals, held: Vec::new(), due: None, lazy }, receiver)
    }

    fn send(&mut self) {
        self.due = None;
        if !self.held.is_empty() {
            // If nobody takes them any more, dropping them is the answer.
            let _ = self.proposals.send(std::mem::take(&mut self.held));
        }
    }
}

impl Consensus for Agreement {
    fn propose(&mut self, batch: Batch) {
        let lazy = batch.requests.iter().all(Request::is_lazy);
        self.held.push(batch);
        if lazy {
            self.due.get_or_insert_with(|| Instant::now() + self.lazy);
        } else {
            self.send();
        }
    }

    fn committed(&self) -> LogId {
        *self.committed.lock()
    }

    fn reads(&self) -> Option<Arc<dyn ReadIndex>> {
        Some(Arc::<Reads>::clone(&self.reads))
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn flush(&mut self) {
        self.send();
    }

    /// A majority has on disk what is applied.
    fn is_settled(&self) -> bool {
        true
    }

    /// The engine asks for snapshots, and with them for checkpoints.
    fn take_written(&mut self) -> Written {
        Written::default()
    }

    /// The engine's storage does it.
    fn roll(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The engine decides what others may still need.
    fn purge(&mut self, _: LogId) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.log.lock().bytes()
    }

    fn free(&self) -> u64 {
        self.log.lock().free().unwrap_or(u64::MAX)
    }

    fn finish(&mut self) {
        self.send();
    }
}

/// Takes batches to the engine, and answers to those who wait. What was held back together is one record: the
/// engine has a sync for every one.
pub(super) async fn propose_all(
    raft: Raft<Group>,
    mut held: mpsc::UnboundedReceiver<Vec<Batch>>,
    stamps: Arc<Stamps>,
    timeout: Duration,
) {
    let mut answering = JoinSet::new();
    while let Some(batches) = held.recv().await {
        let (leads, leader) = {
            let metrics = raft.metrics().borrow().clone();
            (metrics.state == ServerState::Leader, metrics.current_leader)
        };
        if !leads {
            let refusal = StoreError::NotLeader { leader };
            batches.into_iter().for_each(|batch| batch.waiting.refused(&refusal));
            continue;
        }
        let (requests, waiting): (Vec<_>, Vec<_>) =
            batches.into_iter().map(|Batch { requests, waiting }| (requests, waiting)).unzip();
        let counts: Vec<usize> = requests.iter().map(Vec::len).collect();
        let request = Request::Batch(requests.into_iter().flatten().collect());
        let answer = raft.client_write_ff(Proposal { time: stamps.next(0), request }).await;
        answering.spawn(async move {
            let outcome = match answer {
                Ok(answer) => tokio::time::timeout(timeout, answer).await,
                // Dropping those who wait says that the store is stopped.
                Err(_) => return,
            };
            match outcome {
                Ok(Ok(Ok(written))) => {
                    let Answer(Ok(ApplyOutcome::Batch(outcomes))) = written.data else { return };
                    let mut outcomes = outcomes.into_iter();
                    for (waiting, count) in waiting.into_iter().zip(counts) {
                        waiting.answered(outcomes.by_ref().take(count).collect());
                    }
                }
                // It has lost the lead since: whether the next leader has the record is not known.
                Ok(Ok(Err(ClientWriteError::ForwardToLeader(_)))) | Err(_) => {
                    waiting.into_iter().for_each(|waiting| waiting.refused(&StoreError::NoQuorum));
                }
                Ok(Ok(Err(ClientWriteError::ChangeMembershipError(_))) | Err(_)) => {}
            }
        });
        while answering.try_join_next().is_some() {}
    }
}

/// The leader, and only it, has the deadlines of leases.
pub(super) async fn follow_leadership(raft: Raft<Group>, shared: Arc<Shared>) {
    let mut metrics = raft.metrics();
    let mut led = false;
    loop {
        let (leads, leader) = {
            let now = metrics.borrow_and_update();
            (now.state == ServerState::Leader, now.current_leader)
        };
        if !leads {
            shared.lessor.demote(leader);
        } else if !led {
            let leases: Vec<_> = {
                let state = shared.core.state.read();
                state.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect()
            };
            shared.lessor.promote(leases);
            shared.wake_now();
        }
        led = leads;
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Asks the leader how far a current read has to see, and waits until this member has come as far.
pub(super) struct Reads {
    pub(super) id: u64,
    pub(super) network: Network,
    pub(super) timeout: Duration,
}

impl Reads {
    async fn ask(&self) -> Result<u64, StoreError> {
        let own = self.network.call(self.id, self.id, async |raft| raft).await;
        let own = own.map_err(|_| StoreError::Stopped)?;
        let leader = own.metrics().borrow().current_leader;
        let leader = leader.ok_or(StoreError::NotLeader { leader: None })?;
        let asked = self.network.call(self.id, leader, async |raft| raft.get_read_log_id().await).await;
        let index = match asked.map_err(|_| StoreError::NoQuorum)? {
            Ok((index, _)) => index,
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                return Err(StoreError::NotLeader { leader: to.leader_id });
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                return Err(StoreError::NoQuorum);
            }
            Err(RaftError::Fatal(_)) => return Err(StoreError::Stopped),
        };
        let waiting = own.wait(Some(self.timeout));
        let applied = waiting.applied_index_at_least(index.map(|id| id.index), "read index");
        applied.await.map_err(|_| StoreError::NoQuorum)?;
        Ok(our_index(index))
    }
}

impl ReadIndex for Reads {
    fn read_index(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        async {
            let asked = tokio::time::timeout(self.timeout, self.ask()).await;
            asked.unwrap_or(Err(StoreError::NoQuorum))
        }
        .boxed()
    }
}
