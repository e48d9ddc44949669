//! The registry: one generic implementation of every verb for every kind.
//!
//! A call has been authorized when it gets here. Handlers and in-process components use the same functions; bodies are
//! JSON trees, results are shared objects. Kinds differ by their [`Strategy`] only; the few subresources that are not
//! parts of an object (binding, scale, token) have a file each.

mod actions;
mod body;
mod claim;
mod conversion;
mod create;
mod delete;
mod fence;
mod leases;
mod managed;
mod metadata;
pub mod names;
mod read;
pub(crate) mod repair;
mod resource;
mod resources;
mod reviews;
mod scale;
pub mod strategies;
mod subresource;
mod update;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::{ApiError, DryRun, FieldSelector, Identity, KindRow, Object};
use client::leader::Fence;
use embedded_store::{Store, StoreError};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use crate::Config;
use crate::admission::Admission;
use crate::authn::Authenticator;
use crate::authz::{Authorizer, OnResource};
use crate::cache::{Caches, Entry};
use crate::heavy::{HEAVY, Turns};
use crate::schemas::SchemaMemo;
use crate::strategy::{RequestContext, Strategy};

pub(crate) use actions::{delete_options, propagation};
pub(crate) use conversion::Conversion;
pub(crate) use metadata::time;
pub(crate) use resource::{Backing, Resource};
pub(crate) use resources::{Group, ResourceSet, Resources, unknown};
pub(crate) use scale::{FieldPath, ScalePaths};
pub(crate) use subresource::{Connection, Part, Subresource};
pub(crate) use update::Source;
pub(crate) use watch::{Due, Watch};

/// Everything that verbs need.
pub(crate) struct Registry {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) caches: Arc<Caches>,
    pub(crate) resources: ResourceSet,
    pub(crate) schemas: SchemaMemo,
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) turns: Arc<Turns>,
    admission: Admission,
    event_leases: leases::EventLeases,
}

/// Warnings of one call that are kept: more never fit into an answer's headers.
const MAX_WARNINGS: usize = 1000;

/// One call on one resource.
pub(crate) struct Call<'a> {
    pub(crate) resource: Arc<Resource>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) user: &'a Identity,
    pub(crate) dry_run: DryRun,
    /// What the client calls itself, by which its fields are known if the request names no manager; none for components
    /// in the process, who are known by their identity.
    pub(crate) agent: Option<String>,
    /// Where the replicas are, if the object's Scale is written and with it nothing else.
    scales: Option<&'a scale::ScalePaths>,
    /// The term that its writes stand under, if it is a component's that leads.
    pub(crate) fence: Option<&'a Fence>,
    /// Texts for `Warning` headers, gathered on the way.
    pub(crate) warnings: Mutex<Vec<String>>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(resource: &Arc<Resource>, namespace: Option<&'a str>, user: &'a Identity) -> Self {
        Call {
            resource: resource.clone(),
            namespace: namespace.filter(|_| resource.row.namespaced()),
            subresource: None,
            user,
            dry_run: DryRun::No,
            agent: None,
            scales: None,
            fence: None,
            warnings: Mutex::default(),
        }
    }

    pub(crate) fn sub(mut self, subresource: Option<&'a str>) -> Self {
        self.subresource = subresource;
        self
    }

    pub(crate) fn dry(mut self, dry_run: DryRun) -> Self {
        self.dry_run = dry_run;
        self
    }

    pub(crate) fn by_agent(mut self, agent: Option<String>) -> Self {
        self.agent = agent;
        self
    }

    pub(crate) fn fenced(mut self, fence: Option<&'a Fence>) -> Self {
        self.fence = fence;
        self
    }

    pub(crate) fn row(&self) -> &KindRow {
        &self.resource.row
    }

    fn strategy(&self) -> &dyn Strategy {
        &*self.resource.strategy
    }

    fn warn(&self, texts: Vec<String>) {
        if !texts.is_empty() {
            let mut warnings = self.warnings.lock();
            let room = MAX_WARNINGS.saturating_sub(warnings.len());
            warnings.extend(texts.into_iter().take(room));
        }
    }

    fn count_warnings(&self) -> usize {
        self.warnings.lock().len()
    }

    /// Forgets the warnings of an attempt that came to nothing.
    fn keep_warnings(&self, count: usize) {
        self.warnings.lock().truncate(count);
    }

    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock())
    }

    /// The storage key of an object; an error for kinds that are not stored.
    fn key(&self, name: &str) -> Result<String, ApiError> {
        Ok(self.resource.cache()?.key(self.namespace, name))
    }
}

impl Registry {
    pub(crate) fn new(config: Config, store: Arc<dyn Store>) -> Result<Self, crate::StartError> {
        let caches = Caches::new();
        let resources = ResourceSet::new(Resources::built_in(&caches));
        caches.fill(store.as_ref())?;
        let authorizer = Arc::new(Authorizer::new(caches.clone()));
        Ok(Registry {
            authenticator: Authenticator::new(&config, caches.clone())?,
            admission: Admission::new(authorizer.clone()),
            authorizer,
            turns: Arc::new(Turns::new()),
            event_leases: leases::EventLeases::default(),
            config,
            store,
            caches,
            resources,
            schemas: SchemaMemo::default(),
        })
    }

    fn context<'a>(&'a self, call: &'a Call<'_>) -> RequestContext<'a> {
        RequestContext {
            row: call.row(),
            namespace: call.namespace,
            subresource: call.subresource,
            user: call.user,
            now: Timestamp::now(),
            dry_run: call.dry_run == DryRun::All,
            caches: &*self.caches,
            schemas: &self.schemas,
            config: &self.config,
        }
    }

    /// About how many bytes a write works on: its body and the object that is there. Rules are compared with those that
    /// the user holds, patterns of a definition are compiled, and a definition can make much work of a few bytes of its
    /// objects: small bodies of such kinds weigh more.
    pub(crate) fn weight(&self, call: &Call<'_>, name: Option<&str>, body: usize) -> usize {
        let defines = call.row().group == "apiextensions.k8s.io" && call.subresource.is_none();
        if defines || call.row().group == "rbac.authorization.k8s.io" {
            return HEAVY.max(body);
        }
        let cache = call.resource.cache().ok();
        let entry = name.zip(cache).and_then(|(name, cache)| cache.get(&call.key(name).ok()?));
        call.resource.schema.weight(body + entry.map_or(0, |entry| entry.object.stored_bytes().len()))
    }

    /// The stored object, or 404.
    fn find(&self, call: &Call<'_>, name: &str) -> Result<Arc<Entry>, ApiError> {
        let found = call.resource.cache()?.get(&call.key(name)?);
        found.ok_or_else(|| ApiError::not_found(call.row(), name))
    }

    /// The object that a write of ours left in the cache; built from its bytes if somebody has changed it since.
    async fn written(
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

/// The answer to verbs that a resource does not have.
pub(crate) fn not_allowed() -> ApiError {
    ApiError::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

/// A store's failure as a Status. Compares that fail are not errors and do not come here.
pub(crate) fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { .. } => {
            ApiError::expired("The resourceVersion for the provided list is too old.")
        }
        StoreError::TooLarge { .. } => ApiError::too_large(format!("etcdserver: {error}")),
        StoreError::NoSpace(_)
        | StoreError::Unwritable(_)
        | StoreError::Stopped
        | StoreError::NotLeader { .. }
        | StoreError::NoQuorum => ApiError::unavailable(error.to_string()),
        other => ApiError::internal(other),
    }
}

/// A member of an object's metadata.
fn meta<'a>(tree: &'a Value, field: &str) -> &'a Value {
    &tree["metadata"][field]
}

fn meta_str<'a>(tree: &'a Value, field: &str) -> &'a str {
    meta(tree, field).as_str().unwrap_or("")
}
