//! `/openapi/v3`: an index, and one document per group version, built when first asked for.

use std::sync::{Arc, OnceLock};

use api::{ApiError, KindRow, openapi};
use axum::body::Body;
use bytes::Bytes;
use http::header::{ETAG, IF_NONE_MATCH};
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
