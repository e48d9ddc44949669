//! Rests of controllers whose objects have thousands of others.
//!
//! What a look at such an object costs grows with all that it has, and every change of one of them asks for a
//! look: together that is their product. A controller that rests after a look for some times as long as the
//! look took spends a bounded part of a processor on any object, and sees the changes of the rest together.
//! Looks that take no time are followed by none.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::context::Key;

/// How much longer a rest is than the look before it.
const TIMES: u32 = 9;
/// Looks that take less are not rested from.
const LEAST: Duration = Duration::from_millis(1);
/// Nobody waits longer for a change to be seen.
const MOST: Duration = Duration::from_millis(200);

/// How long to rest, by object.
#[derive(Default)]
pub(crate) struct Rests {
    by_owner: Mutex<HashMap<Key, Duration>>,
}

impl Rests {
    /// Notes how long the last look took, apart from what it waited for.
    pub(crate) fn took(&self, owner: &Key, time: Duration) {
        let mut by_owner = self.by_owner.lock();
        if time < LEAST {
            by_owner.remove(owner);
        } else {
            by_owner.insert(owner.clone(), (time * TIMES).min(MOST));
        }
    }

    /// How long a change may wait for its look.
    pub(crate) fn of(&self, owner: &Key) -> Duration {
        self.by_owner.lock().get(owner).copied().unwrap_or_default()
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.by_owner.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests;
