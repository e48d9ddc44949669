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
    /// Log between two writes of the applied state, at least; it grows with the store, and during a burst of
    /// many writers up to 32 times.
    pub checkpoint_bytes: u64,
    /// What the applied state's file may have beyond four times what is alive in it before it is written
    /// anew.
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
