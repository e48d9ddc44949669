//! `kubectl apply` on the client's side, and on the server's: how one follows the other.
//!
//! What kubectl has applied itself is in an annotation. Where the object still is as it says, kubectl may
//! apply on the server although the fields belong to its former self; and the annotation goes on saying what
//! was applied last. All of this is only for the manager `kubectl`.

use serde_json::{Map, Value};

use super::{fields, validate};
use crate::managed::{self, Author, Fields};
use crate::schema::Place;

/// Where kubectl keeps what it has applied.
pub const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Bytes that all annotations of an object may have.
const MOST_ANNOTATIONS: usize = 256 << 10;
const KUBECTL: &str = "kubectl";

fn annotations(tree: &Value) -> Option<&Map<String, Value>> {
    tree.get("metadata")?.get("annotations")?.as_object()
}

fn annotation(tree: &Value) -> Option<&str> {
    annotations(tree)?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// What may be taken from others because kubectl has applied it, and it still is as it was applied.
pub(super) fn allowed(author: &Author<'_>, root: Place<'_>, live: &Value) -> Option<Fields> {
    if author.manager != KUBECTL {
        return None;
    }
    let applied: Value = serde_json::from_str(annotation(live)?).ok()?;
    let is_same = applied["apiVersion"].as_str() == Some(author.api_version);
    if !is_same || validate::faults(root, live).is_some() || validate::faults(root, &applied).is_some() {
        return None;
    }
    let mut fields = fields::of(root, &applied);
    let delta = managed::compare(root, Some(&applied), live);
    fields.subtract(&delta.changed);
    fields.subtract(&delta.removed);
    Some(fields)
}

/// Keeps the annotation in step with what is applied.
pub(super) fn renew(author: &Author<'_>, tree: &mut Value, patch: &Value) {
    if author.manager != KUBECTL || annotation(tree).is_none() {
        return;
    }
    let mut applied = patch.clone();
    let own = applied.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"));
    if let Some(Value::Object(own)) = own {
        own.remove(ANNOTATION);
    }
    let mut text = managed::go_json(&applied);
    text.push('\n');
    let own = tree.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"));
    let Some(Value::Object(own)) = own else { return };
    own.insert(ANNOTATION.to_string(), Value::String(text));
    let size: usize = own.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MOST_ANNOTATIONS {
        own.remove(ANNOTATION);
    }
}
