//! Decides when the applied state is written to disk, in which form, and which log may be deleted then.

use std::sync::atomic::Ordering;
use std::sync::mpsc::TrySendError;
use std::time::{Duration, Instant};

use super::{BURST_END, Writer};
use crate::checkpoint::{CheckpointFailure, Job, live, needed, oversized};
use crate::consensus::ids::LogId;

/// After this much log the applied state is written, however large it is.
const LONGEST_LOG: u64 = 32 << 20;
/// During a burst the log may grow to this many times the size after which a checkpoint is due.
pub(super) const BURST: u64 = 32;
/// Pauses between two rewrites, which write everything: the usual one, and the one after a rewrite that
/// failed.
const REWRITE_PAUSE: Duration = Duration::from_secs(60);
const LONG_REWRITE_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// The first and the longest pause after a failed checkpoint. Each attempt writes everything.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// The next attempt after a failed checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub(crate) at: Instant,
    /// How long the writer waits for it. Doubles with each failure.
    pause: Duration,
}

impl Retry {
    fn after(last: Option<Retry>) -> Retry {
        let pause = last.map_or(FIRST_RETRY, |last| (last.pause * 2).min(LAST_RETRY));
        Retry { at: Instant::now() + pause, pause }
    }

    fn is_due(&self) -> bool {
        self.at <= Instant::now()
    }
}

impl Writer {
    /// Rolls segments, starts checkpoints, and deletes log that they made superfluous.
    pub(super) fn maintain(&mut self) {
        self.since_maintenance = 0;
        // Set again below if a checkpoint is possible at all.
        self.postponed = false;
        let done = self.shared.queue.lock().checkpointed.take();
        if let Some(done) = done {
            self.checkpointed(done);
        }
        let unwritable = self.shared.alarms.lock().unwritable.clone();
        if let Some(why) = unwritable {
            self.retry = None;
            for waiting in std::mem::take(&mut self.shared.queue.lock().checkpoint_requests) {
                let _ = waiting.send(Err(CheckpointFailure::LogUnwritable(why.clone())));
            }
            return;
        }
        if let Err(e) = self.consensus.roll(false) {
            tracing::warn!("cannot begin a new segment of the log, the old one grows: {e}");
        }
        if self.checkpointing {
            return;
        }
        self.waiting.append(&mut self.shared.queue.lock().checkpoint_requests);
        let again = self.retry.is_some_and(|retry| retry.is_due());
        if again || !self.waiting.is_empty() {
            // A checkpoint may hold only what the log on disk has.
            self.flush();
            if let Some(why) = self.shared.alarms.lock().unwritable.clone() {
                for waiting in self.waiting.drain(..) {
                    let _ = waiting.send(Err(CheckpointFailure::LogUnwritable(why.clone())));
                }
            }
        }
        let due = again || self.checkpoint_due() || !self.waiting.is_empty();
        if !due || !self.consensus.is_settled() {
            if again {
                self.retry = Some(Retry::after(self.retry));
            }
            return;
        }
        let asked = std::mem::take(&mut self.shared.queue.lock().rewrite);
        let full_due = self.shared.full_due.load(Ordering::Relaxed);
        if asked && let Err(e) = self.consensus.roll(true) {
            // The checkpoint is as good, but the segment stays that has what was before it.
            tracing::warn!("cannot begin a new segment of the log: {e}");
        }
        let rewrite = (asked || self.oversized() || (full_due && self.would_oversize())) && self.has_room();
        if rewrite {
            self.last_rewrite = Some(Instant::now());
        }
        debug_assert!(self.shared.core.state.read().index <= self.consensus.committed().index);
        let mut job = Job::take(&mut self.shared.core.state.write(), self.store, rewrite || full_due);
        job.rewrite = rewrite;
        self.checkpointing = true;
        self.postponed = false;
        self.since_checkpoint = 0;
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.jobs.try_send(job) {
            self.checkpointed(Err(CheckpointFailure::NoThread));
        }
    }

    /// The larger the store, the more log it collects before a checkpoint: keys that change often are then
    /// written less often. A burst of writers has the processors and the disk to itself, as long as there is
    /// space for its log.
    pub(super) fn checkpoint_due(&mut self) -> bool {
        if self.retry.is_some() {
            return false;
        }
        let live = self.shared.core.state.read().bytes;
        let enough = self.limits.checkpoint_bytes.max((live / 8).min(LONGEST_LOG));
        let most = enough.max(self.limits.checkpoint_bytes * BURST);
        let room = self.free.saturating_sub(self.limits.min_free) / 4 > most;
        let burst = self.last_concurrent.is_some_and(|at| at.elapsed() < BURST_END);
        let due = self.since_checkpoint >= enough || self.oversized();
        self.postponed = due && room && burst && self.since_checkpoint < most;
        due && !self.postponed
    }

    /// Whether the applied state's file is far larger than it has to be and can be rewritten.
    pub(super) fn oversized(&self) -> bool {
        let (file, live) = self.sizes();
        // If nothing has changed since the last checkpoint, another one would not help.
        self.since_checkpoint > 0
            && oversized(file, live, self.limits.spare_bytes)
            && self.last_rewrite.is_none_or(|at| at.elapsed() > self.pause())
            && self.has_room()
    }

    /// Whether another base in the same file would make it far too large.
    fn would_oversize(&self) -> bool {
        let (file, live) = self.sizes();
        oversized(file + live, live, self.limits.spare_bytes)
            && !self.shared.rewrite_failed.load(Ordering::Relaxed)
    }

    /// Time between two rewrites.
    fn pause(&self) -> Duration {
        if self.shared.rewrite_failed.load(Ordering::Relaxed) { LONG_REWRITE_PAUSE } else { REWRITE_PAUSE }
    }

    /// Whether there is room for another copy of everything.
    fn has_room(&self) -> bool {
        let (_, live) = self.sizes();
        self.consensus.free() > needed(live, self.limits.min_free)
    }

    /// Size of the applied state's file, and of the live data in it.
    fn sizes(&self) -> (u64, u64) {
        let live = live(&self.shared.core.state.read());
        (self.shared.state_bytes.load(Ordering::Relaxed), live)
    }

    fn checkpointed(&mut self, done: Result<LogId, CheckpointFailure>) {
        self.checkpointing = false;
        match &done {
            Ok(upto) => {
                self.retry = None;
                if self.shared.alarms.lock().checkpoint.take().is_some() {
                    tracing::info!("the applied state is written again");
                }
                if let Err(e) = self.consensus.purge(*upto) {
                    tracing::warn!("cannot delete old segments of the log: {e}");
                }
                self.shared.log_bytes.store(self.consensus.bytes(), Ordering::Relaxed);
            }
            // It is unknown what sled holds, but the log and the memory have everything.
            Err(why) => {
                let retry = Retry::after(self.retry);
                tracing::error!(
                    "the applied state cannot be written, the log grows; next attempt in {:?}: {why}",
                    retry.pause
                );
                self.retry = Some(retry);
                self.shared.full_due.store(true, Ordering::Relaxed);
                self.shared.metrics.failed_checkpoints.fetch_add(1, Ordering::Relaxed);
                self.shared.alarms.lock().checkpoint = Some(why.to_string());
            }
        }
        let done = done.map(|_| ());
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(done.clone());
        }
    }
}
