//! Kubernetes' protobuf: the `k8s\0` envelope and its messages, transcoded from and to the JSON tree by the
//! schema table.
//!
//! kubectl and every Go client send protobuf bodies, so decoding is as common as JSON. The result is the tree
//! that decoding to the Go type and encoding that to JSON would give: Go always sends plain (non-pointer)
//! fields, so their zero values count as absent where JSON omits them. Field 1 of the envelope is the type,
//! field 2 the message.

mod decode;
mod encode;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

pub use decode::decode;
#[cfg(test)]
pub(crate) use decode::decode_message;
pub(crate) use encode::encode_message;
pub use encode::{ListEncoder, encode, encode_watch_event};

use crate::ApiError;
use crate::bounds::Spent;

/// Media type of protobuf bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What a body begins with.
const MAGIC: &[u8] = b"k8s\0";

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
    #[error(transparent)]
    Memory(#[from] Spent),
}

impl From<ProtobufError> for ApiError {
    fn from(error: ProtobufError) -> Self {
        match error {
            ProtobufError::Memory(spent) => spent.into(),
            other => ApiError::bad_request(other.to_string()),
        }
    }
}
