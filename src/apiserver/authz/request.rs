//! Authorization of requests: what a request asks for, in the words of rules.
//!
//! Every request is judged here, whether it comes over HTTP or from a component of the process, before
//! anything else is done for it: on a resource by [`Authorizer::check_resource`], on any other path by
//! [`Authorizer::check_path`].

use api::{ApiError, FieldSelector, Identity, KindRow};

use super::{Attributes, Authorizer};

/// A request on a resource.
pub(crate) struct OnResource<'a> {
    pub(crate) user: &'a Identity,
    pub(crate) verb: &'a str,
    pub(crate) row: &'a KindRow,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    /// Field selector of a list, watch or deletecollection.
    pub(crate) fields: Option<&'a FieldSelector>,
}

impl Authorizer {
    /// Whether the user may do this; else the 403.
    pub(crate) fn check_resource(&self, request: &OnResource<'_>) -> Result<(), ApiError> {
        let &OnResource { user, verb, row, subresource, namespace, name, fields } = request;
        // A namespace is in itself: who may read a namespace's objects may read it too.
        let own = name.filter(|_| row.plural == "namespaces" && row.group.is_empty());
        // What a collection's deletion selects is no name: it takes the right to delete them all.
        let selected = fields.filter(|_| verb != "deletecollection").and_then(demanded_name);
        self.check(&Attributes {
            user,
            verb,
            group: &row.group,
            resource: &row.plural,
            subresource,
            namespace: namespace.or(own),
            name: name.filter(|name| !name.is_empty()).or(selected),
            fields,
            path: "",
        })
    }

    /// Whether the user may use a path that is no resource's.
    pub(crate) fn check_path(&self, user: &Identity, method: &str, path: &str) -> Result<(), ApiError> {
        let verb = method.to_ascii_lowercase();
        self.check(&Attributes {
            user,
            verb: &verb,
            group: "",
            resource: "",
            subresource: None,
            namespace: None,
            name: None,
            fields: None,
            path,
        })
    }
}

/// The name that a field selector of a list or watch asks for.
fn demanded_name(fields: &FieldSelector) -> Option<&str> {
    let term = fields.terms.iter().find(|term| term.equals && term.path == "metadata.name")?;
    Some(&term.value)
}
