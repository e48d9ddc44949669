//! What the kinds with a pod template share: validation of the template and of the selector over it.

use std::collections::BTreeMap;

use api::json::items;
use api::validation::{Faults, Path, validate_annotations, validate_label_selector, validate_labels};
use api::{FieldError, LabelSelector};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::Value;

use super::pod;

/// A template as its type and as the tree.
#[derive(Clone, Copy)]
pub(super) struct Template<'a> {
    pub(super) typed: &'a PodTemplateSpec,
    pub(super) tree: &'a Value,
}

/// Faults of a template in itself.
pub(super) fn validate(template: Template<'_>, at: &Path<'_>, faults: &mut Faults) {
    validate_metadata(template, at, faults);
    let at = at.child("spec");
    if let Some(spec) = &template.typed.spec {
        pod::spec::validate(spec, &at, faults);
    }
    pod::annotations::validate_match(template.tree, &at, faults);
    if !items(template.tree, "spec.ephemeralContainers").is_empty() {
        let message = "ephemeral containers not allowed in pod template";
        faults.push(FieldError::forbidden(at.child("ephemeralContainers"), message));
    }
}

/// Faults of a template's labels and annotations. Upstream's paths leave `metadata` out here.
pub(super) fn validate_metadata(template: Template<'_>, at: &Path<'_>, faults: &mut Faults) {
    let annotations = at.child("annotations");
    if let Some(meta) = &template.typed.metadata {
        if let Some(labels) = &meta.labels {
            validate_labels(labels, &at.child("labels"), faults);
        }
        if let Some(own) = &meta.annotations {
            validate_annotations(own, &annotations, faults);
        }
    }
    pod::annotations::validate(template.tree, &annotations, faults);
}

/// Faults of a template whose pods are to run for ever; `owner` is the kind.
pub(super) fn validate_lasting(template: Template<'_>, owner: &str, at: &Path<'_>, faults: &mut Faults) {
    let at = at.child("spec");
    let Some(spec) = &template.typed.spec else { return };
    if let Some(policy) = spec.restart_policy.as_deref().filter(|policy| *policy != "Always") {
        faults.push(FieldError::not_supported(at.child("restartPolicy"), policy, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let message = format!("activeDeadlineSeconds in {owner} is not Supported");
        faults.push(FieldError::forbidden(at.child("activeDeadlineSeconds"), message));
    }
}

fn labels<'a>(template: Template<'a>) -> Option<&'a BTreeMap<String, String>> {
    template.typed.metadata.as_ref().and_then(|meta| meta.labels.as_ref())
}

/// The fault of a selector that does not select what the template makes; none selects nothing.
pub(super) fn validate_match(
    selector: Option<&meta::LabelSelector>,
    template: Template<'_>,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    let (labels, none) = (labels(template), BTreeMap::new());
    if !LabelSelector::from_meta(selector).matches(labels.unwrap_or(&none)) {
        let at = at.child("metadata");
        let message = "`selector` does not match template `labels`";
        faults.push(FieldError::invalid(at.child("labels"), labels, message));
    }
}

pub(super) fn is_empty(selector: &meta::LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Faults of a selector that must select something; whether it can be used. `kind` is as upstream's message
/// has it.
pub(super) fn validate_selector(
    selector: Option<&meta::LabelSelector>,
    kind: &str,
    at: &Path<'_>,
    faults: &mut Faults,
) -> bool {
    let Some(selector) = selector else {
        faults.push(FieldError::required(at, ""));
        return true;
    };
    let before = faults.len();
    validate_label_selector(selector, at, faults);
    let usable = faults.len() == before;
    if is_empty(selector) {
        let message = format!("empty selector is invalid for {kind}");
        faults.push(FieldError::invalid(at, selector, message));
    }
    usable
}

/// Faults of selector and template of deployments and replica sets.
pub(super) fn validate_replicated(
    selector: Option<&meta::LabelSelector>,
    template: Template<'_>,
    faults: &mut Faults,
) {
    let at = Path::new("spec");
    let usable = validate_selector(selector, "deployment", &at.child("selector"), faults);
    if !usable {
        let message = "invalid label selector";
        return faults.push(FieldError::invalid(at.child("selector"), selector, message));
    }
    let at = at.child("template");
    validate_match(selector, template, &at, faults);
    validate(template, &at, faults);
    validate_lasting(template, "ReplicaSet", &at, faults);
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

/// Texts about the name of an object whose pods are named after it.
pub(super) fn name_warnings(tree: &Value, old: Option<&Value>, warnings: &mut Vec<String>) {
    if old.is_none() {
        pod::warnings::name(tree, "Pod names and hostnames", warnings);
    }
}

/// Texts about a template that is new or has changed; `at` is the template's path.
pub(super) fn warnings(template: &Value, old: Option<&Value>, at: &str, warnings: &mut Vec<String>) {
    if old != Some(template) {
        pod::warnings::spec(&template["spec"], &format!("{at}.spec"), warnings);
    }
}
