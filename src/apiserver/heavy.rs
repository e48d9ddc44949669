//! Heavy requests: off the threads that everything else runs on, few at a time, users in turn.
//!
//! A body of megabytes takes tens of milliseconds to decode, check and encode. On the reactor's threads, of
//! which a small machine has two, heartbeats would wait behind it. So work on more than [`HEAVY`] bytes is
//! polled in a place where blocking is allowed, and between two polls somebody else may be first. What is
//! small pays a comparison.
//!
//! Nothing here waits for such work when the process ends: the runtime is shut down with a time-out, and the
//! budgets of `api::bounds` and [`crate::authz::cover`] end it within a second or so in any case.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use api::Identity;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[cfg(test)]
mod tests;

/// From how many bytes on a request is heavy.
pub(crate) const HEAVY: usize = 64 * 1024;

/// What the streams of one user may hold of large objects that were converted for them, in KiB.
const SHARE: u32 = 16 * 1024;

/// The most that one list takes of it.
const LIST_SHARE: usize = 4 * 1024 * 1024;

thread_local! {
    /// Whether this thread polls work that has its turn: what such work starts in turn has it, too.
    static WORKING: Cell<bool> = const { Cell::new(false) };
}

/// The turns of heavy work.
pub(crate) struct Turns {
    /// Half the processors.
    places: Arc<Semaphore>,
    /// One request of each user at a time is in the queue for a place.
    users: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// What is left of each user's [`SHARE`].
    shares: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// One user's way to heavy work, for answers that are written after their request has been carried out.
#[derive(Clone)]
pub(crate) struct Worker {
    turns: Arc<Turns>,
    user: Arc<Identity>,
}

impl Worker {
    pub(crate) fn new(turns: &Arc<Turns>, user: &Arc<Identity>) -> Self {
        Worker { turns: turns.clone(), user: user.clone() }
    }

    /// [`Turns::run`].
    pub(crate) async fn run<F: Future + Unpin>(&self, bytes: usize, work: F) -> F::Output {
        self.turns.run(&self.user.name, bytes, work).await
    }

    /// The turns, and whose they are.
    pub(crate) fn turns(&self) -> (&Turns, &str) {
        (&self.turns, &self.user.name)
    }

    /// Leave to hold a list of so many bytes that was converted as a whole until it has been read. It takes a
    /// part of a user's share only, so that large watches go on beside it.
    pub(crate) async fn share_of_list(&self, bytes: usize) -> Share {
        self.share(bytes.min(LIST_SHARE)).await
    }

    /// Leave to hold so many bytes until they have been read.
    pub(crate) async fn share(&self, bytes: usize) -> Share {
        let mut share = Share { worker: self.clone(), permit: None };
        let own = {
            let mut shares = self.turns.shares.lock();
            let full = || Arc::new(Semaphore::new(SHARE as usize));
            shares.entry(self.user.name.clone()).or_insert_with(full).clone()
        };
        // The semaphores are never closed.
        share.permit = own.acquire_many_owned(kibibytes(bytes)).await.ok();
        share
    }
}

fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).map_or(SHARE, |some| some.min(SHARE))
}

/// Bytes that a stream holds; given back on drop.
pub(crate) struct Share {
    worker: Worker,
    permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Gives back what is not needed.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.permit {
            drop(permit.split(permit.num_permits().saturating_sub(kibibytes(bytes) as usize)));
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.permit.take();
        let (mut shares, user) = (self.worker.turns.shares.lock(), &self.worker.user.name);
        if shares.get(user).is_some_and(|own| Arc::strong_count(own) == 1) {
            shares.remove(user);
        }
    }
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
        // Only the map still holds it: no work of this user runs or waits.
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

    pub(crate) fn with_places(places: usize) -> Self {
        Turns { places: Arc::new(Semaphore::new(places)), users: Mutex::default(), shares: Mutex::default() }
    }

    /// Carries out work on so many bytes. The caller pins it, because an async function holds what it is
    /// given once more beside what it awaits: taken by value, the work of every request would take twice its
    /// room.
    pub(crate) async fn run<F: Future + Unpin>(&self, user: &str, bytes: usize, mut work: F) -> F::Output {
        if bytes < HEAVY || WORKING.get() {
            return work.await;
        }
        loop {
            let turn = self.turn(user).await;
            let step = poll_fn(|cx| Poll::Ready(blocking(|| working(|| work.poll_unpin(cx))))).await;
            drop(turn);
            match step {
                Poll::Ready(done) => return done,
                Poll::Pending => woken().await,
            }
        }
    }

    /// Leave to do all heavy work alone, for tests that see who waits for it.
    #[cfg(test)]
    pub(crate) async fn all(&self) -> OwnedSemaphorePermit {
        let count = (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1);
        let all = self.places.clone().acquire_many_owned(u32::try_from(count).unwrap_or(1)).await;
        all.unwrap_or_else(|_| unreachable!("it is never closed"))
    }

    /// Whether somebody works or waits for a place.
    #[cfg(test)]
    pub(crate) fn is_busy(&self) -> bool {
        !self.users.lock().is_empty()
    }

    async fn turn<'a>(&'a self, user: &'a str) -> Turn<'a> {
        // Made before the wait, so that a request that is dropped while it waits is forgotten as well.
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

/// Marks the thread for as long as it does this, even if that panics.
fn working<T>(work: impl FnOnce() -> T) -> T {
    struct Mark;
    impl Drop for Mark {
        fn drop(&mut self) {
            WORKING.set(false);
        }
    }
    WORKING.set(true);
    let _mark = Mark;
    work()
}

/// Where the runtime has other threads, they take over what this one had to do.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
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
