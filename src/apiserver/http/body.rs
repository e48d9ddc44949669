//! Request bodies: reading with a limit, decoding by Content-Type.

use api::{ApiError, Patch, PatchKind, protobuf, schema};
use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::head::Head;
use super::negotiate::media_type;
use crate::limits::LARGEST_BODY;

const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const PATCHES: &str = "application/json-patch+json, application/merge-patch+json, \
    application/strategic-merge-patch+json, application/apply-patch+yaml";

pub(super) async fn read(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, LARGEST_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(ApiError::too_large(format!("Request entity too large: limit is {LARGEST_BODY}")))
        }
        Err(error) => Err(ApiError::bad_request(format!("the request body could not be read: {error}"))),
    }
}

/// A decoded body and the fields that it has twice.
pub(super) type Decoded = (Value, Vec<String>);

pub(super) fn decode(head: &Head<'_>, bytes: &Bytes) -> Result<Decoded, ApiError> {
    match media_type(head.header(http::header::CONTENT_TYPE)) {
        // The last is what `curl -d` says unless it is told otherwise.
        "" | "application/json" | "application/x-www-form-urlencoded" => schema::decode_json(bytes),
        "application/yaml" | "application/x-yaml" | "text/yaml" => schema::decode_yaml(bytes),
        // Typed Go clients, and kubectl from 1.32 on, send most bodies so.
        protobuf::MEDIA_TYPE => Ok((protobuf::decode(bytes)?, Vec::new())),
        _ => Err(unknown_format(ACCEPTED)),
    }
}

pub(super) fn patch_kind(head: &Head<'_>) -> Result<PatchKind, ApiError> {
    match media_type(head.header(http::header::CONTENT_TYPE)) {
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
        "application/apply-patch+yaml" => Ok(PatchKind::Apply),
        _ => Err(unknown_format(PATCHES)),
    }
}

pub(super) fn decode_patch(kind: PatchKind, bytes: &Bytes) -> Result<Patch, ApiError> {
    if kind != PatchKind::Apply {
        return Ok(Patch::new(kind, schema::decode_json(bytes)?.0));
    }
    let (body, duplicates) = schema::decode_applied(bytes)?;
    Ok(Patch { kind, body, duplicates })
}

fn unknown_format(accepted: &str) -> ApiError {
    ApiError::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    ))
}
