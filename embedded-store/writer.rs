//! The one writer: collects waiting requests, proposes them together, and sees to it that they are answered.
//!
//! It has a thread of its own, because a sync blocks; a thread that has a [desk](crate::desk) may write in its place.
//! While the disk is waited for the next requests gather, so the number of syncs adapts to the load by itself; the
//! writer's own thread even waits a little for a crowd. How a proposal is committed is the business of
//! [`Consensus`](crate::consensus::Consensus).
//!
//! It also proposes what follows from time passing: the expiry of leases; and it starts checkpoints, which a second
//! thread writes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::check;
use crate::checkpoint::Job;
use crate::clock::Stamps;
use crate::consensus::Consensus;
use crate::desk::{Post, Reply};
use crate::inbox::{Answer, BATCH_BYTES, Gather, Proposal, Shared, answer};
use crate::record::Request;
use crate::state::Outcome;
use crate::types::{Durability, LeaseId, OpResult, StoreError};

mod checkpoints;

pub(crate) use checkpoints::Retry;

/// A sync that a thread with other work may wait for.
const QUICK_SYNC: Duration = Duration::from_millis(1);
/// So much log on another thread, and the writer's own looks after segments and checkpoints.
const MAINTENANCE: u64 = 512 << 10;
/// A burst is over when no crowd has written for so long.
const CALM: Duration = Duration::from_millis(200);
/// So many who write at the same time are a crowd, of which the writer's thread waits for most.
const CROWD: usize = 8;
/// It waits no longer than this, nor than so many syncs take.
const LONGEST_GATHERING: Duration = Duration::from_millis(1);
const GATHERING_SYNCS: u32 = 4;

/// How the writer behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A checkpoint is due after this much log.
    pub(crate) checkpoint_bytes: u64,
    /// What the applied state's file may have too much.
    pub(crate) spare_bytes: u64,
    /// Free space below which nothing that grows is accepted.
    pub(crate) min_free: u64,
}

/// Requests that are proposed together.
pub(crate) struct Batch {
    pub(crate) requests: Vec<Request>,
    pub(crate) waiting: Waiting,
}

/// Who waits for the answers to a batch, in the order of its requests. Dropped, it answers that the store is stopped.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    replies: Vec<Option<Reply>>,
    /// Leases that have run out: their revocations are the last requests of the batch.
    expired: Vec<LeaseId>,
}

impl Waiting {
    /// Gives everybody the outcome of his request.
    pub(crate) fn answered(self, outcomes: Vec<Answer>) {
        self.count(&outcomes);
        let revocations = outcomes.iter().rev().zip(self.expired.iter().rev());
        let failed = |outcome: &Answer| outcome.as_ref().is_err_and(|e| *e != StoreError::LeaseNotFound);
        revocations
            .filter(|(outcome, _)| failed(outcome))
            .for_each(|(_, id)| self.shared.lessor.start(*id, 1));
        let mut post = Post::default();
        for (reply, outcome) in self.replies.into_iter().zip(outcomes) {
            if let Some(reply) = reply {
                post.add(reply, outcome);
            }
        }
        post.send();
    }

    /// None of the requests was carried out.
    pub(crate) fn refused(self, error: &StoreError) {
        self.shared.metrics.failed_proposals.fetch_add(self.replies.len() as u64, Ordering::Relaxed);
        // They are tried again, and may be renewed until then.
        self.expired.iter().for_each(|id| self.shared.lessor.start(*id, 1));
        for reply in self.replies.into_iter().flatten() {
            reply.send(Err(error.clone()));
        }
    }

    /// Adds to the counters what the requests did.
    fn count(&self, outcomes: &[Answer]) {
        let (mut puts, mut deletes) = (0, 0);
        for result in outcomes.iter().flatten() {
            let Outcome::Txn(result) = result else { continue };
            count_writes(&result.results, &mut puts, &mut deletes);
        }
        self.shared.metrics.puts.fetch_add(puts, Ordering::Relaxed);
        self.shared.metrics.deletes.fetch_add(deletes, Ordering::Relaxed);
    }
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
    /// The same since segments and checkpoints were last looked after.
    pub(crate) unmaintained: u64,
    /// How long a sync takes lately.
    pub(crate) sync_time: Duration,
    /// About how many queue at the same time.
    pub(crate) crowd: usize,
    /// When a crowd last did.
    pub(crate) crowded: Option<Instant>,
    /// Free space, when it was last looked at.
    pub(crate) free: u64,
    /// A checkpoint is being written.
    pub(crate) checkpointing: bool,
    /// The last one failed.
    pub(crate) retry: Option<Retry>,
    /// One is due and waits for a burst to end.
    pub(crate) postponed: bool,
    /// When everything was last written anew, to give space back.
    pub(crate) renewed: Option<Instant>,
    /// Who waits for the checkpoint that is being written.
    pub(crate) waiting: Vec<oneshot::Sender<Result<(), String>>>,
}

/// Where the writer is while it does not write; empty for good once it has stopped.
pub(crate) type Place = Mutex<Option<Writer>>;

/// Lets the writer work until it is told to stop; then brings to disk what is not there yet.
pub(crate) fn run(place: &Place, shared: &Shared) {
    // Whoever waits must get an answer even if this thread panics.
    let _last = LastWord { place, shared };
    loop {
        let look = |w: &Writer| (w.due(), w.checkpointing, w.gather());
        let Some((due, checkpointing, gather)) = place.lock().as_ref().map(look) else { return };
        let (proposals, stop) = shared.next(due, checkpointing, gather);
        let mut place = place.lock();
        // Taken out: if it panics nobody finds it half done.
        let Some(mut writer) = place.take() else { return };
        let batch = proposals.len();
        writer.turn(proposals);
        writer.count_crowd(batch);
        if stop {
            writer.consensus.finish();
            return;
        }
        writer.maintain();
        *place = Some(writer);
    }
}

/// Commits on the calling thread, if the writer is free and the disk so quick that it is not worth waking another
/// thread for. Otherwise the requests are queued for the writer's own.
pub(crate) fn commit_here(place: &Place, shared: &Shared, proposals: Vec<Proposal>) {
    let fits = proposals.iter().map(|p| p.size).sum::<usize>() < BATCH_BYTES;
    let free = if fits { place.try_lock() } else { None };
    let Some(mut place) = free else { return shared.propose_all(proposals) };
    match place.take() {
        Some(mut writer) if writer.sync_time < QUICK_SYNC => {
            writer.turn(proposals);
            // Segments and checkpoints are for the thread that may wait for any disk.
            let behind = writer.unmaintained >= MAINTENANCE;
            shared.plan(if behind { Some(Instant::now()) } else { writer.due() });
            *place = Some(writer);
        }
        writer => {
            *place = writer;
            drop(place);
            shared.propose_all(proposals);
        }
    }
}

impl Writer {
    fn turn(&mut self, mut proposals: Vec<Proposal>) {
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
            if batch >= CROWD {
                self.crowded = Some(Instant::now());
            }
        }
        if self.consensus.due().is_some_and(|due| due <= Instant::now()) {
            self.flush();
        }
    }

    /// Learns from a batch how many queue at the same time.
    fn count_crowd(&mut self, batch: usize) {
        if batch > 0 {
            let queued = self.shared.inbox.lock().proposals.len();
            self.crowd = (batch + queued).max(self.crowd - self.crowd.div_ceil(8));
            if self.crowd >= CROWD {
                self.crowded = Some(Instant::now());
            }
        }
    }

    /// When there is something to do without a request.
    fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let lease = self.shared.lessor.next_expiry();
        let aged = {
            let state = self.shared.core.state.read();
            state.history.due(self.stamps.next(state.time))
        };
        let after = lease.into_iter().chain(aged).min().map(|patience| now + patience);
        let calm = self.crowded.filter(|_| self.postponed).map(|at| at + CALM);
        let retry = self.retry.filter(|_| !self.checkpointing).map(|retry| retry.at);
        let hub = self.shared.core.hub.due();
        self.consensus.due().into_iter().chain(hub).chain(after).chain(calm).chain(retry).min()
    }

    /// Where many write at the same time, most of them are let come before the next sync. Each waits for all that are
    /// before him anyway, and a sync for a few costs the processor as much as one for many.
    fn gather(&self) -> Option<Gather> {
        let patience = (self.sync_time * GATHERING_SYNCS).min(LONGEST_GATHERING);
        (self.crowd >= CROWD).then(|| Gather { enough: self.crowd - self.crowd / 8, patience })
    }

    /// Lets go of history that has become too old although nothing was written.
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
        self.shared.places.add_permits(proposals.iter().filter(|p| p.answer.is_some()).count());
        let proposals = self.refuse(proposals);
        if proposals.is_empty() {
            return;
        }
        let (requests, replies) = proposals.into_iter().map(|p| (p.request, p.answer)).unzip();
        let waiting = Waiting { shared: Arc::clone(&self.shared), replies, expired };
        self.consensus.propose(Batch { requests, waiting });
        self.note_written();
    }

    fn flush(&mut self) {
        self.consensus.flush();
        self.note_written();
    }

    fn note_written(&mut self) {
        let written = self.consensus.take_written();
        self.since_checkpoint += written.bytes;
        self.unmaintained += written.bytes;
        if let Some(took) = written.sync {
            self.sync_time = (self.sync_time * 7 + took) / 8;
        }
    }

    /// Answers what cannot be accepted now and returns the rest.
    fn refuse(&mut self, proposals: Vec<Proposal>) -> Vec<Proposal> {
        let unwritable = self.shared.trouble.lock().unwritable.clone();
        if let Some(why) = unwritable {
            for proposal in proposals {
                answer(proposal, Err(StoreError::Unwritable(why.clone())));
            }
            return Vec::new();
        }
        let free = self.consensus.free();
        self.free = free;
        let low = free < self.limits.min_free;
        let message = low.then(|| {
            let (have, need) = (free >> 20, self.limits.min_free >> 20);
            format!("{have} MiB are free on the disk of the store, {need} MiB are kept in reserve")
        });
        {
            let mut trouble = self.shared.trouble.lock();
            if trouble.no_space.is_some() != low {
                match &message {
                    Some(message) => tracing::warn!("writes are refused: {message}"),
                    None => tracing::info!("there is space again, writes are accepted"),
                }
            }
            trouble.no_space.clone_from(&message);
        }
        let Some(message) = message else { return proposals };
        let (refused, accepted): (Vec<_>, Vec<_>) =
            proposals.into_iter().partition(|p| needs_space(&p.request, free, self.limits.min_free));
        for proposal in refused {
            answer(proposal, Err(StoreError::NoSpace(message.clone())));
        }
        accepted
    }
}

/// Refuses everything that still waits, and all that comes, once the writer is gone.
struct LastWord<'a> {
    place: &'a Place,
    shared: &'a Shared,
}

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        // Nobody writes in the place of a thread that has failed.
        drop(self.place.lock().take());
        let mut inbox = self.shared.inbox.lock();
        inbox.stop = true;
        // Dropping the other end answers "stopped".
        inbox.proposals.clear();
        inbox.wanted.clear();
        drop(inbox);
        self.shared.places.close();
    }
}

fn count_writes(results: &[OpResult], puts: &mut u64, deletes: &mut u64) {
    for result in results {
        match result {
            OpResult::Put { .. } => *puts += 1,
            OpResult::Delete { .. } => *deletes += 1,
            OpResult::Range(_) => {}
            OpResult::Txn(inner) => count_writes(&inner.results, puts, deletes),
        }
    }
}

/// Lazy writes replace small values that are there; they go on until the reserve itself is being used up.
fn needs_space(request: &Request, free: u64, min_free: u64) -> bool {
    match request {
        Request::Txn(txn) if txn.durability == Durability::Lazy => check::grows(txn) && free < min_free / 4,
        Request::Txn(txn) => check::grows(txn),
        Request::LeaseGrant { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
