//! Why a policy fails, in upstream's words. Its `failurePolicy` decides what that means for the request.

use api::ApiError;
use cel::{EvalError, ParseError, Program};

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    /// What was stored before it was checked may be no expression.
    #[error("compilation error: {0}")]
    Compilation(#[from] ParseError),
    /// It cannot be told whether its conditions hold.
    #[error("{0}")]
    Conditions(String),
    #[error("expression '{expression}' resulted in error: {error}")]
    Evaluation { expression: String, error: EvalError },
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    Budget,
    /// Parameters that cannot be found.
    #[error("failed to configure binding: {0}")]
    Binding(String),
    #[error("must evaluate to {wanted}, but evaluates to {found}")]
    Type { wanted: &'static str, found: String },
    #[error("the applied object has values that JSON does not know")]
    NotJson,
    #[error("error applying patch: may not set {0}")]
    Identity(String),
    #[error("{0}")]
    Patch(String),
    /// The object cannot be brought into the version of the policy, or back.
    #[error("{0}")]
    Object(ApiError),
}

impl PolicyError {
    pub(super) fn evaluation(program: &Program, error: EvalError) -> Self {
        PolicyError::Evaluation { expression: program.source().to_string(), error }
    }
}

impl From<ApiError> for PolicyError {
    fn from(error: ApiError) -> Self {
        PolicyError::Object(error)
    }
}
