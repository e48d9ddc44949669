//! What the kinds with a pod template share: validation of the template, and of the selector over it.

use std::collections::BTreeMap;

use api::validation::{Faults, Path, validate_annotations, validate_label_selector, validate_labels};
use api::{FieldError, LabelSelector};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::Value;

use super::pod;
use crate::strategy::RequestContext;

/// Faults of selector and template of a kind that keeps its pods running.
pub(super) fn validate(
    selector: Option<&meta::LabelSelector>,
    template: Option<&PodTemplateSpec>,
    faults: &mut Faults,
) {
    let at = Path::new("spec");
    let labels =
        template.and_then(|template| template.metadata.as_ref()).and_then(|meta| meta.labels.as_ref());
    validate_selector(selector, labels, &at, faults);
    let at = at.child("template");
    let Some(template) = template else { return faults.push(FieldError::required(at, "")) };
    if let Some(meta) = &template.metadata {
        let at = at.child("metadata");
        if let Some(labels) = &meta.labels {
            validate_labels(labels, &at.child("labels"), faults);
        }
        if let Some(annotations) = &meta.annotations {
            validate_annotations(annotations, &at.child("annotations"), faults);
        }
    }
    let at = at.child("spec");
    let spec = template.spec.clone().unwrap_or_default();
    pod::spec::validate(&spec, &at, faults);
    if let Some(policy) = spec.restart_policy.as_deref().filter(|policy| *policy != "Always") {
        faults.push(FieldError::not_supported(at.child("restartPolicy"), policy, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        faults.push(FieldError::forbidden(
            at.child("activeDeadlineSeconds"),
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        ));
    }
}

fn validate_selector(
    selector: Option<&meta::LabelSelector>,
    labels: Option<&BTreeMap<String, String>>,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    let at_selector = at.child("selector");
    let before = faults.len();
    let empty = selector.is_none_or(|one| {
        one.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && one.match_expressions.as_ref().is_none_or(Vec::is_empty)
    });
    match selector {
        None => faults.push(FieldError::required(at_selector, "")),
        Some(selector) => {
            validate_label_selector(selector, &at_selector, faults);
            if empty {
                faults.push(FieldError::invalid(
                    at_selector,
                    selector,
                    "empty selector is invalid for deployment",
                ));
            }
        }
    }
    if faults.len() > before {
        return;
    }
    let none = BTreeMap::new();
    let labels = labels.unwrap_or(&none);
    if !LabelSelector::from_meta(selector).matches(labels) {
        let at = at.child("template");
        let at = at.child("metadata");
        let message = "`selector` does not match template `labels`";
        faults.push(FieldError::invalid(at.child("labels"), labels, message));
    }
}

/// The selector decides whose pods they are: it does not change.
pub(super) fn immutable_selector(new: &Value, old: &Value, faults: &mut Faults) {
    let at = Path::new("spec");
    api::validation::immutable(
        faults,
        &at.child("selector"),
        &new["spec"]["selector"],
        &old["spec"]["selector"],
    );
}

/// Texts about a new name and a new template.
pub(super) fn warnings(ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() {
        pod::warnings::name(tree, "Pod names and hostnames", &mut warnings);
    }
    let template = &tree["spec"]["template"];
    if ctx.subresource.is_none() && old.is_none_or(|old| old["spec"]["template"] != *template) {
        pod::warnings::spec(&template["spec"], "spec.template.spec", &mut warnings);
    }
    warnings
}
