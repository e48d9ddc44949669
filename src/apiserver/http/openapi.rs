//! `/openapi/v3`: an index, and one document per group version, built when first asked for and kept as long
//! as the group is what it was; `/openapi/v2` in protobuf and in JSON, kept as long as the set of resources
//! is. They are kept compressed.
//!
//! Building them takes long where there are many kinds, so it is heavy work, as is unpacking one.

use std::sync::Arc;

use api::{ApiError, openapi};
use axum::body::Body;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, Response};

use super::discovery::kept;
use super::head::Head;
use super::{answer, negotiate, route};
use crate::heavy::HEAVY;
use crate::registry::{Answer, Resources};
use crate::server::ApiServer;

pub(super) async fn answer(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    path: &str,
) -> Result<Response<Body>, ApiError> {
    let segments: Vec<&str> = path.split('/').collect();
    let resources = server.registry.resources.load();
    let is_index = segments == ["openapi", "v3"];
    let is_light = is_index && !resources.groups().iter().any(|group| group.lacks_documents());
    let aggregation = &server.registry.aggregation;
    let remotes = aggregation.remotes();
    let others = remotes.iter().filter_map(|remote| {
        let hash = aggregation.described(remote)?.openapi.clone()?;
        Some((remote.group.clone(), remote.version.clone(), hash))
    });
    let others: Vec<Other> = others.collect();
    let work = std::pin::pin!(async { made(&resources, head, &segments, &others) });
    server.registry.turns.run(&head.user.name, if is_light { 0 } else { HEAVY }, work).await
}

/// Group, version and hash of a document that another server has.
type Other = (String, String, String);

fn made(
    resources: &Resources,
    head: &Head<'_>,
    segments: &[&str],
    others: &[Other],
) -> Result<Response<Body>, ApiError> {
    let (group, version) = match *segments {
        ["openapi", "v3"] => {
            // All that are to be made are made with one copy of the descriptions.
            let lacks = resources.groups().iter().any(|group| group.lacks_documents());
            let _held = lacks.then(openapi::Descriptions::shared);
            let documents = resources
                .groups()
                .iter()
                .flat_map(|group| group.documents().iter().map(|one| (&*group.name, one)));
            let entries = documents.map(|(group, one)| (group, &*one.version, one.hash()));
            let others = others.iter().map(|(group, version, hash)| (&**group, &**version, &**hash));
            let entries = entries.chain(others);
            return Ok(answer::json(200, &openapi::v3_index(entries), head));
        }
        ["openapi", "v2"] => return version2(resources, head),
        ["openapi", "v3", "api", version] => ("", version),
        ["openapi", "v3", "apis", group, version] => (group, version),
        _ => return Err(route::unknown()),
    };
    let documents = resources.group(group).map(|group| group.documents()).unwrap_or_default();
    let document = documents.iter().find(|one| one.version == version).ok_or_else(route::unknown)?;
    let answer = &document.answer;
    let mut response = if head.header(IF_NONE_MATCH) == answer.etag {
        answer::response(304, answer::JSON, Body::empty())
    } else {
        answer::response(200, answer::JSON, answer.bytes()?)
    };
    if let Ok(etag) = HeaderValue::from_str(&answer.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

/// kubectl before 1.29 asks for nothing else.
fn wants_protobuf(head: &Head<'_>) -> bool {
    head.header(ACCEPT).contains("proto-openapi.spec.v2")
}

/// All rows in one document.
fn version2(resources: &Resources, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
    let rows = || resources.all().map(|resource| resource.described()).collect::<Vec<_>>();
    let derived = &resources.derived;
    if wants_protobuf(head) {
        let answer = derived.openapi_v2.get_or_init(|| Answer::packed(openapi::v2_document(&rows())));
        return kept(answer, head, openapi::V2_MEDIA_TYPE);
    }
    let accept = head.header(ACCEPT);
    if !accept.is_empty() && !negotiate::ranges(accept).iter().any(|range| is_json(range.media)) {
        let why = format!(
            "only the following media types are accepted: application/json, {}",
            openapi::V2_MEDIA_TYPE
        );
        return Err(ApiError::new(406, "NotAcceptable", why));
    }
    let answer = derived.openapi_v2_json.get_or_init(|| Answer::packed(openapi::v2_json(&rows())));
    kept(answer, head, answer::JSON)
}

fn is_json(media: &str) -> bool {
    matches!(media, "application/json" | "application/*" | "*/*")
}
