//! `pods/NAME/proxy/PATH` and `services/NAME/proxy/PATH`: a request handed on to a pod.
//!
//! The pod gets the request as it came but for the caller's credentials, and the client the answer as it came
//! but for what leads elsewhere: redirects and links of pages are led back through the proxy.

use std::io;
use std::sync::Arc;

use api::ApiError;
use axum::body::Body;
use futures::{StreamExt, stream};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use super::super::head::Head;
use super::super::reply::Unhurried;
use super::super::route::Target;
use super::backend::Backend;
use super::links::{Links, Page};
use super::{Destination, Unanswered, ask, final_status, handed_on, tunnel};
use crate::registry::Call;
use crate::server::ApiServer;

/// Headers of a connection, which ends here.
const OF_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Hands a request on to a pod, or to one of a service's.
pub(super) async fn serve(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    target: &Target,
    call: &Call<'_>,
    name: &str,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let backend = Backend::find(server, call, name).await?;
    let uri = &head.parts.uri;
    let wanted = tunnel::wanted(head);
    let reads = matches!(head.parts.method, Method::GET | Method::HEAD);
    // Relative links of a page need a folder to start from.
    if wanted.is_none() && reads && target.rest.is_empty() {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        return redirect(&format!("{}/{query}", uri.path()));
    }
    let mut request = Request::new(body);
    *request.method_mut() = head.parts.method.clone();
    *request.uri_mut() = handed_on(target, uri)
        .map_err(|error| ApiError::bad_request(format!("path of the proxy: {error}")))?;
    *request.headers_mut() = forwarded(head);
    if let Some(wanted) = wanted {
        return tunnel::switch(server, head, &Destination::Backend(&backend), request, wanted).await;
    }
    let answered = ask(server, &Destination::Backend(&backend), request).await;
    let answered = answered.map_err(|Unanswered(error)| {
        ApiError::unavailable(format!("error trying to reach service: {error}"))
    })?;
    let prefix = uri.path().strip_suffix(&*target.rest).unwrap_or(uri.path()).trim_end_matches('/');
    let host = request_host(head);
    let own_hosts = [backend.address.to_string(), backend.address.ip().to_string(), host];
    let links = Links { prefix: prefix.to_string(), own_hosts: own_hosts.to_vec() };
    let mut response = passed_on(answered.whole(), links, head.parts.method == Method::HEAD)?;
    response.extensions_mut().insert(Unhurried);
    Ok(response)
}

fn redirect(to: &str) -> Result<Response<Body>, ApiError> {
    Response::builder()
        .status(StatusCode::MOVED_PERMANENTLY)
        .header(LOCATION, to)
        .body(Body::empty())
        .map_err(ApiError::internal)
}

/// The host that the client asked for.
fn request_host(head: &Head<'_>) -> String {
    let authority = head.parts.uri.authority().map(|authority| authority.to_string());
    authority.unwrap_or_else(|| head.header(HOST).to_string())
}

/// Headers of the request for the pod. What says who the caller is stays here. Answers are wanted as they
/// are: the links of a compressed page cannot be seen.
fn forwarded(head: &Head<'_>) -> HeaderMap {
    let mut headers = without_connection(&head.parts.headers);
    for name in [ACCEPT_ENCODING, AUTHORIZATION] {
        headers.remove(name);
    }
    let impersonating: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in impersonating {
        headers.remove(name);
    }
    let earlier = headers.get(FORWARDED_FOR).and_then(|value| value.to_str().ok()).map(str::to_string);
    let client = head.peer.address.ip().to_string();
    let forwarded_for = earlier.map_or_else(|| client.clone(), |earlier| format!("{earlier}, {client}"));
    for (name, value) in [
        (HOST, request_host(head)),
        (FORWARDED_FOR, forwarded_for),
        (FORWARDED_URI, head.parts.uri.path().to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers
}

fn without_connection(given: &HeaderMap) -> HeaderMap {
    let mut headers = given.clone();
    for value in given.get_all(CONNECTION) {
        let names = value.to_str().unwrap_or_default().split(',');
        for name in names.filter_map(|name| name.trim().parse::<HeaderName>().ok()) {
            headers.remove(name);
        }
    }
    for name in OF_CONNECTION {
        headers.remove(name);
    }
    headers
}

/// What the client gets of a pod's answer.
fn passed_on(response: Response<Body>, links: Links, is_head: bool) -> Result<Response<Body>, ApiError> {
    let (parts, body) = response.into_parts();
    let mut answer = Response::new(body);
    *answer.status_mut() = final_status(parts.status)?;
    let headers = answer.headers_mut();
    *headers = without_connection(&parts.headers);
    if matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED) {
        // They have no body, and a length beside none ends a stream of HTTP/2.
        headers.remove(CONTENT_LENGTH);
    }
    if let Some(location) = headers.get(LOCATION).and_then(|location| location.to_str().ok()) {
        let led_back = links.rewritten(location).and_then(|location| HeaderValue::from_str(&location).ok());
        if let Some(led_back) = led_back {
            headers.insert(LOCATION, led_back);
        }
        return Ok(answer);
    }
    let media = headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    let is_page = media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/html");
    if !is_page || headers.contains_key(CONTENT_ENCODING) {
        return Ok(answer);
    }
    headers.remove(CONTENT_LENGTH);
    Ok(if is_head { answer } else { answer.map(|body| rewritten(body, Page::new(links))) })
}

/// A page whose links are rewritten while it passes.
fn rewritten(body: Body, page: Page) -> Body {
    let pieces = body.into_data_stream().map(Some).chain(stream::iter([None]));
    let pieces = pieces.scan(page, |page, piece| {
        let out = match piece {
            Some(Ok(piece)) => Ok(page.push(&piece)),
            Some(Err(error)) => Err(io::Error::other(error)),
            None => Ok(page.finish()),
        };
        std::future::ready(Some(out))
    });
    Body::from_stream(pieces)
}
