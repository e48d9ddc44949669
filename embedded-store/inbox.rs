//! What the store, its writer and the thread behind share: the queue of requests, and what is known of the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};

use crate::core::Core;
use crate::lease::Lessor;
use crate::metrics::Metrics;
use crate::record::Request;
use crate::replica::LogId;
use crate::state::Outcome;
use crate::types::StoreError;

/// Requests that may wait at a time; more wait to be let in.
pub(crate) const WAITING: usize = 8192;

pub(crate) type Answer = Result<Outcome, StoreError>;

/// A request and who waits for its answer.
pub(crate) struct Proposal {
    pub(crate) request: Request,
    pub(crate) size: usize,
    /// `None` for what the store proposes itself.
    pub(crate) answer: Option<oneshot::Sender<Answer>>,
}

#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) stop: bool,
    /// What the newest checkpoint stands for, or why it could not be written.
    pub(crate) checkpointed: Option<Result<LogId, String>>,
    /// Who wants a checkpoint of everything up to now.
    pub(crate) wanted: Vec<oneshot::Sender<Result<(), String>>>,
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
    /// The applied state could not be written; the log grows until the store is opened again.
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
            inbox: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// Queues a request; its place must have been taken.
    pub(crate) fn propose(&self, proposal: Proposal) {
        let mut inbox = self.inbox.lock();
        if inbox.stop {
            drop(inbox);
            self.places.add_permits(1);
            answer(proposal, Err(StoreError::Stopped));
            return;
        }
        inbox.proposals.push(proposal);
        // Only the first one has to wake the writer.
        if inbox.proposals.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// Tells the writer that a checkpoint up to an index is on disk, or why not.
    pub(crate) fn checkpoint_done(&self, done: Result<LogId, String>) {
        self.inbox.lock().checkpointed = Some(done);
        self.wake.notify_one();
    }

    /// Asks for a checkpoint; the answer comes when it is on disk.
    pub(crate) fn want_checkpoint(&self) -> oneshot::Receiver<Result<(), String>> {
        let (answer, wait) = oneshot::channel();
        let mut inbox = self.inbox.lock();
        if !inbox.stop {
            inbox.wanted.push(answer);
            self.wake.notify_one();
        }
        wait
    }

    pub(crate) fn stop(&self) {
        self.inbox.lock().stop = true;
        self.wake.notify_one();
    }

    /// Lets the writer look at the leases' deadlines again.
    pub(crate) fn nudge(&self) {
        let _inbox = self.inbox.lock();
        self.wake.notify_one();
    }
}

pub(crate) fn answer(proposal: Proposal, outcome: Answer) {
    if let Some(answer) = proposal.answer {
        // Whoever asked may have gone.
        let _ = answer.send(outcome);
    }
}
