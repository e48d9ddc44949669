//! Writes that stand under a Lease: a component that leads may write only while the Lease names its term.
//!
//! The term is looked up in the cache and the version it was found at becomes one more compare of the write's
//! own transaction. A renewal between the two makes the compare fail although nothing is wrong: then the
//! Lease that the transaction found decides whether to try again.

use api::{ApiError, Kinded, Object};
use bytes::Bytes;
use client::leader::Fence;
use embedded_store::{Compare, Op, OpResult, RangeRequest, Store, StoreError, Txn, TxnResult};
use k8s_openapi::api::coordination::v1::Lease;

use super::{Call, Registry, store_error};

/// Why a transaction came to nothing.
pub(super) enum Refused {
    Store(StoreError),
    /// The caller's term is over.
    Fence(ApiError),
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Store(error) => store_error(error),
            Refused::Fence(error) => error,
        }
    }
}

impl Registry {
    /// Carries a write out, under the call's fence if it has one. `succeeded` tells of the transaction's own
    /// compares.
    pub(super) async fn txn(&self, call: &Call<'_>, txn: Txn) -> Result<TxnResult, Refused> {
        let result = self.fenced(call, txn).await?;
        if call.row().group == "rbac.authorization.k8s.io" {
            self.authorizer.rbac().settle(call.namespace);
        }
        Ok(result)
    }

    async fn fenced(&self, call: &Call<'_>, txn: Txn) -> Result<TxnResult, Refused> {
        let Some(fence) = call.fence else { return self.store.txn(txn).await.map_err(Refused::Store) };
        let resources = self.resources.load();
        let cache = resources.of_row(Lease::row()).and_then(|resource| resource.cache());
        let cache = cache.map_err(Refused::Fence)?;
        let key = cache.key(Some(&fence.namespace), &fence.name);
        let mut lease = cache.get(&key).map(|entry| entry.object.clone());
        let key = Bytes::from(key);
        loop {
            let version = check(fence, lease.as_deref()).map_err(Refused::Fence)?;
            let mut fenced = txn.clone();
            fenced.compares.push(Compare::mod_revision(key.clone(), version));
            fenced.failure.push(Op::Range(RangeRequest { key: key.clone(), ..RangeRequest::default() }));
            let mut result = self.store.txn(fenced).await.map_err(Refused::Store)?;
            if result.succeeded {
                return Ok(result);
            }
            let found = match result.results.pop() {
                Some(OpResult::Range(range)) => range.kvs.into_iter().next(),
                _ => None,
            };
            let Some(found) = found else { return Err(Refused::Fence(over(fence))) };
            if found.mod_revision == version {
                return Ok(result);
            }
            let object = Object::from_stored(found.value, found.mod_revision);
            lease = Some(object.map_err(|error| Refused::Fence(ApiError::internal(error)))?.into());
        }
    }
}

/// The version of a Lease that names the fence's term.
fn check(fence: &Fence, lease: Option<&Object>) -> Result<u64, ApiError> {
    let object = lease.ok_or_else(|| over(fence))?;
    let lease = object.typed::<Lease>().map_err(ApiError::internal)?;
    if fence.is_current(&lease) { Ok(object.resource_version()) } else { Err(over(fence)) }
}

fn over(fence: &Fence) -> ApiError {
    let why = format!("{} does not lead any more (transition {})", fence.holder, fence.transitions);
    ApiError::conflict(Lease::row(), &fence.name, &why)
}

#[cfg(test)]
mod tests;
