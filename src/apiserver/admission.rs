//! Admission: what else a request must satisfy, and what is filled in for it.
//!
//! The plugins are upstream's, in upstream's order, one file each; each looks at few kinds and leaves all
//! others alone. Absent so far: webhooks, policies, quota, limit ranges, pod security (they come with their
//! kinds).

mod certificates;
mod default_tolerations;
mod escalation;
mod namespace_lifecycle;
mod node_restriction;
mod node_taint;
mod priority;
mod service_account;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::{ApiError, Object};
use serde_json::Value;

use crate::authz::Authorizer;
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
    fn is(&self, group: &str, plural: &str, subresource: Option<&str>) -> bool {
        self.ctx.row.plural == plural && self.ctx.row.group == group && self.ctx.subresource == subresource
    }

    /// Whether a pod is being created.
    fn creates_pod(&self) -> bool {
        self.operation == Operation::Create && self.is("", "pods", None)
    }

    fn forbidden(&self, why: &str) -> ApiError {
        ApiError::forbidden(self.ctx.row, self.name, why)
    }

    fn old_tree(&self) -> Value {
        self.old.and_then(|old| old.tree().ok()).unwrap_or(Value::Null)
    }
}

/// The chain of plugins.
pub(crate) struct Admission {
    authorizer: Arc<Authorizer>,
}

impl Admission {
    pub(crate) fn new(authorizer: Arc<Authorizer>) -> Self {
        Admission { authorizer }
    }

    /// Fills in and checks; `object` is the body, none for deletions.
    pub(crate) async fn mutate(
        &self,
        request: &Request<'_>,
        object: Option<&mut Value>,
    ) -> Result<(), ApiError> {
        namespace_lifecycle::admit(request)?;
        let Some(object) = object else { return node_restriction::admit(&self.authorizer, request, None) };
        service_account::mutate(request, object)?;
        node_restriction::admit(&self.authorizer, request, Some(object))?;
        node_taint::mutate(request, object);
        default_tolerations::mutate(request, object);
        priority::mutate(request, object)
    }

    /// Checks the final object, after validation.
    pub(crate) async fn validate(
        &self,
        request: &Request<'_>,
        object: Option<&Value>,
    ) -> Result<(), ApiError> {
        if let Some(object) = object {
            certificates::validate(&self.authorizer, request, object)?;
            escalation::validate(&self.authorizer, request, object)?;
        }
        Ok(())
    }
}
