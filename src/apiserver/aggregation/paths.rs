//! What paths below groups of other servers name, and who may ask for it.

use std::sync::Arc;

use api::{ApiError, Identity};
use http::Method;

use super::{Aggregation, Remote};
use crate::authz::{Attributes, Authorizer};
use crate::http::percent_decoded;
use crate::outbound::{OutboundError, cause};
use crate::registry::{Resources, unknown};

/// What a path below a remote version names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    pub(crate) namespace: Option<&'a str>,
    pub(crate) resource: &'a str,
    pub(crate) name: Option<&'a str>,
    pub(crate) subresource: Option<&'a str>,
}

/// The remote version that a path is of; none if this server has it itself.
pub(crate) fn of_path(
    aggregation: &Aggregation,
    resources: &Resources,
    path: &str,
) -> Option<(Arc<[Remote]>, usize)> {
    let (group, version) = of_group(path)?;
    let remotes = aggregation.remotes();
    let at = remotes.iter().position(|remote| remote.group == group && remote.version == version)?;
    let own = resources.group(group).is_some_and(|own| own.versions().iter().any(|(one, _)| *one == version));
    (!own).then_some((remotes, at))
}

fn of_group(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("openapi/v3/").unwrap_or(path);
    let mut segments = path.strip_prefix("apis/")?.split('/');
    Some((segments.next()?, segments.next()?))
}

/// The resource that a path names; none for what is no resource.
pub(crate) fn named(path: &str) -> Option<Named<'_>> {
    let segments: Vec<&str> = path.strip_prefix("apis/")?.split('/').skip(2).collect();
    let (namespace, rest) = match segments[..] {
        ["namespaces", namespace, _, ..] => (Some(namespace), &segments[2..]),
        _ => (None, &segments[..]),
    };
    let (&resource, rest) = rest.split_first()?;
    if resource.is_empty() {
        return None;
    }
    let (name, subresource) = (rest.first().copied(), rest.get(1).copied());
    Some(Named { namespace, resource, name, subresource })
}

fn verb(method: &Method, named: &Named<'_>, watches: bool) -> &'static str {
    match (method, named.name) {
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, Some(_)) => "delete",
        (&Method::DELETE, None) => "deletecollection",
        _ if watches => "watch",
        (_, Some(_)) => "get",
        (_, None) => "list",
    }
}

/// Whether a path has no parts that are nothing, or lead elsewhere.
fn is_plain(path: &str) -> Result<bool, ApiError> {
    for segment in path.split('/') {
        let decoded = percent_decoded(segment)?;
        if matches!(&*decoded, "" | "." | "..") || decoded.contains(['/', '\\']) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is asked of another server, and by whom.
pub(crate) struct Asked<'a> {
    pub(crate) user: &'a Identity,
    pub(crate) method: &'a Method,
    pub(crate) watches: bool,
    /// Without the slash that it begins with.
    pub(crate) path: &'a str,
    pub(crate) whole_path: &'a str,
}

pub(crate) fn authorize(authorizer: &Authorizer, asked: &Asked<'_>, remote: &Remote) -> Result<(), ApiError> {
    // A server may read a path that is odd in another way than it is read here.
    if !is_plain(asked.path)? {
        return Err(unknown());
    }
    let Some(named) = named(asked.path) else {
        return authorizer.check_path(asked.user, asked.method.as_str(), asked.whole_path);
    };
    authorizer.check(&Attributes {
        user: asked.user,
        verb: verb(asked.method, &named, asked.watches),
        group: &remote.group,
        resource: named.resource,
        subresource: named.subresource,
        namespace: named.namespace,
        name: named.name,
        fields: None,
        path: "",
    })
}

pub(crate) fn check_available(remote: &Remote) -> Result<(), ApiError> {
    if remote.is_available { Ok(()) } else { Err(ApiError::unavailable("service unavailable")) }
}

pub(crate) fn unreached(error: &OutboundError) -> ApiError {
    ApiError::unavailable(format!("error trying to reach service: {}", cause(error)))
}

#[cfg(test)]
mod tests;
