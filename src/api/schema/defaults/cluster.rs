//! Defaults of what administrators and drivers write: limit ranges, network policies, flow control, devices.

use serde_json::{Value, json};

use super::{Object, set, text};

/// What containers get that say nothing: the limit is the maximum, the request the limit, else the minimum.
pub(super) fn limit_range_item(item: &mut Object) {
    if text(item, "type") != "Container" {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let Some(amounts) = item.get(from).and_then(Value::as_object).cloned() else { continue };
        if amounts.is_empty() {
            continue;
        }
        if let Some(target) = super::object(item, to) {
            for (resource, amount) in amounts {
                target.entry(resource).or_insert(amount);
            }
        }
    }
}

pub(super) fn network_policy(spec: &mut Object) {
    let egress = !is_empty(spec, "egress");
    if is_empty(spec, "policyTypes") {
        let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec.insert("policyTypes".to_string(), types);
    }
}

pub(super) fn csi_driver(spec: &mut Object) {
    if is_empty(spec, "volumeLifecycleModes") {
        spec.insert("volumeLifecycleModes".to_string(), json!(["Persistent"]));
    }
}

pub(super) fn flow_schema(spec: &mut Object) {
    unless_given(spec, "matchingPrecedence", 1000);
}

pub(super) fn queuing(configuration: &mut Object) {
    for (name, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
        unless_given(configuration, name, value);
    }
}

pub(super) fn device_request(request: &mut Object) {
    if text(request, "allocationMode").is_empty() {
        request.insert("allocationMode".to_string(), json!("ExactCount"));
    }
    if text(request, "allocationMode") == "ExactCount" {
        unless_given(request, "count", 1);
    }
}

fn is_empty(map: &Object, name: &str) -> bool {
    map.get(name).and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// Sets a number that is absent or zero.
fn unless_given(map: &mut Object, name: &str, value: i64) {
    if map.get(name) == Some(&json!(0)) {
        map.remove(name);
    }
    set(map, name, || json!(value));
}
