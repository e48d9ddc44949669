//! `/openapi/v3`: an index, and one document per group version, built when first asked for and kept as long as the group
//! is what it was; `/openapi/v2` in protobuf.

use std::sync::Arc;

use api::{ApiError, openapi};
use axum::body::Body;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, Response};

use super::head::Head;
use super::{answer, route};
use crate::server::ApiServer;

pub(super) fn answer(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    path: &str,
) -> Result<Response<Body>, ApiError> {
    let segments: Vec<&str> = path.split('/').collect();
    let (group, version) = match segments[..] {
        ["openapi", "v3"] => {
            let resources = server.registry.resources.load();
            let documents = resources
                .groups()
                .iter()
                .flat_map(|group| group.documents().iter().map(|one| (&*group.name, one)));
            let entries = documents.map(|(group, one)| (group, &*one.version, &*one.hash));
            return Ok(answer::json(200, &openapi::v3_index(entries), head));
        }
        ["openapi", "v2"] => return version2(server, head),
        ["openapi", "v3", "api", version] => ("", version),
        ["openapi", "v3", "apis", group, version] => (group, version),
        _ => return Err(route::unknown()),
    };
    let resources = server.registry.resources.load();
    let documents = resources.group(group).map(|group| group.documents()).unwrap_or_default();
    let document = documents.iter().find(|one| one.version == version).ok_or_else(route::unknown)?;
    let bytes = document.bytes.clone();
    let etag = format!("\"{}\"", document.hash);
    let mut response = if head.header(IF_NONE_MATCH) == etag {
        answer::response(304, answer::JSON, Body::empty())
    } else {
        answer::response(200, answer::JSON, bytes)
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

/// All rows in one document, for kubectl before 1.29, which asks for nothing but protobuf. Not kept: few ask, and seldom.
fn version2(server: &Arc<ApiServer>, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
    if !head.header(ACCEPT).contains("proto-openapi.spec.v2") {
        let why = format!("only the following media types are accepted: {}", openapi::V2_MEDIA_TYPE);
        return Err(ApiError::new(406, "NotAcceptable", why));
    }
    let resources = server.registry.resources.load();
    let rows: Vec<_> = resources.all().map(|resource| resource.described()).collect();
    Ok(answer::response(200, openapi::V2_MEDIA_TYPE, openapi::v2_document(&rows)))
}
