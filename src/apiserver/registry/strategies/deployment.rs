//! Deployments.

use api::validation::{Faults, Path};
use api::{ApiError, FieldError};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use serde_json::{Value, json};

use super::pod_template::{self, Template};
use super::{non_negative, rollout, typed};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

pub(super) struct Deployments;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let Some(spec) = typed::<DeploymentSpec>(&tree["spec"], &at, &mut faults) else { return faults };
    // A typed selector or template is there even if the object has none.
    let selector = Some(&spec.selector).filter(|_| !tree["spec"]["selector"].is_null());
    let template = Template { typed: &spec.template, tree: &tree["spec"]["template"] };
    non_negative(&mut faults, &at.child("replicas"), i64::from(spec.replicas.unwrap_or(0)));
    pod_template::validate_replicated(selector, template, &mut faults);
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
            match &strategy.rolling_update {
                Some(update) => validate_rolling_update(update, &at, faults),
                None => {
                    let message = "this should be defaulted and never be nil";
                    faults.push(FieldError::required(at, message));
                }
            }
        }
        other => {
            // As upstream prints its own form of it.
            let printed = json!({"Type": other, "RollingUpdate": strategy.rolling_update});
            faults.push(FieldError::not_supported(at, printed, &["Recreate", "RollingUpdate"]));
        }
    }
}

fn validate_rolling_update(update: &RollingUpdateDeployment, at: &Path<'_>, faults: &mut Faults) {
    let (unavailable, surge) = (update.max_unavailable.as_ref(), update.max_surge.as_ref());
    let at_unavailable = at.child("maxUnavailable");
    rollout::validate_amount(unavailable, &at_unavailable, faults);
    rollout::validate_amount(surge, &at.child("maxSurge"), faults);
    if rollout::number(unavailable) == 0 && rollout::number(surge) == 0 {
        let message = "may not be 0 when `maxSurge` is 0";
        faults.push(FieldError::invalid(at_unavailable, unavailable, message));
    }
    rollout::validate_at_most_all(unavailable, &at_unavailable, faults);
}

impl Strategy for Deployments {
    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        // Labels say which pods belong to which deployment, so a status does not change them.
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
            return status(new, old);
        }
        let mut faults = validate(new);
        pod_template::immutable_selector(new, old, &mut faults);
        faults
    }

    fn warnings(&self, ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        rollout::warnings(ctx, tree, old)
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

fn status(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    let counts = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    rollout::validate_counts(new, &counts, &mut faults);
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    rollout::validate_at_most(new, &parts, "replicas", "cannot be greater than status.replicas", &mut faults);
    let message = "cannot be greater than readyReplicas";
    rollout::validate_at_most(new, &["availableReplicas"], "readyReplicas", message, &mut faults);
    rollout::validate_collisions(new, old, &mut faults);
    faults
}
