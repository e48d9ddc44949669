//! The durable store: opens a directory, replays what is in it, and runs the two threads that write to it.
//!
//! Layout of the directory: `LOCK`, held while the store is open; `log/`, the segments; `state/`, sled, and while that is
//! being replaced `state.new/` and `state.old/`. Opening takes
//! the applied state and replays the log after it. A torn write at the end of the log is cut off and reported;
//! anything else that does not add up is named and refused, unless the whole state can be rebuilt from the log.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::behind::checkpointer;
use crate::check;
use crate::checkpoint::{CheckpointError, Checkpoints, FEW, live, needed};
use crate::clock::{Clock, Stamps, SystemClock};
use crate::consensus::single::Single;
use crate::consensus::{Consensus, ReadIndex};
use crate::core::Core;
use crate::desk::{Desk, Reply};
use crate::disk::{Disk, RealDisk};
use crate::history::HistoryLimits;
use crate::inbox::{Answer, Proposal, Shared, Trouble, WAITING};
use crate::lease::Lessor;
use crate::lock::DirectoryLock;
use crate::log::{self, Log, LogError, Opened};
use crate::metrics::{Gauges, Metrics};
use crate::record::Request;
use crate::replica::{LogId, LogStorage, StateMachine, Vote};
use crate::snapshot::Frozen;
use crate::state::{Outcome, State};
use crate::types::{
    LeaseGrant, LeaseId, LeaseInfo, Leases, Observer, RangeRequest, RangeResult, Store, StoreError, Txn,
    TxnResult, WatchRequest, WatchStream,
};
use crate::watch::{Bell, Cursor};
use crate::writer::{Limits, Place, Writer, commit_here, run};

/// Where a store lives and how it behaves.
#[derive(Clone)]
pub struct Config {
    /// The store's own directory; made if it is not there.
    pub dir: PathBuf,
    pub history: HistoryLimits,
    /// Size of a log segment.
    pub segment_bytes: u64,
    /// Log between two writes of the applied state, at least; it grows with the store, and during a burst of many
    /// writers up to 32 times.
    pub checkpoint_bytes: u64,
    /// What the applied state's file may have beyond four times what is alive in it before it is written anew.
    pub spare_bytes: u64,
    /// Lazy writes are on disk after this.
    pub lazy_flush: Duration,
    /// Writes that need space are refused when less than this is free.
    pub min_free_bytes: u64,
    pub clock: Arc<dyn Clock>,
}

impl Config {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Config {
            dir: dir.into(),
            history: HistoryLimits::default(),
            segment_bytes: 8 << 20,
            checkpoint_bytes: 4 << 20,
            spare_bytes: 16 << 20,
            // Below the 10 s that lazy durability promises, with room for a slow sync.
            lazy_flush: Duration::from_secs(8),
            min_free_bytes: 96 << 20,
            clock: Arc::new(SystemClock::default()),
        }
    }
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Revision the store goes on from.
    pub revision: u64,
    /// Records replayed from the log.
    pub replayed: u64,
    /// A torn write at the end of the log that was cut off, in words.
    pub torn_tail: Option<String>,
    /// The applied state was damaged and has been rebuilt from the log, in words.
    pub rebuilt: Option<String>,
}

/// Why a store cannot be opened: each a line that says what, why and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data directory {dir} is in use by another server: stop that one or choose another --data-dir")]
    Locked { dir: PathBuf },
    #[error("cannot open the store: {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the store is damaged: {path}: {what}; restore a snapshot into an empty data directory")]
    Damaged { path: PathBuf, what: String },
}

impl From<LogError> for OpenError {
    fn from(e: LogError) -> Self {
        match e {
            LogError::Io { path, source } => OpenError::Io { path, source },
            LogError::Damaged { path, what } => OpenError::Damaged { path, what },
        }
    }
}

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
    pub watchers: u64,
    pub trouble: Trouble,
}

/// A durable store in a directory.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    pub(crate) writer: Arc<Place>,
    /// How to find out what a current read has to see; `None` if what is here always is current.
    reads: Option<Arc<dyn ReadIndex>>,
    store: u64,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    min_free: u64,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<DirectoryLock>>,
}

impl EmbeddedStore {
    /// Opens or creates the store. Blocks while it reads: call it off the async threads.
    pub fn open(config: Config) -> Result<(Arc<Self>, Recovery), OpenError> {
        let log = config.dir.join("log");
        let io = |source| OpenError::Io { path: config.dir.clone(), source };
        fs::create_dir_all(&config.dir).map_err(io)?;
        let lock = DirectoryLock::take(&config.dir)?;
        let disk = Arc::new(RealDisk::new(&log).map_err(io)?);
        File::open(&config.dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        Self::open_on(config, disk, Some(lock))
    }

    /// The same on a disk of one's own.
    pub(crate) fn open_on(
        config: Config,
        disk: Arc<dyn Disk>,
        lock: Option<DirectoryLock>,
    ) -> Result<(Arc<Self>, Recovery), OpenError> {
        let loaded = load(&config, &disk, true)?;
        Self::start(config, disk, lock, loaded, Member::alone)
    }

    /// Starts what has been loaded, with the agreement that `join` makes.
    pub(crate) fn start(
        config: Config,
        disk: Arc<dyn Disk>,
        lock: Option<DirectoryLock>,
        loaded: Loaded,
        join: impl FnOnce(Member) -> io::Result<Box<dyn Consensus>>,
    ) -> Result<(Arc<Self>, Recovery), OpenError> {
        let Loaded { state, mut checkpoints, checkpointed, log, mut recovery } = loaded;
        checkpoints.few_bytes = config.checkpoint_bytes * FEW;
        state.validate();
        let since_checkpoint = log.bytes();
        let last_time = state.time;
        let leases: Vec<_> = state.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect();
        let lessor = Lessor::new(Arc::clone(&config.clock));
        for (id, ttl) in leases {
            lessor.start(id, ttl);
        }
        let core = Core::with_state(state);
        core.hub.pace();
        let shared = Arc::new(Shared::new(core, lessor));
        shared.log_bytes.store(log.bytes(), Ordering::Relaxed);
        shared.state_bytes.store(checkpoints.bytes(), Ordering::Relaxed);
        shared.all_due.store(checkpoints.wants_all(), Ordering::Relaxed);
        shared.checkpointed.store(checkpointed, Ordering::Relaxed);
        let store = log.store();
        let (jobs, todo) = sync_channel(1);
        let limits = Limits {
            checkpoint_bytes: config.checkpoint_bytes,
            spare_bytes: config.spare_bytes,
            min_free: config.min_free_bytes,
        };
        let stamps = Arc::new(Stamps::new(Arc::clone(&config.clock), last_time));
        let member = Member {
            shared: Arc::clone(&shared),
            log,
            stamps: Arc::clone(&stamps),
            lazy_flush: config.lazy_flush,
        };
        let consensus = join(member).map_err(|source| OpenError::Io { path: disk.path(), source })?;
        let reads = consensus.reads();
        let writer = Writer {
            shared: Arc::clone(&shared),
            store,
            consensus,
            limits,
            stamps,
            jobs,
            since_checkpoint,
            unmaintained: 0,
            sync_time: Duration::ZERO,
            checkpointing: false,
            postponed: false,
            retry: None,
            renewed: None,
            free: 0,
            crowd: 0,
            crowded: None,
            waiting: Vec::new(),
        };
        recovery.revision = shared.core.state.read().revision;
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let path = config.dir.clone();
            std::thread::Builder::new()
                .name(name.to_string())
                .spawn(run)
                .map_err(|source| OpenError::Io { path, source })
        };
        let (behind, queue) = (Arc::clone(&shared), Arc::clone(&shared));
        let place: Arc<Place> = Arc::new(Mutex::new(Some(writer)));
        let writer = Arc::clone(&place);
        let threads = vec![
            spawn("store-state", Box::new(move || checkpointer(checkpoints, &todo, &behind)))?,
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
            threads: Mutex::new(threads),
            lock: Mutex::new(lock),
        };
        Ok((Arc::new(store), recovery))
    }

    /// Writes out what is pending and stops; later writes answer [`StoreError::Stopped`] and watches end. Blocks.
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

    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let watchers = shared.core.hub.watchers() as u64;
        let log_size = shared.log_bytes.load(Ordering::Relaxed);
        let size_on_disk = log_size + shared.state_bytes.load(Ordering::Relaxed);
        let last_checkpoint = Some(shared.checkpointed.load(Ordering::Relaxed)).filter(|time| *time > 0);
        let trouble = shared.trouble.lock().clone();
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
            watchers,
            trouble,
        }
    }

    pub fn metrics(&self) -> &Metrics {
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
            size_on_disk: status.size_on_disk,
            applied_index: status.index,
            checkpoint_failing: status.trouble.checkpoint.is_some(),
            pending: (WAITING - self.shared.places.available_permits().min(WAITING)) as u64,
        })
    }

    /// Identifies this store among others; the same over restarts.
    pub fn identity(&self) -> u64 {
        self.store
    }

    /// Writes the applied state to disk now and deletes the log before it.
    pub async fn checkpoint(&self) -> Result<(), String> {
        self.checkpointed(false).await
    }

    /// The same into a new file, which gives back the space that the old one has too much. Both must have room.
    pub async fn defragment(&self) -> Result<(), String> {
        let live = live(&self.shared.core.state.read());
        let (free, needed) = (self.disk.free().unwrap_or(u64::MAX), needed(live, self.min_free));
        if free <= needed {
            return Err(format!(
                "{} MiB are free on the disk of the store, {} MiB are needed",
                free >> 20,
                needed >> 20
            ));
        }
        self.checkpointed(true).await?;
        match self.shared.kept.load(Ordering::Relaxed) {
            true => {
                Err("a new file could not take the place of the old one, the server's log says why"
                    .to_string())
            }
            false => Ok(()),
        }
    }

    async fn checkpointed(&self, afresh: bool) -> Result<(), String> {
        let written = self.shared.want_checkpoint(afresh).await;
        written.unwrap_or_else(|_| Err("the store is stopped".to_string()))
    }

    /// A checksum over all keys and values at a revision (0 for now), and the revision it was read at.
    pub fn hash(&self, revision: u64) -> Result<(u32, u64), StoreError> {
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
    pub(crate) fn nudge(&self) {
        self.shared.nudge();
    }

    /// A watch for a front that keeps many.
    pub(crate) fn follow(
        &self,
        request: &WatchRequest,
        bell: &Arc<Bell>,
        id: i64,
    ) -> Result<Cursor, StoreError> {
        self.shared.core.follow(request, bell, id)
    }

    /// As [`Store::read_barrier`].
    pub(crate) async fn current(&self) -> Result<(), StoreError> {
        match &self.reads {
            None => Ok(()),
            Some(reads) => reads.read_index().await.map(drop),
        }
    }

    async fn propose(&self, request: Request, size: usize) -> Answer {
        self.propose_at(None, request, size).await
    }

    async fn propose_at(&self, desk: Option<&Arc<Desk>>, request: Request, size: usize) -> Answer {
        // Given back by the writer when it takes the request.
        self.shared.places.acquire().await.map_err(|_| StoreError::Stopped)?.forget();
        let (to, wait) = oneshot::channel();
        let answer = Some(Reply { to, desk: desk.cloned() });
        let proposal = Proposal { request, size, answer };
        match desk {
            Some(desk) => desk.hand_in(proposal, &self.shared),
            None => self.shared.propose(proposal),
        }
        wait.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// As [`Store::txn`], for the tasks of a thread that has a desk.
    pub(crate) async fn txn_at(&self, desk: Option<&Arc<Desk>>, txn: Txn) -> Result<TxnResult, StoreError> {
        let size = check::txn(&txn)?;
        self.shared.metrics.txns.fetch_add(1, Ordering::Relaxed);
        match self.propose_at(desk, Request::Txn(txn), size).await? {
            Outcome::Txn(result) => Ok(result),
            Outcome::Batch(_) | Outcome::Done(_) => Err(StoreError::Stopped),
        }
    }

    /// Carries what lies on a desk to the writer and back, until it is dropped.
    pub(crate) async fn attend(&self, desk: &Desk) {
        desk.attend(|proposals| commit_here(&self.writer, &self.shared, proposals)).await;
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

pub(crate) struct Loaded {
    pub(crate) state: State,
    pub(crate) checkpoints: Checkpoints,
    /// Time of the newest record in it, in seconds since 1970.
    pub(crate) checkpointed: u64,
    pub(crate) log: Log,
    pub(crate) recovery: Recovery,
}

/// Reads a directory: the applied state and the log after it.
///
/// `alone` says that all of the log is committed, as it is for a single server; otherwise the state stays where the last
/// checkpoint was, until the group says how far it may go.
pub(crate) fn load(config: &Config, disk: &Arc<dyn Disk>, alone: bool) -> Result<Loaded, OpenError> {
    let path = config.dir.join("state");
    let mut recovery = Recovery::default();
    let opened = Checkpoints::open(&path).and_then(|mut c| c.load(config.history).map(|found| (c, found)));
    let (checkpoints, found) = match opened {
        Ok(opened) => opened,
        Err(CheckpointError::Io { path, source }) => return Err(OpenError::Io { path, source }),
        Err(CheckpointError::Damaged { path: at, what }) => {
            // The log is the truth; if it still reaches back to the beginning nothing is lost.
            if !log::reaches_back(&**disk) {
                return Err(OpenError::Damaged { path: at, what });
            }
            set_aside(&path)?;
            recovery.rebuilt = Some(format!("{}: {what}", at.display()));
            let fresh = Checkpoints::open(&path).map_err(|e| match e {
                CheckpointError::Io { path, source } => OpenError::Io { path, source },
                CheckpointError::Damaged { path, what } => OpenError::Damaged { path, what },
            })?;
            (fresh, None)
        }
    };
    let (mut state, description) = match found {
        Some((state, description)) => (state, Some(description)),
        None => (State::new(config.history), None),
    };
    if description.is_none() && log::begins_late(&**disk) {
        let what = "it is empty, although the log begins after it: sled lost what it held".to_string();
        return Err(OpenError::Damaged { path, what });
    }
    state.dirty = Some(Default::default());
    let applied = state.index;
    let checkpointed = state.time / 1000;
    let store = description.map(|d| d.store);
    let started = Instant::now();
    let replayed = Log::open(disk, config.segment_bytes, store, applied, |record| {
        if alone {
            state.apply(&record);
            recovery.replayed += 1;
        }
    })?;
    let log = match replayed {
        Some(Opened { log, torn }) if log.state().last.index >= applied => {
            recovery.torn_tail = torn;
            log
        }
        Some(Opened { torn, mut log }) => {
            // The state knows more than the log: what the log lost is in the state, and the log begins anew.
            let lost = torn.unwrap_or_else(|| format!("the log ends before record {applied}"));
            recovery.torn_tail = Some(lost);
            let io = |source| OpenError::Io { path: disk.path(), source };
            log.purge(LogId { term: state.term, index: applied }).map_err(io)?;
            log
        }
        None if applied > 0 => {
            let what = format!("the log is missing, the state is that of record {applied}");
            return Err(OpenError::Damaged { path: disk.path(), what });
        }
        None => Log::create(Arc::clone(disk), config.segment_bytes, new_identity(), 1)?,
    };
    tracing::debug!(replayed = recovery.replayed, took = ?started.elapsed(), "the log is read");
    Ok(Loaded { state, checkpoints, checkpointed, log, recovery })
}

/// What a member brings into its group.
pub(crate) struct Member {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log,
    pub(crate) stamps: Arc<Stamps>,
    pub(crate) lazy_flush: Duration,
}

impl Member {
    /// A group of one.
    fn alone(mut self) -> io::Result<Box<dyn Consensus>> {
        let newest = self.shared.core.state.read().term;
        let term = lead(&mut self.log, newest)?;
        let machine = Arc::<Core>::clone(&self.shared.core);
        let Member { shared, log, stamps, lazy_flush } = self;
        Ok(Box::new(Single::start(shared, term, Box::new(log), machine, stamps, lazy_flush)?))
    }
}

/// The one member of the group votes for itself, once; returns the term it writes in.
fn lead(log: &mut Log, newest: u64) -> io::Result<u64> {
    if let Some(vote) = log.vote() {
        return Ok(vote.term);
    }
    let vote = Vote { term: newest.max(1), member: log.store(), committed: true };
    log.save_vote(vote)?;
    Ok(vote.term)
}

/// Keeps a damaged state for whoever wants to look at it.
fn set_aside(path: &Path) -> Result<(), OpenError> {
    let aside = path.with_extension("damaged");
    let io = |source| OpenError::Io { path: aside.clone(), source };
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(io)?;
    }
    fs::rename(path, &aside).map_err(io)
}

/// A number that no other store has: the standard library seeds its hashers from the system's randomness.
pub(crate) fn new_identity() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() | 1
}

impl Store for EmbeddedStore {
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResult, StoreError>> {
        self.txn_at(None, txn).boxed()
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResult, StoreError> {
        self.shared.metrics.ranges.fetch_add(1, Ordering::Relaxed);
        self.shared.core.state.read().range(request)
    }

    fn watch(&self, request: &WatchRequest) -> Result<WatchStream, StoreError> {
        self.shared.core.watch(request)
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.current().boxed()
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.propose(Request::Compact { revision }, 0).await.map(|_| ()) }.boxed()
    }

    fn revision(&self) -> u64 {
        self.shared.core.published()
    }

    fn compacted_revision(&self) -> u64 {
        self.shared.core.state.read().oldest()
    }

    fn observe(&self, observer: Observer) -> u64 {
        self.shared.core.observe(observer)
    }
}

impl Leases for EmbeddedStore {
    fn grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGrant, StoreError>> {
        async move {
            let ttl = crate::lease::checked_ttl(ttl)?;
            // A chosen id is random, so that two members or two lives of a store do not choose the same.
            let id = if id == 0 { (new_identity() >> 1).cast_signed() } else { id };
            self.propose(Request::LeaseGrant { id, ttl }, 0).await?;
            self.shared.lessor.start(id, ttl);
            self.shared.nudge();
            Ok(LeaseGrant { id, ttl })
        }
        .boxed()
    }

    fn revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.propose(Request::LeaseRevoke { id }, 0).await?;
            self.shared.lessor.forget(id);
            Ok(())
        }
        .boxed()
    }

    fn keep_alive(&self, id: LeaseId) -> Result<i64, StoreError> {
        self.shared.lessor.leads()?;
        let lease = self.shared.core.lease(id).ok_or(StoreError::LeaseNotFound)?;
        self.shared.lessor.renew(id, lease.granted_ttl)
    }

    fn lease(&self, id: LeaseId) -> Option<LeaseInfo> {
        let lease = self.shared.core.lease(id)?;
        match self.shared.lessor.remaining(id) {
            Some(remaining_ttl) => Some(LeaseInfo { remaining_ttl, ..lease }),
            // Only the leader knows; what is left is at most all of it.
            None => self.shared.lessor.leads().is_err().then_some(lease),
        }
    }

    fn leases(&self) -> Vec<LeaseId> {
        self.shared.core.state.read().leases.keys().copied().collect()
    }
}
