//! Daemon sets.
//!
//! Their templates are counted in an annotation: clients of versions long gone followed a roll-out by it, and
//! upstream keeps it.

use api::validation::{Faults, Path, validate_label_selector};
use api::{ApiError, FieldError};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use serde_json::{Value, json};

use super::pod_template::{self, Template};
use super::{non_negative, rollout, typed};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

/// How often the template has changed.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) struct DaemonSets;

fn template_generation(tree: &Value) -> Option<i64> {
    tree["metadata"]["annotations"][TEMPLATE_GENERATION].as_str()?.parse().ok()
}

fn set_template_generation(tree: &mut Value, generation: i64) {
    if !tree["metadata"]["annotations"].is_object() {
        tree["metadata"]["annotations"] = json!({});
    }
    tree["metadata"]["annotations"][TEMPLATE_GENERATION] = json!(generation.to_string());
}

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let Some(spec) = typed::<DaemonSetSpec>(&tree["spec"], &at, &mut faults) else { return faults };
    let selector = Some(&spec.selector).filter(|_| !tree["spec"]["selector"].is_null());
    let template = Template { typed: &spec.template, tree: &tree["spec"]["template"] };
    let (at_selector, at_template) = (at.child("selector"), at.child("template"));
    let before = faults.len();
    if let Some(selector) = selector {
        validate_label_selector(selector, &at_selector, &mut faults);
    }
    if faults.len() == before {
        pod_template::validate_match(selector, template, &at_template, &mut faults);
    }
    if let Some(selector) = selector.filter(|selector| pod_template::is_empty(selector)) {
        let message = "empty selector is invalid for daemonset";
        faults.push(FieldError::invalid(at_selector, selector, message));
    }
    pod_template::validate(template, &at_template, &mut faults);
    pod_template::validate_lasting(template, "DaemonSet", &at_template, &mut faults);
    non_negative(&mut faults, &at.child("minReadySeconds"), i64::from(spec.min_ready_seconds.unwrap_or(0)));
    validate_strategy(spec.update_strategy.as_ref(), &at.child("updateStrategy"), &mut faults);
    if let Some(limit) = spec.revision_history_limit {
        non_negative(&mut faults, &at.child("revisionHistoryLimit"), i64::from(limit));
    }
    faults
}

fn validate_strategy(strategy: Option<&DaemonSetUpdateStrategy>, at: &Path<'_>, faults: &mut Faults) {
    let update = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    match strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("") {
        "OnDelete" => {}
        "RollingUpdate" => match update {
            None => faults.push(FieldError::required(at.child("rollingUpdate"), "")),
            Some(update) => validate_rolling_update(update, &at.child("rollingUpdate"), faults),
        },
        other => {
            let update = update.map(
                |update| json!({"MaxUnavailable": update.max_unavailable, "MaxSurge": update.max_surge}),
            );
            let printed = json!({"Type": other, "RollingUpdate": update});
            faults.push(FieldError::not_supported(at, printed, &["RollingUpdate", "OnDelete"]));
        }
    }
}

fn validate_rolling_update(update: &RollingUpdateDaemonSet, at: &Path<'_>, faults: &mut Faults) {
    let (unavailable, surge) = (update.max_unavailable.as_ref(), update.max_surge.as_ref());
    let (at_unavailable, at_surge) = (at.child("maxUnavailable"), at.child("maxSurge"));
    rollout::validate_amount(unavailable, &at_unavailable, faults);
    rollout::validate_amount(surge, &at_surge, faults);
    rollout::validate_at_most_all(unavailable, &at_unavailable, faults);
    rollout::validate_at_most_all(surge, &at_surge, faults);
    match (rollout::number(unavailable) != 0, rollout::number(surge) != 0) {
        (true, true) => {
            let message = "may not be set when maxUnavailable is non-zero";
            faults.push(FieldError::invalid(at_surge, surge, message));
        }
        (false, false) => {
            faults.push(FieldError::required(at_unavailable, "cannot be 0 when maxSurge is 0"));
        }
        _ => {}
    }
}

fn validate_status(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    let counts = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    rollout::validate_counts(new, &counts, &mut faults);
    rollout::validate_collisions(new, old, &mut faults);
    faults
}

impl Strategy for DaemonSets {
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        let generation = template_generation(tree).unwrap_or(0).max(1);
        set_template_generation(tree, generation);
        Ok(())
    }

    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        if ctx.subresource == Some("status") {
            return Ok(());
        }
        let generation = template_generation(old).unwrap_or(0);
        let changed = new["spec"]["template"] != old["spec"]["template"];
        set_template_generation(new, generation + i64::from(changed));
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource == Some("status") {
            return validate_status(new, old);
        }
        let mut faults = Faults::new();
        pod_template::immutable_selector(new, old, &mut faults);
        faults.extend(validate(new));
        faults
    }

    fn warnings(&self, ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        rollout::template_warnings(ctx, tree, old)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        printers::apps::DAEMON_SET
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::apps::daemon_set(tree, now)
    }
}
