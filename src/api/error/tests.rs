//! Messages that clients match on, as upstream prints them.

use crate::kinds::{DEPLOYMENT, POD};
use crate::{ApiError, FieldError};

#[test]
fn messages_are_upstreams() {
    let cases = [
        (ApiError::not_found(&POD, "x"), 404, "NotFound", r#"pods "x" not found"#),
        (ApiError::not_found(&DEPLOYMENT, "x"), 404, "NotFound", r#"deployments.apps "x" not found"#),
        (ApiError::already_exists(&POD, "x"), 409, "AlreadyExists", r#"pods "x" already exists"#),
        (
            ApiError::modified(&POD, "x"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes to \
             the latest version and try again",
        ),
        (
            ApiError::forbidden(&POD, "", r#"User "u" cannot list resource"#),
            403,
            "Forbidden",
            r#"pods is forbidden: User "u" cannot list resource"#,
        ),
    ];
    for (error, code, reason, message) in cases {
        assert_eq!((error.code(), error.reason(), error.message()), (code, reason, message));
    }
}

#[test]
fn field_errors_print_values_as_upstream_does() {
    let cases = [
        (FieldError::required("spec.containers", ""), "spec.containers: Required value"),
        (FieldError::invalid("metadata.name", "A", "no"), r#"metadata.name: Invalid value: "A": no"#),
        (FieldError::invalid("spec.replicas", -1, "no"), "spec.replicas: Invalid value: -1: no"),
        (
            FieldError::not_supported("spec.type", "x", &["A", "B"]),
            r#"spec.type: Unsupported value: "x": supported values: "A", "B""#,
        ),
        (FieldError::duplicate("a[1]", "n"), r#"a[1]: Duplicate value: "n""#),
        (FieldError::forbidden("spec", "no"), "spec: Forbidden: no"),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn an_invalid_status_lists_every_cause() {
    let faults = vec![FieldError::required("a", "x"), FieldError::duplicate("b", "y")];
    let error = ApiError::invalid(&DEPLOYMENT, "d", faults);
    assert_eq!(
        error.message(),
        r#"Deployment.apps "d" is invalid: [a: Required value: x, b: Duplicate value: "y"]"#
    );
    let details = error.status().details.as_ref().unwrap();
    assert_eq!(details.kind.as_deref(), Some("Deployment"));
    let causes = details.causes.as_ref().unwrap();
    assert_eq!(causes[1].reason.as_deref(), Some("FieldValueDuplicate"));
    assert_eq!(causes[1].field.as_deref(), Some("b"));
    assert!(
        ApiError::bad_request("x").with_cause("NamespaceTerminating", None, "y").is_namespace_terminating()
    );
}
