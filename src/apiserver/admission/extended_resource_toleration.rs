//! ExtendedResourceToleration: a pod that asks for an extended resource tolerates the taint of that name, so
//! that nodes with devices can be kept for those who use them. Off by default.

use std::collections::BTreeSet;

use api::json::items;
use serde_json::{Value, json};

use super::request::{Operation, Request};

/// Neither Kubernetes' own nor a quota's name for a request.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) {
    if !request.is("", "pods", None) || request.operation == Operation::Delete || !pod["spec"].is_object() {
        return;
    }
    let containers = ["containers", "initContainers"].into_iter().flat_map(|list| items(&pod["spec"], list));
    let asked: BTreeSet<String> = containers
        .filter_map(|container| container["resources"]["requests"].as_object())
        .flat_map(|requests| requests.keys().filter(|name| is_extended(name)).cloned())
        .collect();
    let wanted = |name: &String| json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
    let same_taint = |one: &Value, other: &Value| {
        ["key", "operator", "effect", "value"].iter().all(|part| text(one, part) == text(other, part))
    };
    let present: BTreeSet<String> = items(pod, "spec.tolerations")
        .iter()
        .filter(|one| same_taint(one, &wanted(&text(one, "key").to_string())))
        .map(|one| text(one, "key").to_string())
        .collect();
    let missing: Vec<Value> = asked.iter().filter(|name| !present.contains(*name)).map(wanted).collect();
    if missing.is_empty() {
        return;
    }
    match pod["spec"].get_mut("tolerations").and_then(Value::as_array_mut) {
        Some(tolerations) => tolerations.extend(missing),
        None => pod["spec"]["tolerations"] = Value::Array(missing),
    }
}

fn text<'a>(toleration: &'a Value, part: &str) -> &'a str {
    toleration[part].as_str().unwrap_or("")
}
