//! One kind in one version, with all that is its own.

use std::pin::pin;
use std::sync::Arc;

use api::openapi::Described;
use api::schema::{BuiltIn, Schema};
use api::{ApiError, FieldError, KindRow, Object, WatchEvent, kinds};
use bytes::Bytes;
use serde_json::Value;

use super::conversion::{self, Conversion};
use super::review::Review;
use super::strategies;
use super::subresource::Subresource;
use crate::cache::{Caches, KindCache};
use crate::definitions::rules::{Judged, RuleTree};
use crate::heavy::{HEAVY, Turns};
use crate::strategy::{Str, Strategy};

/// One kind in one version, ready to be served. It owns everything about its kind, so that a kind can come
/// and go at run time; whoever serves a request holds it until the request is over.
pub(crate) struct Resource {
    pub(crate) row: Arc<KindRow>,
    pub(crate) strategy: Arc<dyn Strategy>,
    pub(crate) schema: Arc<dyn Schema>,
    /// None where objects are stored in this row's version.
    pub(crate) conversion: Option<Arc<dyn Conversion>>,
    /// Whether objects may have been stored before the schema had the defaults that it has now.
    pub(crate) completes: bool,
    /// Rules of the schema beyond its structure; of custom resources only.
    pub(crate) rules: Option<Arc<RuleTree>>,
    /// Fields beyond metadata's that selectors may name and that are compared in this row's version; of
    /// custom resources only.
    pub(crate) fields: Vec<String>,
    /// `apiVersion` of the row, which is compared with that of every object where there is a conversion.
    pub(crate) version: String,
    /// `apiVersion` of the form that is stored.
    pub(crate) stored_version: String,
    /// By name, as in the row.
    pub(crate) subresources: Vec<(Str, Subresource)>,
    pub(crate) backing: Backing,
    /// The schema as the definition has it, in JSON; none for built-in kinds.
    pub(crate) openapi: Option<Bytes>,
}

/// What is behind a resource.
pub(crate) enum Backing {
    /// Objects that are stored.
    Stored(Arc<KindCache>),
    /// Questions, which are answered and forgotten.
    Review(Review),
    /// `bindings`: an action whose object the body names.
    Bindings,
    /// `componentstatuses`: what is looked at when it is read.
    Components,
    /// `metrics.k8s.io`: what kubelets measure when it is read.
    Metrics,
}

impl Resource {
    /// The stored objects; an error for kinds that have none.
    pub(crate) fn cache(&self) -> Result<&Arc<KindCache>, ApiError> {
        match &self.backing {
            Backing::Stored(cache) => Ok(cache),
            _ => Err(ApiError::method_not_supported(&self.row, "get")),
        }
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|(own, _)| own == name).map(|(_, subresource)| subresource)
    }

    /// The resource as OpenAPI documents describe it.
    pub(crate) fn described(&self) -> Described<'_> {
        let schema = self.openapi.as_ref().and_then(|bytes| serde_json::from_slice(bytes).ok());
        Described { row: &self.row, schema }
    }

    pub(crate) fn is_converted(&self) -> bool {
        self.conversion.is_some() || self.completes
    }

    /// Fills in what a converted tree, or one that was stored long ago, lacks.
    pub(super) fn complete(&self, mut tree: Value) -> Result<Value, ApiError> {
        // A conversion may leave out what another version does not have.
        if self.openapi.is_some() {
            self.schema.default(&mut tree)?;
        }
        Ok(tree)
    }

    /// What must be done to a stored object before it is shown; none if it is in this row's version already.
    pub(super) fn conversion_of(&self, object: &Object) -> Option<&dyn Conversion> {
        self.conversion.as_deref().filter(|_| object.api_version() != Some(&self.version))
    }

    /// A stored object in this row's version.
    pub(crate) async fn outward(&self, object: Arc<Object>) -> Result<Arc<Object>, ApiError> {
        if self.conversion_of(&object).is_none() && !self.completes {
            return Ok(object);
        }
        let tree = self.outward_tree(&object).await?;
        Ok(Arc::new(Object::from_tree(tree, object.resource_version()).map_err(ApiError::internal)?))
    }

    /// A watch's message in this row's version.
    pub(crate) async fn outward_event(&self, event: WatchEvent) -> WatchEvent {
        if !self.is_converted() {
            return event;
        }
        let converted = match event {
            WatchEvent::Added(object) => self.outward(object).await.map(WatchEvent::Added),
            WatchEvent::Modified(object) => self.outward(object).await.map(WatchEvent::Modified),
            WatchEvent::Deleted(object) => self.outward(object).await.map(WatchEvent::Deleted),
            other => Ok(other),
        };
        converted.unwrap_or_else(WatchEvent::Error)
    }

    /// A stored object's tree in this row's version.
    pub(crate) async fn outward_tree(&self, object: &Object) -> Result<Value, ApiError> {
        let tree = object.tree().map_err(ApiError::internal)?;
        match self.conversion_of(object) {
            Some(conversion) => self.complete(one(conversion, tree, &self.version).await?),
            None if self.completes => self.complete(tree),
            None => Ok(tree),
        }
    }

    /// The same without `metadata.managedFields`.
    pub(crate) async fn outward_bare_tree(&self, object: &Object) -> Result<Value, ApiError> {
        let tree = object.tree_without_managed_fields().map_err(ApiError::internal)?;
        match self.conversion_of(object) {
            Some(conversion) => self.complete(one(conversion, tree, &self.version).await?),
            None if self.completes => self.complete(tree),
            None => Ok(tree),
        }
    }

    /// A tree in this row's version as another version of the kind has it.
    pub(crate) async fn in_version(&self, other: &Resource, tree: &Value) -> Result<Value, ApiError> {
        match self.conversion.as_ref().or(other.conversion.as_ref()) {
            Some(conversion) => one(&**conversion, tree.clone(), &other.version).await,
            None => Ok(tree.clone()),
        }
    }

    /// Faults of an object by the schema, then by its rules: those are asked only of what has the right form.
    /// Rules that take long are taken off the threads that serve requests by `heavy`.
    pub(crate) async fn faults(
        &self,
        tree: &Value,
        old: Option<&Value>,
        (turns, user): (&Turns, &str),
    ) -> Judged {
        const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        let mut faults = self.schema.validate(tree, old);
        let Some(rules) = &self.rules else { return Judged { faults, warnings: Vec::new() } };
        if faults.is_empty() {
            if let Some(judged) = rules.judge_shortly(tree, old) {
                return judged;
            }
            let work = pin!(async { rules.judge(tree, old) });
            return turns.run(user, HEAVY, work).await;
        }
        faults.push(FieldError::invalid("<nil>", Value::Null, UNCHECKED));
        Judged { faults, warnings: Vec::new() }
    }

    /// A tree in this row's version in the form that is stored.
    pub(crate) async fn inward(&self, tree: Value) -> Result<Value, ApiError> {
        match &self.conversion {
            Some(conversion) => one(&**conversion, tree, &self.stored_version).await,
            None => Ok(tree),
        }
    }
}

async fn one(conversion: &dyn Conversion, tree: Value, version: &str) -> Result<Value, ApiError> {
    let converted = conversion.convert(vec![tree], version).await?;
    converted.into_iter().next().ok_or_else(|| ApiError::internal("a conversion lost the object"))
}

/// The resource of a row of the table.
pub(super) fn built_in(row: &KindRow, caches: &Caches) -> Resource {
    let stored = match &row.stored_as {
        Some(version) => kinds::by_kind(version, &row.kind).unwrap_or(row),
        None => row,
    };
    Resource {
        strategy: strategies::for_row(row),
        schema: Arc::new(match kinds::by_kind(&row.api_version(), &row.kind) {
            Some(_) => BuiltIn::of(row),
            // An early version is the stable one under another name.
            None => BuiltIn::like(row, stored),
        }),
        conversion: conversion::of(row),
        completes: false,
        rules: None,
        fields: Vec::new(),
        version: row.api_version(),
        stored_version: stored.api_version(),
        subresources: row
            .subresources
            .iter()
            .map(|one| (one.name.clone(), Subresource::built_in(&one.name)))
            .collect(),
        backing: match caches.register(stored, strategies::for_row(stored)) {
            Some(cache) => Backing::Stored(cache),
            None if row.kind == "ComponentStatus" => Backing::Components,
            None => Review::of(&row.kind).map_or(Backing::Bindings, Backing::Review),
        },
        openapi: None,
        row: Arc::new(row.clone()),
    }
}
