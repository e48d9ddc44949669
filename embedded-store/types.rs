//! The store's interface: requests, results, errors and the trait.
//!
//! Semantics are etcd v3's: one revision per transaction that changes something; create revision, mod
//! revision and version per key; a read at a revision sees everything up to it.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;

/// A lease: keys attached to it are deleted when it expires. 0 means none.
pub type LeaseId = i64;

/// One key at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: u64,
    pub mod_revision: u64,
    /// 1 on creation, plus one for every change since.
    pub version: u64,
    pub lease: LeaseId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// A key that does not exist has version, create and mod revision 0.
    Version(u64),
    CreateRevision(u64),
    ModRevision(u64),
    /// A key that does not exist fails every comparison of values.
    Value(Bytes),
    Lease(LeaseId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub key: Bytes,
    /// For a comparison of every key in `[key, range_end)`.
    pub range_end: Option<Bytes>,
    pub op: CompareOp,
    pub target: CompareTarget,
}

impl Compare {
    /// The key was last changed at this revision; 0 means it does not exist.
    pub fn mod_revision(key: impl Into<Bytes>, revision: u64) -> Self {
        let target = CompareTarget::ModRevision(revision);
        Compare { key: key.into(), range_end: None, op: CompareOp::Equal, target }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put {
        key: Bytes,
        value: Bytes,
        lease: LeaseId,
    },
    /// Puts over a key that is there; what is `None` stays as it is.
    Update {
        key: Bytes,
        value: Option<Bytes>,
        lease: Option<LeaseId>,
    },
    /// Deletes `key`, or all of `[key, range_end)`.
    Delete {
        key: Bytes,
        range_end: Option<Bytes>,
    },
    Range(RangeRequest),
    /// A transaction within a transaction: one revision for all, and its compares look at what was there
    /// before the outermost began. Its durability is the outermost's.
    Txn(Box<Txn>),
}

/// When a write may be acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After its record is on disk, in a group on the disks of a majority.
    #[default]
    Synced,
    /// It forces no sync of its own. A single server acknowledges it at once and has it on disk within 10 s:
    /// a crash of the machine may lose the newest of these writes, but never one that a synced write has
    /// followed, and no revision is given out twice. In a group it waits for the next sync, a second at most,
    /// and is then as durable as any other.
    Lazy,
}

/// How many transactions may lie in one another; etcd's limit of operations comes to the same.
pub(crate) const MAX_DEPTH: usize = 128;

/// If all compares hold, `success` is carried out, else `failure`; at one revision, all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
    pub durability: Durability,
    /// It may let small values grow in place within the eighth that lies above the quota: for what keeps the
    /// cluster going and for what frees room. The outermost transaction's counts.
    pub may_use_reserve: bool,
}

impl Txn {
    /// The operations that are carried out if the compares hold, or if they do not.
    pub(crate) fn branch(&self, succeeded: bool) -> &[Op] {
        if succeeded { &self.success } else { &self.failure }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResult {
    pub succeeded: bool,
    /// The store's revision after the transaction; its own if it changed something.
    pub revision: u64,
    /// One result per operation of the branch taken.
    pub results: Vec<OpResult>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    Put { previous: Option<KeyValue> },
    Delete { previous: Vec<KeyValue> },
    Range(RangeResult),
    Txn(TxnResult),
}

/// Keys `[key, range_end)`, or just `key`. A `range_end` of one zero byte means everything from `key` on
/// (etcd's convention).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    pub key: Bytes,
    pub range_end: Option<Bytes>,
    /// Most keys to return; 0 means all.
    pub limit: usize,
    /// Read as of this revision; 0 means now.
    pub revision: u64,
    pub keys_only: bool,
    pub count_only: bool,
}

/// Whether `key` is in `[start, end)`, or is `start` if there is no end.
pub(crate) fn in_range(key: &[u8], start: &[u8], end: Option<&Bytes>) -> bool {
    match end {
        None => key == start,
        Some(end) if end.as_ref() == [0] => key >= start,
        Some(end) => key >= start && key < end.as_ref(),
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// Sorted by key; empty values if `keys_only`.
    pub kvs: Vec<KeyValue>,
    /// Whether `limit` cut the answer short.
    pub more: bool,
    /// Keys in the range, whatever the limit.
    pub count: u64,
    /// The store's revision when it was read.
    pub revision: u64,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub key: Bytes,
    /// `None` for a deletion.
    pub new: Option<KeyValue>,
    pub old: Option<KeyValue>,
    /// Revision of the change.
    pub revision: u64,
}

impl Event {
    /// Bytes of its key and values.
    pub(crate) fn size(&self) -> usize {
        let value = |kv: &Option<KeyValue>| kv.as_ref().map_or(0, |kv| kv.value.len());
        self.key.len() + value(&self.old) + value(&self.new)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchRequest {
    pub key: Bytes,
    pub range_end: Option<Bytes>,
    /// First revision to deliver; 0 means from now on.
    pub start_revision: u64,
}

/// What a watch delivers: whole revisions, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    pub events: Arc<[Event]>,
    /// Everything up to and with this revision has been delivered.
    pub revision: u64,
}

pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchBatch, StoreError>> + Send>>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The revision asked for was compacted away; the oldest that can be read or watched is given.
    #[error("required revision has been compacted (oldest is {oldest})")]
    Compacted { oldest: u64 },
    #[error("required revision is a future revision (now at {now})")]
    FutureRevision { now: u64 },
    #[error("request of {size} bytes is larger than the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("key is empty")]
    EmptyKey,
    #[error("duplicate key given in a transaction")]
    DuplicateKey,
    /// What was to be put over is not there.
    #[error("key not found")]
    KeyNotFound,
    #[error("too many operations in a transaction")]
    TooManyOps,
    #[error("lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExists,
    /// With the lease would go keys under this prefix, which whoever asked may not delete. Nothing was done.
    #[error("the lease holds keys under {}", String::from_utf8_lossy(prefix))]
    LeaseProtected { prefix: Bytes },
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// A slow watcher was cut off; it may go on from the revision after the last one it got.
    #[error("watcher fell too far behind")]
    Lagged,
    /// Writes are refused before the disk is full, or because the quota is used up; reads and deletes go on.
    #[error("mvcc: database space exceeded: {0}")]
    NoSpace(String),
    /// The log could not be written; the store refuses writes until it is opened again.
    #[error("the log cannot be written: {0}")]
    Unwritable(String),
    #[error("the store is stopped")]
    Stopped,
    /// A layer above a store that changes values on their way (and encrypts them, say) cannot do so with this
    /// one. A store itself never says this.
    #[error("unable to transform key {key:?}: {why}")]
    Transform { key: String, why: String },
    /// Only the leader of the group takes writes and knows what is current. Nothing was done.
    #[error("this server does not lead the group{}", known(*leader))]
    NotLeader { leader: Option<u64> },
    /// A majority of the group did not agree in time. A write that was under way may still take effect.
    #[error("no quorum: a majority of the group's servers did not answer in time")]
    NoQuorum,
}

fn known(leader: Option<u64>) -> String {
    leader.map_or(String::new(), |id| format!(", server {id} does"))
}

/// The whole interface. Reads are served from memory; only writes wait for the disk.
pub trait Store: Leases + Send + Sync {
    /// Carries out a transaction; returns once it is as durable as it asked to be and visible to reads and
    /// watches.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResult, StoreError>>;

    fn range(&self, request: &RangeRequest) -> Result<RangeResult, StoreError>;

    /// Changes of a key or range from a revision on. Never skips one: a watcher that falls behind gets
    /// [`StoreError::Lagged`] or [`StoreError::Compacted`] and ends.
    fn watch(&self, request: &WatchRequest) -> Result<WatchStream, StoreError>;

    /// Waits until everything that was acknowledged before the call, by whichever server of the group, can be
    /// read here. [`StoreError::NotLeader`] or [`StoreError::NoQuorum`] if that cannot be found out.
    fn read_barrier(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        // What is acknowledged here can be read here.
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether this member of a group knows of a leader and can reach a majority, as far as is known from
    /// reads; `None` for a store that is alone.
    fn is_led(&self) -> Option<bool> {
        None
    }

    /// Forgets history before `revision`.
    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The newest revision whose effects can be read.
    fn revision(&self) -> u64;

    /// The oldest revision that can be read or watched.
    fn compacted_revision(&self) -> u64;

    /// Calls `observer` for every revision after the one returned, without a gap: range at that revision,
    /// then follow. Observers stay for the life of the store.
    fn observe(&self, observer: Observer) -> u64;
}

/// What was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    pub id: LeaseId,
    /// In seconds.
    pub ttl: i64,
}

/// A lease as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    pub id: LeaseId,
    /// In seconds, as all of these.
    pub granted_ttl: i64,
    /// 0 if it has run out and is about to be revoked.
    pub remaining_ttl: i64,
    pub keys: Vec<Bytes>,
}

/// Leases: keys put with one are deleted when it is revoked or runs out.
pub trait Leases: Send + Sync {
    /// Grants a lease; an id of 0 lets the store choose one. `ttl` is in seconds.
    fn grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGrant, StoreError>>;

    /// Ends a lease and deletes its keys, at one revision.
    fn revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Gives a lease its whole time again and returns it; not written to disk.
    fn keep_alive(&self, id: LeaseId) -> Result<i64, StoreError>;

    fn lease(&self, id: LeaseId) -> Option<LeaseInfo>;

    /// All leases, in order.
    fn leases(&self) -> Vec<LeaseId>;
}

/// Everything that the conformance suite asks of a back end.
#[cfg(test)]
pub(crate) trait Backend: Store + Leases {}

#[cfg(test)]
impl<T: Store + Leases> Backend for T {}

/// Called with every revision's events, in order, before the write is acknowledged: lets a reader that keeps
/// its own index (the API server's watch cache) be current by the time a writer gets its answer. Must be
/// quick and not block.
pub type Observer = Arc<dyn Fn(&Arc<[Event]>, u64) + Send + Sync>;
