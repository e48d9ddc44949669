//! Time as the store sees it: a monotonic clock for deadlines, and a wall clock read once.
//!
//! A jump of the machine's clock must not expire leases or history, so the time in records is the wall clock
//! at open plus what has passed since on the monotonic clock; a clock that was ahead at an earlier start and
//! is not any more must not stop time, so it goes on from the newest record.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Injected by tests.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Time since the epoch, as far as the machine knows it.
    fn wall(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub(crate) struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// Makes the times of records.
pub(crate) struct Stamps {
    clock: Arc<dyn Clock>,
    wall: Duration,
    started: Duration,
}

impl Stamps {
    /// `last` is the time of the newest record, in milliseconds.
    pub(crate) fn new(clock: Arc<dyn Clock>, last: u64) -> Self {
        let wall = clock.wall().max(Duration::from_millis(last));
        Stamps { wall, started: clock.monotonic(), clock }
    }

    /// Milliseconds since the epoch, not before `last`.
    pub(crate) fn next(&self, last: u64) -> u64 {
        let now = self.wall + self.clock.monotonic().saturating_sub(self.started);
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(last)
    }
}
