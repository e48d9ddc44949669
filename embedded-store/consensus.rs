//! Agreement on the next records: turns requests into committed records, and tells how far that has come.
//!
//! The writer proposes batches and makes sure that they are answered. It does not know how many members
//! agree. A group of one is [`single::Single`]. In a group of several an engine drives the log and the state
//! machine through the traits in [`storage`]: [`group`](crate::group), with openraft.
//!
//! A batch of lazy requests forces no sync of its own. In a group of several it waits for the next sync, at
//! most a second, because nothing that a member could forget may be acknowledged. A group of one may commit
//! it in memory. `docs/decisions/0011-agreement.md` says what that promises.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use crate::consensus::ids::{LogId, Membership};
use crate::consensus::storage::LogStorage;
use crate::types::{LeaseId, StoreError};
use crate::writer::batch::Batch;

pub(crate) mod ids;
pub(crate) mod single;
pub(crate) mod storage;

/// Decides on the order of records, alone or with others.
pub(crate) trait Consensus: Send {
    /// Proposes requests in this order. Each is answered once its record is committed and applied, or once it
    /// is clear that this will not happen, or not in time. May block for the disk, but never for another
    /// member.
    fn propose(&mut self, batch: Batch);

    /// The newest record known to be committed. Nothing beyond it is applied.
    fn committed(&self) -> LogId;

    /// How current reads find their read index; `None` if this member's state is always current.
    fn reads(&self) -> Option<Arc<dyn ReadIndex>>;

    /// When [`flush`](Self::flush) is due without a further proposal.
    fn due(&self) -> Option<Instant>;

    /// Brings everything proposed to disk, as far as possible.
    fn flush(&mut self);

    /// Whether everything that is applied would survive a crash. Only then may a checkpoint be taken.
    fn is_settled(&self) -> bool;

    /// What was written to the log since the last call.
    fn take_written(&mut self) -> Written;

    /// Begins a new segment of the log if the present one is full, or holds anything and it is to be `now`.
    fn roll(&mut self, now: bool) -> io::Result<()>;

    /// A durable checkpoint covers the records up to this one, so the log may forget them.
    fn purge(&mut self, up_to: LogId) -> io::Result<()>;

    /// Bytes that the log takes on disk.
    fn bytes(&self) -> u64;

    /// Bytes that can still be written.
    fn free(&self) -> u64;

    /// Stops cleanly: everything proposed is on disk afterwards, if possible.
    fn finish(&mut self);

    /// Ends a group of one with a record that names its members, so that another engine goes on with its log.
    fn retire(self: Box<Self>, members: Membership) -> Retired;
}

/// The log of a group of one that has ended; itself and the reason if that is not possible.
pub(crate) type Retired = Result<Box<dyn LogStorage>, (Box<dyn Consensus>, io::Error)>;

/// What a member asks the leader beside writes: the read index of current reads, and the time of leases.
pub(crate) trait ReadIndex: Send + Sync {
    /// Resolves once this member has applied everything that any member acknowledged before the call.
    fn read_index(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Whether the last of these calls has failed, and not long ago.
    fn fails(&self) -> bool;

    /// The seconds that a lease has left, which the leader knows; with `renew` it has its whole time again.
    fn lease_time(&self, id: LeaseId, renew: bool) -> BoxFuture<'_, Result<i64, StoreError>>;
}

/// What has been written to disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    /// How long the newest sync took.
    pub(crate) sync: Option<Duration>,
}
