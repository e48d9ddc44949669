//! When leases expire. The deadlines belong to the leader and use the monotonic clock; only grants,
//! revocations and expiries are records. After a restart every lease gets its whole time to live again, as in
//! etcd.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::types::{LeaseId, StoreError};

/// The longest time to live, in seconds; etcd's limit.
const MAX_TTL: i64 = 9_000_000_000;

/// The time to live that is granted for a requested one, in seconds. etcd grants at least two.
pub(crate) fn checked_ttl(ttl: i64) -> Result<i64, StoreError> {
    if ttl > MAX_TTL { Err(StoreError::LeaseTtlTooLarge) } else { Ok(ttl.max(2)) }
}

#[derive(Default)]
struct Deadlines {
    /// Set while this member does not lead: the leader, if it is known.
    follows: Option<Option<u64>>,
    of: HashMap<LeaseId, Duration>,
    order: BTreeSet<(Duration, LeaseId)>,
}

pub(crate) struct Lessor {
    clock: Arc<dyn Clock>,
    deadlines: Mutex<Deadlines>,
}

impl Lessor {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Lessor { clock, deadlines: Mutex::default() }
    }

    /// Starts or restarts the time to live of a lease.
    pub(crate) fn start(&self, id: LeaseId, ttl: i64) {
        let deadline = self.clock.monotonic() + Duration::from_secs(ttl.max(0).cast_unsigned());
        let mut deadlines = self.deadlines.lock();
        if deadlines.follows.is_some() {
            return;
        }
        if let Some(old) = deadlines.of.insert(id, deadline) {
            deadlines.order.remove(&(old, id));
        }
        deadlines.order.insert((deadline, id));
    }

    /// This member no longer leads. The leader has the deadlines.
    pub(crate) fn demote(&self, leader: Option<u64>) {
        *self.deadlines.lock() = Deadlines { follows: Some(leader), ..Deadlines::default() };
    }

    /// This member leads now and gives every lease its whole time to live.
    pub(crate) fn promote(&self, leases: impl IntoIterator<Item = (LeaseId, i64)>) {
        self.deadlines.lock().follows = None;
        leases.into_iter().for_each(|(id, ttl)| self.start(id, ttl));
    }

    /// Whether this member has the deadlines.
    pub(crate) fn leads(&self) -> Result<(), StoreError> {
        let follows = self.deadlines.lock().follows;
        follows.map_or(Ok(()), |leader| Err(StoreError::NotLeader { leader }))
    }

    /// Renews a lease that has not run out and returns its new time to live.
    pub(crate) fn renew(&self, id: LeaseId, ttl: i64) -> Result<i64, StoreError> {
        match self.remaining(id) {
            Some(left) if left > 0 => {
                self.start(id, ttl);
                Ok(ttl)
            }
            _ => Err(StoreError::LeaseNotFound),
        }
    }

    pub(crate) fn forget(&self, id: LeaseId) {
        let mut deadlines = self.deadlines.lock();
        if let Some(old) = deadlines.of.remove(&id) {
            deadlines.order.remove(&(old, id));
        }
    }

    /// Whole seconds left, rounded up; 0 once it has run out.
    pub(crate) fn remaining(&self, id: LeaseId) -> Option<i64> {
        let deadline = *self.deadlines.lock().of.get(&id)?;
        let left = deadline.saturating_sub(self.clock.monotonic());
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    /// Leases that have run out.
    pub(crate) fn expired(&self) -> Vec<LeaseId> {
        let now = self.clock.monotonic();
        let deadlines = self.deadlines.lock();
        deadlines.order.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, id)| *id).collect()
    }

    /// How long until the next lease runs out.
    pub(crate) fn next_expiry(&self) -> Option<Duration> {
        let deadlines = self.deadlines.lock();
        deadlines.order.first().map(|(deadline, _)| deadline.saturating_sub(self.clock.monotonic()))
    }
}
