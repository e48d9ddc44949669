//! TaintNodesByCondition: a node begins as not ready.
//!
//! Without the taint, pods would be bound to it before the node controller has seen it; that controller takes
//! the taint away once the node is ready.

use api::taints::{NO_SCHEDULE, NOT_READY};
use serde_json::{Value, json};

use super::request::{Operation, Request};
use api::json::items;

pub(super) fn mutate(request: &Request<'_>, node: &mut Value) {
    if request.operation != Operation::Create || !request.is("", "nodes", None) {
        return;
    }
    let taints = items(node, "spec.taints");
    if taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == NO_SCHEDULE) {
        return;
    }
    let mut taints = taints.to_vec();
    taints.push(json!({ "key": NOT_READY, "effect": NO_SCHEDULE }));
    if node["spec"].is_null() {
        node["spec"] = json!({});
    }
    node["spec"]["taints"] = json!(taints);
}

#[cfg(test)]
mod tests;
