//! Bodies that are written down: kept as they came, within one bound for all requests.
//!
//! They are decoded by the thread that writes the event, not by the one that serves the request. Where there
//! is no room the event goes without them and says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::{protobuf, schema};
use bytes::Bytes;
use serde_json::Value;

/// Bytes of bodies that are held at a time, by requests under way and by events that wait.
const ROOM: usize = 64 << 20;
/// A single one may have so many.
const LARGEST: usize = 16 << 20;

/// What is left of the bound.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<AtomicUsize>);

impl Default for Room {
    fn default() -> Self {
        Room(Arc::new(AtomicUsize::new(ROOM)))
    }
}

impl Room {
    pub(super) fn hold(&self) -> Held {
        Held { room: self.clone(), bytes: 0 }
    }
}

/// A part of the bound, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: Room,
    bytes: usize,
}

impl Held {
    /// Takes more; false if there is no room for it.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        if self.bytes + more > LARGEST {
            return false;
        }
        let taken = self
            .room
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more))
            .is_ok();
        if taken {
            self.bytes += more;
        }
        taken
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// A body.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    content_type: Arc<str>,
    bytes: Bytes,
    _held: Arc<Held>,
}

impl Content {
    pub(crate) fn new(content_type: &str, bytes: impl Into<Bytes>, held: Held) -> Content {
        Content { content_type: content_type.into(), bytes: bytes.into(), _held: Arc::new(held) }
    }

    /// As a tree; none if it is no object.
    pub(super) fn tree(&self) -> Option<Value> {
        let bytes = &self.bytes;
        if bytes.is_empty() {
            return None;
        }
        match self.content_type.split(';').next().unwrap_or_default().trim() {
            protobuf::MEDIA_TYPE => protobuf::decode(bytes).ok(),
            "application/yaml" | "application/x-yaml" | "text/yaml" | "application/apply-patch+yaml" => {
                schema::decode_yaml(bytes).ok().map(|(tree, _)| tree)
            }
            "" | "application/json" | "application/x-www-form-urlencoded" => {
                serde_json::from_slice(bytes).ok()
            }
            patch if patch.ends_with("-patch+json") => serde_json::from_slice(bytes).ok(),
            _ => None,
        }
    }
}
