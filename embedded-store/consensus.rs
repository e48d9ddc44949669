//! Agreement on the next records: what makes a request a committed record, and tells how far that has come.
//!
//! The writer proposes batches and sees to it that they are answered; it does not know how many members agree. A group
//! of one is [`single::Single`]. A group of several is driven by an engine that calls the log and the state machine
//! behind [`crate::replica`]; the proof of that is `proof::group`, where openraft drives three stores.
//!
//! A batch whose requests are all lazy forces no sync of its own. In a group of several it waits for the next one, a
//! second at most, because nothing that a member could forget may be acknowledged. A group of one may commit it in
//! memory; what it promises then is written down in `docs/decisions/0011-agreement.md`.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use crate::replica::LogId;
use crate::types::StoreError;
use crate::writer::Batch;

pub(crate) mod single;

/// Decides on the order of records, alone or with others.
pub(crate) trait Consensus: Send {
    /// Takes requests in this order. They are answered once their records are committed and applied, or once it is
    /// known that they will not be, or not in time. May block for the disk, never for another member.
    fn propose(&mut self, batch: Batch);

    /// The newest record known to be committed. What is applied is never beyond it.
    fn committed(&self) -> LogId;

    /// How to find out what a current read has to see; `None` if this member's own state always is current.
    fn reads(&self) -> Option<Arc<dyn ReadIndex>>;

    /// When it has something to do without a proposal: then it wants to be [flushed](Self::flush).
    fn due(&self) -> Option<Instant>;

    /// Brings what it has taken to disk, as far as that is possible.
    fn flush(&mut self);

    /// Whether everything that is applied will be there after a crash: only that may be in a checkpoint.
    fn is_settled(&self) -> bool;

    /// What went to the log since the last call.
    fn take_written(&mut self) -> Written;

    /// Begins a new file of the log if the present one is full.
    fn roll(&mut self) -> io::Result<()>;

    /// A durable state stands for the records up to this one.
    fn purge(&mut self, up_to: LogId) -> io::Result<()>;

    /// Bytes that the log takes on disk.
    fn bytes(&self) -> u64;

    /// Bytes that can still be written.
    fn free(&self) -> u64;

    /// A clean stop: everything taken is on disk afterwards, if that is possible.
    fn finish(&mut self);
}

/// Tells where current reads stand.
pub(crate) trait ReadIndex: Send + Sync {
    /// Resolves once this member's state has everything that was acknowledged anywhere in the group before the call.
    fn read_index(&self) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// What has been brought to disk lately.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    /// How long the newest sync took.
    pub(crate) sync: Option<Duration>,
}
