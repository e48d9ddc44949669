//! Kubernetes' protobuf: the `k8s\0` envelope and its messages, transcoded from and to the JSON tree by the schema table.

use serde_json::Value;

use crate::ApiError;
use crate::schema::TypeRef;

/// Media type of protobuf bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Why bytes are not a protobuf message of their type, or a tree cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: {0}")]
    Malformed(String),
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
}

impl From<ProtobufError> for ApiError {
    fn from(error: ProtobufError) -> Self {
        ApiError::bad_request(error.to_string())
    }
}

/// Decodes a body (`k8s\0` and `runtime.Unknown`) to a tree with `apiVersion` and `kind`.
pub fn decode(_bytes: &[u8]) -> Result<Value, ProtobufError> {
    Err(ProtobufError::NoPrefix)
}

/// Decodes a bare message of a type.
pub fn decode_message(_ty: TypeRef, _bytes: &[u8]) -> Result<Value, ProtobufError> {
    Err(ProtobufError::Truncated)
}

/// Encodes a tree that has `apiVersion` and `kind` of a built-in kind (lists too) with its envelope.
pub fn encode(_tree: &Value) -> Result<Vec<u8>, ProtobufError> {
    Err(ProtobufError::NoPrefix)
}

/// Encodes a bare message of a type.
pub fn encode_message(_ty: TypeRef, _tree: &Value) -> Result<Vec<u8>, ProtobufError> {
    Err(ProtobufError::NoPrefix)
}

/// One frame of a protobuf watch stream, with its length in front: `object` is what [`encode`] made.
pub fn encode_watch_event(_event_type: &str, _object: &[u8]) -> Vec<u8> {
    Vec::new()
}
