//! Replication controllers.

use std::borrow::Cow;

use api::FieldError;
use api::validation::{Faults, Path};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ReplicationControllerSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::pod_template::{self, Template};
use super::{count, non_negative, rollout, typed};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

/// Annotations in which an older conversion kept what it could not convert.
const NON_CONVERTIBLE: &str = "non-convertible.kubernetes.io/";

pub(super) struct ReplicationControllers;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let Some(spec) = typed::<ReplicationControllerSpec>(&tree["spec"], &at, &mut faults) else {
        return faults;
    };
    non_negative(&mut faults, &at.child("minReadySeconds"), i64::from(spec.min_ready_seconds.unwrap_or(0)));
    let selector = spec.selector.filter(|selector| !selector.is_empty());
    if selector.is_none() {
        faults.push(FieldError::required(at.child("selector"), ""));
    }
    match spec.replicas {
        None => faults.push(FieldError::required(at.child("replicas"), "")),
        Some(replicas) => non_negative(&mut faults, &at.child("replicas"), i64::from(replicas)),
    }
    let at = at.child("template");
    let Some(template) = &spec.template else {
        faults.push(FieldError::required(at, ""));
        return faults;
    };
    let template = Template { typed: template, tree: &tree["spec"]["template"] };
    if selector.is_some() {
        let selector = LabelSelector { match_labels: selector, match_expressions: None };
        pod_template::validate_match(Some(&selector), template, &at, &mut faults);
    }
    pod_template::validate(template, &at, &mut faults);
    pod_template::validate_lasting(template, "ReplicationController", &at, &mut faults);
    faults
}

fn validate_non_convertible(new: &Value, old: &Value, faults: &mut Faults) {
    for (key, value) in old["metadata"]["annotations"].as_object().into_iter().flatten() {
        let Some(broken) = key.strip_prefix(NON_CONVERTIBLE).filter(|broken| !broken.contains('/')) else {
            continue;
        };
        let (selector, before) = (&new["spec"]["selector"], &old["spec"]["selector"]);
        if !broken.contains("selector") {
            let mut fault = FieldError::not_found(broken, value);
            fault.detail = "unknown non-convertible field".into();
            faults.push(fault);
        } else if selector != before {
            let message = "cannot update non-convertible selector";
            faults.push(FieldError::invalid("spec.selector", selector, message));
        }
    }
}

impl Strategy for ReplicationControllers {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource == Some("status") {
            return rollout::validate_replica_status(new, &[]);
        }
        let mut faults = validate(new);
        validate_non_convertible(new, old, &mut faults);
        faults
    }

    fn warnings(&self, ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        rollout::warnings(ctx, tree, old)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&["status.replicas"])
    }

    fn field_value<'a>(&self, tree: &'a Value, path: &str) -> Cow<'a, str> {
        count(tree, path)
    }

    fn columns(&self) -> &'static [Column] {
        printers::core::REPLICATION_CONTROLLER
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::core::replication_controller(tree, now)
    }
}
