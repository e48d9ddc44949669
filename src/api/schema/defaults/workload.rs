//! Defaults of the workload kinds that depend on their strategy or on other fields.

use serde_json::{Map, Value, json};

use super::{Object, object, set, text};

/// A rolling update by a quarter each way. `strategy` itself is always there.
pub(super) fn deployment_strategy(strategy: &mut Object) {
    set(strategy, "type", || json!("RollingUpdate"));
    if text(strategy, "type") != "RollingUpdate" {
        return;
    }
    if let Some(rolling) = object(strategy, "rollingUpdate") {
        set(rolling, "maxUnavailable", || json!("25%"));
        set(rolling, "maxSurge", || json!("25%"));
    }
}

pub(super) fn daemon_set(spec: &mut Object) {
    let Some(strategy) = object(spec, "updateStrategy") else { return };
    set(strategy, "type", || json!("RollingUpdate"));
    if text(strategy, "type") != "RollingUpdate" {
        return;
    }
    if let Some(rolling) = object(strategy, "rollingUpdate") {
        set(rolling, "maxUnavailable", || json!(1));
        set(rolling, "maxSurge", || json!(0));
    }
}

pub(super) fn stateful_set(spec: &mut Object) {
    let Some(strategy) = object(spec, "updateStrategy") else { return };
    set(strategy, "type", || json!("RollingUpdate"));
    if text(strategy, "type") != "RollingUpdate" {
        return;
    }
    if let Some(rolling) = object(strategy, "rollingUpdate") {
        set(rolling, "partition", || json!(0));
    }
}

/// Labels and selector of the template serve for the controller itself where it has none.
pub(super) fn replication_controller(controller: &mut Object) {
    let labels = controller.get("spec").and_then(|spec| spec.pointer("/template/metadata/labels"));
    let Some(labels) = labels.and_then(Value::as_object).filter(|labels| !labels.is_empty()).cloned() else {
        return;
    };
    if let Some(spec) = controller.get_mut("spec").and_then(Value::as_object_mut) {
        set(spec, "selector", || Value::Object(labels.clone()));
    }
    if let Some(metadata) = object(controller, "metadata") {
        set(metadata, "labels", || Value::Object(labels));
    }
}

pub(super) fn job(job: &mut Object) {
    let labels = job.get("spec").and_then(|spec| spec.pointer("/template/metadata/labels")).cloned();
    if let Some(spec) = job.get_mut("spec").and_then(Value::as_object_mut) {
        job_spec(spec);
    }
    if let (Some(labels), Some(metadata)) = (labels, object(job, "metadata")) {
        set(metadata, "labels", || labels);
    }
}

fn job_spec(spec: &mut Object) {
    let absent = |spec: &Map<String, Value>, name: &str| spec.get(name).is_none_or(Value::is_null);
    // Neither given means one pod once; a given parallelism alone means a work queue.
    if absent(spec, "completions") && absent(spec, "parallelism") {
        set(spec, "completions", || json!(1));
    }
    set(spec, "parallelism", || json!(1));
    let per_index = !absent(spec, "backoffLimitPerIndex");
    set(spec, "backoffLimit", || if per_index { json!(i32::MAX) } else { json!(6) });
    set(spec, "completionMode", || json!("NonIndexed"));
    set(spec, "suspend", || json!(false));
    let policy = if absent(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    set(spec, "podReplacementPolicy", || json!(policy));
    set(spec, "manualSelector", || json!(false));
}
