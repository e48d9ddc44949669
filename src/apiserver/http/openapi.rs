//! `/openapi/v3`: an index, and one document per group version, built when first asked for; `/openapi/v2` in protobuf.

use std::sync::{Arc, OnceLock};

use api::{ApiError, KindRow, openapi};
use axum::body::Body;
use bytes::Bytes;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, Response};
use sha2::{Digest, Sha256};

use super::{Head, answer, route};
use crate::server::ApiServer;

/// The documents; built once, all together, because the index holds the hash of each.
#[derive(Default)]
pub(crate) struct Documents(OnceLock<Vec<Document>>);

struct Document {
    group: String,
    version: String,
    bytes: Bytes,
}

impl Documents {
    fn all(&self, server: &ApiServer) -> &[Document] {
        self.0.get_or_init(|| {
            let mut versions: Vec<(&str, &str)> = Vec::new();
            for resource in server.registry.resources.all() {
                let version = (&*resource.row.group, &*resource.row.version);
                if !versions.contains(&version) {
                    versions.push(version);
                }
            }
            let document = |(group, version): (&str, &str)| {
                let of = |row: &&KindRow| row.group == group && row.version == version;
                let rows: Vec<&KindRow> =
                    server.registry.resources.all().iter().map(|resource| &resource.row).filter(of).collect();
                let bytes = openapi::v3_document(group, version, &rows);
                Document { group: group.to_string(), version: version.to_string(), bytes }
            };
            versions.into_iter().map(document).collect()
        })
    }
}

pub(super) fn answer(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    path: &str,
) -> Result<Response<Body>, ApiError> {
    let segments: Vec<&str> = path.split('/').collect();
    let (group, version) = match segments[..] {
        ["openapi", "v3"] => {
            let documents = server.documents.all(server);
            let entries = documents.iter().map(|one| (&*one.group, &*one.version, &one.bytes));
            return Ok(answer::json(200, &openapi::v3_index(entries), head));
        }
        ["openapi", "v2"] => return version2(server, head),
        ["openapi", "v3", "api", version] => ("", version),
        ["openapi", "v3", "apis", group, version] => (group, version),
        _ => return Err(route::unknown()),
    };
    let documents = server.documents.all(server);
    let document = documents.iter().find(|one| one.group == group && one.version == version);
    let bytes = document.map(|one| one.bytes.clone()).ok_or_else(route::unknown)?;
    let etag = format!("\"{:X}\"", Sha256::digest(&bytes));
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
    let rows: Vec<&KindRow> = server.registry.resources.all().iter().map(|resource| &resource.row).collect();
    Ok(answer::response(200, openapi::V2_MEDIA_TYPE, openapi::v2_document(&rows)))
}
