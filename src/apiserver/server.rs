//! The running API server: what all requests share, and in-process access.

use std::sync::Arc;

use api::Identity;
use client::leader::Fence;
use client::{ApiFor, ExtensionApi, ObjectApi, ServedKinds};
use supervisor::{Latch, Stage};

use crate::aggregation::reader::ExtensionReader;
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
