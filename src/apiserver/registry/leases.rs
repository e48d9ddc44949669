//! Store leases that make events expire an hour after their last write.
//!
//! Events of a minute share a lease, so that a burst of events is not a burst of leases; they live up to a minute longer.

use std::time::Duration;

use api::ApiError;
use embedded_store::{LeaseId, Store};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Resource, store_error};

const EVENT_TTL: Duration = Duration::from_secs(3600);
const SHARED_FOR: Duration = Duration::from_secs(60);

/// The lease that present events hang on.
#[derive(Default)]
pub(super) struct EventLeases {
    current: Mutex<Option<(LeaseId, Instant)>>,
}

impl EventLeases {
    /// The lease that an object of this kind hangs on when it is written; 0 for kinds that do not expire.
    pub(super) async fn lease_for(
        &self,
        resource: &Resource,
        store: &dyn Store,
    ) -> Result<LeaseId, ApiError> {
        if resource.stored.storage != "events" {
            return Ok(0);
        }
        let mut current = self.current.lock().await;
        if let Some((id, granted)) = *current
            && granted.elapsed() < SHARED_FOR
        {
            return Ok(id);
        }
        let seconds = (EVENT_TTL + SHARED_FOR).as_secs();
        let granted =
            store.grant(0, i64::try_from(seconds).unwrap_or(i64::MAX)).await.map_err(store_error)?;
        *current = Some((granted.id, Instant::now()));
        Ok(granted.id)
    }

    /// The store does not know the lease any more: the next write gets another.
    pub(super) async fn forget(&self) {
        *self.current.lock().await = None;
    }
}
