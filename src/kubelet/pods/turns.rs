//! Turns for making sandboxes and containers, given in the order in which they were asked for.
//!
//! Starting a pod is mostly work of processors (runtime, shim, network plugins). Pods that all start at the
//! same time share them, and all are late; one after the other, with just enough at a time to keep every
//! processor busy, the last is ready as early as before and most are ready much earlier. A turn is no lock:
//! it is given up while an image is pulled, and after [`LONGEST`], so that what hangs holds nobody up for
//! long.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Several times what a start takes on a slow machine.
const LONGEST: Duration = Duration::from_secs(2);

/// Clones share the turns.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

/// Somebody's turn, until it is given up or dropped.
pub(crate) struct Turn(Mutex<Option<OwnedSemaphorePermit>>);

impl Turns {
    /// One for each processor, and one that keeps it busy while others wait for the disk or for the kernel.
    pub(crate) fn of_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(2, usize::from) + 1)
    }

    pub(crate) fn new(at_a_time: usize) -> Self {
        Turns(Arc::new(Semaphore::new(at_a_time)))
    }

    /// Returns when it is the caller's turn.
    pub(crate) async fn take(&self) -> Turn {
        // The semaphore is never closed.
        Turn(Mutex::new(self.0.clone().acquire_owned().await.ok()))
    }
}

impl Turn {
    pub(crate) fn give_up(&self) {
        self.0.lock().take();
    }

    /// Does the work, and gives the turn up if that takes too long.
    pub(crate) async fn spend<F: Future>(&self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        match tokio::time::timeout(LONGEST, work.as_mut()).await {
            Ok(done) => done,
            Err(_) => {
                self.give_up();
                work.await
            }
        }
    }
}

#[cfg(test)]
mod tests;
