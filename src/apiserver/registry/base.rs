//! What all verbs share: the store, the caches, the resources, and who may do what.

use std::sync::Arc;

use api::{ApiError, FieldSelector, Object};
use embedded_store::Store;
use jiff::Timestamp;

use super::call::Call;
use super::leases::EventLeases;
use super::metrics::Summaries;
use super::resources::{ResourceSet, Resources};
use crate::Config;
use crate::admission::Admission;
use crate::aggregation::Aggregation;
use crate::authn::Authenticator;
use crate::authz::{Authorizer, OnResource};
use crate::cache::{Caches, Entry};
use crate::encryption::EncryptedStore;
use crate::heavy::{HEAVY, Turns};
use crate::outbound::Outbound;
use crate::policies::Policies;
use crate::schemas::SchemaMemo;
use crate::strategy::{RequestContext, ServiceRanges};
use crate::webhooks::Webhooks;

/// Everything that verbs need.
pub(crate) struct Registry {
    pub(crate) config: Config,
    pub(crate) store: Arc<EncryptedStore>,
    pub(crate) caches: Arc<Caches>,
    pub(crate) resources: ResourceSet,
    pub(crate) schemas: SchemaMemo,
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) aggregation: Aggregation,
    pub(super) admission: Admission,
    pub(super) webhooks: Webhooks,
    pub(crate) policies: Policies,
    pub(super) event_leases: EventLeases,
    pub(super) summaries: Summaries,
}

impl Registry {
    pub(crate) fn new(config: Config, store: Arc<dyn Store>) -> Result<Self, crate::error::StartError> {
        let store = Arc::new(EncryptedStore::new(store, config.encryption.clone()));
        store.follow_kept()?;
        let caches = Caches::over(config.encryption.clone());
        let resources = ResourceSet::new(Resources::built_in(&caches, &config.runtime.rows()));
        caches.fill(store.stored())?;
        let authorizer = Arc::new(Authorizer::new(caches.clone()));
        let turns = Arc::new(Turns::new());
        let outbound = Outbound::new(caches.clone(), turns.clone());
        Ok(Registry {
            authenticator: Authenticator::new(&config, caches.clone())?,
            admission: Admission::new(authorizer.clone(), config.admission.clone()),
            authorizer,
            turns,
            aggregation: Aggregation::new(&caches, outbound.clone(), config.front_proxy.clone()),
            policies: Policies::new(&caches),
            webhooks: Webhooks::new(&caches, outbound.clone()),
            outbound,
            event_leases: EventLeases::default(),
            summaries: Summaries::default(),
            config,
            store,
            caches,
            resources,
            schemas: SchemaMemo::default(),
        })
    }

    pub(super) fn context<'a>(&'a self, call: &'a Call<'_>) -> RequestContext<'a> {
        RequestContext {
            row: call.row(),
            namespace: call.namespace,
            subresource: call.subresource,
            user: call.user,
            now: Timestamp::now(),
            caches: &*self.caches,
            schemas: &self.schemas,
            services: ServiceRanges { cidr: &self.config.service_cidr, node_ports: &self.config.node_ports },
            trail: call.trail.as_deref(),
        }
    }

    /// About how many bytes a write works on: its body and the object that is there. Rules are compared with
    /// those that the user holds, patterns of a definition are compiled, and a definition can make much work
    /// of a few bytes of its objects: small bodies of such kinds weigh more.
    pub(crate) fn weight(&self, call: &Call<'_>, name: Option<&str>, body: usize) -> usize {
        let defines = call.row().group == "apiextensions.k8s.io" && call.subresource.is_none();
        if defines || call.row().group == "rbac.authorization.k8s.io" {
            return HEAVY.max(body);
        }
        let cache = call.resource.cache().ok();
        let entry = name.zip(cache).and_then(|(name, cache)| cache.get(&call.key(name).ok()?));
        let bytes = body + entry.map_or(0, |entry| entry.object.stored_bytes().len());
        // Rules look at a byte more often than a schema does.
        let by_rules = if call.resource.rules.is_some() { bytes.saturating_mul(16) } else { 0 };
        call.resource.schema.weight(bytes).max(by_rules)
    }

    /// The stored object, if there is one. One that cannot be decrypted is there, and is an error.
    pub(super) fn present(&self, call: &Call<'_>, name: &str) -> Result<Option<Arc<Entry>>, ApiError> {
        let (cache, key) = (call.resource.cache()?, call.key(name)?);
        match cache.unreadable(&key) {
            Some(why) => Err(ApiError::internal(why)),
            None => Ok(cache.get(&key)),
        }
    }

    /// The stored object, or 404.
    pub(super) fn find(&self, call: &Call<'_>, name: &str) -> Result<Arc<Entry>, ApiError> {
        self.present(call, name)?.ok_or_else(|| ApiError::not_found(call.row(), name))
    }

    /// The object that a write of ours left in the cache; built from its bytes if another write has changed
    /// it since.
    pub(super) async fn written(
        &self,
        call: &Call<'_>,
        key: &str,
        bytes: bytes::Bytes,
        revision: u64,
    ) -> Result<Arc<Object>, ApiError> {
        let cached =
            call.resource.cache()?.get(key).filter(|entry| entry.object.resource_version() == revision);
        let object = match cached {
            Some(entry) => entry.object.clone(),
            None => Arc::new(Object::from_stored(bytes, revision).map_err(ApiError::internal)?),
        };
        call.resource.outward(object).await
    }
}

impl Registry {
    /// Whether the call's user may do this; else the 403.
    pub(crate) fn authorize(
        &self,
        call: &Call<'_>,
        verb: &str,
        name: Option<&str>,
        fields: Option<&FieldSelector>,
    ) -> Result<(), ApiError> {
        self.authorizer.check_resource(&OnResource {
            user: call.user,
            verb,
            row: call.row(),
            subresource: call.subresource,
            namespace: call.namespace,
            name,
            fields,
        })
    }
}
