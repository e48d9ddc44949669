//! The store's interface, as the durable store has it.

use std::sync::atomic::Ordering;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::EmbeddedStore;
use crate::identity::new_identity;
use crate::log::record::Request;
use crate::types::{
    LeaseGrant, LeaseId, LeaseInfo, Leases, Observer, RangeRequest, RangeResult, Store, StoreError, Txn,
    TxnResult, WatchRequest, WatchStream,
};

impl Store for EmbeddedStore {
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResult, StoreError>> {
        self.txn_via(None, txn).boxed()
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResult, StoreError> {
        self.shared.metrics.ranges.fetch_add(1, Ordering::Relaxed);
        self.shared.core.state.read().range(request)
    }

    fn watch(&self, request: &WatchRequest) -> Result<WatchStream, StoreError> {
        self.shared.core.watch(request)
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.current().boxed()
    }

    fn is_led(&self) -> Option<bool> {
        let leader = self.shared.lessor.leads();
        let unknown = matches!(leader, Err(StoreError::NotLeader { leader: None }));
        self.group_reads().map(|reads| !unknown && !reads.fails())
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.propose(Request::Compact { revision }, 0).await.map(|_| ()) }.boxed()
    }

    fn revision(&self) -> u64 {
        self.shared.core.published()
    }

    fn compacted_revision(&self) -> u64 {
        self.shared.core.state.read().oldest()
    }

    fn observe(&self, observer: Observer) -> u64 {
        self.shared.core.observe(observer)
    }
}

impl Leases for EmbeddedStore {
    fn grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGrant, StoreError>> {
        async move {
            let ttl = crate::lease::checked_ttl(ttl)?;
            // A chosen id is random, so that two members or two lives of a store do not choose the same.
            let id = if id == 0 { (new_identity() >> 1).cast_signed() } else { id };
            self.propose(Request::LeaseGrant { id, ttl }, 0).await?;
            self.shared.lessor.start(id, ttl);
            self.shared.wake_now();
            Ok(LeaseGrant { id, ttl })
        }
        .boxed()
    }

    fn revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.propose(Request::LeaseRevoke { id }, 0).await?;
            self.shared.lessor.forget(id);
            Ok(())
        }
        .boxed()
    }

    fn keep_alive(&self, id: LeaseId) -> Result<i64, StoreError> {
        self.shared.lessor.leads()?;
        let lease = self.shared.core.lease(id).ok_or(StoreError::LeaseNotFound)?;
        self.shared.lessor.renew(id, lease.granted_ttl)
    }

    fn lease(&self, id: LeaseId) -> Option<LeaseInfo> {
        let lease = self.shared.core.lease(id)?;
        match self.shared.lessor.remaining(id) {
            Some(remaining_ttl) => Some(LeaseInfo { remaining_ttl, ..lease }),
            // Only the leader counts it down. Elsewhere the whole time is the safe answer.
            None => self.shared.lessor.leads().is_err().then_some(lease),
        }
    }

    fn leases(&self) -> Vec<LeaseId> {
        self.shared.core.state.read().leases.keys().copied().collect()
    }
}
