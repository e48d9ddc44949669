//! The writer: collects the requests that wait, proposes them together, and makes sure that each is answered.
//!
//! It has a thread of its own, because a sync blocks. A thread with a [submission
//! queue](crate::writer::submission) may commit in its place. While one sync is under way further requests
//! queue up, so the size of a group commit adapts to the load. When many callers write at the same time the
//! writer's thread waits a moment for most of them. [`Consensus`](crate::consensus::Consensus) decides when a
//! proposal is committed.
//!
//! The writer also proposes the expiry of leases and starts checkpoints, which the checkpointer's thread
//! writes.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::checkpoint::{CheckpointFailure, Job};
use crate::clock::Stamps;
use crate::consensus::Consensus;
use crate::log::record::Request;
use crate::types::{LeaseId, StoreError};
use crate::writer::batch::{Batch, Waiting};
use crate::writer::queue::{BATCH_BYTES, GroupCommit, Proposal, Shared, answer};
use crate::writer::room::{Bounds, Room};

pub(crate) mod batch;
mod checkpoints;
pub(crate) mod queue;
mod room;
pub(crate) mod submission;

pub(crate) use checkpoints::Retry;

/// A thread with other work may wait for a sync of this length.
const QUICK_SYNC: Duration = Duration::from_millis(1);
/// After this much log written on another thread, the writer's thread looks after segments and checkpoints.
const MAINTENANCE: u64 = 512 << 10;
/// A burst ends when there has been no concurrent writing for this long.
const BURST_END: Duration = Duration::from_millis(200);
/// From this many concurrent writers on, the writer's thread waits for a group commit.
const MANY_WRITERS: usize = 8;
/// It waits no longer than this, and no longer than this many syncs take.
const LONGEST_GATHERING: Duration = Duration::from_millis(1);
const GATHERING_SYNCS: u32 = 4;

/// How the writer behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A checkpoint is due after this much log.
    pub(crate) checkpoint_bytes: u64,
    /// Bytes that the applied state's file may have beyond what it needs.
    pub(crate) spare_bytes: u64,
    /// Free space below which nothing that grows is accepted.
    pub(crate) min_free: u64,
    /// Bytes of keys and values beyond which nothing new is accepted.
    pub(crate) quota: u64,
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    /// Identifies the store, for checkpoints.
    pub(crate) store: u64,
    pub(crate) consensus: Box<dyn Consensus>,
    pub(crate) limits: Limits,
    pub(crate) stamps: Arc<Stamps>,
    pub(crate) jobs: SyncSender<Job>,
    /// Log written since the last checkpoint.
    pub(crate) since_checkpoint: u64,
    /// Log written since the last maintenance of segments and checkpoints.
    pub(crate) since_maintenance: u64,
    /// Moving average of the time that a sync takes.
    pub(crate) sync_time: Duration,
    /// Estimate of how many callers write at the same time.
    pub(crate) concurrency: usize,
    /// When many callers last did.
    pub(crate) last_concurrent: Option<Instant>,
    /// Free space, when it was last looked at.
    pub(crate) free: u64,
    /// A checkpoint is being written.
    pub(crate) checkpointing: bool,
    /// When the next attempt is due after a failed one.
    pub(crate) retry: Option<Retry>,
    /// A checkpoint is due but waits for a burst to end.
    pub(crate) postponed: bool,
    /// When the applied state was last rewritten to give space back.
    pub(crate) last_rewrite: Option<Instant>,
    /// Callers that wait for the checkpoint that is being written.
    pub(crate) waiting: Vec<oneshot::Sender<Result<(), CheckpointFailure>>>,
}

/// Holds the writer while it is idle. Empty for good once the writer has stopped.
pub(crate) type WriterSlot = Mutex<Option<Writer>>;

/// Runs the writer until it is told to stop; then everything left goes to disk.
pub(crate) fn run(slot: &WriterSlot, shared: &Shared) {
    // Callers get an answer even if this thread panics.
    let _guard = StopGuard { slot, shared };
    loop {
        let look = |w: &Writer| (w.due(), w.checkpointing, w.group_commit());
        let Some((due, checkpointing, group)) = slot.lock().as_ref().map(look) else { return };
        let (proposals, stop) = shared.next(due, checkpointing, group);
        let mut slot = slot.lock();
        // Taken out, so that nobody uses a writer that panicked half-way.
        let Some(mut writer) = slot.take() else { return };
        let batch = proposals.len();
        writer.process(proposals);
        writer.track_concurrency(batch);
        if stop {
            writer.consensus.finish();
            return;
        }
        writer.maintain();
        *slot = Some(writer);
    }
}

/// Commits on the calling thread if the writer is idle and syncs are quick: waking another thread would cost
/// more. Otherwise the requests are queued for the writer's thread.
pub(crate) fn try_commit_inline(slot: &WriterSlot, shared: &Shared, proposals: Vec<Proposal>) {
    let fits = proposals.iter().map(|p| p.size).sum::<usize>() < BATCH_BYTES;
    let free = if fits { slot.try_lock() } else { None };
    let Some(mut slot) = free else { return shared.propose_all(proposals) };
    match slot.take() {
        Some(mut writer) if writer.sync_time < QUICK_SYNC => {
            writer.process(proposals);
            // Maintenance may block for long, so it is left to the writer's thread.
            let maintenance = writer.since_maintenance >= MAINTENANCE;
            shared.wake_by(if maintenance { Some(Instant::now()) } else { writer.due() });
            *slot = Some(writer);
        }
        writer => {
            *slot = writer;
            drop(slot);
            shared.propose_all(proposals);
        }
    }
}

impl Writer {
    /// A writer that has nothing to do yet.
    pub(crate) fn new(
        shared: Arc<Shared>,
        store: u64,
        consensus: Box<dyn Consensus>,
        limits: Limits,
        stamps: Arc<Stamps>,
        jobs: SyncSender<Job>,
        since_checkpoint: u64,
    ) -> Self {
        Writer {
            shared,
            store,
            consensus,
            limits,
            stamps,
            jobs,
            since_checkpoint,
            since_maintenance: 0,
            sync_time: Duration::ZERO,
            checkpointing: false,
            postponed: false,
            retry: None,
            last_rewrite: None,
            free: 0,
            concurrency: 0,
            last_concurrent: None,
            waiting: Vec::new(),
        }
    }

    /// Proposes requests and what is due with them.
    fn process(&mut self, mut proposals: Vec<Proposal>) {
        self.shared.core.hub.release(Some(Instant::now()));
        self.forget();
        let expired = self.shared.lessor.expired();
        for id in expired.iter().copied() {
            self.shared.lessor.forget(id);
            proposals.push(Proposal { request: Request::LeaseRevoke { id }, size: 0, answer: None });
        }
        if !proposals.is_empty() {
            let batch = proposals.len();
            self.propose(proposals, expired);
            if batch >= MANY_WRITERS {
                self.last_concurrent = Some(Instant::now());
            }
        }
        if self.consensus.due().is_some_and(|due| due <= Instant::now()) {
            self.flush();
        }
    }

    /// Updates the estimate of concurrent writers from a batch.
    fn track_concurrency(&mut self, batch: usize) {
        if batch > 0 {
            let queued = self.shared.queue.lock().proposals.len();
            self.concurrency = (batch + queued).max(self.concurrency - self.concurrency.div_ceil(8));
            if self.concurrency >= MANY_WRITERS {
                self.last_concurrent = Some(Instant::now());
            }
        }
    }

    /// When the writer has something to do without a request.
    fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let lease = self.shared.lessor.next_expiry();
        let aged = {
            let state = self.shared.core.state.read();
            state.history.due(self.stamps.next(state.time))
        };
        let after = lease.into_iter().chain(aged).min().map(|left| now + left);
        let calm = self.last_concurrent.filter(|_| self.postponed).map(|at| at + BURST_END);
        let retry = self.retry.filter(|_| !self.checkpointing).map(|retry| retry.at);
        let hub = self.shared.core.hub.due();
        self.consensus.due().into_iter().chain(hub).chain(after).chain(calm).chain(retry).min()
    }

    /// With many concurrent writers, most of them join the next sync. Each has to wait for those before it
    /// anyway, and a sync costs the same processor time for few requests as for many.
    fn group_commit(&self) -> Option<GroupCommit> {
        let timeout = (self.sync_time * GATHERING_SYNCS).min(LONGEST_GATHERING);
        (self.concurrency >= MANY_WRITERS)
            .then(|| GroupCommit { size: self.concurrency - self.concurrency / 8, timeout })
    }

    /// Drops history that has grown too old although nothing was written.
    fn forget(&self) {
        let (now, due) = {
            let state = self.shared.core.state.read();
            let now = self.stamps.next(state.time);
            (now, state.history.due(now))
        };
        if due.is_some_and(|due| due.is_zero()) {
            self.shared.core.state.write().history.trim(now);
        }
    }

    fn propose(&mut self, proposals: Vec<Proposal>, expired: Vec<LeaseId>) {
        self.shared.slots.add_permits(proposals.iter().filter(|p| p.answer.is_some()).count());
        let proposals = self.refuse(proposals);
        if proposals.is_empty() {
            return;
        }
        let size = proposals.iter().map(|p| p.size).sum();
        let (requests, replies) = proposals.into_iter().map(|p| (p.request, p.answer)).unzip();
        let waiting = Waiting { shared: Arc::clone(&self.shared), replies, expired };
        self.consensus.propose(Batch { requests, waiting, size });
        self.note_written();
    }

    fn flush(&mut self) {
        self.consensus.flush();
        self.note_written();
    }

    fn note_written(&mut self) {
        let written = self.consensus.take_written();
        self.since_checkpoint += written.bytes;
        self.since_maintenance += written.bytes;
        if let Some(took) = written.sync {
            self.sync_time = (self.sync_time * 7 + took) / 8;
        }
    }

    /// Answers the requests that cannot be accepted now and returns the others.
    fn refuse(&mut self, proposals: Vec<Proposal>) -> Vec<Proposal> {
        let unwritable = self.shared.alarms.lock().unwritable.clone();
        if let Some(why) = unwritable {
            for proposal in proposals {
                answer(proposal, Err(StoreError::Unwritable(why.clone())));
            }
            return Vec::new();
        }
        let free = self.consensus.free();
        self.free = free;
        let bounds = Bounds { min_free: self.limits.min_free, quota: self.limits.quota };
        let room = Room { free, used: self.shared.core.state.read().bytes };
        let message = room.lack(bounds);
        {
            let mut alarms = self.shared.alarms.lock();
            if alarms.no_space.is_some() != message.is_some() {
                match &message {
                    Some(message) => tracing::warn!("writes are refused: {message}"),
                    None => tracing::info!("there is space again, writes are accepted"),
                }
            }
            alarms.no_space.clone_from(&message);
        }
        let Some(message) = message else { return proposals };
        let (refused, accepted): (Vec<_>, Vec<_>) = {
            let state = self.shared.core.state.read();
            proposals.into_iter().partition(|p| room.is_short_for(&p.request, bounds, &state))
        };
        for proposal in refused {
            answer(proposal, Err(StoreError::NoSpace(message.clone())));
        }
        accepted
    }
}

/// Refuses everything that waits or comes later, once the writer is gone.
struct StopGuard<'a> {
    slot: &'a WriterSlot,
    shared: &'a Shared,
}

impl Drop for StopGuard<'_> {
    fn drop(&mut self) {
        // Nobody may commit in the place of a thread that has failed.
        drop(self.slot.lock().take());
        let mut queue = self.shared.queue.lock();
        queue.stop = true;
        // The callers see the dropped senders as "stopped".
        queue.proposals.clear();
        queue.checkpoint_requests.clear();
        drop(queue);
        self.shared.slots.close();
    }
}

#[cfg(test)]
mod tests;
