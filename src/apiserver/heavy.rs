//! Heavy requests: off the threads that everything else runs on, few at a time, users in turn.
//!
//! A body of megabytes takes tens of milliseconds to decode, check and encode. On the reactor's threads, of which a small
//! machine has two, heartbeats would wait behind it. So work on more than [`HEAVY`] bytes is polled in a place where
//! blocking is allowed, and between two polls somebody else may be first. What is small pays a comparison.
//!
//! Nothing here waits for such work when the process ends: the runtime is shut down with a time-out, and the budgets of
//! `api::bounds` and [`crate::authz::cover`] end it within a second or so in any case.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[cfg(test)]
mod tests;

/// From how many bytes on a request is heavy.
pub(crate) const HEAVY: usize = 64 * 1024;

/// Who may work.
pub(crate) struct Turns {
    /// Half the processors.
    places: Arc<Semaphore>,
    /// Of each user who works or waits, one is in the queue for a place.
    users: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Leave to work; given back on drop.
struct Turn<'a> {
    turns: &'a Turns,
    user: &'a str,
    own: Option<OwnedSemaphorePermit>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.own.take();
        let mut users = self.turns.users.lock();
        // Only the map still knows it: nobody works or waits.
        if users.get(self.user).is_some_and(|own| Arc::strong_count(own) == 1) {
            users.remove(self.user);
        }
    }
}

impl Turns {
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_places((processors / 2).max(1))
    }

    fn with_places(places: usize) -> Self {
        Turns { places: Arc::new(Semaphore::new(places)), users: Mutex::default() }
    }

    /// Carries out work on so many bytes.
    pub(crate) async fn run<F: Future>(&self, user: &str, bytes: usize, work: F) -> F::Output {
        if bytes < HEAVY {
            return work.await;
        }
        let mut work = pin!(work);
        loop {
            let turn = self.turn(user).await;
            let step = poll_fn(|cx| Poll::Ready(blocking(|| work.as_mut().poll(cx)))).await;
            drop(turn);
            match step {
                Poll::Ready(done) => return done,
                Poll::Pending => woken().await,
            }
        }
    }

    async fn turn<'a>(&'a self, user: &'a str) -> Turn<'a> {
        // From here on, so that whoever is dropped while it waits is forgotten, too.
        let mut turn = Turn { turns: self, user, own: None, _place: None };
        let own = {
            let mut users = self.users.lock();
            users.entry(user.to_string()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
        };
        // The semaphores are never closed.
        turn.own = own.acquire_owned().await.ok();
        turn._place = self.places.clone().acquire_owned().await.ok();
        turn
    }
}

/// Where the runtime has other threads, they take over what this one had to do.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Waits until the task is polled again, as what it waits for asked.
async fn woken() {
    let mut asked = false;
    poll_fn(|_| if std::mem::replace(&mut asked, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}
