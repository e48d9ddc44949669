//! Authorization: what a user may do.
//!
//! `system:masters` may do everything; a node's kubelet may do what [`node`] finds it needs; all else is
//! RBAC, read from an index over the cached roles and bindings that takes in what changes.

pub(crate) mod bootstrap;
pub(crate) mod cover;
mod node;
pub(crate) mod rbac;
pub(crate) mod references;
mod request;

#[cfg(test)]
mod tests;

pub(crate) use request::OnResource;

use std::sync::Arc;

use api::identity::GROUP_MASTERS;
use api::{ApiError, FieldSelector, Identity};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails;

use crate::cache::Caches;

/// One request, as rules see it.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    pub user: &'a Identity,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or a lower-case
    /// HTTP method for paths.
    pub verb: &'a str,
    pub group: &'a str,
    /// Plural resource name; empty for a path that is no resource.
    pub resource: &'a str,
    pub subresource: Option<&'a str>,
    pub namespace: Option<&'a str>,
    /// The object's name; of a list or watch, the name its field selector `metadata.name=…` asks for.
    pub name: Option<&'a str>,
    /// Field selector of a list, watch or deletecollection: a node may only list the pods bound to it.
    pub fields: Option<&'a FieldSelector>,
    /// URL path, for paths that are no resources.
    pub path: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    /// With what upstream appends to its message; may be empty.
    Deny(String),
}

/// Why one authorizer does not allow a request: what upstream adds to its message, which may be nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Denied(String);

/// Node authorizer, then RBAC.
pub(crate) struct Authorizer {
    caches: Arc<Caches>,
    rbac: rbac::Rbac,
    node_rules: Vec<k8s_openapi::api::rbac::v1::PolicyRule>,
}

impl Authorizer {
    pub(crate) fn new(caches: Arc<Caches>) -> Self {
        Authorizer { rbac: rbac::Rbac::new(&caches), node_rules: bootstrap::rules_of("system:node"), caches }
    }

    pub(crate) fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.in_group(GROUP_MASTERS) {
            return Decision::Allow;
        }
        let mut reasons = Vec::new();
        if let Some(name) = attributes.user.node_name() {
            match node::authorize(&self.caches, &self.node_rules, name, attributes) {
                Ok(()) => return Decision::Allow,
                Err(Denied(reason)) => reasons.push(reason),
            }
        }
        match self.rbac.authorize(attributes) {
            Ok(()) => return Decision::Allow,
            Err(Denied(reason)) => reasons.push(reason),
        }
        reasons.retain(|reason| !reason.is_empty());
        Decision::Deny(reasons.join("\n"))
    }

    /// [`Authorizer::authorize`] with the refusal as the error that is answered.
    pub(crate) fn check(&self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        match self.authorize(attributes) {
            Decision::Allow => Ok(()),
            Decision::Deny(reason) => Err(forbidden(attributes, &reason)),
        }
    }

    pub(crate) fn rbac(&self) -> &rbac::Rbac {
        &self.rbac
    }
}

/// The 403 for a refused request, in upstream's words; `reason` is what [`Decision::Deny`] holds.
pub(crate) fn forbidden(attributes: &Attributes<'_>, reason: &str) -> ApiError {
    let mut why = format!("User {:?} cannot {} ", attributes.user.name, attributes.verb);
    if attributes.resource.is_empty() {
        why.push_str(&format!("path {:?}", attributes.path));
    } else {
        let resource = match attributes.subresource {
            Some(sub) => format!("{}/{sub}", attributes.resource),
            None => attributes.resource.to_string(),
        };
        why.push_str(&format!("resource {resource:?} in API group {:?} ", attributes.group));
        match attributes.namespace {
            Some(namespace) => why.push_str(&format!("in the namespace {namespace:?}")),
            None => why.push_str("at the cluster scope"),
        }
    }
    if !reason.is_empty() {
        why.push_str(&format!(": {reason}"));
    }
    let name = attributes.name.unwrap_or("");
    let mut message = match (attributes.resource, attributes.group) {
        ("", _) => "forbidden".to_string(),
        (resource, "") => resource.to_string(),
        (resource, group) => format!("{resource}.{group}"),
    };
    if !attributes.resource.is_empty() {
        message.push_str(&if name.is_empty() {
            " is forbidden".into()
        } else {
            format!(" {name:?} is forbidden")
        });
    }
    let mut status = ApiError::new(403, "Forbidden", format!("{message}: {why}")).status().clone();
    let some = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
    status.details = Some(StatusDetails {
        name: some(name),
        group: some(attributes.group),
        kind: some(attributes.resource),
        ..StatusDetails::default()
    });
    ApiError::from_status(status)
}
