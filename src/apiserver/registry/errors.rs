//! Answers that are the same for every kind.

use api::ApiError;
use embedded_store::StoreError;

/// The answer to verbs that a resource does not have.
pub(crate) fn not_allowed() -> ApiError {
    ApiError::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

/// A store's failure as a Status. Compares that fail are not errors and do not come here.
pub(crate) fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { .. } => {
            ApiError::expired("The resourceVersion for the provided list is too old.")
        }
        StoreError::TooLarge { .. } => ApiError::too_large(format!("etcdserver: {error}")),
        StoreError::NoSpace(_)
        | StoreError::Unwritable(_)
        | StoreError::Stopped
        | StoreError::NotLeader { .. }
        | StoreError::NoQuorum => ApiError::unavailable(error.to_string()),
        other => ApiError::internal(other),
    }
}

/// The answer to paths and kinds that do not exist.
pub(crate) fn unknown() -> ApiError {
    ApiError::new(404, "NotFound", "the server could not find the requested resource")
}
