//! [`Consensus`] by openraft. The writer hands batches over; a task gathers those that wait while earlier
//! ones are under way, and writes them as one record: the engine has a sync for every record.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use openraft::error::ClientWriteError;
use openraft::{OptionalSend, ServerState};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::consensus::ids::{LogId, Membership};
use crate::consensus::{Consensus, ReadIndex, Retired, Written};
use crate::group::engine::Engine;
use crate::group::entry::{Answer, Proposal};
use crate::group::network::CallError;
use crate::group::reads::Reads;
use crate::group::storage::SharedLog;
use crate::group::wire::{Message, Reply};
use crate::log::record::{Record, Request};
use crate::state::ApplyOutcome;
use crate::types::StoreError;
use crate::writer::batch::{Batch, Waiting};
use crate::writer::queue;

/// Records that are under way at a time. More than one, so that the network has something to do while the
/// disk writes; few, so that those who wait are gathered.
const WINDOW: usize = 4;
/// No more is gathered into a record once it has this many bytes.
const RECORD_BYTES: usize = 1 << 20;

/// What the writer holds of it.
pub(crate) struct Agreement {
    log: Arc<SharedLog>,
    committed: Arc<Mutex<LogId>>,
    reads: Arc<Reads>,
    proposals: mpsc::UnboundedSender<Vec<Batch>>,
    /// Told when a checkpoint is on disk that was not made for a snapshot.
    covered: Arc<Notify>,
    checkpointing: Arc<AtomicBool>,
    /// Lazy ones that wait for a sync, and until when.
    held: Vec<Batch>,
    due: Option<Instant>,
    lazy: Duration,
}

impl Agreement {
    pub(crate) fn new(
        log: Arc<SharedLog>,
        committed: Arc<Mutex<LogId>>,
        reads: Arc<Reads>,
        covered: Arc<Notify>,
        checkpointing: Arc<AtomicBool>,
        lazy: Duration,
    ) -> (Agreement, mpsc::UnboundedReceiver<Vec<Batch>>) {
        // Bounded by the slots of the queue of the store.
        let (proposals, receiver) = mpsc::unbounded_channel();
        let (held, due) = (Vec::new(), None);
        (Agreement { log, committed, reads, proposals, covered, checkpointing, held, due, lazy }, receiver)
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

    fn take_written(&mut self) -> Written {
        self.log.take_written()
    }

    /// The engine's storage does it.
    fn roll(&mut self, _: bool) -> io::Result<()> {
        Ok(())
    }

    /// The engine decides what others may still need, when it takes a snapshot. A checkpoint that was made
    /// for one is no reason for another.
    fn purge(&mut self, _: LogId) -> io::Result<()> {
        if !self.checkpointing.load(Ordering::Acquire) {
            self.covered.notify_one();
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    fn free(&self) -> u64 {
        self.log.free()
    }

    fn finish(&mut self) {
        self.send();
    }

    fn retire(self: Box<Self>, _: Membership) -> Retired {
        Err((self, io::Error::from(io::ErrorKind::AlreadyExists)))
    }
}

/// Requests that become one record, and who waits for which of them.
struct Gathered {
    requests: Vec<Request>,
    waiting: Vec<(Waiting, usize)>,
}

impl Gathered {
    fn of(batches: Vec<Batch>) -> Gathered {
        let (mut requests, mut waiting) = (Vec::new(), Vec::new());
        for batch in batches {
            waiting.push((batch.waiting, batch.requests.len()));
            requests.extend(batch.requests);
        }
        Gathered { requests, waiting }
    }
}

fn answer(waiting: Vec<(Waiting, usize)>, outcomes: Vec<queue::Answer>) {
    let mut outcomes = outcomes.into_iter();
    for (waiting, count) in waiting {
        waiting.answered(outcomes.by_ref().take(count).collect());
    }
}

fn refuse(waiting: Vec<(Waiting, usize)>, error: &StoreError) {
    waiting.into_iter().for_each(|(waiting, _)| waiting.refused(error));
}

/// Takes what is proposed to the leader: the engine here, or another member.
pub(super) async fn propose_all(engine: Arc<Engine>, mut held: mpsc::UnboundedReceiver<Vec<Batch>>) {
    let window = Arc::new(Semaphore::new(WINDOW));
    let mut under_way = JoinSet::new();
    while let Some(mut batches) = held.recv().await {
        let Ok(turn) = Arc::clone(&window).acquire_owned().await else { return };
        let mut size: usize = batches.iter().map(|batch| batch.size).sum();
        while size < RECORD_BYTES
            && let Ok(more) = held.try_recv()
        {
            size += more.iter().map(|batch| batch.size).sum::<usize>();
            batches.extend(more);
        }
        let gathered = Gathered::of(batches);
        if engine.leads() {
            write(&engine, gathered, turn, &mut under_way).await;
        } else {
            let engine = Arc::clone(&engine);
            spawn(&mut under_way, async move {
                forward(&engine, gathered).await;
                drop(turn);
            });
        }
        while under_way.try_join_next().is_some() {}
    }
}

fn spawn(tasks: &mut JoinSet<()>, task: impl Future<Output = ()> + OptionalSend + 'static) {
    tasks.spawn(task);
}

/// Proposes as the leader. Returns once the engine has it, so that the order stays.
async fn write(
    engine: &Arc<Engine>,
    gathered: Gathered,
    turn: OwnedSemaphorePermit,
    under_way: &mut JoinSet<()>,
) {
    let Gathered { requests, waiting } = gathered;
    let proposal = Proposal { time: engine.stamps.next(0), request: Request::Batch(requests) };
    // Dropping those who wait says that the store is stopped.
    let Ok(written) = engine.raft.client_write_ff(proposal).await else { return };
    let timeout = engine.timeouts.write;
    under_way.spawn(async move {
        let _turn = turn;
        match tokio::time::timeout(timeout, written).await {
            Ok(Ok(Ok(written))) => {
                if let Answer(Ok(ApplyOutcome::Batch(outcomes))) = written.data {
                    answer(waiting, outcomes);
                }
            }
            // It has lost the lead since: whether the next leader has the record is not known.
            Ok(Ok(Err(ClientWriteError::ForwardToLeader(_)))) | Err(_) => {
                refuse(waiting, &StoreError::NoQuorum);
            }
            Ok(Ok(Err(ClientWriteError::ChangeMembershipError(_))) | Err(_)) => {}
        }
    });
}

/// Lets the leader write it, and answers once it is applied here.
async fn forward(engine: &Engine, gathered: Gathered) {
    let Gathered { requests, waiting } = gathered;
    let deadline = tokio::time::Instant::now() + engine.timeouts.write;
    let mut expected = engine.forwards.expect();
    let request = Request::Forwarded { member: engine.id, number: expected.number, requests };
    let record = Record { term: 0, index: 0, time: 0, request };
    let handed = tokio::time::timeout_at(deadline, hand_over(engine, record)).await;
    let error = match handed {
        Ok(true) => {
            if let Ok(Ok(outcomes)) = tokio::time::timeout_at(deadline, &mut expected.answers).await {
                return answer(waiting, outcomes);
            }
            StoreError::NoQuorum
        }
        Ok(false) => StoreError::Stopped,
        Err(_) => StoreError::NoQuorum,
    };
    refuse(waiting, &error);
}

/// Returns whether the record may be written: it is repeated only while it is certain that nobody has it.
async fn hand_over(engine: &Engine, record: Record) -> bool {
    let message = bytes::Bytes::from(Message::Forward(record.clone()).encode());
    loop {
        let Some(leader) = engine.known_leader().await else { return false };
        if leader == engine.id {
            let proposal = Proposal { time: engine.stamps.next(0), request: record.request };
            return engine.raft.client_write_ff(proposal).await.is_ok();
        }
        match engine.call(leader, message.clone()).await {
            Ok(Reply::Taken) | Err(CallError::Lost(_)) => return true,
            Ok(_) | Err(CallError::NotSent(_)) => engine.look_again().await,
        }
    }
}

/// The leader, and only it, has the deadlines of leases. A failed engine refuses all writes.
pub(super) async fn follow_leadership(engine: Arc<Engine>) {
    let mut metrics = engine.raft.metrics();
    let shared = &engine.shared;
    let mut led = false;
    let mut known = None;
    loop {
        let (leads, leader, failed) = {
            let now = metrics.borrow_and_update();
            let failed = now.running_state.as_ref().err().map(ToString::to_string);
            (now.state == ServerState::Leader, now.current_leader, failed)
        };
        if leader != known {
            known = leader;
            match leader {
                Some(leader) if leads => tracing::info!(leader, "this server leads the group"),
                Some(leader) => tracing::info!(leader, "this server follows"),
                None => tracing::warn!("no server leads the group"),
            }
        }
        if let Some(why) = failed {
            if !engine.stopping.load(Ordering::Acquire) {
                tracing::error!("this server takes no part in the group any more: {why}");
                shared.alarms.lock().unwritable = Some(why);
            }
            return;
        }
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

/// Lets the engine forget the log that checkpoints cover.
pub(super) async fn follow_checkpoints(engine: Arc<Engine>, covered: Arc<Notify>) {
    loop {
        covered.notified().await;
        if engine.raft.trigger().snapshot().await.is_err() {
            return;
        }
    }
}
