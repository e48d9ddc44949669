//! What a plugin is asked about.

use api::{ApiError, Object};
use serde_json::Value;

use crate::strategy::RequestContext;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// A request on its way to the store.
pub(crate) struct Request<'a> {
    pub ctx: &'a RequestContext<'a>,
    pub operation: Operation,
    /// Empty for a create with generateName whose name is not made yet. Of a subresource the parent's.
    pub name: &'a str,
    /// The stored object, for updates and deletions.
    pub old: Option<&'a Object>,
}

impl Request<'_> {
    /// Whether this is about objects (or a subresource) of the core group's resource.
    pub(super) fn is(&self, group: &str, plural: &str, subresource: Option<&str>) -> bool {
        self.ctx.row.plural == plural && self.ctx.row.group == group && self.ctx.subresource == subresource
    }

    /// Whether a pod is being created.
    pub(super) fn creates_pod(&self) -> bool {
        self.operation == Operation::Create && self.is("", "pods", None)
    }

    pub(super) fn forbidden(&self, why: &str) -> ApiError {
        ApiError::forbidden(self.ctx.row, self.name, why)
    }

    pub(super) fn old_tree(&self) -> Value {
        self.old.and_then(|old| old.tree().ok()).unwrap_or(Value::Null)
    }
}
