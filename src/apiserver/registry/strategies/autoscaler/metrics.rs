//! Faults of what an autoscaler goes by.

use api::FieldError;
use api::quantity::Quantity;
use api::validation::{Faults, Path, dns1123_label, invalid_each, path_segment, qualified_name};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, ExternalMetricSource, MetricIdentifier, MetricSpec, MetricTarget,
    ObjectMetricSource, PodsMetricSource, ResourceMetricSource,
};

use super::{Group, validate_reference};

const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
const TARGETS: [&str; 3] = ["Utilization", "Value", "AverageValue"];
const STANDARD: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

pub(super) fn validate(
    metrics: &[MetricSpec],
    min_replicas: Option<i32>,
    group: Group,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    for (index, metric) in metrics.iter().enumerate() {
        validate_metric(metric, group, &at.index(index), faults);
    }
    let outside = metrics.iter().any(|metric| matches!(metric.type_.as_str(), "Object" | "External"));
    if min_replicas == Some(0) && !outside {
        let message =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        faults.push(FieldError::forbidden(at, message));
    }
}

fn validate_metric(metric: &MetricSpec, group: Group, at: &Path<'_>, faults: &mut Faults) {
    if metric.type_.is_empty() {
        faults.push(FieldError::required(at.child("type"), "must specify a metric source type"));
    }
    if !TYPES.contains(&metric.type_.as_str()) {
        faults.push(FieldError::not_supported(at.child("type"), &metric.type_, &TYPES));
    }
    // The first source is checked if there are several.
    let mut present = Vec::new();
    let mut is_first = |name: &'static str, is_there: bool| {
        if is_there {
            present.push(name);
        }
        is_there && present.len() == 1
    };
    if let Some(source) = metric.object.as_ref().filter(|_| is_first("object", true)) {
        validate_object(source, group, &at.child("object"), faults);
    }
    if let Some(source) = metric.external.as_ref().filter(|_| is_first("external", true)) {
        validate_external(source, &at.child("external"), faults);
    }
    if let Some(source) = metric.pods.as_ref().filter(|_| is_first("pods", true)) {
        validate_pods(source, &at.child("pods"), faults);
    }
    if let Some(source) = metric.resource.as_ref().filter(|_| is_first("resource", true)) {
        validate_resource(source, &at.child("resource"), faults);
    }
    if let Some(source) = metric.container_resource.as_ref().filter(|_| is_first("containerResource", true)) {
        validate_container(source, &at.child("containerResource"), faults);
    }
    let expected = match metric.type_.as_str() {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "External" => "external",
        "ContainerResource" => "containerResource",
        _ => "",
    };
    if !expected.is_empty() && !present.contains(&expected) {
        let message = "must populate information for the given metric source";
        faults.push(FieldError::required(at.child(expected), message));
    }
    if present.len() != 1 {
        for other in present.into_iter().filter(|name| *name != expected) {
            faults.push(FieldError::forbidden(at.child(other), "must populate the given metric source only"));
        }
    }
}

fn validate_object(source: &ObjectMetricSource, group: Group, at: &Path<'_>, faults: &mut Faults) {
    validate_reference(&source.described_object, group, &at.child("describedObject"), faults);
    validate_identifier(&source.metric, &at.child("metric"), faults);
    let (target, at) = (&source.target, at.child("target"));
    validate_target(target, &at, faults);
    if target.value.is_none() && target.average_value.is_none() {
        let message = "must set either a target value or averageValue";
        faults.push(FieldError::required(at.child("averageValue"), message));
    }
}

fn validate_external(source: &ExternalMetricSource, at: &Path<'_>, faults: &mut Faults) {
    validate_identifier(&source.metric, &at.child("metric"), faults);
    let (target, at) = (&source.target, at.child("target"));
    validate_target(target, &at, faults);
    match (target.value.is_some(), target.average_value.is_some()) {
        (false, false) => {
            let message = "must set either a target value for metric or a per-pod target";
            faults.push(FieldError::required(at.child("averageValue"), message));
        }
        (true, true) => {
            let message = "may not set both a target value for metric and a per-pod target";
            faults.push(FieldError::forbidden(at.child("value"), message));
        }
        _ => {}
    }
}

fn validate_pods(source: &PodsMetricSource, at: &Path<'_>, faults: &mut Faults) {
    validate_identifier(&source.metric, &at.child("metric"), faults);
    let at = at.child("target");
    validate_target(&source.target, &at, faults);
    if source.target.average_value.is_none() {
        let message = "must specify a positive target averageValue";
        faults.push(FieldError::required(at.child("averageValue"), message));
    }
}

fn validate_resource(source: &ResourceMetricSource, at: &Path<'_>, faults: &mut Faults) {
    if source.name.is_empty() {
        faults.push(FieldError::required(at.child("name"), "must specify a resource name"));
    }
    validate_usage(&source.target, &at.child("target"), faults);
}

fn validate_container(source: &ContainerResourceMetricSource, at: &Path<'_>, faults: &mut Faults) {
    match source.name.as_str() {
        "" => faults.push(FieldError::required(at.child("name"), "must specify a resource name")),
        name => {
            invalid_each(faults, &at.child("name"), name, qualified_name(name));
            if !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with("hugepages-") {
                let message = "must be a standard resource for containers";
                faults.push(FieldError::invalid(at.child("name"), name, message));
            }
        }
    }
    match source.container.as_str() {
        "" => faults.push(FieldError::required(at.child("container"), "must specify a container")),
        name => invalid_each(faults, &at.child("container"), name, dns1123_label(name)),
    }
    validate_usage(&source.target, &at.child("target"), faults);
}

/// A target of what pods use: an amount or a share of what they ask for.
fn validate_usage(target: &MetricTarget, at: &Path<'_>, faults: &mut Faults) {
    validate_target(target, at, faults);
    match (target.average_utilization.is_some(), target.average_value.is_some()) {
        (false, false) => {
            let message = "must set either a target raw value or a target utilization";
            faults.push(FieldError::required(at.child("averageUtilization"), message));
        }
        (true, true) => {
            let message = "may not set both a target raw value and a target utilization";
            faults.push(FieldError::forbidden(at.child("averageValue"), message));
        }
        _ => {}
    }
}

fn validate_target(target: &MetricTarget, at: &Path<'_>, faults: &mut Faults) {
    if target.type_.is_empty() {
        faults.push(FieldError::required(at.child("type"), "must specify a metric target type"));
    }
    if !TARGETS.contains(&target.type_.as_str()) {
        let message = "must be either Utilization, Value, or AverageValue";
        faults.push(FieldError::invalid(at.child("type"), &target.type_, message));
    }
    for (field, value) in [("value", &target.value), ("averageValue", &target.average_value)] {
        let Some(value) = value else { continue };
        if value.0.parse::<Quantity>().is_ok_and(|quantity| quantity <= Quantity::ZERO) {
            faults.push(FieldError::invalid(at.child(field), &value.0, "must be positive"));
        }
    }
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        faults.push(FieldError::invalid(at.child("averageUtilization"), percent, "must be greater than 0"));
    }
}

fn validate_identifier(metric: &MetricIdentifier, at: &Path<'_>, faults: &mut Faults) {
    match metric.name.as_str() {
        "" => faults.push(FieldError::required(at.child("name"), "must specify a metric name")),
        name => invalid_each(faults, &at.child("name"), name, path_segment(name)),
    }
}
