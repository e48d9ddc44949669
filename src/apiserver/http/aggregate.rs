//! Requests for groups that another server serves: authorized here, then handed on.

use std::sync::Arc;

use api::ApiError;
use axum::body::Body;
use http::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, Method, Request, Response};

use super::connect::{final_status, headers, tunnel};
use super::head::Head;
use super::query::percent_decoded;
use super::reply::Unhurried;
use super::route;
use crate::aggregation::{Aggregation, Remote, set_caller};
use crate::authz::Attributes;
use crate::outbound::cause;
use crate::registry::Resources;
use crate::server::ApiServer;

/// Headers that concern one connection only.
const HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a path below a remote version names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) namespace: Option<&'a str>,
    pub(super) resource: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) subresource: Option<&'a str>,
}

/// The remote version that a path is of; none if this server has it itself.
pub(super) fn of_path(
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
pub(super) fn named(path: &str) -> Option<Named<'_>> {
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

fn authorize(server: &ApiServer, head: &Head<'_>, remote: &Remote, path: &str) -> Result<(), ApiError> {
    // A server may read a path that is odd in another way than it is read here.
    if !is_plain(path)? {
        return Err(route::unknown());
    }
    let Some(named) = named(path) else {
        return server.registry.authorizer.check_path(&head.user, head.parts.method.as_str(), head.path);
    };
    server.registry.authorizer.check(&Attributes {
        user: &head.user,
        verb: verb(&head.parts.method, &named, head.query.flag("watch")),
        group: &remote.group,
        resource: named.resource,
        subresource: named.subresource,
        namespace: named.namespace,
        name: named.name,
        fields: None,
        path: "",
    })
}

/// Hands a request on and its answer back.
pub(super) async fn serve(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    remote: &Remote,
    path: &str,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    authorize(server, head, remote, path)?;
    if !remote.is_available {
        return Err(ApiError::unavailable("service unavailable"));
    }
    let aggregation = &server.registry.aggregation;
    let wanted = tunnel::wanted(head);
    let query = head.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let builder = Request::builder()
        .method(head.parts.method.clone())
        .uri(remote.url(&format!("{}{query}", head.parts.uri.path())));
    let mut request = set_caller(builder, &head.user).body(body).map_err(ApiError::internal)?;
    pass_headers(&head.parts.headers, request.headers_mut());
    headers::strip_token(request.headers_mut());
    if wanted.is_some()
        && let Some(protocol) = head.parts.headers.get(UPGRADE)
    {
        request.headers_mut().insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(UPGRADE, protocol.clone());
    }
    let answer = aggregation.outbound.pass(&aggregation.trust(remote), request).await;
    let answer = answer.map_err(|error| {
        ApiError::unavailable(format!("error trying to reach service: {}", cause(&error)))
    })?;
    if let (Some(wanted), 101) = (wanted, answer.status().as_u16()) {
        if !wanted.offers(answer.headers()) {
            let message =
                "error trying to reach service: backend tried to switch to a protocol that was not requested";
            return Err(ApiError::new(502, "InternalError", message));
        }
        let mut headers = HeaderMap::new();
        pass_headers(answer.headers(), &mut headers);
        return Ok(tunnel::joined(server, head, wanted, answer, headers, ()));
    }
    let (parts, body) = answer.into_parts();
    if parts.status.is_redirection() && parts.status != http::StatusCode::NOT_MODIFIED {
        let message = "the backend attempted to redirect this request, which is not permitted";
        return Err(ApiError::new(502, "InternalError", message));
    }
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = final_status(parts.status)?;
    pass_headers(&parts.headers, response.headers_mut());
    response.extensions_mut().insert(Unhurried);
    Ok(response)
}

/// All headers but those of one connection, and those by which the caller could pass for another. Some
/// servers read `_` in a name as `-`.
fn pass_headers(given: &HeaderMap, to: &mut HeaderMap) {
    let kept = |name: &HeaderName| {
        let read = name.as_str().replace('_', "-");
        let name = &*read;
        !HOP.contains(&name)
            && name != HOST.as_str()
            && name != AUTHORIZATION.as_str()
            && !name.starts_with("x-remote-")
            && !name.starts_with("impersonate-")
    };
    for (name, value) in given.iter().filter(|(name, _)| kept(name)) {
        to.append(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests;
