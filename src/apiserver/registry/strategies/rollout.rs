//! What the kinds share that replace pods step by step: how many at once, and the counts in their status.

use api::FieldError;
use api::validation::{Faults, Path, percent};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{non_negative, pod_template};
use crate::strategy::RequestContext;

/// Warnings about the name, which becomes part of the pods' names, and about the template.
pub(super) fn warnings(ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if ctx.subresource.is_none() {
        pod_template::name_warnings(tree, old, &mut warnings);
    }
    warnings.extend(template_warnings(ctx, tree, old));
    warnings
}

/// Warnings about the template alone.
pub(super) fn template_warnings(ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if ctx.subresource.is_none() {
        let (new, old) = (&tree["spec"]["template"], old.map(|old| &old["spec"]["template"]));
        pod_template::warnings(new, old, "spec.template", &mut warnings);
    }
    warnings
}

/// Faults of the status of kinds that keep a number of pods; `more` are counts that one of them has beside
/// the usual ones.
pub(super) fn validate_replica_status(tree: &Value, more: &[&str]) -> Faults {
    let mut faults = Faults::new();
    let usual =
        ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
    validate_counts(tree, &[&usual[..], more].concat(), &mut faults);
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    let message = "cannot be greater than status.replicas";
    validate_at_most(tree, &parts, "replicas", message, &mut faults);
    let message = "cannot be greater than readyReplicas";
    validate_at_most(tree, &["availableReplicas"], "readyReplicas", message, &mut faults);
    faults
}

/// Faults of a count or percentage.
pub(super) fn validate_amount(amount: Option<&IntOrString>, at: &Path<'_>, faults: &mut Faults) {
    match amount {
        None => {}
        Some(IntOrString::Int(count)) => non_negative(faults, at, i64::from(*count)),
        Some(IntOrString::String(text)) => {
            for message in percent(text) {
                faults.push(FieldError::invalid(at, text, message));
            }
        }
    }
}

/// The fault of a percentage above a hundred.
pub(super) fn validate_at_most_all(amount: Option<&IntOrString>, at: &Path<'_>, faults: &mut Faults) {
    if let Some(IntOrString::String(text)) = amount
        && percent(text).is_empty()
        && number(amount) > 100
    {
        faults.push(FieldError::invalid(at, text, "must not be greater than 100%"));
    }
}

/// The number of a count or percentage; 0 if it has none.
pub(super) fn number(amount: Option<&IntOrString>) -> i64 {
    match amount {
        None => 0,
        Some(IntOrString::Int(count)) => i64::from(*count),
        Some(IntOrString::String(text)) => text.strip_suffix('%').unwrap_or(text).parse().unwrap_or(0),
    }
}

fn count(tree: &Value, field: &str) -> i64 {
    api::json::number(&tree["status"], field)
}

/// Counts in a status that may not be negative.
pub(super) fn validate_counts(tree: &Value, fields: &[&str], faults: &mut Faults) {
    let at = Path::new("status");
    for field in fields {
        non_negative(faults, &at.child(field), count(tree, field));
    }
}

/// Counts in a status that may not be greater than another.
pub(super) fn validate_at_most(
    tree: &Value,
    fields: &[&str],
    limit: &str,
    message: &str,
    faults: &mut Faults,
) {
    let at = Path::new("status");
    for field in fields.iter().filter(|field| count(tree, field) > count(tree, limit)) {
        faults.push(FieldError::invalid(at.child(field), count(tree, field), message));
    }
}

/// The fault of a `collisionCount` that goes back.
pub(super) fn validate_collisions(new: &Value, old: &Value, faults: &mut Faults) {
    let collisions = |tree: &Value| tree["status"]["collisionCount"].as_i64();
    let gone_back = match (collisions(new), collisions(old)) {
        (None, Some(_)) => true,
        (Some(new), Some(old)) => new < old,
        (_, None) => false,
    };
    if gone_back {
        let value = collisions(new).unwrap_or(0);
        faults.push(FieldError::invalid("status.collisionCount", value, "cannot be decremented"));
    }
}
