//! Between the versions of a kind.
//!
//! Objects are stored in one version and shown in the one that is asked for; each says itself which it is in.
//! Built in are two pairs of versions, of events and of autoscalers, after upstream's conversions.

pub(crate) mod autoscalers;
mod events;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::{ApiError, KindRow};
use client::BoxFuture;
use serde_json::{Value, json};

/// Brings objects of a kind into another version of it. Asynchronous, because it may be another server that
/// knows how.
pub(crate) trait Conversion: Send + Sync {
    /// Objects in, the same objects in the same order out, in the form of `version` (`group/version`).
    fn convert<'a>(
        &'a self,
        objects: Vec<Value>,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Value>, ApiError>>;

    /// How many bytes of objects another server is asked about at once; none where no server is asked.
    fn question(&self) -> Option<usize> {
        None
    }

    /// A field selector's path as the stored form calls it.
    fn stored_path(&self, path: &str) -> String {
        path.to_string()
    }
}

/// Versions that differ in nothing but their name.
pub(crate) struct Relabel;

impl Conversion for Relabel {
    fn convert<'a>(
        &'a self,
        mut objects: Vec<Value>,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Value>, ApiError>> {
        objects.iter_mut().for_each(|object| object["apiVersion"] = json!(version));
        Box::pin(std::future::ready(Ok(objects)))
    }
}

/// The conversion of a built-in kind that is stored in another version.
pub(super) fn of(row: &KindRow) -> Option<Arc<dyn Conversion>> {
    row.stored_as.as_ref()?;
    Some(match &*row.kind {
        "HorizontalPodAutoscaler" => Arc::new(autoscalers::Autoscalers),
        _ => Arc::new(events::Events),
    })
}
