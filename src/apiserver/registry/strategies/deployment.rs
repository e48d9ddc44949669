//! Deployments.

use api::validation::{Faults, Path, percent};
use api::{ApiError, FieldError};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{non_negative, pod_template, typed};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

pub(super) struct Deployments;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let Some(spec) = typed::<DeploymentSpec>(&tree["spec"], &at, &mut faults) else { return faults };
    // A typed selector or template is there even if the object has none.
    let selector = Some(&spec.selector).filter(|_| !tree["spec"]["selector"].is_null());
    let template = Some(&spec.template).filter(|_| !tree["spec"]["template"].is_null());
    non_negative(&mut faults, &at.child("replicas"), i64::from(spec.replicas.unwrap_or(0)));
    pod_template::validate(selector, template, &mut faults);
    if let Some(strategy) = &spec.strategy {
        validate_strategy(strategy, &at.child("strategy"), &mut faults);
    }
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    non_negative(&mut faults, &at.child("minReadySeconds"), i64::from(min_ready));
    if let Some(limit) = spec.revision_history_limit {
        non_negative(&mut faults, &at.child("revisionHistoryLimit"), i64::from(limit));
    }
    if let Some(deadline) = spec.progress_deadline_seconds {
        non_negative(&mut faults, &at.child("progressDeadlineSeconds"), i64::from(deadline));
        if deadline <= min_ready {
            let message = "must be greater than minReadySeconds";
            faults.push(FieldError::invalid(at.child("progressDeadlineSeconds"), deadline, message));
        }
    }
    faults
}

fn validate_strategy(strategy: &DeploymentStrategy, at: &Path<'_>, faults: &mut Faults) {
    match strategy.type_.as_deref().unwrap_or("") {
        "Recreate" => {
            if strategy.rolling_update.is_some() {
                let message = "may not be specified when strategy `type` is 'Recreate'";
                faults.push(FieldError::forbidden(at.child("rollingUpdate"), message));
            }
        }
        "RollingUpdate" => {
            let at = at.child("rollingUpdate");
            let Some(update) = &strategy.rolling_update else {
                let message = "this should be defaulted and never be nil";
                return faults.push(FieldError::required(at, message));
            };
            let unavailable =
                validate_amount(update.max_unavailable.as_ref(), &at.child("maxUnavailable"), faults);
            let surge = validate_amount(update.max_surge.as_ref(), &at.child("maxSurge"), faults);
            if unavailable == Some(0) && surge == Some(0) {
                let message = "may not be 0 when `maxSurge` is 0";
                faults.push(FieldError::invalid(
                    at.child("maxUnavailable"),
                    &update.max_unavailable,
                    message,
                ));
            }
            if matches!(&update.max_unavailable, Some(IntOrString::String(_)))
                && unavailable.is_some_and(|one| one > 100)
            {
                let message = "must not be greater than 100%";
                faults.push(FieldError::invalid(
                    at.child("maxUnavailable"),
                    &update.max_unavailable,
                    message,
                ));
            }
        }
        other => {
            let kinds = ["Recreate", "RollingUpdate"];
            faults.push(FieldError::not_supported(at.child("type"), other, &kinds));
        }
    }
}

/// A count or a percentage; its number if it is good.
fn validate_amount(amount: Option<&IntOrString>, at: &Path<'_>, faults: &mut Faults) -> Option<i64> {
    match amount? {
        IntOrString::Int(count) => {
            non_negative(faults, at, i64::from(*count));
            Some(i64::from(*count))
        }
        IntOrString::String(text) => {
            let messages = percent(text);
            if !messages.is_empty() {
                let message = format!("must be an integer or percentage (e.g '5%'): {}", messages.join(", "));
                faults.push(FieldError::invalid(at, text, message));
                return None;
            }
            text.trim_end_matches('%').parse().ok()
        }
    }
}

impl Strategy for Deployments {
    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        // Whose pods they are hangs on labels: a status does not change them.
        if ctx.subresource == Some("status")
            && let Some(metadata) = new.get_mut("metadata")
        {
            super::keep(metadata, &old["metadata"], "labels");
        }
        Ok(())
    }

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

    fn columns(&self) -> &'static [Column] {
        printers::apps::DEPLOYMENT
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::apps::deployment(tree, now)
    }
}

fn status(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("status");
    let count = |field: &str| printers::number(&tree["status"], field);
    for field in [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
    ] {
        non_negative(&mut faults, &at.child(field), count(field));
    }
    let message = "cannot be greater than status.replicas";
    for field in ["updatedReplicas", "readyReplicas", "availableReplicas"] {
        if count(field) > count("replicas") {
            faults.push(FieldError::invalid(at.child(field), count(field), message));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let message = "cannot be greater than readyReplicas";
        faults.push(FieldError::invalid(at.child("availableReplicas"), count("availableReplicas"), message));
    }
    faults
}
