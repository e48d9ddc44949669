//! A group of one: a record is committed once it is on this member's disk, a lazy record once it is in
//! memory.
//!
//! Two rules bound what a crash can make this member forget. A lazy record goes to disk with the next sync,
//! or after a few seconds with one of its own, and never before the records in front of it. And the revisions
//! that it shows lie below a ceiling that is on disk: after a crash the store continues from the ceiling, so
//! no revision is given to two changes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Consensus, ReadIndex, Retired, Written};
use crate::clock::Stamps;
use crate::consensus::ids::{LogId, Membership};
use crate::consensus::storage::{LogStorage, StateMachine};
use crate::log::record::{Record, Request};
use crate::types::StoreError;
use crate::writer::batch::Batch;
use crate::writer::queue::Shared;

/// Bytes of lazy records that stay in memory. More than that are synced early.
const LAZY_BYTES: usize = 1 << 20;
/// How many revisions lazy writes may show ahead of the disk.
const CEILING_STEP: u64 = 10_000;

pub(crate) struct Single {
    pub(crate) shared: Arc<Shared>,
    /// Term of the vote that lets this member write.
    pub(crate) term: u64,
    pub(crate) log: Box<dyn LogStorage>,
    pub(crate) machine: Arc<dyn StateMachine>,
    pub(crate) stamps: Arc<Stamps>,
    /// Lazy writes are on disk after this.
    pub(crate) lazy_flush: Duration,
    /// When the oldest lazy record in memory has to be on disk.
    lazy_due: Option<Instant>,
    last_time: u64,
    committed: LogId,
    written: Written,
}

impl Single {
    /// Continues after what the log and the state hold, after a crash from the ceiling.
    pub(crate) fn start(
        shared: Arc<Shared>,
        term: u64,
        log: Box<dyn LogStorage>,
        machine: Arc<dyn StateMachine>,
        stamps: Arc<Stamps>,
        lazy_flush: Duration,
    ) -> io::Result<Self> {
        let (last_time, skip) = {
            let state = shared.core.state.read();
            (state.time, state.ceiling > state.revision)
        };
        let committed = log.state().last;
        let (lazy_due, written) = (None, Written::default());
        let mut single = Single {
            shared,
            term,
            log,
            machine,
            stamps,
            lazy_flush,
            lazy_due,
            last_time,
            committed,
            written,
        };
        if skip {
            let skip = single.record(Request::SkipToCeiling);
            single.sync()?;
            single.apply(&[skip]);
        }
        Ok(single)
    }

    /// Makes the next record and buffers it in the log.
    fn record(&mut self, request: Request) -> Record {
        self.last_time = self.stamps.next(self.last_time);
        let index = self.log.state().last.index + 1;
        let record = Record { term: self.term, index, time: self.last_time, request };
        self.log.append(&record);
        record
    }

    fn apply(&mut self, records: &[Record]) -> Vec<crate::writer::queue::Answer> {
        if let Some(last) = records.last() {
            self.committed = last.id();
        }
        self.machine.apply(records)
    }

    fn sync(&mut self) -> io::Result<()> {
        let started = Instant::now();
        let before = self.log.buffered() as u64;
        self.log.sync()?;
        let took = started.elapsed();
        self.shared.metrics.wal_fsync.observe(took);
        self.lazy_due = None;
        self.written = Written { bytes: self.written.bytes + before, sync: Some(took) };
        self.shared.log_bytes.store(self.log.bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// Turns a failure of the log into the answer for those who waited for it.
    fn failed(&mut self, e: &io::Error) -> StoreError {
        if e.kind() == io::ErrorKind::StorageFull {
            return StoreError::NoSpace("the disk of the store is full".to_string());
        }
        tracing::error!("the log cannot be written, all writes are refused from now on: {e}");
        let why = e.to_string();
        self.shared.alarms.lock().unwritable = Some(why.clone());
        self.lazy_due = None;
        StoreError::Unwritable(why)
    }
}

impl Consensus for Single {
    fn propose(&mut self, batch: Batch) {
        let (revision, ceiling) = {
            let state = self.shared.core.state.read();
            (state.revision, state.ceiling)
        };
        let Batch { requests, waiting, .. } = batch;
        let highest = revision + requests.len() as u64;
        let lazy = requests.iter().all(Request::is_lazy);
        let first = self.log.state().last.index + 1;
        let mut records = Vec::with_capacity(requests.len() + 1);
        let raise = lazy && highest > ceiling;
        if raise {
            records.push(self.record(Request::Ceiling { revision: highest + CEILING_STEP }));
        }
        for request in requests {
            records.push(self.record(request));
        }
        if lazy && !raise && self.log.buffered() < LAZY_BYTES {
            self.lazy_due.get_or_insert_with(|| Instant::now() + self.lazy_flush);
        } else if let Err(e) = self.sync() {
            let error = self.failed(&e);
            // Nothing was acknowledged. After any other failure the log is not used again.
            if matches!(error, StoreError::NoSpace(_))
                && let Err(e) = self.log.truncate(first)
            {
                self.failed(&e);
            }
            return waiting.refused(&error);
        }
        let mut outcomes = self.apply(&records);
        outcomes.drain(..usize::from(raise));
        waiting.answered(outcomes);
    }

    fn committed(&self) -> LogId {
        self.committed
    }

    /// Writes are applied here before they are acknowledged, and no other member acknowledges any.
    fn reads(&self) -> Option<Arc<dyn ReadIndex>> {
        None
    }

    fn due(&self) -> Option<Instant> {
        self.lazy_due
    }

    fn flush(&mut self) {
        if let Err(e) = self.sync() {
            self.failed(&e);
            // A full disk may have space later, so the lazy records stay in memory.
            if e.kind() == io::ErrorKind::StorageFull {
                self.lazy_due = Some(Instant::now() + self.lazy_flush);
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.log.buffered() == 0
    }

    fn take_written(&mut self) -> Written {
        std::mem::take(&mut self.written)
    }

    fn roll(&mut self, now: bool) -> io::Result<()> {
        self.log.roll(now)
    }

    fn purge(&mut self, up_to: LogId) -> io::Result<()> {
        self.log.purge(up_to)
    }

    fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    fn free(&self) -> u64 {
        self.log.free().unwrap_or(u64::MAX)
    }

    /// Lowers the ceiling, so that the next start need not skip revisions.
    fn finish(&mut self) {
        if self.shared.alarms.lock().unwritable.is_some() {
            return;
        }
        if self.shared.core.state.read().ceiling > 0 {
            let lowered = self.record(Request::Ceiling { revision: 0 });
            if self.sync().is_ok() {
                self.apply(&[lowered]);
            }
        } else if let Err(e) = self.sync() {
            self.failed(&e);
        }
    }

    fn retire(mut self: Box<Self>, members: Membership) -> Retired {
        let unwritable = self.shared.alarms.lock().unwritable.clone();
        if let Some(why) = unwritable {
            return Err((self, io::Error::other(why)));
        }
        self.finish();
        let first = self.log.state().last.index + 1;
        let last = self.record(Request::Members(members));
        match self.sync() {
            Ok(()) => {
                self.apply(&[last]);
                Ok(self.log)
            }
            Err(e) => {
                let _ = self.log.truncate(first);
                Err((self, e))
            }
        }
    }
}
