//! Reading a JSON tree whose fields may be absent or of another type: then there is nothing, an empty
//! text, 0.
//!
//! For code that works on objects as trees: strategies, printers, kubectl. An object that another version of
//! a type has made still prints. Whoever must tell absent from wrong uses `serde_json` or the schema.

use serde_json::Value;

/// The value at a path such as `spec.replicas`, null if there is none.
pub fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |at, field| &at[field])
}

/// The text at a path.
pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    as_text(at(object, path))
}

/// The integer at a path.
pub fn number(object: &Value, path: &str) -> i64 {
    at(object, path).as_i64().unwrap_or(0)
}

/// The elements of the list at a path.
pub fn items<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    as_items(at(object, path))
}

/// A value as text.
pub fn as_text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The elements of a list.
pub fn as_items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
