//! The body of a watch: frames of JSON, as many in a piece as are at hand.
//!
//! Thousands of watches may stand unread, each with the piece that its reader has not taken. So pieces are
//! small and take no more room than they fill; a large object is sent in slices of what the cache holds, and
//! one that has to be converted counts against its user's share of memory until it has been taken.

pub(super) mod socket;

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;

use api::{ApiError, Object, WatchEvent, protobuf};
use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::Response;
use serde_json::{Value, json};
use supervisor::CancellationToken;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::head::Head;
use super::negotiate::{self, Accepted, Encoding, Form};
use super::{answer, table};
use crate::cache::{ALONE, fitting};
use crate::heavy::{HEAVY, Share, Worker};
use crate::registry::{Due, Resource, Watch};

/// A piece is sent once it has this size, even if more events are at hand. HTTP/2 cuts larger ones into
/// frames of this size anyway.
const PIECE: usize = ALONE;
/// The same of a piece that all watchers of a topic are sent.
const SHARED_PIECE: usize = 64 * 1024;

/// How much is read for a piece: a row of a table is small, whatever the object.
const READ: usize = 64 * 1024;

/// A larger object is not copied for its watchers.
const LARGE: usize = 16 * 1024;
/// A smaller slice is not worth a frame of its own.
const SMALL: usize = 4 * 1024;

/// The server-side end of one watch.
struct Frames {
    watch: Watch,
    resource: Arc<Resource>,
    accepted: Accepted,
    include: IncludeOf,
    /// Kept from piece to piece: registering with the token takes a lock that all watches share.
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    columns_sent: bool,
    worker: Worker,
    /// What follows the piece that was sent last.
    parts: VecDeque<Bytes>,
    /// Leave to hold the piece that was sent last, if it is large.
    share: Option<Share>,
}

/// The `includeObject` parameter, kept to make printers from.
type IncludeOf = Option<String>;

pub(super) fn answer(
    watch: Watch,
    resource: Arc<Resource>,
    head: &Head<'_>,
    worker: Worker,
    stopping: CancellationToken,
) -> Result<Response<Body>, ApiError> {
    // Refused here rather than in the middle of the stream.
    let accepted = table::Printer::new(&resource, head)?.accepted();
    let include = head.query.get("includeObject").map(str::to_string);
    let content_type = match accepted.encoding {
        Encoding::Json => answer::JSON,
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Encoding::Yaml => {
            return Err(ApiError::not_acceptable(negotiate::NOT_ACCEPTABLE_STREAM));
        }
    };
    let frames = Frames {
        watch,
        resource,
        accepted,
        include,
        stopping: Box::pin(stopping.cancelled_owned()),
        columns_sent: false,
        worker,
        parts: VecDeque::new(),
        share: None,
    };
    let stream = futures::stream::unfold(frames, |mut frames| async move {
        let piece = frames.next_piece().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), frames))
    });
    Ok(answer::response(200, content_type, Body::from_stream(stream)))
}

impl Frames {
    /// Called once the piece before has been taken.
    async fn next_piece(&mut self) -> Option<Bytes> {
        if let Some(part) = self.parts.pop_front() {
            return Some(part);
        }
        self.share = None;
        let mut piece = BytesMut::new();
        loop {
            if piece.is_empty()
                && self.plain()
                && let Some(written) = self.watch.try_written(SHARED_PIECE, write_plain)
            {
                return Some(written);
            }
            let mut read = 0;
            while read < READ && piece.len() < PIECE && self.parts.is_empty() {
                let Some(event) = self.watch.try_next() else { break };
                read += self.write(event, &mut piece).await;
            }
            if let Some(part) = self.parts.pop_front() {
                return Some(part);
            }
            if read >= READ && !self.plain() {
                tokio::task::yield_now().await;
            }
            if !piece.is_empty() {
                return Some(fitting(piece));
            }
            let due = tokio::select! {
                biased;
                () = &mut self.stopping => return None,
                due = self.watch.due() => due,
            };
            match due {
                Due::Something => {}
                Due::Message(event) => {
                    self.write(event, &mut piece).await;
                }
                Due::End => return None,
            }
        }
    }

    /// Writes an event and returns the size of its object.
    async fn write(&mut self, event: WatchEvent, out: &mut BytesMut) -> usize {
        let size = changed_object(&event).map_or(0, |(_, object)| object.json_len());
        if size < HEAVY || self.plain() {
            self.convert(event, out).await;
            return size;
        }
        let worker = self.worker.clone();
        let mut share = worker.share(size).await;
        worker.run(size, pin!(self.convert(event, out))).await;
        share.shrink(out.len() + self.parts.iter().map(Bytes::len).sum::<usize>());
        self.share = Some(share);
        size
    }

    /// Whether objects are sent as they are stored.
    fn plain(&self) -> bool {
        self.accepted.is_stored() && self.watch.is_plain(&self.resource)
    }

    async fn convert(&mut self, event: WatchEvent, out: &mut BytesMut) {
        let resource = self.resource.clone();
        let Some(event) = self.watch.outward(&resource, event).await else { return };
        let Some((name, object)) = changed_object(&event) else {
            let (name, tree) = match event {
                WatchEvent::Bookmark { resource_version, initial_events_end } => {
                    ("BOOKMARK", self.bookmark(resource_version, initial_events_end))
                }
                WatchEvent::Error(error) => ("ERROR", answer::status_tree(&error)),
                WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) => return,
            };
            return self.write_tree(name, &tree, out);
        };
        if self.accepted.is_stored() {
            if object.json_len() <= LARGE {
                return write_object(name, object, out);
            }
            return self.share_object(name, object, out);
        }
        match self.tree(object) {
            Ok(tree) => self.write_tree(name, &tree, out),
            Err(error) => self.write_tree("ERROR", &answer::status_tree(&error), out),
        }
    }

    /// The same as [`write_object`] in parts that share the stored bytes.
    fn share_object(&mut self, name: &str, object: &Object, out: &mut BytesMut) {
        put_start(name, out);
        for part in object.json_parts() {
            if part.len() <= SMALL {
                out.put_slice(&part);
                continue;
            }
            self.parts.push_back(out.split().freeze());
            self.parts.push_back(part);
        }
        out.put_slice(b"}\n");
        self.parts.push_back(out.split().freeze());
    }

    fn tree(&mut self, object: &Arc<Object>) -> Result<Value, ApiError> {
        match self.accepted.form {
            Form::Whole => object.tree().map_err(ApiError::internal),
            Form::Metadata => table::partial(object, self.accepted.version),
            Form::Table => {
                let printer =
                    table::Printer::including(&self.resource, self.include.as_deref(), self.accepted)?;
                let meta = json!({ "resourceVersion": object.resource_version().to_string() });
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                printer.table(std::slice::from_ref(object), meta, columns)
            }
        }
    }

    fn bookmark(&mut self, resource_version: u64, initial_events_end: bool) -> Value {
        let mut metadata =
            json!({ "resourceVersion": resource_version.to_string(), "creationTimestamp": null });
        if initial_events_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let row = &self.resource.row;
        let version = self.accepted.version;
        match self.accepted.form {
            Form::Whole => json!({ "kind": row.kind, "apiVersion": row.api_version(), "metadata": metadata }),
            Form::Metadata => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata })
            }
            Form::Table => {
                let partial =
                    json!({ "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata });
                json!({
                    "kind": "Table", "apiVersion": version,
                    "metadata": { "resourceVersion": resource_version.to_string() },
                    "columnDefinitions": null, "rows": [{ "cells": [], "object": partial }],
                })
            }
        }
    }

    fn write_tree(&self, name: &str, tree: &Value, out: &mut BytesMut) {
        if self.accepted.encoding == Encoding::Protobuf {
            match protobuf::encode(tree) {
                Ok(object) => out.put_slice(&protobuf::encode_watch_event(name, &object)),
                Err(error) => tracing::warn!(%error, "a watch event cannot be sent as protobuf"),
            }
            return;
        }
        let frame = json!({ "type": name, "object": tree });
        out.put_slice(frame.to_string().as_bytes());
        out.put_u8(b'\n');
    }
}

fn changed_object(event: &WatchEvent) -> Option<(&'static str, &Arc<Object>)> {
    match event {
        WatchEvent::Added(object) => Some(("ADDED", object)),
        WatchEvent::Modified(object) => Some(("MODIFIED", object)),
        WatchEvent::Deleted(object) => Some(("DELETED", object)),
        WatchEvent::Bookmark { .. } | WatchEvent::Error(_) => None,
    }
}

/// A change as it is sent to everybody who takes objects as they are stored.
fn write_plain(event: WatchEvent, out: &mut BytesMut) {
    if let Some((name, object)) = changed_object(&event) {
        write_object(name, object, out);
    }
}

fn write_object(name: &str, object: &Object, out: &mut BytesMut) {
    out.reserve(object.json_len() + 40);
    put_start(name, out);
    object.write_json(out);
    out.put_slice(b"}\n");
}

fn put_start(name: &str, out: &mut BytesMut) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\",\"object\":");
}

#[cfg(test)]
mod tests;
