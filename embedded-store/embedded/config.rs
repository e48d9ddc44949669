//! Where a store lives and how it behaves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::state::history::HistoryLimits;

/// Where a store lives and how it behaves.
#[derive(Clone)]
pub struct Config {
    /// The store's own directory; made if it is not there.
    pub dir: PathBuf,
    pub history: HistoryLimits,
    /// Size of a log segment.
    pub segment_bytes: u64,
    /// The least log between two checkpoints. It grows with the store, and up to 32 times during a burst of
    /// many writers.
    pub checkpoint_bytes: u64,
    /// The applied state's file is rewritten once it exceeds four times its live data by this much.
    pub spare_bytes: u64,
    /// Lazy writes are on disk after this.
    pub lazy_flush: Duration,
    /// Writes that need space are refused when less than this is free.
    pub min_free_bytes: u64,
    /// Writes that bring something new are refused once keys and values take more bytes than this.
    pub quota_bytes: u64,
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
            // etcd's default.
            quota_bytes: 2 << 30,
            clock: Arc::new(SystemClock::default()),
        }
    }
}
