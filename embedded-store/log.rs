//! The log: append-only segment files with a contiguous index, one sync for everything buffered.
//!
//! A segment is named after its first index and preallocated. The next one is begun only once all of it is on
//! disk, so a torn write can only be at the end of the last segment. Segments are deleted once a durable
//! checkpoint has their records. That is noted first, so a segment that a power cut brings back is known to
//! be superfluous.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::consensus::ids::{LogId, Vote};
use crate::consensus::storage::{LogState, LogStorage};
use crate::log::disk::{Disk, LogFile};
use crate::log::frame::End;
use crate::log::hard_state::HardState;
use crate::log::record::Record;

pub(crate) mod disk;
pub(crate) mod error;
pub(crate) mod frame;
mod hard_state;
pub(crate) mod record;
mod segments;

use error::LogError;
use segments::{Read, SEGMENT_HEADER, Segment, create_segment, name, present, read_segments, remove, reopen};
pub(crate) use segments::{begins_late, reaches_back};

pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    store: u64,
    segment_bytes: u64,
    /// The last one is being written to.
    segments: VecDeque<Segment>,
    file: Box<dyn LogFile>,
    /// Index of the next record to be appended.
    next: u64,
    /// Newest index on disk.
    synced: u64,
    /// Frames appended but not written.
    buffer: Vec<u8>,
    /// The first index of each term, from the one purged on.
    terms: BTreeMap<u64, u64>,
    hard: HardState,
}

/// What [`Log::open`] found beside the records.
pub(crate) struct Opened {
    pub(crate) log: Log,
    /// What was cut off at the end, in words.
    pub(crate) torn: Option<String>,
}

impl Log {
    /// Creates the log of a new store, or of one of which only a checkpoint is left. Its first record will be
    /// `first`.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        store: u64,
        first: u64,
    ) -> Result<Log, LogError> {
        let hard = HardState::open(&*disk)?;
        let path = disk.path();
        let file = create_segment(&*disk, segment_bytes, store, first)
            .map_err(|source| LogError::Io { path, source })?;
        let segments = VecDeque::from([Segment { first, length: SEGMENT_HEADER as u64 }]);
        let (next, synced) = (first, first - 1);
        let (buffer, terms) = (Vec::new(), BTreeMap::new());
        Ok(Log { disk, store, segment_bytes, segments, file, next, synced, buffer, terms, hard })
    }

    /// Reads all records after `applied`, in order, and prepares the log for appending. `None` if there is no
    /// log.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        segment_bytes: u64,
        store: Option<u64>,
        applied: u64,
        mut replay: impl FnMut(Record),
    ) -> Result<Option<Opened>, LogError> {
        let directory = disk.path();
        let io = |source| LogError::Io { path: directory.clone(), source };
        let hard = HardState::open(&**disk)?;
        let purged = hard.purged;
        let mut terms = BTreeMap::new();
        if purged.index > 0 {
            terms.insert(purged.index, purged.term);
        }
        let firsts = present(&**disk, purged, applied).map_err(io)?;
        let read = read_segments(disk, &firsts, store, |record| {
            note_term(&mut terms, record.id());
            if record.index > applied {
                replay(record);
            }
        })?;
        let first = read.segments.front().map_or(purged.index + 1, |oldest| oldest.first);
        let superseded = read.segments.is_empty() || read.next <= purged.index;
        let missing = match () {
            () if first > applied + 1 => Some((applied + 1, first - 1)),
            () if superseded && applied < purged.index => Some((read.next, purged.index)),
            () => None,
        };
        if let Some((from, to)) = missing {
            let what = format!("records {from} to {to} are missing");
            return Err(LogError::Damaged { path: directory, what });
        }
        let Some(store) = read.store else { return Ok(None) };
        if superseded && purged.index == 0 {
            return Ok(None);
        }
        let disk = Arc::clone(disk);
        let Read { mut segments, mut next, mut torn, .. } = read;
        let file = if superseded {
            // The power failed while the log was restarted behind the purged records.
            (next, torn) = (purged.index + 1, None);
            remove(&*disk, &segments).map_err(io)?;
            segments = VecDeque::from([Segment { first: next, length: SEGMENT_HEADER as u64 }]);
            create_segment(&*disk, segment_bytes, store, next).map_err(io)?
        } else {
            reopen(&*disk, &segments, segment_bytes, torn.is_some()).map_err(io)?
        };
        let (buffer, synced) = (Vec::new(), next - 1);
        let log = Log { disk, store, segment_bytes, segments, file, next, synced, buffer, terms, hard };
        Ok(Some(Opened { log, torn }))
    }

    pub(crate) fn store(&self) -> u64 {
        self.store
    }

    fn last(&self) -> LogId {
        let index = self.next - 1;
        LogId { term: self.terms.range(..=index).next_back().map_or(0, |(_, term)| *term), index }
    }

    /// Truncates the files before a record that is in one of them. A power cut meanwhile may leave more
    /// records than asked for, but never a gap.
    fn cut(&mut self, since: u64) -> io::Result<()> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        while self.segments.back().is_some_and(|newest| newest.first > since) {
            let Some(newest) = self.segments.pop_back() else { break };
            let before = self.segments.back().ok_or_else(missing)?;
            // The previous segment becomes the last one, so its seal is removed first.
            self.file = self.disk.open(&name(before.first))?;
            self.file.truncate(before.length)?;
            self.file.sync()?;
            // One by one, because removals reach the disk in any order.
            self.disk.remove(&name(newest.first))?;
            self.disk.sync_directory()?;
        }
        let segment = self.segments.back_mut().ok_or_else(missing)?;
        let name = name(segment.first);
        let bytes = self.disk.read(&name)?;
        let end = frame::find(&bytes, SEGMENT_HEADER, segment.first, since)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{name} cannot be read")))?;
        self.file.truncate(end as u64)?;
        self.file.sync()?;
        segment.length = end as u64;
        self.file.allocate(self.segment_bytes.max(segment.length))
    }

    /// Restarts the log after a record that it never had.
    fn restart(&mut self, after: LogId) -> io::Result<()> {
        self.hard.save(&*self.disk, self.hard.vote, after)?;
        let first = after.index + 1;
        self.file = create_segment(&*self.disk, self.segment_bytes, self.store, first)?;
        let segment = Segment { first, length: SEGMENT_HEADER as u64 };
        let old = std::mem::replace(&mut self.segments, VecDeque::from([segment]));
        self.buffer.clear();
        (self.next, self.synced) = (first, after.index);
        self.terms = BTreeMap::from([(after.index, after.term)]);
        remove(&*self.disk, &old)
    }
}

impl LogStorage for Log {
    fn state(&self) -> LogState {
        LogState { purged: self.hard.purged, last: self.last() }
    }

    fn vote(&self) -> Option<Vote> {
        self.hard.vote
    }

    fn save_vote(&mut self, vote: Vote) -> io::Result<()> {
        self.hard.save(&*self.disk, Some(vote), self.hard.purged)
    }

    fn append(&mut self, record: &Record) {
        debug_assert_eq!(record.index, self.next);
        frame::encode(record, self.synced, &mut self.buffer);
        note_term(&mut self.terms, record.id());
        self.next += 1;
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(segment) = self.segments.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(e) = self.file.append(&self.buffer, segment.length) {
            if e.kind() != io::ErrorKind::StorageFull {
                return Err(e);
            }
            // Part of it may have been written. It is removed, so that nothing is written over half a record.
            let undone = self.file.truncate(segment.length).and_then(|()| self.file.sync());
            return Err(if undone.is_ok() { e } else { io::Error::other(e) });
        }
        self.file.sync()?;
        segment.length += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(1 << 20);
        self.synced = self.next - 1;
        Ok(())
    }

    fn read(&self, indexes: Range<u64>) -> Result<Vec<Record>, LogError> {
        let mut records = Vec::new();
        let wanted = indexes.start.max(self.hard.purged.index + 1)..indexes.end.min(self.next);
        let mut take = |record: Record| {
            if wanted.contains(&record.index) {
                records.push(record);
            }
        };
        for (position, segment) in self.segments.iter().enumerate() {
            let end = self.segments.get(position + 1).map_or(self.synced + 1, |next| next.first);
            if wanted.start >= end || wanted.end <= segment.first {
                continue;
            }
            let path = self.disk.path().join(name(segment.first));
            let bytes = self.disk.read(&name(segment.first));
            let bytes = bytes.map_err(|source| LogError::Io { path: path.clone(), source })?;
            let (_, reached, how) = frame::scan(&bytes, SEGMENT_HEADER, segment.first, &mut take);
            // A seal may be torn. The records before it are all there.
            if reached < end {
                let what = match how {
                    End::Damaged(what) | End::Torn(what) => what,
                    End::Clean | End::Sealed => format!("records {reached} to {} are missing", end - 1),
                };
                return Err(LogError::Damaged { path, what });
            }
        }
        frame::scan(&self.buffer, 0, self.synced + 1, take);
        Ok(records)
    }

    fn truncate(&mut self, since: u64) -> io::Result<()> {
        if since <= self.hard.purged.index {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "what is purged cannot be cut off"));
        }
        if since >= self.next {
            return Ok(());
        }
        if since > self.synced {
            let kept = frame::find(&self.buffer, 0, self.synced + 1, since).unwrap_or(0);
            self.buffer.truncate(kept);
        } else {
            self.buffer.clear();
            self.cut(since)?;
            self.synced = since - 1;
        }
        self.next = since;
        self.terms.split_off(&since);
        Ok(())
    }

    fn purge(&mut self, up_to: LogId) -> io::Result<()> {
        if up_to.index <= self.hard.purged.index {
            return Ok(());
        }
        if up_to.index >= self.next {
            return self.restart(up_to);
        }
        let superfluous = |second: &Segment| second.first <= up_to.index + 1;
        if !self.segments.get(1).is_some_and(superfluous) {
            // Noted in memory only: if it is lost, the records are still there.
            self.hard.purged = up_to;
            return Ok(());
        }
        self.hard.save(&*self.disk, self.hard.vote, up_to)?;
        while self.segments.get(1).is_some_and(superfluous)
            && let Some(oldest) = self.segments.pop_front()
        {
            self.disk.remove(&name(oldest.first))?;
        }
        self.disk.sync_directory()
    }

    fn roll(&mut self, now: bool) -> io::Result<()> {
        // One that holds nothing gives way to none.
        let enough = if now { SEGMENT_HEADER as u64 + 1 } else { self.segment_bytes };
        let full = self.segments.back().is_some_and(|segment| segment.length >= enough);
        if !full || !self.buffer.is_empty() {
            return Ok(());
        }
        let file = create_segment(&*self.disk, self.segment_bytes, self.store, self.next)?;
        let mut old = std::mem::replace(&mut self.file, file);
        if let Some(segment) = self.segments.back() {
            // The seal only helps to find damage, so a failure does no harm.
            let _ = old.append(&frame::seal(self.synced), segment.length);
        }
        self.segments.push_back(Segment { first: self.next, length: SEGMENT_HEADER as u64 });
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.buffer.len()
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    fn free(&self) -> io::Result<u64> {
        self.disk.free()
    }
}

fn note_term(terms: &mut BTreeMap<u64, u64>, id: LogId) {
    if terms.last_key_value().is_none_or(|(_, term)| *term != id.term) {
        terms.insert(id.index, id.term);
    }
}

#[cfg(test)]
mod tests;
