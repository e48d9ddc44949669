//! Answers: objects, lists, Status, texts.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::{ApiError, KindRow, Object, protobuf};
use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use client::ObjectList;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, USER_AGENT, WARNING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Frame;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails;
use serde::Serialize;
use serde_json::{Value, json};

use super::negotiate::{self, Encoding, Form};
use super::pretty::indented;
use super::{Head, Wish, table};

/// Lists are written in pieces of about this size, so that a large one is never in memory as a whole.
const PIECE: usize = 128 * 1024;

pub(super) const JSON: &str = "application/json";

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
    plain(code, value, head.wish)
}

fn plain(code: u16, value: &impl Serialize, wish: &Wish) -> Response<Body> {
    let encoding = wish.accepted.map_or(Encoding::Json, |accepted| accepted.encoding);
    if encoding == Encoding::Yaml
        && let Ok(text) = serde_yaml::to_string(value)
    {
        return response(code, "application/yaml", text);
    }
    if encoding == Encoding::Protobuf
        && let Ok(tree) = serde_json::to_value(value)
        && let Ok(bytes) = protobuf::encode(&tree)
    {
        return response(code, protobuf::MEDIA_TYPE, bytes);
    }
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    if wish.pretty {
        bytes = indented(&bytes);
    }
    bytes.push(b'\n');
    response(code, JSON, bytes)
}

/// A failed call.
pub(super) fn status(error: &ApiError, wish: &Wish) -> Response<Body> {
    let mut response = plain(error.code(), &status_body(error), wish);
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
    let accepted = accepted(head)?;
    if accepted.encoding == Encoding::Json && accepted.form == Form::Whole {
        let mut bytes = BytesMut::with_capacity(object.json_len() + 1);
        object.write_json(&mut bytes);
        if head.wish.pretty {
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
        Form::Metadata => table::partial(object)?,
    };
    encoded(code, &tree, accepted.encoding, head.wish.pretty)
}

pub(super) fn accepted(head: &Head<'_>) -> Result<negotiate::Accepted, ApiError> {
    head.wish.accepted.ok_or_else(|| ApiError::not_acceptable(negotiate::NOT_ACCEPTABLE))
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
            Ok(response(code, "application/yaml", text))
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

/// A list in the form that the client accepts.
pub(super) fn list(
    list: ObjectList,
    printer: &table::Printer<'_>,
    head: &Head<'_>,
) -> Result<Response<Body>, ApiError> {
    let accepted = accepted(head)?;
    let row = printer.row();
    if accepted.encoding == Encoding::Json && accepted.form == Form::Whole {
        let start = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
            row.list_kind(),
            row.api_version(),
            list_meta(&list)
        );
        let mut pieces =
            Pieces { start: Some(start), items: list.items.into_iter(), first: true, done: false };
        if head.wish.pretty {
            let mut whole = Vec::new();
            while let Some(piece) = pieces.next_piece() {
                whole.extend_from_slice(&piece);
            }
            let mut bytes = indented(&whole);
            bytes.push(b'\n');
            return Ok(response(200, JSON, bytes));
        }
        let only = pieces.next_piece().unwrap_or_default();
        // A list of one piece is sent with its length.
        let body =
            if pieces.done { Body::from(only) } else { Body::new(Started { only: Some(only), pieces }) };
        return Ok(response(200, JSON, body));
    }
    let meta = list_meta(&list);
    let tree = match accepted.form {
        Form::Table => printer.table(&list.items, meta, true)?,
        Form::Metadata => {
            let items: Result<Vec<Value>, ApiError> =
                list.items.iter().map(|object| table::partial(object)).collect();
            json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items? })
        }
        Form::Whole => {
            let items: Result<Vec<Value>, _> = list.items.iter().map(|object| object.tree()).collect();
            let items = items.map_err(ApiError::internal)?;
            json!({ "kind": row.list_kind(), "apiVersion": row.api_version(), "metadata": meta, "items": items })
        }
    };
    encoded(200, &tree, accepted.encoding, head.wish.pretty)
}

/// A JSON list, written piece by piece from shared objects.
struct Pieces {
    start: Option<String>,
    items: std::vec::IntoIter<Arc<Object>>,
    first: bool,
    done: bool,
}

impl Pieces {
    fn next_piece(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let left: usize = self.items.as_slice().iter().map(|object| object.json_len() + 1).take(256).sum();
        let mut piece = BytesMut::with_capacity(PIECE.min(left + 512) + 4096);
        if let Some(start) = self.start.take() {
            piece.put_slice(start.as_bytes());
        }
        while piece.len() < PIECE {
            let Some(object) = self.items.next() else {
                piece.put_slice(b"]}\n");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                piece.put_u8(b',');
            }
            object.write_json(&mut piece);
        }
        Some(piece.freeze())
    }
}

/// [`Pieces`] whose first piece has been made.
struct Started {
    only: Option<Bytes>,
    pieces: Pieces,
}

impl http_body::Body for Started {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.only.take().or_else(|| self.pieces.next_piece());
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }
}
