//! Answers: objects, lists, Status, texts.

use std::sync::Arc;

use api::{ApiError, KindRow, Object, protobuf};
use axum::body::Body;
use bytes::{BufMut, BytesMut};
use client::ObjectList;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, USER_AGENT, WARNING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails;
use serde::Serialize;
use serde_json::{Value, json};

use super::head::{Head, Preferences};
use super::listing::{self, Listing, Outline};
use super::negotiate::{self, Encoding, Form, Offer};
use super::pretty::indented;
use super::table;
use crate::heavy::Worker;
use crate::registry::Resource;

/// A larger object is not copied for its reader.
const LARGE: usize = 64 * 1024;

pub(super) const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

pub(super) fn wants_pretty(query: Option<&str>, headers: &HeaderMap) -> bool {
    for part in query.unwrap_or("").split('&') {
        if let Some(value) = part.strip_prefix("pretty=") {
            return !matches!(value, "0" | "false" | "");
        }
        if part == "pretty" {
            return true;
        }
    }
    // People at a terminal or in a browser.
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("");
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix))
}

pub(super) fn response(code: u16, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub(super) fn text(code: u16, text: String) -> Response<Body> {
    let mut response = response(code, "text/plain; charset=utf-8", text);
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// A document that has no kind of its own in the registry: discovery, version, Status.
pub(super) fn json(code: u16, value: &impl Serialize, head: &Head<'_>) -> Response<Body> {
    plain(code, value, head.preferences)
}

fn plain(code: u16, value: &impl Serialize, preferences: &Preferences) -> Response<Body> {
    let encoding = preferences.accepted.map_or(Encoding::Json, |accepted| accepted.encoding);
    if encoding == Encoding::Yaml
        && let Ok(text) = serde_yaml::to_string(value)
    {
        return response(code, YAML, text);
    }
    if encoding == Encoding::Protobuf
        && let Ok(tree) = serde_json::to_value(value)
        && let Ok(bytes) = protobuf::encode(&tree)
    {
        return response(code, protobuf::MEDIA_TYPE, bytes);
    }
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    if preferences.pretty {
        bytes = indented(&bytes);
    }
    bytes.push(b'\n');
    response(code, JSON, bytes)
}

/// A failed call.
pub(super) fn status(error: &ApiError, preferences: &Preferences) -> Response<Body> {
    let mut response = plain(error.code(), &status_body(error), preferences);
    if let Some(seconds) = error.status().details.as_ref().and_then(|details| details.retry_after_seconds)
        && let Ok(value) = HeaderValue::from_str(&seconds.to_string())
    {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    if error.code() == 401 {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// A Status in the order in which people know it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusBody<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Value,
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a StatusDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
}

pub(super) fn status_body(error: &ApiError) -> StatusBody<'_> {
    let status = error.status();
    StatusBody {
        kind: "Status",
        api_version: "v1",
        metadata: serde_json::to_value(&status.metadata).unwrap_or_else(|_| json!({})),
        status: status.status.as_deref(),
        message: status.message.as_deref(),
        reason: status.reason.as_deref(),
        details: status.details.as_ref(),
        code: status.code,
    }
}

pub(super) fn status_tree(error: &ApiError) -> Value {
    serde_json::to_value(status_body(error)).unwrap_or_default()
}

/// The answer to a deletion that left nothing to show.
pub(super) fn deleted_status(row: &KindRow, object: &Object) -> Value {
    let mut details = json!({ "name": object.name(), "kind": row.plural, "uid": object.uid() });
    if !row.group.is_empty() {
        details["group"] = json!(row.group);
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}

/// Characters of all warnings of an answer, beyond which each is cut to so many; upstream's figures.
const MAX_WARNINGS: usize = 4 * 1024;
const CUT_WARNING: usize = 256;

/// Each warning once; those that would be too long together are cut, then left out.
pub(super) fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    let mut seen = std::collections::HashSet::new();
    let mut warnings: Vec<&str> = warnings.iter().map(String::as_str).collect();
    warnings.retain(|text| !text.is_empty() && seen.insert(*text));
    let length = |text: &str| text.chars().count();
    let all: usize = warnings.iter().map(|text| length(text)).sum();
    let mut written = 0;
    for text in warnings {
        if written >= MAX_WARNINGS {
            break;
        }
        let end = text.char_indices().nth(CUT_WARNING).map_or(text.len(), |(at, _)| at);
        let text = if all > MAX_WARNINGS { &text[..end] } else { text };
        written += length(text);
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// An object in the form that the client accepts.
pub(super) fn object(
    code: u16,
    object: &Arc<Object>,
    printer: &table::Printer<'_>,
    head: &Head<'_>,
) -> Result<Response<Body>, ApiError> {
    let accepted = printer.accepted();
    if accepted.encoding == Encoding::Json && accepted.form == Form::Whole {
        if object.json_len() > LARGE {
            return Ok(response(code, JSON, listing::large(object, head.preferences.pretty)));
        }
        let mut bytes = BytesMut::with_capacity(object.json_len() + 1);
        object.write_json(&mut bytes);
        if head.preferences.pretty {
            bytes = BytesMut::from(&indented(&bytes)[..]);
        }
        bytes.put_u8(b'\n');
        return Ok(response(code, JSON, bytes.freeze()));
    }
    let tree = match accepted.form {
        Form::Whole => object.tree().map_err(ApiError::internal)?,
        Form::Table => {
            let objects = std::slice::from_ref(object);
            printer.table(
                objects,
                json!({ "resourceVersion": object.resource_version().to_string() }),
                true,
            )?
        }
        Form::Metadata => table::partial(object, accepted.version)?,
    };
    encoded(code, &tree, accepted.encoding, head.preferences.pretty)
}

pub(super) fn accepted(head: &Head<'_>) -> Result<negotiate::Accepted, ApiError> {
    head.preferences.accepted.ok_or_else(|| ApiError::not_acceptable(negotiate::NOT_ACCEPTABLE))
}

/// [`accepted`] for objects of a kind. Reviews are answered and not kept; they have no columns.
pub(super) fn accepted_of(row: &KindRow, head: &Head<'_>) -> Result<negotiate::Accepted, ApiError> {
    let accepted = accepted(head)?;
    let offer = Offer { tables: row.storage.is_some(), protobuf: has_messages(row) };
    let is_given = match (accepted.form, accepted.encoding) {
        (Form::Table, _) => offer.tables,
        (Form::Whole, Encoding::Protobuf) => offer.protobuf,
        _ => true,
    };
    if is_given {
        return Ok(accepted);
    }
    let other = negotiate::choose_of(&negotiate::accept_header(&head.parts.headers), offer);
    other.ok_or_else(|| ApiError::not_acceptable(negotiate::NOT_ACCEPTABLE))
}

/// Whether objects of a kind can be given in protobuf: those of the built-in kinds.
fn has_messages(row: &KindRow) -> bool {
    api::schema::for_gvk(&row.group, &row.version, &row.kind).is_some()
}

pub(super) fn encoded(
    code: u16,
    tree: &Value,
    encoding: Encoding,
    pretty: bool,
) -> Result<Response<Body>, ApiError> {
    match encoding {
        Encoding::Protobuf => Ok(response(code, protobuf::MEDIA_TYPE, protobuf::encode(tree)?)),
        Encoding::Yaml => {
            let text = serde_yaml::to_string(tree).map_err(ApiError::internal)?;
            Ok(response(code, YAML, text))
        }
        Encoding::Json => {
            let mut bytes = serde_json::to_vec(tree).map_err(ApiError::internal)?;
            if pretty {
                bytes = indented(&bytes);
            }
            bytes.push(b'\n');
            Ok(response(code, JSON, bytes))
        }
    }
}

fn list_meta(list: &ObjectList) -> Value {
    let mut meta = json!({ "resourceVersion": list.resource_version.to_string() });
    if let Some(token) = &list.continue_token {
        meta["continue"] = json!(token);
    }
    if let Some(remaining) = list.remaining {
        meta["remainingItemCount"] = json!(remaining);
    }
    meta
}

/// A list of stored objects in the version and form that the client accepts.
pub(super) async fn list(
    list: ObjectList,
    resource: &Arc<Resource>,
    printer: &table::Printer<'_>,
    head: &Head<'_>,
    worker: Worker,
) -> Result<Response<Body>, ApiError> {
    let accepted = printer.accepted();
    let row = printer.row();
    let (kind, api_version) = match accepted.form {
        Form::Whole => (row.list_kind(), row.api_version()),
        Form::Metadata => ("PartialObjectMetadataList".to_string(), accepted.version.to_string()),
        Form::Table => ("Table".to_string(), accepted.version.to_string()),
    };
    let outline = Outline {
        accepted,
        has_types: !has_messages(row),
        kind,
        api_version,
        meta: list_meta(&list),
        columns: if accepted.form == Form::Table { printer.columns() } else { Value::Null },
        rows: printer.rows(),
    };
    let listing = Listing::new(outline, list.items, resource, worker).await?;
    let content_type = match accepted.encoding {
        Encoding::Json => JSON,
        Encoding::Yaml => YAML,
        Encoding::Protobuf => protobuf::MEDIA_TYPE,
    };
    let pretty = head.preferences.pretty && accepted.encoding == Encoding::Json;
    Ok(response(200, content_type, listing::list(listing, pretty).await?))
}
