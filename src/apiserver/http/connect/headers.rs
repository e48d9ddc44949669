//! What passes between a client and a node: lists of what is allowed, each way.
//!
//! A node is not told who the caller is by anything the caller could be with, and what it answers reaches the
//! client with the API server's origin: its cookies, policies and redirects would be taken for the API
//! server's (CVE-2020-8559).

use client::streams::PROTOCOL_VERSION;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION,
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    ETAG, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    RANGE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::query::percent_decoded;

/// Passed on with a request: what is wanted, and the form of the body.
const REQUEST: [HeaderName; 13] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
    USER_AGENT,
];
/// Passed on as well if a request asks for another protocol, which the two ends agree on.
const UPGRADE_REQUEST: [HeaderName; 6] = [
    HeaderName::from_static(PROTOCOL_VERSION),
    SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION,
    USER_AGENT,
];
/// Passed back with an answer: what the body is.
const RESPONSE: [HeaderName; 12] = [
    ACCEPT_RANGES,
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    VARY,
];
/// Passed back as well if an answer switches protocols.
const UPGRADE_RESPONSE: [HeaderName; 5] = [
    HeaderName::from_static(PROTOCOL_VERSION),
    SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_PROTOCOL,
    UPGRADE,
];
/// How browsers hand over a token: as one of the protocols they offer.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Headers of a client's request that a node gets.
pub(super) fn of_request(given: &HeaderMap) -> HeaderMap {
    only(given, &REQUEST)
}

/// Headers of a client's upgrade that a node gets.
pub(super) fn of_upgrade(given: &HeaderMap) -> HeaderMap {
    let mut headers = only(given, &UPGRADE_REQUEST);
    strip_token(&mut headers);
    headers
}

/// Takes the client's token out of the protocols that it offers.
pub(in super::super) fn strip_token(headers: &mut HeaderMap) {
    let offered: Vec<&str> = client::streams::websocket::offered(headers)
        .filter(|protocol| !protocol.to_ascii_lowercase().starts_with(TOKEN_PROTOCOL))
        .collect();
    let offered = offered.join(", ");
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if !offered.is_empty()
        && let Ok(value) = HeaderValue::from_str(&offered)
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// Headers of a node's answer that the client gets. A page of a node's must not act as one of the API
/// server's.
pub(super) fn of_response(given: &HeaderMap) -> HeaderMap {
    let mut headers = only(given, &RESPONSE);
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
}

/// Headers of a node's switch that the client gets.
pub(super) fn of_switch(given: &HeaderMap) -> HeaderMap {
    only(given, &UPGRADE_RESPONSE)
}

fn only(given: &HeaderMap, allowed: &[HeaderName]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in allowed {
        for value in given.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// Where a node's redirect leads on this side; none if that is not below `prefix`. Servers in Go name a path
/// from the root, whatever the handler says.
pub(super) fn redirected(location: &HeaderValue, prefix: &str) -> Option<HeaderValue> {
    let text = location.to_str().ok()?;
    let path = percent_decoded(text.split(['?', '#']).next()?).ok()?;
    let is_below = text.starts_with('/')
        && !path.starts_with("//")
        && !path.contains(|letter: char| letter == '\\' || letter.is_control())
        && !path.split('/').any(|segment| matches!(segment, "." | ".."));
    if !is_below {
        return None;
    }
    HeaderValue::from_str(&format!("{prefix}{text}")).ok()
}
