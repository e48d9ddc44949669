//! OpenAPI v3 documents of the rows served, built on request from the schema table.
//!
//! kubectl's `apply`, `create`, `explain` and `--dry-run=server` read them: merge keys and list types, the
//! query parameters of patch operations, the group, version and kind of schemas and operations, and what
//! everything means. Absent: watch paths (deprecated upstream).

mod descriptions;
mod operations;
mod schemas;
#[cfg(test)]
mod tests;
mod v2;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::KindRow;
pub use descriptions::Descriptions;
use schemas::Schemas;

const TITLE: &str = "Kubernetes";
const VERSION: &str = "v1.36.2";

/// Media type of [`v2_document`]. Clients ask for `v2@v1.0` instead of `v2.v1.0`, which Go cannot parse in an
/// answer.
pub const V2_MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `/openapi/v3`: one entry per group version with the relative URL of its document and the document's hash,
/// by which clients cache. Takes `(group, version, hash of the document)`.
pub fn v3_index<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> Value {
    let entries = documents.into_iter().map(|(group, version, hash)| {
        let path =
            if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        let entry = json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}") });
        (path, entry)
    });
    json!({ "paths": Map::from_iter(entries) })
}

/// The hash by which clients know a document.
pub fn hash(document: &[u8]) -> String {
    format!("{:X}", Sha256::digest(document))
}

/// A row to be described.
pub struct Described<'a> {
    pub row: &'a KindRow,
    /// The `openAPIV3Schema` of a kind that is not built in.
    pub schema: Option<Value>,
}

impl<'a> From<&'a KindRow> for Described<'a> {
    fn from(row: &'a KindRow) -> Self {
        Described { row, schema: None }
    }
}

/// `/openapi/v3/apis/GROUP/VERSION` (`/openapi/v3/api/v1` for the core group). Built anew at each call.
pub fn v3_document(group: &str, version: &str, kinds: &[Described<'_>]) -> Bytes {
    let descriptions = Descriptions::shared();
    let mut schemas = Schemas::new(group, version, &descriptions);
    let mut paths = Map::new();
    for kind in kinds {
        operations::add_paths(kind, &mut schemas, &mut paths);
    }
    operations::add_discovery(group, version, &mut schemas, &mut paths);
    descriptions.describe_parameters(&mut paths);
    let document = json!({
        "openapi": "3.0.0",
        "info": { "title": TITLE, "version": VERSION },
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey",
                    "description": "Bearer Token authentication",
                    "name": "authorization",
                    "in": "header"
                }
            }
        }
    });
    Bytes::from(document.to_string())
}

/// `/openapi/v2` of all rows, in protobuf ([`V2_MEDIA_TYPE`]). Built anew at each call.
pub fn v2_document(kinds: &[Described<'_>]) -> Bytes {
    let (paths, definitions) = version2(kinds);
    Bytes::from(v2::encode(TITLE, VERSION, &paths, &definitions))
}

/// `/openapi/v2` of all rows, in JSON. Built anew at each call.
pub fn v2_json(kinds: &[Described<'_>]) -> Bytes {
    let (paths, definitions) = version2(kinds);
    Bytes::from(v2::json(TITLE, VERSION, &paths, definitions).to_string())
}

/// Paths as version 3 has them, and definitions of version 2.
fn version2(kinds: &[Described<'_>]) -> (Map<String, Value>, Map<String, Value>) {
    let descriptions = Descriptions::shared();
    let mut schemas = Schemas::new("", "v1", &descriptions);
    let mut paths = Map::new();
    for kind in kinds {
        operations::add_paths(kind, &mut schemas, &mut paths);
    }
    descriptions.describe_parameters(&mut paths);
    let definitions = v2::definitions(&schemas.finish());
    (paths, definitions)
}
