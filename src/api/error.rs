//! API errors: every failure of a call is a Kubernetes `Status` with upstream's reason, code, message and
//! causes.
//!
//! The constructors mirror `k8s.io/apimachinery/pkg/api/errors`; messages are the ones clients match on.
//! Mapping to HTTP happens once, at the edge of the API server.

use std::collections::HashSet;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use crate::KindRow;
use crate::bounds::{MAX_DETAIL, MAX_FAULTS, MAX_VALUE, Spent, Text, cut};

/// A failed call. Cheap to move: the status is boxed.
#[derive(Clone, Debug)]
pub struct ApiError(Box<Status>);

/// One fault of one field, as `field.Error` of apimachinery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    /// Path such as `spec.containers[0].name`.
    pub field: String,
    /// The offending value as it is printed: JSON-quoted strings, plain numbers. Empty where upstream prints
    /// none.
    pub value: String,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    /// The `reason` of a status cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }

    fn prints_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::Internal)
    }
}

impl FieldError {
    fn new(kind: FieldErrorKind, field: impl Into<String>, value: String, detail: impl Into<String>) -> Self {
        // A fault may be one of a hundred: none says more than people read.
        FieldError { kind, field: field.into(), value, detail: cut(detail.into(), MAX_DETAIL) }
    }

    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, field, String::new(), detail)
    }

    pub fn invalid(
        field: impl Into<String>,
        value: impl serde::Serialize,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(FieldErrorKind::Invalid, field, printed(&value), detail)
    }

    /// [`FieldError::invalid`] for what is too large, or too many things, to be printed.
    pub fn invalid_without_value(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, field, String::new(), detail)
    }

    pub fn duplicate(field: impl Into<String>, value: impl serde::Serialize) -> Self {
        Self::new(FieldErrorKind::Duplicate, field, printed(&value), "")
    }

    pub fn not_found(field: impl Into<String>, value: impl serde::Serialize) -> Self {
        Self::new(FieldErrorKind::NotFound, field, printed(&value), "")
    }

    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, field, String::new(), detail)
    }

    pub fn too_long(field: impl Into<String>, max_bytes: usize) -> Self {
        let detail = format!("may not be more than {max_bytes} bytes");
        Self::new(FieldErrorKind::TooLong, field, String::new(), detail)
    }

    pub fn too_many(field: impl Into<String>, actual: usize, max: i64) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {items}");
        Self::new(FieldErrorKind::TooMany, field, actual.to_string(), detail)
    }

    /// [`FieldError::invalid`] for a value of the wrong type.
    pub(crate) fn wrong_type(
        field: impl Into<String>,
        value: impl serde::Serialize,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(FieldErrorKind::TypeInvalid, field, printed(&value), detail)
    }

    /// `Unsupported value: "x": supported values: "a", "b"`.
    pub fn not_supported(field: impl Into<String>, value: impl serde::Serialize, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(FieldErrorKind::NotSupported, field, printed(&value), detail)
    }

    /// The message of the status cause: everything but the path.
    pub fn message(&self) -> String {
        let mut text = self.kind.text().to_string();
        if self.kind.prints_value() && !self.value.is_empty() {
            text.push_str(": ");
            text.push_str(&self.value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

fn printed(value: &impl serde::Serialize) -> String {
    let mut text = Text::new(MAX_VALUE);
    // Stops where the text is full.
    let _ = serde_json::to_writer(&mut text, value);
    text.finish()
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message())
    }
}

impl ApiError {
    /// Any status of the given code and reason.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        ApiError(Box::new(Status {
            code: Some(i32::from(code)),
            message: Some(message.into()),
            reason: Some(reason.to_string()).filter(|reason| !reason.is_empty()),
            status: Some("Failure".to_string()),
            ..Status::default()
        }))
    }

    pub fn from_status(status: Status) -> Self {
        ApiError(Box::new(status))
    }

    fn about(mut self, row: &KindRow, name: &str) -> Self {
        let details = self.0.details.get_or_insert_with(StatusDetails::default);
        details.name = Some(name.to_string()).filter(|name| !name.is_empty());
        details.group = Some(row.group.to_string()).filter(|group| !group.is_empty());
        details.kind = Some(row.plural.to_string());
        self
    }

    pub fn not_found(row: &KindRow, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", row.group_resource())).about(row, name)
    }

    pub fn already_exists(row: &KindRow, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", row.group_resource());
        Self::new(409, "AlreadyExists", message).about(row, name)
    }

    /// `Operation cannot be fulfilled on pods "x": why`.
    pub fn conflict(row: &KindRow, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", row.group_resource());
        Self::new(409, "Conflict", message).about(row, name)
    }

    /// The conflict of an update with an old resourceVersion.
    pub fn modified(row: &KindRow, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(row, name, why)
    }

    /// `Pod "x" is invalid: spec.containers: Required value` with one cause per fault, a hundred at most.
    pub fn invalid(row: &KindRow, name: &str, errors: impl Into<Vec<FieldError>>) -> Self {
        let mut errors = errors.into();
        errors.truncate(MAX_FAULTS);
        let qualified =
            if row.group.is_empty() { row.kind.to_string() } else { format!("{}.{}", row.kind, row.group) };
        let mut faults: Vec<String> = errors.iter().map(ToString::to_string).collect();
        // Rules overlap: the message says a thing once, the causes as often as it was found.
        let mut said = HashSet::new();
        faults.retain(|fault| said.insert(fault.clone()));
        let list = if faults.len() == 1 { faults[0].clone() } else { format!("[{}]", faults.join(", ")) };
        let mut error =
            Self::new(422, "Invalid", format!("{qualified} {name:?} is invalid: {list}")).about(row, name);
        if let Some(details) = &mut error.0.details {
            details.kind = Some(row.kind.to_string());
            details.causes = Some(errors.into_iter().map(cause).collect());
        }
        error
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// `pods "x" is forbidden: why`; without a name `pods is forbidden: why`.
    pub fn forbidden(row: &KindRow, name: &str, why: &str) -> Self {
        let resource = row.group_resource();
        let subject = if name.is_empty() { resource } else { format!("{resource} {name:?}") };
        Self::new(403, "Forbidden", format!("{subject} is forbidden: {why}")).about(row, name)
    }

    pub fn method_not_supported(row: &KindRow, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", row.group_resource());
        Self::new(405, "MethodNotAllowed", message).about(row, "")
    }

    /// 410: the resource version or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        let mut error = Self::new(429, "TooManyRequests", message);
        error.0.details = Some(StatusDetails {
            retry_after_seconds: Some(retry_after_seconds),
            ..StatusDetails::default()
        });
        error
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    pub fn status(&self) -> &Status {
        &self.0
    }

    pub fn code(&self) -> u16 {
        self.0.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500)
    }

    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or("")
    }

    pub fn message(&self) -> &str {
        self.0.message.as_deref().unwrap_or("")
    }

    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }

    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    /// The version asked for is gone: list again.
    pub fn is_expired(&self) -> bool {
        self.code() == 410
    }

    /// Whether a fault of this field, or of something in it, is among the causes.
    pub fn blames(&self, field: &str) -> bool {
        let causes = self.0.details.as_ref().and_then(|details| details.causes.as_ref());
        let is_in = |own: &str| {
            own.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        causes.is_some_and(|causes| causes.iter().any(|one| one.field.as_deref().is_some_and(is_in)))
    }

    /// The namespace is going away, so nothing can be created in it (cause `NamespaceTerminating`).
    pub fn is_namespace_terminating(&self) -> bool {
        let causes = self.0.details.as_ref().and_then(|details| details.causes.as_ref());
        causes.is_some_and(|causes| {
            causes.iter().any(|one| one.reason.as_deref() == Some("NamespaceTerminating"))
        })
    }

    /// Adds a cause to the status' details.
    pub fn with_cause(mut self, reason: &str, field: Option<&str>, message: &str) -> Self {
        let details = self.0.details.get_or_insert_with(StatusDetails::default);
        details.causes.get_or_insert_with(Vec::new).push(StatusCause {
            field: field.map(str::to_string),
            message: Some(message.to_string()),
            reason: Some(reason.to_string()),
        });
        self
    }
}

fn cause(error: FieldError) -> StatusCause {
    StatusCause {
        message: Some(error.message()),
        reason: Some(error.kind.reason().to_string()),
        field: Some(error.field),
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ApiError {}

impl From<Spent> for ApiError {
    fn from(spent: Spent) -> Self {
        ApiError::too_large(spent.to_string())
    }
}

#[cfg(test)]
mod tests;
