//! Applying patches to a JSON tree: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and Kubernetes'
//! strategic merge.
//!
//! All work in place on one tree, so a failed patch leaves the tree in an unspecified state: callers patch a
//! copy. Server-side apply is not here: it is no change of a tree alone, and has a module of its own
//! ([`crate::apply`]).

mod json;
mod strategic;
#[cfg(test)]
mod tests;

pub use json::json_patch;
pub(crate) use strategic::strategic_merge;

use serde_json::{Map, Value};

use crate::bounds::Spent;
use crate::schema::Place;
use crate::{ApiError, Patch, PatchKind};

/// Why a patch could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The patch document itself is not a patch of its kind.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object, for example a failed `test`.
    #[error("the server rejected our request due to an error in our request")]
    Rejected(String),
    /// More operations than one patch may have.
    #[error("The allowed maximum operations in a JSON patch is {allowed}, got {got}")]
    TooLarge { allowed: usize, got: usize },
    /// It would make too much of the object; the text names the bound.
    #[error("the server rejected our request due to an error in our request")]
    Spent(String),
    /// What it makes would take too much memory.
    #[error(transparent)]
    Memory(#[from] Spent),
    /// The server does not take this kind of patch.
    #[error("{0}")]
    Unsupported(String),
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(_) => ApiError::bad_request(error.to_string()),
            PatchError::Rejected(_) => ApiError::new(422, "Invalid", error.to_string()),
            PatchError::TooLarge { .. } => ApiError::too_large(error.to_string()),
            PatchError::Memory(spent) => spent.into(),
            // Upstream's message is as general; its cause is told in addition.
            PatchError::Spent(ref why) => ApiError::new(422, "Invalid", error.to_string()).with_cause(
                "FieldValueInvalid",
                Some("patch"),
                why,
            ),
            PatchError::Unsupported(_) => ApiError::new(415, "UnsupportedMediaType", error.to_string()),
        }
    }
}

/// Applies a patch of any kind to an object whose schema begins at `root`. Where that is no built-in type
/// (custom resources) strategic merge is unsupported, as upstream.
pub fn apply<'a>(root: impl Into<Place<'a>>, tree: &mut Value, patch: &Patch) -> Result<(), PatchError> {
    match (patch.kind, root.into()) {
        (PatchKind::Json, root) => {
            let added = add_parts(root, tree);
            let patched = json_patch(tree, &patch.body);
            remove_empty(&added, tree);
            patched
        }
        (PatchKind::Merge, _) => merge_patch(tree, &patch.body),
        (PatchKind::Strategic, root @ Place::Object(_)) => strategic_merge(root, tree, &patch.body),
        (PatchKind::Strategic, _) => Err(PatchError::Unsupported(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json".to_string(),
        )),
        (PatchKind::Apply, _) => {
            Err(PatchError::Unsupported("what is applied is no change of a tree alone".to_string()))
        }
    }
}

/// Parts that upstream's encoding of a type has even where they are empty: a JSON patch may go into them.
const PARTS: [&str; 3] = ["metadata", "spec", "status"];

/// Adds the parts that the type has and the object lacks.
fn add_parts(root: Place<'_>, tree: &mut Value) -> Vec<&'static str> {
    let (Place::Object(ty), Value::Object(tree)) = (root, tree) else { return Vec::new() };
    let is_part = |name: &&str| ty.field(name).is_some_and(|field| field.object().is_some());
    let lacking: Vec<_> =
        PARTS.into_iter().filter(|name| !tree.contains_key(*name)).filter(is_part).collect();
    tree.extend(lacking.iter().map(|name| (name.to_string(), Value::Object(Map::new()))));
    lacking
}

/// Takes back what was added and not used.
fn remove_empty(parts: &[&str], tree: &mut Value) {
    let Value::Object(tree) = tree else { return };
    for part in parts {
        if tree.get(*part).is_some_and(|value| value.as_object().is_some_and(Map::is_empty)) {
            tree.remove(*part);
        }
    }
}

/// RFC 7386.
pub fn merge_patch(tree: &mut Value, patch: &Value) -> Result<(), PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("the patch is not a JSON object".to_string()));
    }
    json_patch::merge(tree, patch);
    Ok(())
}
