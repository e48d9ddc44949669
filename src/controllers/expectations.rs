//! What a controller has done but not yet seen: without it, a controller whose informer lags creates its pods
//! twice.
//!
//! Before creating or deleting, the controller raises what it expects for the owner's key; its informer's
//! handlers lower it. While something is expected the owner's replicas are not managed. Expectations run out
//! after five minutes, for events that never come. Deletions are told apart by name, because one deletion is
//! seen twice (marked, then gone).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::context::Key;

const RUN_OUT: Duration = Duration::from_secs(300);

#[derive(Default)]
pub(crate) struct Expectations {
    by_owner: Mutex<HashMap<Key, Expected>>,
}

struct Expected {
    creations: i64,
    deletions: HashSet<Key>,
    since: Instant,
}

impl Expected {
    fn is_over(&self) -> bool {
        self.creations <= 0 && self.deletions.is_empty()
    }
}

impl Expectations {
    /// Nothing is awaited for this owner, or it has been awaited for too long.
    pub(crate) fn satisfied(&self, owner: &Key) -> bool {
        let by_owner = self.by_owner.lock();
        by_owner.get(owner).is_none_or(|expected| expected.is_over() || expected.since.elapsed() > RUN_OUT)
    }

    /// Awaits both; what was expected before is given up.
    pub(crate) fn expect(&self, owner: &Key, creations: usize, deletions: HashSet<Key>) {
        let creations = i64::try_from(creations).unwrap_or(i64::MAX);
        let expected = Expected { creations, deletions, since: Instant::now() };
        self.by_owner.lock().insert(owner.clone(), expected);
    }

    pub(crate) fn expect_creations(&self, owner: &Key, count: usize) {
        self.expect(owner, count, HashSet::new());
    }

    pub(crate) fn expect_deletions(&self, owner: &Key, deletions: HashSet<Key>) {
        self.expect(owner, 0, deletions);
    }

    /// A creation was seen, or will not happen. Whether it was the last thing that was awaited.
    pub(crate) fn creation_observed(&self, owner: &Key) -> bool {
        self.observed(owner, |expected| expected.creations -= 1)
    }

    /// A deletion was seen, or will not happen. Whether it was the last thing that was awaited.
    pub(crate) fn deletion_observed(&self, owner: &Key, object: &Key) -> bool {
        self.observed(owner, |expected| {
            expected.deletions.remove(object);
        })
    }

    fn observed(&self, owner: &Key, change: impl FnOnce(&mut Expected)) -> bool {
        let mut by_owner = self.by_owner.lock();
        let Some(expected) = by_owner.get_mut(owner) else { return false };
        let awaited = !expected.is_over();
        change(expected);
        awaited && expected.is_over()
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.by_owner.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests;
