//! Replica sets.

use api::FieldError;
use api::validation::{Faults, Path};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSetSpec;
use serde_json::Value;

use super::{non_negative, pod_template, typed};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

pub(super) struct ReplicaSets;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let Some(spec) = typed::<ReplicaSetSpec>(&tree["spec"], &at, &mut faults) else { return faults };
    let selector = Some(&spec.selector).filter(|_| !tree["spec"]["selector"].is_null());
    non_negative(&mut faults, &at.child("replicas"), i64::from(spec.replicas.unwrap_or(0)));
    non_negative(&mut faults, &at.child("minReadySeconds"), i64::from(spec.min_ready_seconds.unwrap_or(0)));
    pod_template::validate(selector, spec.template.as_ref(), &mut faults);
    faults
}

fn status(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("status");
    let count = |field: &str| printers::number(&tree["status"], field);
    for field in
        ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"]
    {
        non_negative(&mut faults, &at.child(field), count(field));
    }
    for field in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        if count(field) > count("replicas") {
            let message = "cannot be greater than status.replicas";
            faults.push(FieldError::invalid(at.child(field), count(field), message));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let message = "cannot be greater than readyReplicas";
        faults.push(FieldError::invalid(at.child("availableReplicas"), count("availableReplicas"), message));
    }
    faults
}

impl Strategy for ReplicaSets {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource == Some("status") {
            return status(new);
        }
        let mut faults = validate(new);
        pod_template::immutable_selector(new, old, &mut faults);
        faults
    }

    fn warnings(&self, ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        pod_template::warnings(ctx, tree, old)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&["status.replicas"])
    }

    fn columns(&self) -> &'static [Column] {
        printers::apps::REPLICA_SET
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::apps::replica_set(tree, now)
    }
}
