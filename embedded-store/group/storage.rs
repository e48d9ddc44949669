//! openraft's log on ours. Syncs run on a thread for blocking work; the newest records stay in memory, where
//! replication and applying find them.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError};
use parking_lot::Mutex;

use crate::consensus::Written;
use crate::consensus::storage::LogStorage;
use crate::group::entry::{Entry, LogId, MemberId, Types, Vote, our_id, our_vote, their_id, their_vote};

pub(crate) type Failure = StorageError<MemberId>;

/// Bytes of the newest records that stay in memory.
const RECENT_BYTES: usize = 8 << 20;

pub(super) fn failed(e: impl std::error::Error + 'static) -> Failure {
    StorageIOError::write(&e).into()
}

/// The newest records, contiguous.
#[derive(Default)]
struct Recent {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Recent {
    fn first(&self) -> u64 {
        self.entries.front().map_or(u64::MAX, |(entry, _)| entry.record.index)
    }

    fn push(&mut self, entry: Entry, size: usize) {
        if self.entries.back().is_some_and(|(last, _)| last.record.index + 1 != entry.record.index) {
            *self = Recent::default();
        }
        self.bytes += size;
        self.entries.push_back((entry, size));
        while self.bytes > RECENT_BYTES
            && self.entries.len() > 1
            && let Some((_, size)) = self.entries.pop_front()
        {
            self.bytes -= size;
        }
    }

    fn truncate(&mut self, since: u64) {
        while self.entries.back().is_some_and(|(last, _)| last.record.index >= since)
            && let Some((_, size)) = self.entries.pop_back()
        {
            self.bytes -= size;
        }
    }

    fn purge(&mut self, up_to: u64) {
        while self.entries.front().is_some_and(|(first, _)| first.record.index <= up_to)
            && let Some((_, size)) = self.entries.pop_front()
        {
            self.bytes -= size;
        }
    }

    /// `None` if some of them are no longer here.
    fn read(&self, indexes: &Range<u64>) -> Option<Vec<Entry>> {
        let first = self.first();
        if indexes.start < first {
            return None;
        }
        let skip = usize::try_from(indexes.start - first).unwrap_or(usize::MAX);
        let wanted = self.entries.iter().skip(skip).map(|(entry, _)| entry);
        Some(wanted.take_while(|entry| entry.record.index < indexes.end).cloned().collect())
    }
}

/// The log of a member, as all parts of its engine share it.
pub(crate) struct SharedLog {
    log: Mutex<Box<dyn LogStorage>>,
    recent: Mutex<Recent>,
    /// Known without waiting for a sync that is under way.
    bytes: AtomicU64,
    free: AtomicU64,
    written: Mutex<Written>,
}

impl SharedLog {
    pub(crate) fn new(log: Box<dyn LogStorage>) -> Arc<Self> {
        let (bytes, free) = (log.bytes(), log.free().unwrap_or(u64::MAX));
        Arc::new(SharedLog {
            log: Mutex::new(log),
            recent: Mutex::default(),
            bytes: AtomicU64::new(bytes),
            free: AtomicU64::new(free),
            written: Mutex::default(),
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// What has been written since the last call.
    pub(crate) fn take_written(&self) -> Written {
        std::mem::take(&mut *self.written.lock())
    }

    fn note_sizes(&self, log: &dyn LogStorage) {
        self.bytes.store(log.bytes(), Ordering::Relaxed);
        self.free.store(log.free().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Brings records to disk. Blocks.
    fn write(&self, entries: Vec<Entry>) -> io::Result<()> {
        let mut log = self.log.lock();
        let began = Instant::now();
        for entry in entries {
            let before = log.buffered();
            log.append(&entry.record);
            let size = log.buffered().saturating_sub(before);
            self.recent.lock().push(entry, size);
        }
        let bytes = log.buffered() as u64;
        log.sync()?;
        // Failing to is no harm.
        let _ = log.roll(false);
        self.note_sizes(&**log);
        let mut written = self.written.lock();
        *written = Written { bytes: written.bytes + bytes, sync: Some(began.elapsed()) };
        Ok(())
    }

    /// How long a sync takes on this disk; the longer of two. Blocks.
    pub(crate) fn measure_sync(&self) -> Duration {
        let mut log = self.log.lock();
        let Some(vote) = log.vote() else { return Duration::ZERO };
        let mut once = || {
            let began = Instant::now();
            log.save_vote(vote).map_or(Duration::ZERO, |()| began.elapsed())
        };
        // A vote is written in two copies, each with a sync.
        once().max(once()) / 2
    }
}

/// The log as openraft sees it.
#[derive(Clone)]
pub(crate) struct Storage(pub(crate) Arc<SharedLog>);

impl Storage {
    /// Runs something that may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SharedLog) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let log = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&log)).await;
        done.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(failed)
    }
}

impl RaftLogReader<Types> for Storage {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, Failure> {
        let start = match range.start_bound() {
            Bound::Included(start) => start + 1,
            Bound::Excluded(start) => start + 2,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 2,
            Bound::Excluded(end) => end + 1,
            Bound::Unbounded => u64::MAX,
        };
        if let Some(entries) = self.0.recent.lock().read(&(start..end)) {
            return Ok(entries);
        }
        self.blocking(move |shared| {
            let records = shared.log.lock().read(start..end).map_err(io::Error::other)?;
            Ok(records.into_iter().filter_map(Entry::of).collect())
        })
        .await
    }
}

impl RaftLogStorage<Types> for Storage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, Failure> {
        let state = self.0.log.lock().state();
        Ok(LogState { last_purged_log_id: their_id(state.purged), last_log_id: their_id(state.last) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), Failure> {
        let vote = our_vote(vote);
        self.blocking(move |shared| shared.log.lock().save_vote(vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, Failure> {
        Ok(self.0.log.lock().vote().map(their_vote))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (log, entries) = (Arc::clone(&self.0), entries.into_iter().collect());
        let written = tokio::task::spawn_blocking(move || log.write(entries)).await;
        callback.log_io_completed(written.unwrap_or_else(|e| Err(io::Error::other(e))));
        Ok(())
    }

    async fn truncate(&mut self, id: LogId) -> Result<(), Failure> {
        let since = our_id(id).index;
        self.blocking(move |shared| {
            shared.recent.lock().truncate(since);
            shared.log.lock().truncate(since)
        })
        .await
    }

    async fn purge(&mut self, id: LogId) -> Result<(), Failure> {
        let up_to = our_id(id);
        self.blocking(move |shared| {
            let mut log = shared.log.lock();
            log.purge(up_to)?;
            shared.recent.lock().purge(up_to.index);
            shared.note_sizes(&**log);
            Ok(())
        })
        .await
    }
}
