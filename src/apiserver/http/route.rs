//! From a path to a resource.

use std::sync::Arc;

use api::ApiError;

use super::query::percent_decoded;
pub(super) use crate::registry::unknown;
use crate::registry::{Resource, Resources};

/// What a path below `/api` or `/apis` means.
pub(crate) struct Target {
    pub(crate) resource: Arc<Resource>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// What follows a subresource such as `proxy`, still encoded.
    pub(crate) rest: String,
    /// The old `/api/v1/watch/…` form.
    pub(crate) watch: bool,
}

/// The resource that a path names; none for paths that are no resource's, such as discovery's.
pub(crate) fn parse(resources: &Resources, path: &str) -> Result<Option<Target>, ApiError> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (group, version, rest) = match segments[..] {
        ["api", version, ref rest @ ..] => ("", version, rest),
        ["apis", group, version, ref rest @ ..] => (group, version, rest),
        _ => return Ok(None),
    };
    let (watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let find = |plural: &str| resources.find(group, version, plural).cloned().ok_or_else(unknown);
    let (namespace, plural, rest) = match *rest {
        [] => return Ok(None),
        // `namespaces/NS/pods`, but `namespaces/NS/status` is a subresource of the namespace itself.
        ["namespaces", namespace, plural, ref rest @ ..]
            if !(group.is_empty() && matches!(plural, "status" | "finalize")) =>
        {
            (Some(percent_decoded(namespace)?), plural, rest)
        }
        [plural, ref rest @ ..] => (None, plural, rest),
    };
    let resource = find(plural)?;
    if namespace.is_some() && !resource.row.namespaced() {
        return Err(unknown());
    }
    let mut target =
        Target { resource, namespace, name: None, subresource: None, rest: String::new(), watch };
    match *rest {
        [] => {}
        [name] => target.name = Some(percent_decoded(name)?),
        [name, subresource, ref rest @ ..] => {
            if target.resource.row.subresource(subresource).is_none() {
                return Err(unknown());
            }
            target.name = Some(percent_decoded(name)?);
            target.subresource = Some(subresource.to_string());
            target.rest = rest.join("/");
            // A trailing slash counts for what is proxied.
            if path.ends_with('/') {
                target.rest.push('/');
            }
            if !rest.is_empty() && subresource != "proxy" {
                return Err(unknown());
            }
        }
    }
    // Only whole collections are addressed across namespaces.
    if target.name.is_some() && target.namespace.is_none() && target.resource.row.namespaced() {
        return Err(unknown());
    }
    Ok(Some(target))
}
