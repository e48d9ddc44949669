//! Requests for groups that another server serves: authorized here, then handed on.

use std::sync::Arc;

use api::ApiError;
use axum::body::Body;
use http::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, Request, Response};

use super::connect::{final_status, headers, tunnel};
use super::head::Head;
use super::reply::Unhurried;
use crate::aggregation::paths::{Asked, authorize, check_available, unreached};
use crate::aggregation::{Remote, set_caller};
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

/// Hands a request on and its answer back.
pub(super) async fn serve(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    remote: &Remote,
    path: &str,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let (method, watches) = (&head.parts.method, head.query.flag("watch"));
    let asked = Asked { user: &head.user, method, watches, path, whole_path: head.path };
    let decided = authorize(&server.registry.authorizer, &asked, remote);
    head.decided(&decided);
    decided?;
    check_available(remote)?;
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
    let answer = answer.map_err(|error| unreached(&error))?;
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
