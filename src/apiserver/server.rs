//! The running API server: what all requests share, and in-process access.

use std::sync::Arc;

use api::Identity;
use client::leader::Fence;
use client::{ApiFor, ExtensionApi, ObjectApi, ServedKinds};
use supervisor::{Latch, Stage};

use crate::aggregation::reader::ExtensionReader;
use crate::encryption::{ChangeError, EncryptionStatus, Origin};
use crate::fairness::Fairness;
use crate::http::Metrics;
use crate::local::{Fenced, Local};
use crate::registry::Registry;

/// Shared by everything that serves requests.
pub struct ApiServer {
    pub(crate) registry: Arc<Registry>,
    /// Open once what every cluster has exists.
    pub(crate) bootstrapped: Latch,
    pub(crate) stage: Stage,
    pub(crate) metrics: Metrics,
    pub(crate) fairness: Arc<Fairness>,
}

impl ApiServer {
    /// The API for components that lead: what they write takes effect only during the fence's term.
    pub fn fenced(&self, fence: Arc<Fence>) -> Arc<dyn ApiFor> {
        let (registry, fairness) = (self.registry.clone(), self.fairness.clone());
        Arc::new(Fenced { registry, fairness, fence })
    }

    /// How encryption at rest stands. Looks at every stored value: not for a reactor's thread.
    pub fn encryption_status(&self) -> EncryptionStatus {
        self.registry.store.survey()
    }

    /// Who says what is encrypted.
    pub fn encryption_origin(&self) -> Origin {
        self.registry.store.origin()
    }

    /// From now on Secrets are written encrypted, with a key that the cluster keeps.
    pub async fn enable_encryption(&self) -> Result<(), ChangeError> {
        self.registry.store.enable().await
    }

    /// From now on Secrets are written with a new key.
    pub async fn rotate_encryption_key(&self) -> Result<(), ChangeError> {
        self.registry.store.rotate().await
    }

    /// From now on Secrets are written in plain text.
    pub async fn disable_encryption(&self) -> Result<(), ChangeError> {
        self.registry.store.disable().await
    }

    /// Writes every value anew that would be written otherwise now, and tells how many there were.
    pub async fn reencrypt(&self) -> Result<usize, ChangeError> {
        self.registry.store.reencrypt().await
    }
}

impl ApiFor for ApiServer {
    fn as_user(&self, identity: Identity) -> Arc<dyn ObjectApi> {
        Arc::new(Local::new(self.registry.clone(), self.fairness.clone(), identity))
    }

    fn served(&self) -> ServedKinds {
        self.registry.resources.served()
    }

    fn extensions(&self, identity: Identity) -> Arc<dyn ExtensionApi> {
        Arc::new(ExtensionReader::new(self.registry.clone(), identity))
    }
}
