//! What the store, its writer and the checkpointer share: the queue of requests, and what is known about the
//! disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{Semaphore, oneshot};

use crate::checkpoint::CheckpointFailure;
use crate::consensus::ids::LogId;
use crate::lease::Lessor;
use crate::log::record::Request;
use crate::metrics::Metrics;
use crate::state::ApplyOutcome;
use crate::state::core::Core;
use crate::types::StoreError;
use crate::writer::submission::Reply;

/// Approximate limit of the bytes that one sync covers.
pub(crate) const BATCH_BYTES: usize = 4 << 20;
/// Requests that the queue holds. Callers wait for a slot when it is full.
pub(crate) const QUEUE_CAPACITY: usize = 8192;

pub(crate) type Answer = Result<ApplyOutcome, StoreError>;

/// A request and who waits for its answer.
pub(crate) struct Proposal {
    pub(crate) request: Request,
    pub(crate) size: usize,
    /// `None` for what the store proposes itself.
    pub(crate) answer: Option<Reply>,
}

/// How many requests the writer's thread waits for, and for how long, once there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupCommit {
    pub(crate) size: usize,
    pub(crate) timeout: Duration,
}

#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) proposals: Vec<Proposal>,
    /// The group commit that the writer's thread waits for. The thread is also woken for the first request.
    expected: usize,
    pub(crate) stop: bool,
    /// The record that the newest checkpoint covers, or why it could not be written.
    pub(crate) checkpointed: Option<Result<LogId, CheckpointFailure>>,
    /// Callers that wait for a checkpoint of the present state.
    pub(crate) checkpoint_requests: Vec<oneshot::Sender<Result<(), CheckpointFailure>>>,
    /// One of them asked for it to go to a new file.
    pub(crate) rewrite: bool,
    /// Set while the writer's thread sleeps: when it wakes by itself, if ever.
    sleeping_until: Option<Option<Instant>>,
    /// When the writer's thread has to be awake at the latest.
    wake_by: Option<Instant>,
}

impl Queue {
    /// Whether the writer has nothing to do. A requested checkpoint waits while another one is being written.
    pub(crate) fn idle(&self, checkpointing: bool) -> bool {
        self.proposals.is_empty()
            && !self.stop
            && self.checkpointed.is_none()
            && (self.checkpoint_requests.is_empty() || checkpointing)
    }
}

/// What the store and its writer share.
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    pub(crate) lessor: Lessor,
    pub(crate) metrics: Metrics,
    /// Free slots of the queue.
    pub(crate) slots: Semaphore,
    pub(crate) alarms: Mutex<Alarms>,
    /// Bytes of the log and of the applied state on disk.
    pub(crate) log_bytes: AtomicU64,
    pub(crate) state_bytes: AtomicU64,
    /// When the applied state was last written, in seconds since 1970; 0 for never.
    pub(crate) checkpointed: AtomicU64,
    /// The next checkpoint must be a full one.
    pub(crate) full_due: AtomicBool,
    /// The file of the applied state could not be replaced by a smaller one.
    pub(crate) rewrite_failed: AtomicBool,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) condvar: Condvar,
}

/// What is wrong with the store, for its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Writes that need space are refused.
    pub no_space: Option<String>,
    /// The log could not be written; all writes are refused until the store is opened again.
    pub unwritable: Option<String>,
    /// The applied state could not be written; the log grows until one of the further attempts succeeds.
    pub checkpoint: Option<String>,
}

impl Shared {
    pub(crate) fn new(core: Arc<Core>, lessor: Lessor) -> Self {
        Shared {
            core,
            lessor,
            metrics: Metrics::default(),
            slots: Semaphore::new(QUEUE_CAPACITY),
            alarms: Mutex::default(),
            log_bytes: AtomicU64::new(0),
            state_bytes: AtomicU64::new(0),
            checkpointed: AtomicU64::new(0),
            full_due: AtomicBool::new(false),
            rewrite_failed: AtomicBool::new(false),
            queue: Mutex::default(),
            condvar: Condvar::new(),
        }
    }

    /// Queues a request. The caller must hold a slot for it.
    pub(crate) fn propose(&self, proposal: Proposal) {
        self.propose_all(vec![proposal]);
    }

    /// Queues several requests at once.
    pub(crate) fn propose_all(&self, mut proposals: Vec<Proposal>) {
        let mut queue = self.queue.lock();
        if queue.stop {
            drop(queue);
            self.slots.add_permits(proposals.len());
            for proposal in proposals {
                answer(proposal, Err(StoreError::Stopped));
            }
            return;
        }
        let before = queue.proposals.len();
        queue.proposals.append(&mut proposals);
        let complete = before < queue.expected && queue.proposals.len() >= queue.expected;
        drop(queue);
        // The writer is woken for the first request, and for the one that completes a group.
        if before == 0 || complete {
            self.condvar.notify_one();
        }
    }

    /// Called by the writer's thread. Waits for requests, for `due`, or for the order to stop.
    pub(crate) fn next(
        &self,
        due: Option<Instant>,
        checkpointing: bool,
        group: Option<GroupCommit>,
    ) -> (Vec<Proposal>, bool) {
        let mut queue = self.queue.lock();
        let mut due = due;
        loop {
            due = due.into_iter().chain(queue.wake_by.take()).min();
            if !queue.idle(checkpointing) || due.is_some_and(|due| due <= Instant::now()) {
                break;
            }
            queue.sleeping_until = Some(due);
            match due {
                Some(due) => {
                    self.condvar.wait_until(&mut queue, due);
                }
                None => self.condvar.wait(&mut queue),
            }
            queue.sleeping_until = None;
        }
        if let Some(group) = group {
            self.wait_for_group(&mut queue, group);
        }
        let mut taken = 0;
        let all = queue.proposals.iter().take_while(|p| {
            let fits = taken < BATCH_BYTES;
            taken += p.size;
            fits
        });
        let count = all.count();
        let rest = queue.proposals.split_off(count);
        let proposals = std::mem::replace(&mut queue.proposals, rest);
        let stop = queue.stop && queue.proposals.is_empty();
        (proposals, stop)
    }

    fn wait_for_group(&self, queue: &mut MutexGuard<'_, Queue>, group: GroupCommit) {
        if queue.proposals.iter().all(|p| p.request.is_lazy()) {
            return;
        }
        let until = Instant::now() + group.timeout;
        queue.expected = group.size;
        while queue.proposals.len() < group.size && !queue.stop {
            if self.condvar.wait_until(queue, until).timed_out() {
                break;
            }
        }
        queue.expected = 0;
    }

    /// Makes sure that the writer's thread is awake by `due`. This also holds if it is about to sleep: a
    /// deadline that it computed before may be out of date.
    pub(crate) fn wake_by(&self, due: Option<Instant>) {
        let Some(due) = due else { return };
        let mut queue = self.queue.lock();
        queue.wake_by = Some(queue.wake_by.map_or(due, |earlier| earlier.min(due)));
        if queue.sleeping_until.is_some_and(|until| until.is_none_or(|until| due < until)) {
            self.condvar.notify_one();
        }
    }

    /// Reports to the writer that a checkpoint is on disk, or why it is not.
    pub(crate) fn checkpoint_done(&self, done: Result<LogId, CheckpointFailure>) {
        self.queue.lock().checkpointed = Some(done);
        self.condvar.notify_one();
    }

    /// Requests a checkpoint, in a new file if `rewrite` is set. The receiver resolves once it is on disk.
    pub(crate) fn request_checkpoint(
        &self,
        rewrite: bool,
    ) -> oneshot::Receiver<Result<(), CheckpointFailure>> {
        let (answer, wait) = oneshot::channel();
        let mut queue = self.queue.lock();
        if !queue.stop {
            queue.checkpoint_requests.push(answer);
            queue.rewrite |= rewrite;
            drop(queue);
            self.wake_now();
        }
        wait
    }

    pub(crate) fn stop(&self) {
        self.queue.lock().stop = true;
        self.condvar.notify_one();
    }

    /// Makes the writer look at deadlines and requests again.
    pub(crate) fn wake_now(&self) {
        self.wake_by(Some(Instant::now()));
    }
}

pub(crate) fn answer(proposal: Proposal, outcome: Answer) {
    if let Some(reply) = proposal.answer {
        reply.send(outcome);
    }
}

#[cfg(test)]
mod tests;
