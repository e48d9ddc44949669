//! What the store, its writer and the thread behind share: the queue of requests, and what is known of the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{Semaphore, oneshot};

use crate::core::Core;
use crate::desk::Reply;
use crate::lease::Lessor;
use crate::metrics::Metrics;
use crate::record::Request;
use crate::replica::LogId;
use crate::state::Outcome;
use crate::types::StoreError;

/// Bytes written with one sync, about.
pub(crate) const BATCH_BYTES: usize = 4 << 20;
/// Requests that may wait at a time; more wait to be let in.
pub(crate) const WAITING: usize = 8192;

pub(crate) type Answer = Result<Outcome, StoreError>;

/// A request and who waits for its answer.
pub(crate) struct Proposal {
    pub(crate) request: Request,
    pub(crate) size: usize,
    /// `None` for what the store proposes itself.
    pub(crate) answer: Option<Reply>,
}

/// How many requests to wait for, and how long, once there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gather {
    pub(crate) enough: usize,
    pub(crate) patience: Duration,
}

#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) proposals: Vec<Proposal>,
    /// The writer's thread waits for so many; it is woken for the first one, too.
    enough: usize,
    pub(crate) stop: bool,
    /// What the newest checkpoint stands for, or why it could not be written.
    pub(crate) checkpointed: Option<Result<LogId, String>>,
    /// Who wants a checkpoint of everything up to now.
    pub(crate) wanted: Vec<oneshot::Sender<Result<(), String>>>,
    /// One of them wants it to begin a new file.
    pub(crate) afresh: bool,
    /// The writer's thread sleeps, until then if nobody wakes it (`None` inside: for ever).
    asleep: Option<Option<Instant>>,
    /// The thread has something to do by then.
    plan: Option<Instant>,
}

impl Inbox {
    /// Whether there is nothing to do for the writer. A checkpoint that is wanted waits for the one being written.
    pub(crate) fn idle(&self, checkpointing: bool) -> bool {
        self.proposals.is_empty()
            && !self.stop
            && self.checkpointed.is_none()
            && (self.wanted.is_empty() || checkpointing)
    }
}

/// What the store and its writer share.
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    pub(crate) lessor: Lessor,
    pub(crate) metrics: Metrics,
    /// Places in the queue.
    pub(crate) places: Semaphore,
    pub(crate) trouble: Mutex<Trouble>,
    /// Bytes of the log and of the applied state on disk.
    pub(crate) log_bytes: AtomicU64,
    pub(crate) state_bytes: AtomicU64,
    /// When the applied state was last written, in seconds since 1970; 0 for never.
    pub(crate) checkpointed: AtomicU64,
    /// The next checkpoint is to hold everything.
    pub(crate) all_due: AtomicBool,
    /// The file of the applied state stays, however large it is.
    pub(crate) kept: AtomicBool,
    pub(crate) inbox: Mutex<Inbox>,
    pub(crate) wake: Condvar,
}

/// What is wrong with the store, for its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
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
            places: Semaphore::new(WAITING),
            trouble: Mutex::default(),
            log_bytes: AtomicU64::new(0),
            state_bytes: AtomicU64::new(0),
            checkpointed: AtomicU64::new(0),
            all_due: AtomicBool::new(false),
            kept: AtomicBool::new(false),
            inbox: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// Queues a request; its place must have been taken.
    pub(crate) fn propose(&self, proposal: Proposal) {
        self.propose_all(vec![proposal]);
    }

    /// The same for several at once.
    pub(crate) fn propose_all(&self, mut proposals: Vec<Proposal>) {
        let mut inbox = self.inbox.lock();
        if inbox.stop {
            drop(inbox);
            self.places.add_permits(proposals.len());
            for proposal in proposals {
                answer(proposal, Err(StoreError::Stopped));
            }
            return;
        }
        let before = inbox.proposals.len();
        inbox.proposals.append(&mut proposals);
        let enough = before < inbox.enough && inbox.proposals.len() >= inbox.enough;
        drop(inbox);
        // Only the first one has to wake the writer, and the last one that it waits for.
        if before == 0 || enough {
            self.wake.notify_one();
        }
    }

    /// For the writer's thread: waits for requests, until `due` or for the order to stop.
    pub(crate) fn next(
        &self,
        due: Option<Instant>,
        checkpointing: bool,
        gather: Option<Gather>,
    ) -> (Vec<Proposal>, bool) {
        let mut inbox = self.inbox.lock();
        let mut due = due;
        loop {
            due = due.into_iter().chain(inbox.plan.take()).min();
            if !inbox.idle(checkpointing) || due.is_some_and(|due| due <= Instant::now()) {
                break;
            }
            inbox.asleep = Some(due);
            match due {
                Some(due) => {
                    self.wake.wait_until(&mut inbox, due);
                }
                None => self.wake.wait(&mut inbox),
            }
            inbox.asleep = None;
        }
        if let Some(gather) = gather {
            self.gather(&mut inbox, gather);
        }
        let mut taken = 0;
        let all = inbox.proposals.iter().take_while(|p| {
            let fits = taken < BATCH_BYTES;
            taken += p.size;
            fits
        });
        let count = all.count();
        let rest = inbox.proposals.split_off(count);
        let proposals = std::mem::replace(&mut inbox.proposals, rest);
        let stop = inbox.stop && inbox.proposals.is_empty();
        (proposals, stop)
    }

    fn gather(&self, inbox: &mut MutexGuard<'_, Inbox>, gather: Gather) {
        if inbox.proposals.iter().all(|p| p.request.is_lazy()) {
            return;
        }
        let until = Instant::now() + gather.patience;
        inbox.enough = gather.enough;
        while inbox.proposals.len() < gather.enough && !inbox.stop {
            if self.wake.wait_until(inbox, until).timed_out() {
                break;
            }
        }
        inbox.enough = 0;
    }

    /// The writer's thread has something to do by then. Also while it is awake: what it found out before, it forgets.
    pub(crate) fn plan(&self, due: Option<Instant>) {
        let Some(due) = due else { return };
        let mut inbox = self.inbox.lock();
        inbox.plan = Some(inbox.plan.map_or(due, |planned| planned.min(due)));
        if inbox.asleep.is_some_and(|until| until.is_none_or(|until| due < until)) {
            self.wake.notify_one();
        }
    }

    /// Tells the writer that a checkpoint up to an index is on disk, or why not.
    pub(crate) fn checkpoint_done(&self, done: Result<LogId, String>) {
        self.inbox.lock().checkpointed = Some(done);
        self.wake.notify_one();
    }

    /// Asks for a checkpoint, in a new file if it is to be so; the answer comes when it is on disk.
    pub(crate) fn want_checkpoint(&self, afresh: bool) -> oneshot::Receiver<Result<(), String>> {
        let (answer, wait) = oneshot::channel();
        let mut inbox = self.inbox.lock();
        if !inbox.stop {
            inbox.wanted.push(answer);
            inbox.afresh |= afresh;
            drop(inbox);
            self.nudge();
        }
        wait
    }

    pub(crate) fn stop(&self) {
        self.inbox.lock().stop = true;
        self.wake.notify_one();
    }

    /// Lets the writer look at deadlines and wishes again.
    pub(crate) fn nudge(&self) {
        self.plan(Some(Instant::now()));
    }
}

pub(crate) fn answer(proposal: Proposal, outcome: Answer) {
    if let Some(reply) = proposal.answer {
        reply.send(outcome);
    }
}

#[cfg(test)]
mod tests;
