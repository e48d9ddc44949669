//! Store leases that make events expire.

use api::ApiError;
use embedded_store::{LeaseId, Store};

use super::Resource;

/// Leases of events.
#[derive(Default)]
pub(super) struct EventLeases {}

impl EventLeases {
    /// The lease that a new object of this kind hangs on; 0 for kinds that do not expire.
    pub(super) async fn lease_for(&self, _resource: &Resource, _store: &dyn Store) -> Result<LeaseId, ApiError> {
        Ok(0)
    }
}
