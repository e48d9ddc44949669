//! From a decoded body to a tree that may be admitted: kind, namespace, schema, defaults.

use api::{ApiError, FieldValidation, KindRow};
use serde_json::{Value, json};

use super::{Call, meta_str};
use crate::strategy::RequestContext;

/// Checks that a body is of the kind that its URL says; a body that leaves kind or version out gets them.
pub(crate) fn check_kind(row: &KindRow, tree: &mut Value) -> Result<(), ApiError> {
    let Some(members) = tree.as_object_mut() else {
        return Err(ApiError::bad_request(
            "couldn't get version/kind; json parse error: the body is not a JSON object",
        ));
    };
    let expected = row.api_version();
    let given = members.get("apiVersion").and_then(Value::as_str).unwrap_or("").to_string();
    let kind = members.get("kind").and_then(Value::as_str).unwrap_or("").to_string();
    if !kind.is_empty() && kind != row.kind {
        let message = format!(
            "{kind} in version {:?} cannot be handled as a {}: converting ({kind}) to ({}): unknown conversion",
            if given.is_empty() { &*row.version } else { &given },
            row.kind,
            row.kind
        );
        return Err(ApiError::bad_request(message));
    }
    if !given.is_empty() && given != expected {
        let message = format!(
            "the API version in the data ({given}) does not match the expected API version ({expected})"
        );
        return Err(ApiError::bad_request(message));
    }
    if given.is_empty() {
        members.insert("apiVersion".into(), json!(expected));
    }
    if kind.is_empty() {
        members.insert("kind".into(), json!(row.kind));
    }
    match members.get("metadata") {
        Some(Value::Object(_)) => {}
        None | Some(Value::Null) => {
            members.insert("metadata".into(), json!({}));
        }
        Some(_) => return Err(ApiError::bad_request("metadata is not a JSON object")),
    }
    Ok(())
}

/// Brings a body into its type's form and fills in defaults.
pub(super) fn decode(
    call: &Call<'_>,
    ctx: &RequestContext<'_>,
    tree: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<(), ApiError> {
    let row = call.row();
    check_kind(row, tree)?;
    super::managed::keep_reset(tree);
    let schema = &call.resource.schema;
    call.warn(schema.check(tree, duplicates, validation)?);
    schema.default(tree)?;
    call.strategy().default(ctx, tree);
    set_namespace(call, tree)
}

/// An object belongs to the namespace of its URL; one that names none is put there.
fn set_namespace(call: &Call<'_>, tree: &mut Value) -> Result<(), ApiError> {
    let given = meta_str(tree, "namespace");
    match call.namespace {
        Some(namespace) if given.is_empty() => tree["metadata"]["namespace"] = json!(namespace),
        Some(namespace) if given != namespace => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Some(_) => {}
        None if given.is_empty() => {}
        None if call.row().namespaced() => {}
        None => return Err(ApiError::bad_request("namespace may not be set on a cluster-scoped object")),
    }
    Ok(())
}
