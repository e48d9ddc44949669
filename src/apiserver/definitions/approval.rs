//! Groups of the Kubernetes community: a definition in one of them says who approved it, or that nobody did.

use api::FieldError;
use api::validation::Faults;
use serde_json::Value;

use super::conditions::Condition;
use api::json::text;

const ANNOTATION: &str = "api-approved.kubernetes.io";
const DISCUSSION: &str = "https://github.com/kubernetes/enhancements/pull/1111";

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Invalid,
    Approved,
    Bypassed,
    Missing,
}

fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|own| group.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

fn annotation(definition: &Value) -> &str {
    definition["metadata"]["annotations"][ANNOTATION].as_str().unwrap_or("")
}

fn state(given: &str) -> (State, String) {
    let is_url = || {
        let parsed = given.parse::<http::Uri>();
        parsed.is_ok_and(|url| url.scheme().is_some() && url.host().is_some_and(|host| !host.is_empty()))
    };
    if given.is_empty() {
        let why = format!("protected groups must have approval annotation {ANNOTATION:?}, see {DISCUSSION}");
        (State::Missing, why)
    } else if given.starts_with("unapproved") {
        (State::Bypassed, format!("not approved: {given:?}"))
    } else if is_url() {
        (State::Approved, format!("approved in {given}"))
    } else {
        let why = format!(
            "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", see {DISCUSSION}"
        );
        (State::Invalid, why)
    }
}

/// Faults of a definition; what was stored without approval may stay so.
pub(crate) fn validate(new: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    if !is_protected(text(new, "spec.group")) {
        return faults;
    }
    let given = annotation(new);
    let (now, why) = state(given);
    if old.is_some_and(|old| state(annotation(old)).0 == now) {
        return faults;
    }
    let path = format!("metadata.annotations[{ANNOTATION}]");
    match now {
        State::Approved | State::Bypassed => {}
        State::Missing => faults.push(FieldError::required(path, why)),
        State::Invalid => faults.push(FieldError::invalid(path, given, why)),
    }
    faults
}

/// Sets the condition that tells of the approval, in groups that need one. Tells whether anything changed.
pub(super) fn set_condition(definition: &mut Value) -> bool {
    if !is_protected(text(definition, "spec.group")) {
        return false;
    }
    let (state, message) = state(annotation(definition));
    let reason = match state {
        State::Invalid => "InvalidAnnotation",
        State::Missing => "MissingAnnotation",
        State::Approved => "ApprovedAnnotation",
        State::Bypassed => "UnapprovedAnnotation",
    };
    let (kind, holds) = ("KubernetesAPIApprovalPolicyConformant", state == State::Approved);
    super::conditions::set_condition(definition, &Condition { kind, holds, reason, message: &message })
}
