//! The durable store: not yet durable, its public face only. The log and the checkpoints come with the next change.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::history::HistoryLimits;
use crate::memory::MemoryStore;
use crate::types::{
    LeaseGrant, LeaseId, LeaseInfo, Leases, Observer, RangeRequest, RangeResult, Store, StoreError, Txn,
    TxnResult, WatchRequest, WatchStream,
};

/// Where a store lives and how it behaves.
#[derive(Clone)]
pub struct Config {
    /// The store's own directory; made if it is not there.
    pub dir: PathBuf,
    pub history: HistoryLimits,
}

impl Config {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Config { dir: dir.into(), history: HistoryLimits::default() }
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
    #[error("data directory {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the store in {path} is damaged: {what}; restore a snapshot")]
    Damaged { path: PathBuf, what: String },
}

/// A durable store in a directory.
pub struct EmbeddedStore {
    memory: MemoryStore,
    _lock: File,
}

impl EmbeddedStore {
    /// Opens or creates the store. Blocks while it reads: call it off the async threads.
    pub fn open(config: Config) -> Result<(Arc<Self>, Recovery), OpenError> {
        let io = |path: &PathBuf| {
            let path = path.clone();
            move |source| OpenError::Io { path, source }
        };
        fs::create_dir_all(&config.dir).map_err(io(&config.dir))?;
        let path = config.dir.join("LOCK");
        let lock = File::create(&path).map_err(io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { dir: config.dir }),
            Err(TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
        }
        let memory = MemoryStore::with(config.history, Arc::new(crate::clock::SystemClock::default()));
        let recovery = Recovery { revision: memory.revision(), ..Recovery::default() };
        Ok((Arc::new(EmbeddedStore { memory, _lock: lock }), recovery))
    }

    /// Writes out what is pending and stops; later writes answer [`StoreError::Stopped`]. Blocks.
    pub fn close(&self) {}
}

impl Store for EmbeddedStore {
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResult, StoreError>> {
        self.memory.txn(txn)
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResult, StoreError> {
        self.memory.range(request)
    }

    fn watch(&self, request: &WatchRequest) -> Result<WatchStream, StoreError> {
        self.memory.watch(request)
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        self.memory.compact(revision)
    }

    fn revision(&self) -> u64 {
        self.memory.revision()
    }

    fn compacted_revision(&self) -> u64 {
        self.memory.compacted_revision()
    }

    fn observe(&self, observer: Observer) -> u64 {
        self.memory.observe(observer)
    }
}

impl Leases for EmbeddedStore {
    fn grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGrant, StoreError>> {
        self.memory.grant(id, ttl)
    }

    fn revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.memory.revoke(id)
    }

    fn keep_alive(&self, id: LeaseId) -> Result<i64, StoreError> {
        self.memory.keep_alive(id)
    }

    fn lease(&self, id: LeaseId) -> Option<LeaseInfo> {
        self.memory.lease(id)
    }

    fn leases(&self) -> Vec<LeaseId> {
        self.memory.leases()
    }
}
