//! The durable store: opens a directory, replays what is in it, and runs the two threads that write to it.
//!
//! Layout of the directory: `LOCK`, held while the store is open; `log/`, the segments; `state/`, sled, and
//! while that is being replaced `state.new/` and `state.old/`. Opening takes the applied state and replays
//! the log after it. A torn write at the end of the log is cut off and reported; anything else that does not
//! add up is named and refused, unless the whole state can be rebuilt from the log.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::check;
use crate::checkpoint::checkpointer::checkpointer;
use crate::checkpoint::{CheckpointFailure, Checkpoints, GARBAGE_CHECKPOINTS, live, needed};
use crate::clock::Stamps;
use crate::consensus::storage::{LogStorage, StateMachine};
use crate::consensus::{Consensus, ReadIndex};
use crate::group::marker;
use crate::lease::Lessor;
use crate::log::disk::{Disk, RealDisk};
use crate::log::record::Request;
use crate::metrics::Gauges;
use crate::state::core::Core;
use crate::state::frozen::Frozen;
use crate::state::watch::{Cursor, Notifier};
use crate::state::{ApplyOutcome, State};
use crate::types::{LeaseId, Leases, RangeRequest, Store, StoreError, Txn, TxnResult, WatchRequest};
use crate::writer::queue::{Alarms, Answer, Proposal, QUEUE_CAPACITY, Shared};
use crate::writer::submission::{Reply, SubmissionQueue};
use crate::writer::{Limits, Writer, WriterSlot, run, try_commit_inline};

mod config;
mod detach;
mod error;
mod lock;
mod member;
mod open;
mod store;

pub use config::Config;
pub use detach::{DetachError, detach};
pub use error::OpenError;
pub(crate) use lock::DirectoryLock;
pub use open::Recovery;
pub(crate) use open::{Loaded, Member, load};

/// The store as it stands, for people and for the etcd API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Identifies this store among others.
    pub store: u64,
    pub revision: u64,
    pub compacted_revision: u64,
    pub index: u64,
    pub term: u64,
    pub keys: u64,
    /// Bytes of keys and values.
    pub size_in_use: u64,
    pub size_on_disk: u64,
    /// The part of it that is the log.
    pub log_size: u64,
    /// When the applied state was last written, in seconds since 1970; none for a store that never had to.
    pub last_checkpoint: Option<u64>,
    /// Bytes that can still be written to the store's disk.
    pub free_on_disk: u64,
    /// Below this much free space writes are refused.
    pub min_free_on_disk: u64,
    /// Beyond this many bytes of keys and values nothing new is accepted.
    pub quota: u64,
    pub watchers: u64,
    pub alarms: Alarms,
}

/// A durable store in a directory.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    pub(crate) writer: Arc<WriterSlot>,
    /// How current reads find their read index; empty while this store's state is always current.
    reads: OnceLock<Arc<dyn ReadIndex>>,
    store: u64,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    min_free: u64,
    quota: u64,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<DirectoryLock>>,
}

impl EmbeddedStore {
    /// Opens or creates the store. Blocks while it reads: call it off the async threads.
    pub fn open(config: Config) -> Result<(Arc<Self>, Recovery), OpenError> {
        let (disk, lock) = Self::take_directory(&config)?;
        let io = |source| OpenError::Io { path: config.dir.clone(), source };
        if let Some(known) = marker::identity(&config.dir).map_err(io)? {
            return Err(OpenError::OtherGroup { dir: config.dir, cluster: known.cluster });
        }
        Self::open_on(config, disk, Some(lock))
    }

    /// Makes the directory if it is not there, and keeps others out of it.
    pub(crate) fn take_directory(config: &Config) -> Result<(Arc<dyn Disk>, DirectoryLock), OpenError> {
        let log = config.dir.join("log");
        let io = |source| OpenError::Io { path: config.dir.clone(), source };
        fs::create_dir_all(&config.dir).map_err(io)?;
        let lock = DirectoryLock::take(&config.dir)?;
        let disk = Arc::new(RealDisk::new(&log).map_err(io)?);
        File::open(&config.dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        Ok((disk, lock))
    }

    /// As [`open`](Self::open), on a given disk.
    pub(crate) fn open_on(
        config: Config,
        disk: Arc<dyn Disk>,
        lock: Option<DirectoryLock>,
    ) -> Result<(Arc<Self>, Recovery), OpenError> {
        let loaded = load(&config, &disk, true)?;
        Self::start(config, disk, lock, loaded, Member::alone)
    }

    /// Starts a loaded store with the consensus that `join` returns.
    pub(crate) fn start(
        config: Config,
        disk: Arc<dyn Disk>,
        lock: Option<DirectoryLock>,
        loaded: Loaded,
        join: impl FnOnce(Member) -> io::Result<Box<dyn Consensus>>,
    ) -> Result<(Arc<Self>, Recovery), OpenError> {
        let Loaded { state, mut checkpoints, checkpointed, log, mut recovery } = loaded;
        checkpoints.garbage_allowance = config.checkpoint_bytes * GARBAGE_CHECKPOINTS;
        state.validate();
        let stamps = Arc::new(Stamps::new(Arc::clone(&config.clock), state.time));
        let (store, since_checkpoint) = (log.store(), log.bytes());
        let shared = share(&config, state, &checkpoints);
        shared.log_bytes.store(since_checkpoint, Ordering::Relaxed);
        shared.checkpointed.store(checkpointed, Ordering::Relaxed);
        let member = Member {
            shared: Arc::clone(&shared),
            log,
            stamps: Arc::clone(&stamps),
            lazy_flush: config.lazy_flush,
        };
        let consensus = join(member).map_err(|source| OpenError::Io { path: disk.path(), source })?;
        let reads = consensus.reads().map_or_else(OnceLock::new, OnceLock::from);
        let limits = Limits {
            checkpoint_bytes: config.checkpoint_bytes,
            spare_bytes: config.spare_bytes,
            min_free: config.min_free_bytes,
            quota: config.quota_bytes,
        };
        let (jobs, todo) = sync_channel(1);
        let writer =
            Writer::new(Arc::clone(&shared), store, consensus, limits, stamps, jobs, since_checkpoint);
        recovery.revision = shared.core.state.read().revision;
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let path = config.dir.clone();
            std::thread::Builder::new()
                .name(name.to_string())
                .spawn(run)
                .map_err(|source| OpenError::Io { path, source })
        };
        let (checkpointing, queue) = (Arc::clone(&shared), Arc::clone(&shared));
        let place: Arc<WriterSlot> = Arc::new(Mutex::new(Some(writer)));
        let writer = Arc::clone(&place);
        let threads = vec![
            spawn("store-state", Box::new(move || checkpointer(checkpoints, &todo, &checkpointing)))?,
            spawn("store-log", Box::new(move || run(&place, &queue)))?,
        ];
        let store = EmbeddedStore {
            shared,
            writer,
            reads,
            store,
            dir: config.dir.clone(),
            disk,
            min_free: config.min_free_bytes,
            quota: config.quota_bytes,
            threads: Mutex::new(threads),
            lock: Mutex::new(lock),
        };
        Ok((Arc::new(store), recovery))
    }

    /// Writes out what is pending and stops. Later writes return [`StoreError::Stopped`], and watches end.
    /// Blocks.
    pub fn close(&self) {
        self.shared.stop();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        self.shared.core.stop();
        *self.lock.lock() = None;
    }

    /// The seconds that a lease has left, whichever member of the group counts them; with `renew` it has its
    /// whole time again.
    pub(crate) async fn lease_time(&self, id: LeaseId, renew: bool) -> Result<i64, StoreError> {
        match (self.group_reads(), renew) {
            (Some(reads), _) => reads.lease_time(id, renew).await,
            (None, true) => self.keep_alive(id),
            (None, false) => self.lease(id).map(|lease| lease.remaining_ttl).ok_or(StoreError::LeaseNotFound),
        }
    }

    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let watchers = shared.core.hub.watchers() as u64;
        let log_size = shared.log_bytes.load(Ordering::Relaxed);
        let size_on_disk = log_size + shared.state_bytes.load(Ordering::Relaxed);
        let last_checkpoint = Some(shared.checkpointed.load(Ordering::Relaxed)).filter(|time| *time > 0);
        let alarms = shared.alarms.lock().clone();
        let (applied, ..) = shared.core.applied();
        let state = shared.core.state.read();
        Status {
            store: self.store,
            revision: state.revision,
            compacted_revision: state.oldest(),
            index: applied.index,
            term: applied.term,
            keys: state.keys.len() as u64,
            size_in_use: state.bytes,
            size_on_disk,
            log_size,
            last_checkpoint,
            free_on_disk: self.disk.free().unwrap_or(u64::MAX),
            min_free_on_disk: self.min_free,
            quota: self.quota,
            watchers,
            alarms,
        }
    }

    #[cfg(test)]
    pub(crate) fn metrics(&self) -> &crate::metrics::Metrics {
        &self.shared.metrics
    }

    /// Counters and sizes in the Prometheus text format.
    pub fn render_metrics(&self) -> String {
        let status = self.status();
        self.shared.metrics.render(&Gauges {
            revision: status.revision,
            compacted_revision: status.compacted_revision,
            keys: status.keys,
            watchers: status.watchers,
            size_in_use: status.size_in_use,
            quota: status.quota,
            no_space: status.alarms.no_space.is_some(),
            size_on_disk: status.size_on_disk,
            applied_index: status.index,
            checkpoint_failing: status.alarms.checkpoint.is_some(),
            pending: (QUEUE_CAPACITY - self.shared.slots.available_permits().min(QUEUE_CAPACITY)) as u64,
        })
    }

    /// Identifies this store among others; the same over restarts.
    pub(crate) fn identity(&self) -> u64 {
        self.store
    }

    /// Writes the applied state to disk now and deletes the log before it.
    #[cfg(test)]
    pub(crate) async fn checkpoint(&self) -> Result<(), CheckpointFailure> {
        self.checkpointed(false).await
    }

    /// Writes the applied state into a new file, which releases the unused space of the old one. There must
    /// be room for both. The log before it goes, too.
    pub(crate) async fn defragment(&self) -> Result<(), CheckpointFailure> {
        let live = live(&self.shared.core.state.read());
        let (free, needed) = (self.disk.free().unwrap_or(u64::MAX), needed(live, self.min_free));
        if free <= needed {
            return Err(CheckpointFailure::NoSpace { free, needed });
        }
        self.checkpointed(true).await?;
        match self.shared.rewrite_failed.load(Ordering::Relaxed) {
            true => Err(CheckpointFailure::NotReplaced),
            false => Ok(()),
        }
    }

    /// Takes values that are no more out of the files on disk: the applied state is written into a new file,
    /// and the log before it goes. In a group the log stays as long as other members may want it.
    pub async fn forget_old_values(&self) -> io::Result<()> {
        self.defragment().await.map_err(io::Error::other)
    }

    async fn checkpointed(&self, rewrite: bool) -> Result<(), CheckpointFailure> {
        let written = self.shared.request_checkpoint(rewrite).await;
        written.unwrap_or(Err(CheckpointFailure::Stopped))
    }

    /// A checksum over all keys and values at a revision (0 for now), and the revision it was read at.
    pub(crate) fn hash(&self, revision: u64) -> Result<(u32, u64), StoreError> {
        let everything = Some(Bytes::from_static(&[0]));
        let request = RangeRequest {
            key: Bytes::from_static(&[0]),
            range_end: everything,
            revision,
            ..RangeRequest::default()
        };
        let result = self.range(&request)?;
        let mut hasher = crc32fast::Hasher::new();
        for kv in &result.kvs {
            for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease.cast_unsigned()] {
                hasher.update(&number.to_le_bytes());
            }
            hasher.update(&kv.key);
            hasher.update(&kv.value);
        }
        Ok((hasher.finalize(), result.revision))
    }

    /// A consistent view of all keys and leases.
    pub(crate) fn freeze(&self) -> Frozen {
        self.shared.core.snapshot()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Looks at the leases' deadlines now; for clocks that tests turn.
    #[cfg(test)]
    pub(crate) fn wake_now(&self) {
        self.shared.wake_now();
    }

    /// A watch for a front that manages many.
    pub(crate) fn follow(
        &self,
        request: &WatchRequest,
        waker: &Arc<Notifier>,
        id: i64,
    ) -> Result<Cursor, StoreError> {
        self.shared.core.follow(request, waker, id)
    }

    /// As [`Store::read_barrier`].
    pub(crate) async fn current(&self) -> Result<(), StoreError> {
        match self.reads.get() {
            None => Ok(()),
            Some(reads) => reads.read_index().await.map(drop),
        }
    }

    async fn propose(&self, request: Request, size: usize) -> Answer {
        self.propose_via(None, request, size).await
    }

    async fn propose_via(
        &self,
        submissions: Option<&Arc<SubmissionQueue>>,
        request: Request,
        size: usize,
    ) -> Answer {
        // The writer releases the slot when it takes the request.
        self.shared.slots.acquire().await.map_err(|_| StoreError::Stopped)?.forget();
        let (to, wait) = oneshot::channel();
        let answer = Some(Reply { to, submissions: submissions.cloned() });
        let proposal = Proposal { request, size, answer };
        match submissions {
            Some(submissions) => submissions.submit(proposal, &self.shared),
            None => self.shared.propose(proposal),
        }
        wait.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// As [`Leases::revoke`], for somebody who may not delete keys under some prefixes:
    /// [`StoreError::LeaseProtected`] if the lease holds any.
    pub(crate) async fn revoke_unless(&self, id: LeaseId, protected: Vec<Bytes>) -> Result<(), StoreError> {
        let size = protected.iter().map(Bytes::len).sum();
        self.propose(Request::LeaseRevokeUnless { id, protected }, size).await?;
        self.shared.lessor.forget(id);
        Ok(())
    }

    /// As [`Store::txn`], for the tasks of a thread with a submission queue.
    pub(crate) async fn txn_via(
        &self,
        submissions: Option<&Arc<SubmissionQueue>>,
        txn: Txn,
    ) -> Result<TxnResult, StoreError> {
        let size = check::txn(&txn)?;
        self.shared.metrics.txns.fetch_add(1, Ordering::Relaxed);
        match self.propose_via(submissions, Request::Txn(txn), size).await? {
            ApplyOutcome::Txn(result) => Ok(result),
            ApplyOutcome::Batch(_) | ApplyOutcome::Done(_) => Err(StoreError::Stopped),
        }
    }

    /// Drives a submission queue until this future is dropped.
    pub(crate) async fn drive(&self, submissions: &SubmissionQueue) {
        submissions.drive(|proposals| try_commit_inline(&self.writer, &self.shared, proposals)).await;
    }
}

/// What the store and its threads share, with the leases' deadlines running.
fn share(config: &Config, state: State, checkpoints: &Checkpoints) -> Arc<Shared> {
    let lessor = Lessor::new(Arc::clone(&config.clock));
    for (id, lease) in &state.leases {
        lessor.start(*id, lease.ttl);
    }
    let core = Core::with_state(state);
    core.hub.pace();
    let shared = Arc::new(Shared::new(core, lessor));
    shared.state_bytes.store(checkpoints.bytes(), Ordering::Relaxed);
    shared.full_due.store(checkpoints.wants_all(), Ordering::Relaxed);
    shared
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}
