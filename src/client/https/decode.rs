//! What comes back: objects, lists, `Status` errors and the frames of a watch. Pure; bytes are sliced, not
//! copied.

use api::{ApiError, KindRow, Object, WatchEvent};
use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

use super::RequestError;
use crate::ObjectList;

/// Cause of a status that was made here because no server answered.
const CONNECTION_CAUSE: &str = "ClientConnectionError";
/// Longest frame of a watch; objects are at most 1.5 MiB, escapes and managed fields included this is
/// generous.
const MAX_FRAME: usize = 16 << 20;

/// Whether the error was made by the client because no server answered, as opposed to a server that said 503.
#[cfg(test)]
pub(crate) fn is_connection_error(error: &ApiError) -> bool {
    let causes = error.status().details.as_ref().and_then(|details| details.causes.as_ref());
    causes.is_some_and(|causes| causes.iter().any(|one| one.reason.as_deref() == Some(CONNECTION_CAUSE)))
}

pub(super) fn connection_error(error: &RequestError) -> ApiError {
    let text = error.to_string();
    ApiError::unavailable(text.clone()).with_cause(CONNECTION_CAUSE, None, &text)
}

/// The bytes of an answer that was sent with `Content-Encoding: gzip`, of which no more than `limit` are
/// made.
pub fn decompressed(body: &[u8], limit: u64) -> std::io::Result<Bytes> {
    use std::io::Read;
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(body).take(limit).read_to_end(&mut out)?;
    Ok(out.into())
}

#[derive(Deserialize)]
struct KindOnly<'a> {
    #[serde(borrow, default)]
    kind: Option<std::borrow::Cow<'a, str>>,
}

pub(super) fn is_status(body: &[u8]) -> bool {
    serde_json::from_slice::<KindOnly<'_>>(body).is_ok_and(|head| head.kind.as_deref() == Some("Status"))
}

/// The error of an answer that is not a success: its `Status`, or one made from the code as client-go does.
pub fn error_from_response(code: StatusCode, body: &[u8]) -> ApiError {
    if is_status(body)
        && let Ok(mut status) = serde_json::from_slice::<Status>(body)
    {
        status.code.get_or_insert(i32::from(code.as_u16()));
        return ApiError::from_status(status);
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(2048)]).trim().to_string();
    let (reason, message) = match code.as_u16() {
        400 => ("BadRequest", "the server rejected our request for an unknown reason".to_string()),
        401 => ("Unauthorized", "the server has asked for the client to provide credentials".to_string()),
        403 => ("Forbidden", "the server does not allow access to the requested resource".to_string()),
        404 => ("NotFound", "the server could not find the requested resource".to_string()),
        405 => ("MethodNotAllowed", "the server does not allow this method on the requested resource".to_string()),
        406 => ("NotAcceptable", "the server was unable to respond with a content type that the client supports".to_string()),
        409 => ("Conflict", "the server reported a conflict".to_string()),
        410 => ("Gone", "the server no longer has the requested resource".to_string()),
        413 => ("RequestEntityTooLarge", "the request is too large".to_string()),
        415 => ("UnsupportedMediaType", "the server does not accept the content type of the request".to_string()),
        422 => ("Invalid", "the server rejected our request due to an error in our request".to_string()),
        429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later".to_string()),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request".to_string()),
        504 => ("Timeout", "the server was unable to return a response in the time allotted, but may still be processing the request".to_string()),
        500.. => ("InternalError", format!("an error on the server ({text:?}) has prevented the request from succeeding")),
        _ => ("", format!("the server responded with the status code {code} but did not return more information")),
    };
    ApiError::new(code.as_u16(), reason, message)
}

pub(super) fn object(row: &KindRow, bytes: Bytes) -> Result<Arc<Object>, ApiError> {
    let object = Object::from_wire(with_type(row, bytes));
    object
        .map(Arc::new)
        .map_err(|error| ApiError::internal(format!("the server's {} cannot be read: {error}", row.kind)))
}

/// Items of a list carry no `apiVersion` and `kind` in upstream's answers; objects everywhere else do.
fn with_type(row: &KindRow, bytes: Bytes) -> Bytes {
    if bytes.starts_with(b"{\"apiVersion\":") || bytes.starts_with(b"{\"kind\":") || !bytes.starts_with(b"{")
    {
        return bytes;
    }
    if serde_json::from_slice::<KindOnly<'_>>(&bytes).is_ok_and(|head| head.kind.is_some()) {
        return bytes;
    }
    let head = format!("{{\"apiVersion\":\"{}\",\"kind\":\"{}\"", row.api_version(), row.kind);
    let mut out = BytesMut::with_capacity(head.len() + bytes.len());
    out.extend_from_slice(head.as_bytes());
    if !bytes[1..].trim_ascii_start().starts_with(b"}") {
        out.extend_from_slice(b",");
    }
    out.extend_from_slice(&bytes[1..]);
    out.freeze()
}

#[derive(Deserialize)]
struct WireList<'a> {
    #[serde(default)]
    metadata: WireListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireListMeta {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
    remaining_item_count: Option<u64>,
}

pub(super) fn list(row: &KindRow, bytes: &Bytes) -> Result<ObjectList, ApiError> {
    let unreadable =
        |error| ApiError::internal(format!("the server's {} cannot be read: {error}", row.list_kind()));
    let wire: WireList<'_> = serde_json::from_slice(bytes).map_err(unreadable)?;
    let items = wire.items.unwrap_or_default();
    let items = items.into_iter().map(|raw| object(row, bytes.slice_ref(raw.get().as_bytes())));
    Ok(ObjectList {
        items: items.collect::<Result<_, _>>()?,
        resource_version: wire.metadata.resource_version.and_then(|text| text.parse().ok()).unwrap_or(0),
        continue_token: wire.metadata.continue_token.filter(|token| !token.is_empty()),
        remaining: wire.metadata.remaining_item_count,
    })
}

/// Cuts the bytes of a watch into frames, wherever the network split them.
#[derive(Default)]
pub(super) struct Frames {
    buffer: BytesMut,
    /// Up to here there is no line end.
    searched: usize,
}

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, without its end. Empty lines are passed over.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        loop {
            let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + end).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }

    /// What is left when the stream ends: a last frame without line end.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        let rest = self.buffer.split().freeze();
        self.searched = 0;
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }

    pub(super) fn overflows(&self) -> bool {
        self.buffer.len() > MAX_FRAME
    }
}

#[derive(Deserialize)]
struct WireEvent<'a> {
    #[serde(borrow, rename = "type")]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// One frame as an event. A frame that cannot be understood is an error event: the reader lists again.
pub(super) fn event(row: &KindRow, frame: &Bytes) -> WatchEvent {
    decode_event(row, frame).unwrap_or_else(WatchEvent::Error)
}

fn decode_event(row: &KindRow, frame: &Bytes) -> Result<WatchEvent, ApiError> {
    let unreadable =
        |error: serde_json::Error| ApiError::internal(format!("unreadable watch event: {error}"));
    let wire: WireEvent<'_> = serde_json::from_slice(frame).map_err(unreadable)?;
    let bytes = frame.slice_ref(wire.object.get().as_bytes());
    match &*wire.kind {
        "ADDED" => Ok(WatchEvent::Added(object(row, bytes)?)),
        "MODIFIED" => Ok(WatchEvent::Modified(object(row, bytes)?)),
        "DELETED" => Ok(WatchEvent::Deleted(object(row, bytes)?)),
        "BOOKMARK" => {
            let bookmark = object(row, bytes)?;
            let tree = bookmark.tree().map_err(|error| ApiError::internal(error.to_string()))?;
            let mark = tree.pointer("/metadata/annotations/k8s.io~1initial-events-end");
            let initial_events_end = mark.and_then(|mark| mark.as_str()) == Some("true");
            Ok(WatchEvent::Bookmark { resource_version: bookmark.resource_version(), initial_events_end })
        }
        "ERROR" => {
            let status: Status = serde_json::from_slice(&bytes).map_err(unreadable)?;
            Ok(WatchEvent::Error(ApiError::from_status(status)))
        }
        other => Err(ApiError::internal(format!("unknown watch event type {other:?}"))),
    }
}
