//! The two seams for replication: the log, and the state that it is applied to.
//!
//! They are shaped after openraft's `RaftLogStorage` and `RaftStateMachine` and pass openraft's test suite
//! (`proof::raft`), but do not depend on it. A single server is a group of one that writes the same records
//! through the same traits; a larger group only needs another driver, not a second way to write. The traits
//! are blocking, because a sync blocks, so a driver needs a thread for them.

use std::io;
use std::ops::Range;

use crate::consensus::ids::{LogId, Membership, Vote};
use crate::log::error::LogError;
use crate::log::record::Record;
use crate::state::frozen::Frozen;
use crate::state::{ApplyOutcome, State};
use crate::types::StoreError;

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogState {
    /// Records up to this one are gone.
    pub(crate) purged: LogId,
    /// The newest record, whether it is on disk or not; the purged one if there is none.
    pub(crate) last: LogId,
}

/// Records with a contiguous index, and the vote.
pub(crate) trait LogStorage: Send {
    fn state(&self) -> LogState;

    fn vote(&self) -> Option<Vote>;

    /// Returns once it is on disk.
    fn save_vote(&mut self, vote: Vote) -> io::Result<()>;

    /// Adds a record, in memory; [`sync`](Self::sync) brings it to disk.
    fn append(&mut self, record: &Record);

    /// Writes what was appended and returns once it is on disk. On an error of kind `StorageFull` nothing has
    /// been written and the log goes on; after any other it must not be used again.
    fn sync(&mut self) -> io::Result<()>;

    /// The existing records with these indexes.
    fn read(&self, indexes: Range<u64>) -> Result<Vec<Record>, LogError>;

    /// Removes the record of this index and all after it, for good once it returns.
    fn truncate(&mut self, since: u64) -> io::Result<()>;

    /// Forgets the records up to this one, which a durable state covers. It may be beyond the newest record.
    fn purge(&mut self, up_to: LogId) -> io::Result<()>;

    /// Begins a new file if the present one is full, or holds anything and it is to be `now`. Failing to is
    /// no harm.
    fn roll(&mut self, now: bool) -> io::Result<()>;

    /// Bytes appended and not written.
    fn buffered(&self) -> usize;

    /// Bytes on disk.
    fn bytes(&self) -> u64;

    /// Bytes that can still be written.
    fn free(&self) -> io::Result<u64>;
}

/// What records are applied to.
pub(crate) trait StateMachine: Send + Sync {
    /// The newest record applied, and the newest membership with the record that brought it.
    fn applied(&self) -> (LogId, LogId, Membership);

    /// Applies committed records in order; answers in their order.
    fn apply(&self, records: &[Record]) -> Vec<Result<ApplyOutcome, StoreError>>;

    /// A consistent copy of the state, taken while it goes on changing.
    fn snapshot(&self) -> Frozen;

    /// Replaces this state by another member's.
    fn install(&self, state: State);
}
