//! Authorization: what a user may do.

use std::sync::Arc;

use api::Identity;

use crate::cache::Caches;

/// One request, as rules see it.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    pub user: &'a Identity,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or a lower-case HTTP method for paths.
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    /// Plural resource name; empty for a path that is no resource.
    pub resource: &'a str,
    pub subresource: Option<&'a str>,
    pub namespace: Option<&'a str>,
    pub name: Option<&'a str>,
    /// URL path, for paths that are no resources.
    pub path: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// With what upstream appends to its message; may be empty.
    Deny(String),
}

/// Node authorizer, then RBAC.
pub struct Authorizer {}

impl Authorizer {
    pub fn new(_caches: Arc<Caches>) -> Self {
        Authorizer {}
    }

    pub fn authorize(&self, _attributes: &Attributes<'_>) -> Decision {
        Decision::Allow
    }
}
