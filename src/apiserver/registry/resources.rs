//! What is served: rows with their strategies and caches, found by group, version and plural name.

use std::collections::HashMap;
use std::sync::Arc;

use api::schema::{self, TypeRef};
use api::{ApiError, KindRow, Object, WatchEvent, kinds};
use serde_json::Value;

use super::{Strategy, convert, strategies};
use crate::cache::{Caches, KindCache};

/// One kind in one version, ready to be served.
pub(crate) struct Resource {
    pub(crate) row: KindRow,
    /// The row in whose form objects are stored: this one's, but for kinds served in several versions.
    pub(crate) stored: KindRow,
    pub(crate) strategy: &'static dyn Strategy,
    pub(crate) schema: Option<TypeRef>,
    /// None for kinds that are only posted, such as bindings.
    cache: Option<Arc<KindCache>>,
}

impl Resource {
    pub(crate) fn cache(&self) -> Result<&Arc<KindCache>, ApiError> {
        self.cache.as_ref().ok_or_else(|| ApiError::method_not_supported(&self.row, "get"))
    }

    pub(crate) fn is_converted(&self) -> bool {
        self.row.stored_as.is_some()
    }

    /// A stored object in this row's version.
    pub(crate) fn outward(&self, object: Arc<Object>) -> Result<Arc<Object>, ApiError> {
        if !self.is_converted() {
            return Ok(object);
        }
        let tree = convert::outward(&self.row, object.tree().map_err(ApiError::internal)?);
        Ok(Arc::new(Object::from_tree(tree, object.resource_version()).map_err(ApiError::internal)?))
    }

    /// A watch's message in this row's version.
    pub(crate) fn outward_event(&self, event: WatchEvent) -> WatchEvent {
        if !self.is_converted() {
            return event;
        }
        let converted = match event {
            WatchEvent::Added(object) => self.outward(object).map(WatchEvent::Added),
            WatchEvent::Modified(object) => self.outward(object).map(WatchEvent::Modified),
            WatchEvent::Deleted(object) => self.outward(object).map(WatchEvent::Deleted),
            other => Ok(other),
        };
        converted.unwrap_or_else(WatchEvent::Error)
    }

    /// A stored object's tree in this row's version.
    pub(crate) fn outward_tree(&self, object: &Object) -> Result<Value, ApiError> {
        let tree = object.tree().map_err(ApiError::internal)?;
        Ok(if self.is_converted() { convert::outward(&self.row, tree) } else { tree })
    }

    /// A tree in this row's version in the form that is stored.
    pub(crate) fn inward(&self, tree: Value) -> Value {
        if self.is_converted() { convert::inward(&self.row, tree) } else { tree }
    }
}

/// All resources, in the order of discovery.
pub(crate) struct Resources {
    all: Vec<Arc<Resource>>,
    by_plural: HashMap<String, Vec<Arc<Resource>>>,
}

impl Resources {
    /// The rows of the table.
    pub(crate) fn built_in(caches: &Caches) -> Self {
        let mut resources = Resources { all: Vec::new(), by_plural: HashMap::new() };
        for row in kinds::ALL {
            let stored = match &row.stored_as {
                Some(version) => kinds::by_kind(version, &row.kind).unwrap_or(row),
                None => row,
            };
            let strategy = strategies::for_row(row);
            let cache =
                (!row.storage.is_empty()).then(|| caches.register(stored, strategies::for_row(stored)));
            resources.add(Resource {
                row: (*row).clone(),
                stored: stored.clone(),
                strategy,
                schema: schema::for_kind(row),
                cache,
            });
        }
        resources
    }

    fn add(&mut self, resource: Resource) {
        let resource = Arc::new(resource);
        self.by_plural.entry(resource.row.plural.to_string()).or_default().push(resource.clone());
        self.all.push(resource);
    }

    pub(crate) fn all(&self) -> &[Arc<Resource>] {
        &self.all
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let candidates = self.by_plural.get(plural)?;
        candidates.iter().find(|one| one.row.group == group && one.row.version == version)
    }

    /// The resource of a row, which may be any copy of it.
    pub(crate) fn of_row(&self, row: &KindRow) -> Result<&Arc<Resource>, ApiError> {
        self.find(&row.group, &row.version, &row.plural).ok_or_else(unknown)
    }
}

/// The answer to paths and kinds that do not exist.
pub(crate) fn unknown() -> ApiError {
    ApiError::new(404, "NotFound", "the server could not find the requested resource")
}
