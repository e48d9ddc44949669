//! A store without a disk: the same state machine, watches and leases, but nothing is durable. For tests of
//! code that uses a store, and as the reference for the durable one.
//!
//! Leases expire when somebody looks: there is no thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::check;
use crate::clock::{Clock, Stamps, SystemClock};
use crate::lease::Lessor;
use crate::log::record::{Record, Request};
use crate::state::ApplyOutcome;
use crate::state::core::Core;
use crate::state::history::HistoryLimits;
use crate::types::{
    LeaseGrant, LeaseId, LeaseInfo, Leases, Observer, RangeRequest, RangeResult, Store, StoreError, Txn,
    TxnResult, WatchRequest, WatchStream,
};

/// Holds everything in memory; gone when dropped.
pub struct MemoryStore {
    core: Arc<Core>,
    stamps: Stamps,
    lessor: Lessor,
    next_lease: AtomicI64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    pub fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        MemoryStore {
            core: Core::new(HistoryLimits::default()),
            stamps: Stamps::new(Arc::clone(&clock), 0),
            lessor: Lessor::new(clock),
            next_lease: AtomicI64::new(1),
        }
    }

    fn apply(&self, request: Request) -> Result<ApplyOutcome, StoreError> {
        if self.core.is_stopped() {
            return Err(StoreError::Stopped);
        }
        for id in self.lessor.expired() {
            self.lessor.forget(id);
            // A lease that is already gone needs no revocation.
            let _ = self.apply_one(Request::LeaseRevoke { id });
        }
        self.apply_one(request)
    }

    fn apply_one(&self, request: Request) -> Result<ApplyOutcome, StoreError> {
        self.core.apply_next(|state| Record {
            term: 1,
            index: state.index + 1,
            time: self.stamps.next(state.time),
            request,
        })
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.core.stop();
    }
}

impl Store for MemoryStore {
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResult, StoreError>> {
        async move {
            check::txn(&txn)?;
            match self.apply(Request::Txn(txn))? {
                ApplyOutcome::Txn(result) => Ok(result),
                ApplyOutcome::Batch(_) | ApplyOutcome::Done(_) => Err(StoreError::Stopped),
            }
        }
        .boxed()
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResult, StoreError> {
        self.core.state.read().range(request)
    }

    fn watch(&self, request: &WatchRequest) -> Result<WatchStream, StoreError> {
        self.core.watch(request)
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.apply(Request::Compact { revision }).map(|_| ()) }.boxed()
    }

    fn revision(&self) -> u64 {
        self.core.published()
    }

    fn compacted_revision(&self) -> u64 {
        self.core.state.read().oldest()
    }

    fn observe(&self, observer: Observer) -> u64 {
        self.core.observe(observer)
    }
}

impl Leases for MemoryStore {
    fn grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGrant, StoreError>> {
        async move {
            let id = if id == 0 { self.next_lease.fetch_add(1, Ordering::Relaxed) } else { id };
            let ttl = crate::lease::checked_ttl(ttl)?;
            self.apply(Request::LeaseGrant { id, ttl })?;
            self.lessor.start(id, ttl);
            Ok(LeaseGrant { id, ttl })
        }
        .boxed()
    }

    fn revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.apply(Request::LeaseRevoke { id })?;
            self.lessor.forget(id);
            Ok(())
        }
        .boxed()
    }

    fn keep_alive(&self, id: LeaseId) -> Result<i64, StoreError> {
        let lease = self.core.lease(id).ok_or(StoreError::LeaseNotFound)?;
        self.lessor.renew(id, lease.granted_ttl)
    }

    fn lease(&self, id: LeaseId) -> Option<LeaseInfo> {
        let lease = self.core.lease(id)?;
        Some(LeaseInfo { remaining_ttl: self.lessor.remaining(id)?, ..lease })
    }

    fn leases(&self) -> Vec<LeaseId> {
        self.core.state.read().leases.keys().copied().collect()
    }
}
