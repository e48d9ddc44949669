//! When the applied state is written to disk, in which way, and what may go then.

use std::sync::atomic::Ordering;
use std::sync::mpsc::TrySendError;
use std::time::{Duration, Instant};

use super::{CALM, Writer};
use crate::checkpoint::{Job, bloated, live, needed};
use crate::replica::LogId;

/// Log after which the applied state is written, however large it is.
const LONGEST_LOG: u64 = 32 << 20;
/// So many times the log after which a checkpoint is due may there be while many write at the same time.
pub(super) const BURST: u64 = 32;
/// The applied state is written anew no more often than this, and seldom where that failed: each time everything is written.
const PAUSE: Duration = Duration::from_secs(60);
const LONG_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// Pauses after a failed checkpoint: the first, and the longest. Each attempt writes everything.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// When the next checkpoint is tried after one that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub(crate) at: Instant,
    /// How long the writer waited for it.
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
    /// Rolls segments, starts checkpoints and deletes what they made superfluous.
    pub(super) fn maintain(&mut self) {
        self.unmaintained = 0;
        // Found out anew if a checkpoint is possible at all.
        self.postponed = false;
        let done = self.shared.inbox.lock().checkpointed.take();
        if let Some(done) = done {
            self.checkpointed(done);
        }
        let unwritable = self.shared.trouble.lock().unwritable.clone();
        if let Some(why) = unwritable {
            self.retry = None;
            for waiting in std::mem::take(&mut self.shared.inbox.lock().wanted) {
                let _ = waiting.send(Err(why.clone()));
            }
            return;
        }
        if let Err(e) = self.consensus.roll() {
            tracing::warn!("cannot begin a new segment of the log, the old one grows: {e}");
        }
        if self.checkpointing {
            return;
        }
        self.waiting.append(&mut self.shared.inbox.lock().wanted);
        let again = self.retry.is_some_and(|retry| retry.is_due());
        if again || !self.waiting.is_empty() {
            // Only what is on disk in the log may be in a checkpoint.
            self.flush();
            if let Some(why) = self.shared.trouble.lock().unwritable.clone() {
                for waiting in self.waiting.drain(..) {
                    let _ = waiting.send(Err(why.clone()));
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
        let asked = std::mem::take(&mut self.shared.inbox.lock().afresh);
        let all_due = self.shared.all_due.load(Ordering::Relaxed);
        let afresh = (asked || self.bloated() || (all_due && self.would_bloat())) && self.has_room();
        if afresh {
            self.renewed = Some(Instant::now());
        }
        debug_assert!(self.shared.core.state.read().index <= self.consensus.committed().index);
        let mut job = Job::take(&mut self.shared.core.state.write(), self.store, afresh || all_due);
        job.afresh = afresh;
        self.checkpointing = true;
        self.postponed = false;
        self.since_checkpoint = 0;
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.jobs.try_send(job) {
            self.checkpointed(Err("its thread is gone".to_string()));
        }
    }

    /// A large store takes more log to read back for fewer writes of what changes again and again. And a burst has the
    /// processors and the disk for itself, as long as there is space for its log.
    pub(super) fn checkpoint_due(&mut self) -> bool {
        if self.retry.is_some() {
            return false;
        }
        let live = self.shared.core.state.read().bytes;
        let enough = self.limits.checkpoint_bytes.max((live / 8).min(LONGEST_LOG));
        let most = enough.max(self.limits.checkpoint_bytes * BURST);
        let room = self.free.saturating_sub(self.limits.min_free) / 4 > most;
        let burst = self.crowded.is_some_and(|at| at.elapsed() < CALM);
        let due = self.since_checkpoint >= enough || self.bloated();
        self.postponed = due && room && burst && self.since_checkpoint < most;
        due && !self.postponed
    }

    /// Whether the applied state takes far more of the disk than it has to, and can be written anew.
    pub(super) fn bloated(&self) -> bool {
        let (file, live) = self.sizes();
        // Without a change since then the last checkpoint has done what it could.
        self.since_checkpoint > 0
            && bloated(file, live, self.limits.spare_bytes)
            && self.renewed.is_none_or(|at| at.elapsed() > self.pause())
            && self.has_room()
    }

    /// Whether a base beside what is there would make the file far too large.
    fn would_bloat(&self) -> bool {
        let (file, live) = self.sizes();
        bloated(file + live, live, self.limits.spare_bytes) && !self.shared.kept.load(Ordering::Relaxed)
    }

    /// Time between two attempts to give space back.
    fn pause(&self) -> Duration {
        if self.shared.kept.load(Ordering::Relaxed) { LONG_PAUSE } else { PAUSE }
    }

    /// Whether everything can be written once more beside what is there.
    fn has_room(&self) -> bool {
        let (_, live) = self.sizes();
        self.consensus.free() > needed(live, self.limits.min_free)
    }

    /// Of the applied state's file, and of what is alive in it.
    fn sizes(&self) -> (u64, u64) {
        let live = live(&self.shared.core.state.read());
        (self.shared.state_bytes.load(Ordering::Relaxed), live)
    }

    fn checkpointed(&mut self, done: Result<LogId, String>) {
        self.checkpointing = false;
        match &done {
            Ok(upto) => {
                self.retry = None;
                if self.shared.trouble.lock().checkpoint.take().is_some() {
                    tracing::info!("the applied state is written again");
                }
                if let Err(e) = self.consensus.purge(*upto) {
                    tracing::warn!("cannot delete old segments of the log: {e}");
                }
                self.shared.log_bytes.store(self.consensus.bytes(), Ordering::Relaxed);
            }
            // What sled holds is not known any more, but the log and the memory have everything.
            Err(why) => {
                let retry = Retry::after(self.retry);
                tracing::error!(
                    "the applied state cannot be written, the log grows; next attempt in {:?}: {why}",
                    retry.pause
                );
                self.retry = Some(retry);
                self.shared.all_due.store(true, Ordering::Relaxed);
                self.shared.metrics.failed_checkpoints.fetch_add(1, Ordering::Relaxed);
                self.shared.trouble.lock().checkpoint = Some(why.clone());
            }
        }
        let done = done.map(|_| ());
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(done.clone());
        }
    }
}
