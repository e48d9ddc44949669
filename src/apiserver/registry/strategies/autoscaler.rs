//! Autoscalers, in both of their versions. Faults are found in the form of v2, as upstream's are.

mod metrics;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use api::quantity::Quantity;
use api::validation::{Faults, Path, invalid_each, path_segment};
use api::{ApiError, FieldError};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingRules, HorizontalPodAutoscalerSpec,
};
use serde_json::Value;

use super::{rollout, typed};
use crate::printers::{self, text};
use crate::registry::conversion::autoscalers::{OF_SPEC, OF_STATUS, V1, to_v2};
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const MAX_PERIOD: i32 = 1800;
const MAX_WINDOW: i32 = 3600;
const SELECT_POLICIES: [&str; 3] = ["Disabled", "Max", "Min"];
const POLICY_TYPES: [&str; 2] = ["Percent", "Pods"];

pub(super) struct Autoscalers;

/// The object in the form of v2.
fn in_v2(tree: &Value) -> Cow<'_, Value> {
    if text(tree, "apiVersion") == V1 { Cow::Owned(to_v2(tree.clone())) } else { Cow::Borrowed(tree) }
}

/// What a reference to another object may leave out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Needed,
    /// It may be the core group.
    Optional,
    /// It was wrong before.
    Unchecked,
}

fn validate(tree: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let Some(spec) = typed::<HorizontalPodAutoscalerSpec>(&tree["spec"], &at, &mut faults) else {
        return faults;
    };
    // Down to no pods is a feature that is off: who has it keeps it.
    let had_none = old.is_some_and(|old| old["spec"]["minReplicas"] == 0);
    let least = i32::from(!had_none);
    if let Some(min) = spec.min_replicas.filter(|min| *min < least) {
        let message = format!("must be greater than or equal to {least}");
        faults.push(FieldError::invalid(at.child("minReplicas"), min, message));
    }
    match spec.max_replicas {
        0 => {
            let message = "must be set and greater than 0";
            faults.push(FieldError::required(at.child("maxReplicas"), message));
        }
        max @ ..0 => {
            let message = "must be greater than or equal to 1";
            faults.push(FieldError::invalid(at.child("maxReplicas"), max, message));
        }
        _ => {}
    }
    if spec.min_replicas.is_some_and(|min| spec.max_replicas < min) {
        let message = "must be greater than or equal to `minReplicas`";
        faults.push(FieldError::invalid(at.child("maxReplicas"), spec.max_replicas, message));
    }
    let target = &spec.scale_target_ref;
    let same = |old: &Value| {
        ["apiVersion", "kind"].iter().all(|field| {
            text(&old["spec"]["scaleTargetRef"], field) == text(&tree["spec"]["scaleTargetRef"], field)
        })
    };
    let group = match old {
        Some(old) if same(old) => Group::Unchecked,
        _ if target.kind == "ReplicationController" => Group::Optional,
        _ => Group::Needed,
    };
    validate_reference(target, group, &at.child("scaleTargetRef"), &mut faults);
    let group = old.map_or(Group::Optional, group_of_metrics);
    let list = spec.metrics.as_deref().unwrap_or(&[]);
    metrics::validate(list, spec.min_replicas, group, &at.child("metrics"), &mut faults);
    if let Some(behavior) = &spec.behavior {
        let at = at.child("behavior");
        validate_rules(behavior.scale_up.as_ref(), &at.child("scaleUp"), &mut faults);
        validate_rules(behavior.scale_down.as_ref(), &at.child("scaleDown"), &mut faults);
    }
    faults
}

/// How references of metrics are looked at, by those that were there before.
fn group_of_metrics(old: &Value) -> Group {
    let wrong = printers::items(old, "spec.metrics").iter().any(|metric| {
        metric["type"] == "Object"
            && group_fault(text(metric, "object.describedObject.apiVersion"), Group::Optional).is_some()
    });
    if wrong { Group::Unchecked } else { Group::Optional }
}

fn group_fault(version: &str, group: Group) -> Option<String> {
    match version.matches('/').count() {
        _ if group == Group::Unchecked => None,
        2.. => Some(format!("unexpected GroupVersion string: {version}")),
        1 if !version.starts_with('/') => None,
        _ if group == Group::Optional => None,
        _ => Some("apiVersion must specify API group".to_string()),
    }
}

fn validate_reference(
    reference: &CrossVersionObjectReference,
    group: Group,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    for (field, value) in [("kind", &reference.kind), ("name", &reference.name)] {
        match value.as_str() {
            "" => faults.push(FieldError::required(at.child(field), "")),
            value => invalid_each(faults, &at.child(field), value, path_segment(value)),
        }
    }
    let version = reference.api_version.as_deref().unwrap_or("");
    if let Some(message) = group_fault(version, group) {
        faults.push(FieldError::invalid(at.child("apiVersion"), version, message));
    }
}

fn validate_rules(rules: Option<&HPAScalingRules>, at: &Path<'_>, faults: &mut Faults) {
    let Some(rules) = rules else { return };
    let at_window = at.child("stabilizationWindowSeconds");
    match rules.stabilization_window_seconds {
        Some(seconds @ ..0) => {
            let message = "must be greater than or equal to zero";
            faults.push(FieldError::invalid(at_window, seconds, message));
        }
        Some(seconds) if seconds > MAX_WINDOW => {
            let message = format!("must be less than or equal to {MAX_WINDOW}");
            faults.push(FieldError::invalid(at_window, seconds, message));
        }
        _ => {}
    }
    if let Some(policy) = rules.select_policy.as_deref().filter(|one| !SELECT_POLICIES.contains(one)) {
        faults.push(FieldError::not_supported(at.child("selectPolicy"), policy, &SELECT_POLICIES));
    }
    let policies = rules.policies.as_deref().unwrap_or(&[]);
    let list = at.child("policies");
    if policies.is_empty() {
        faults.push(FieldError::required(list, "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        let at = list.index(index);
        if !POLICY_TYPES.contains(&policy.type_.as_str()) {
            faults.push(FieldError::not_supported(at.child("type"), &policy.type_, &POLICY_TYPES));
        }
        for (field, value) in [("value", policy.value), ("periodSeconds", policy.period_seconds)] {
            if value <= 0 {
                faults.push(FieldError::invalid(at.child(field), value, "must be greater than zero"));
            }
        }
        if policy.period_seconds > MAX_PERIOD {
            let message = format!("must be less than or equal to {MAX_PERIOD}");
            faults.push(FieldError::invalid(at.child("periodSeconds"), policy.period_seconds, message));
        }
    }
    let negative = |text: &str| text.parse::<Quantity>().is_ok_and(|quantity| quantity < Quantity::ZERO);
    if let Some(tolerance) = rules.tolerance.as_ref().filter(|tolerance| negative(&tolerance.0)) {
        let message = "must be greater than or equal to 0";
        faults.push(FieldError::invalid(at.child("tolerance"), &tolerance.0, message));
    }
}

/// Puts back annotations of the conversion, which a v1 object has parts of its spec and status in.
fn keep_annotations(new: &mut Value, old: Option<&Value>, names: &[&str]) {
    let Some(metadata) = super::object(new, "metadata") else { return };
    if metadata.get("annotations").is_none_or(Value::is_null) {
        metadata.insert("annotations".into(), Value::Object(serde_json::Map::new()));
    }
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    for name in names {
        match old.and_then(|old| old["metadata"]["annotations"].get(*name)) {
            Some(value) => annotations.insert((*name).into(), value.clone()),
            None => annotations.remove(*name),
        };
    }
}

impl Strategy for Autoscalers {
    fn prepare_for_create(&self, ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        if ctx.row.version == "v1" {
            keep_annotations(tree, None, &OF_STATUS);
        }
        Ok(())
    }

    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        if ctx.row.version == "v1" {
            let kept = if ctx.subresource == Some("status") { &OF_SPEC } else { &OF_STATUS };
            keep_annotations(new, Some(old), kept);
        }
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(&in_v2(tree), None)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource == Some("status") {
            let mut faults = Faults::new();
            rollout::validate_counts(new, &["currentReplicas", "desiredReplicas"], &mut faults);
            return faults;
        }
        validate(&in_v2(new), Some(&in_v2(old)))
    }

    fn columns(&self) -> &'static [Column] {
        printers::autoscaling::AUTOSCALER
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::autoscaling::autoscaler(&in_v2(tree), now)
    }
}
