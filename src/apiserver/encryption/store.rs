//! The store as the registry has it: values are encrypted on the way in and decrypted on the way out.
//!
//! Keys, versions, compares of versions and leases are the store's own. Whoever observes the store is told
//! what is stored; the watch cache, which does, decrypts by itself.

use std::sync::Arc;

use embedded_store::{
    KeyValue, LeaseGrant, LeaseId, LeaseInfo, Leases, Observer, Op, OpResult, RangeRequest, RangeResult,
    Store, StoreError, Txn, TxnResult, WatchBatch, WatchRequest, WatchStream,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::{Encryption, TransformError};

/// A store whose values are encrypted as the configuration says.
pub(crate) struct EncryptedStore {
    pub(super) stored: Arc<dyn Store>,
    pub(crate) encryption: Arc<Encryption>,
}

fn failed(key: &[u8], why: &TransformError) -> StoreError {
    StoreError::Transform { key: String::from_utf8_lossy(key).into_owned(), why: why.to_string() }
}

impl EncryptedStore {
    pub(crate) fn new(stored: Arc<dyn Store>, encryption: Arc<Encryption>) -> Self {
        EncryptedStore { stored, encryption }
    }

    /// The store below, with its values as they are: what feeds the caches, which decrypt by themselves.
    pub(crate) fn stored(&self) -> &dyn Store {
        self.stored.as_ref()
    }

    /// Whether a write of the same content would be stored otherwise: encrypted, with another key, or no
    /// more.
    pub(crate) fn is_stale(&self, key: &str) -> bool {
        if !self.encryption.is_active() {
            return false;
        }
        let request = RangeRequest { key: key.to_string().into(), ..RangeRequest::default() };
        let found = self.stored.range(&request).map(|found| found.kvs).unwrap_or_default();
        found.first().is_some_and(|kv| {
            let opened = self.encryption.transformers.load().read(&kv.key, &kv.value);
            opened.is_ok_and(|opened| opened.stale)
        })
    }

    fn encrypt(&self, txn: &mut Txn) -> Result<(), StoreError> {
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            match op {
                Op::Put { key, value, .. } | Op::Update { key, value: Some(value), .. } => {
                    *value = self.encryption.write(key, value).map_err(|why| failed(key, &why))?;
                }
                Op::Txn(inner) => self.encrypt(inner)?,
                Op::Update { value: None, .. } | Op::Delete { .. } | Op::Range(_) => {}
            }
        }
        Ok(())
    }

    fn decrypt(&self, kvs: &mut [KeyValue]) -> Result<(), StoreError> {
        for kv in kvs {
            // Empty where only keys were asked for.
            if !kv.value.is_empty() {
                kv.value = self.encryption.read(&kv.key, &kv.value).map_err(|why| failed(&kv.key, &why))?;
            }
        }
        Ok(())
    }

    fn decrypt_results(&self, results: &mut [OpResult]) -> Result<(), StoreError> {
        for result in results {
            match result {
                OpResult::Range(range) => self.decrypt(&mut range.kvs)?,
                OpResult::Txn(inner) => self.decrypt_results(&mut inner.results)?,
                // Nobody looks at what was there before.
                OpResult::Put { .. } | OpResult::Delete { .. } => {}
            }
        }
        Ok(())
    }
}

impl Store for EncryptedStore {
    fn txn(&self, mut txn: Txn) -> BoxFuture<'_, Result<TxnResult, StoreError>> {
        if !self.encryption.is_active() {
            return self.stored.txn(txn);
        }
        async move {
            self.encrypt(&mut txn)?;
            let mut result = self.stored.txn(txn).await?;
            self.decrypt_results(&mut result.results)?;
            Ok(result)
        }
        .boxed()
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResult, StoreError> {
        let mut found = self.stored.range(request)?;
        self.decrypt(&mut found.kvs)?;
        Ok(found)
    }

    fn watch(&self, request: &WatchRequest) -> Result<WatchStream, StoreError> {
        let encryption = self.encryption.clone();
        let decrypted = self.stored.watch(request)?.map(move |batch| {
            let WatchBatch { events, revision } = batch?;
            let mut events = events.to_vec();
            for kv in events.iter_mut().flat_map(|event| [&mut event.old, &mut event.new]).flatten() {
                kv.value = encryption.read(&kv.key, &kv.value).map_err(|why| failed(&kv.key, &why))?;
            }
            Ok(WatchBatch { events: events.into(), revision })
        });
        Ok(decrypted.boxed())
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.stored.read_barrier()
    }

    fn is_led(&self) -> Option<bool> {
        self.stored.is_led()
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        self.stored.compact(revision)
    }

    fn revision(&self) -> u64 {
        self.stored.revision()
    }

    fn compacted_revision(&self) -> u64 {
        self.stored.compacted_revision()
    }

    fn observe(&self, observer: Observer) -> u64 {
        self.stored.observe(observer)
    }
}

impl Leases for EncryptedStore {
    fn grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGrant, StoreError>> {
        self.stored.grant(id, ttl)
    }

    fn revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.stored.revoke(id)
    }

    fn keep_alive(&self, id: LeaseId) -> Result<i64, StoreError> {
        self.stored.keep_alive(id)
    }

    fn lease(&self, id: LeaseId) -> Option<LeaseInfo> {
        self.stored.lease(id)
    }

    fn leases(&self) -> Vec<LeaseId> {
        self.stored.leases()
    }
}

#[cfg(test)]
mod tests;
