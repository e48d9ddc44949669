//! Store leases that make objects of some kinds (events) expire a while after their last write.
//!
//! Objects of a minute share a lease, so that a burst of events is not a burst of leases; they live up to a
//! minute longer.

use std::collections::HashMap;
use std::time::Duration;

use api::ApiError;
use embedded_store::{LeaseId, Store};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Resource, store_error};

const SHARED_FOR: Duration = Duration::from_secs(60);

/// The leases that present objects hang on, by how long those live.
#[derive(Default)]
pub(super) struct EventLeases {
    current: Mutex<HashMap<Duration, (LeaseId, Instant)>>,
}

impl EventLeases {
    /// The lease that an object of this kind hangs on when it is written; 0 for kinds that do not expire.
    pub(super) async fn lease_for(
        &self,
        resource: &Resource,
        store: &dyn Store,
    ) -> Result<LeaseId, ApiError> {
        let Some(ttl) = resource.strategy.time_to_live() else { return Ok(0) };
        let mut current = self.current.lock().await;
        if let Some((id, granted)) = current.get(&ttl)
            && granted.elapsed() < SHARED_FOR
        {
            return Ok(*id);
        }
        let seconds = (ttl + SHARED_FOR).as_secs();
        let granted =
            store.grant(0, i64::try_from(seconds).unwrap_or(i64::MAX)).await.map_err(store_error)?;
        current.insert(ttl, (granted.id, Instant::now()));
        Ok(granted.id)
    }

    /// The store does not know a lease any more: the next write gets another.
    pub(super) async fn forget(&self) {
        self.current.lock().await.clear();
    }
}
