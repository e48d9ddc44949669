//! One handler of an informer with the changes that it has not seen yet.
//!
//! Each handler has a task and a queue of its own, so that a slow one does not hold up the others. An object
//! that changes again while its last change waits takes the waiting one's place: what waits is bounded by the
//! number of objects, not by how often they change. Creations and deletions are never merged, because
//! controllers count them. If still too much waits, the informer waits too, its watch falls behind, and the
//! next list makes up for what it misses. (client-go's queue per listener grows without bound.)

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use api::Object;
use parking_lot::Mutex;
use supervisor::CancellationToken;
use tokio::sync::Notify;

use super::{Change, Handler};

/// Changes that may wait before the informer waits too.
pub(super) const MOST_WAITING: usize = 16_384;

pub(super) struct Listener {
    /// Held while it is called. None once the subscription has ended.
    handler: Mutex<Option<Handler>>,
    queue: Mutex<Queue>,
    /// There is something to do.
    wake: Notify,
    /// Something was taken out of the queue and dealt with.
    progress: Notify,
    /// Stops its task.
    stop: CancellationToken,
}

#[derive(Default)]
struct Queue {
    changes: VecDeque<Change<Object>>,
    /// The number of the first of `changes`.
    first: u64,
    /// Which waiting change has an object as its `new`, by the object's address; the change keeps it alive.
    newest: HashMap<usize, u64>,
    running: bool,
    ended: bool,
}

fn address(object: &Arc<Object>) -> usize {
    Arc::as_ptr(object) as usize
}

impl Queue {
    fn push(&mut self, change: Change<Object>) {
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && old.uid() == new.uid()
            && let Some(number) = self.newest.remove(&address(old))
        {
            let waiting = usize::try_from(number - self.first).ok().and_then(|at| self.changes.get_mut(at));
            if let Some(waiting) = waiting {
                self.newest.insert(address(new), number);
                waiting.new = change.new;
                return;
            }
        }
        if let Some(new) = &change.new {
            self.newest.insert(address(new), self.first + self.changes.len() as u64);
        }
        self.changes.push_back(change);
    }

    fn pop(&mut self) -> Option<Change<Object>> {
        let change = self.changes.pop_front()?;
        self.first += 1;
        if let Some(new) = &change.new {
            self.newest.remove(&address(new));
        }
        Some(change)
    }
}

impl Listener {
    pub(super) fn new(handler: Handler, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Listener {
            handler: Mutex::new(Some(handler)),
            queue: Mutex::default(),
            wake: Notify::new(),
            progress: Notify::new(),
            stop,
        })
    }

    pub(super) fn push(&self, change: Change<Object>) {
        let mut queue = self.queue.lock();
        if queue.ended {
            return;
        }
        queue.push(change);
        drop(queue);
        self.wake.notify_one();
    }

    /// Calls the handler for what comes, one change at a time.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            while self.deliver_one() {
                self.progress.notify_waiters();
                tokio::task::consume_budget().await;
            }
            self.progress.notify_waiters();
            self.wake.notified().await;
        }
    }

    fn deliver_one(&self) -> bool {
        let handler = self.handler.lock();
        let Some(handler) = &*handler else { return false };
        let Some(change) = self.begin() else { return false };
        handler(&change);
        self.queue.lock().running = false;
        true
    }

    fn begin(&self) -> Option<Change<Object>> {
        let mut queue = self.queue.lock();
        let change = queue.pop();
        queue.running = change.is_some();
        change
    }

    /// Ends it: the handler is called no more and dropped.
    pub(super) fn end(&self) {
        drop(self.handler.lock().take());
        self.finish();
    }

    /// Ends it after what waits and these changes.
    pub(super) fn end_with(&self, last: impl Iterator<Item = Change<Object>>) {
        let Some(handler) = self.handler.lock().take() else { return };
        while let Some(change) = self.queue.lock().pop() {
            handler(&change);
        }
        last.for_each(|change| handler(&change));
        self.finish();
    }

    fn finish(&self) {
        *self.queue.lock() = Queue { ended: true, ..Queue::default() };
        self.stop.cancel();
        self.progress.notify_waiters();
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.lock().changes.len() > MOST_WAITING
    }

    /// Returns once the handler has seen everything pushed before.
    pub(super) async fn delivered(&self) {
        let goal = {
            let queue = self.queue.lock();
            queue.first + queue.changes.len() as u64
        };
        self.until(|queue| queue.first > goal || (queue.first == goal && !queue.running)).await;
    }

    /// Returns once few enough changes wait.
    pub(super) async fn room(&self) {
        self.until(|queue| queue.changes.len() <= MOST_WAITING).await;
    }

    async fn until(&self, reached: impl Fn(&Queue) -> bool) {
        loop {
            let progress = self.progress.notified();
            {
                let queue = self.queue.lock();
                if queue.ended || reached(&queue) {
                    return;
                }
            }
            progress.await;
        }
    }
}
