//! Nodes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, column, items, name, or, text, wide};
use crate::strategy::{Cell, Column};

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "The status of the node"),
    column("Roles", "string", "The roles of the node"),
    AGE,
    column("Version", "string", "Version of the node's kubelet."),
    wide("Internal-IP", "string", "Address inside the cluster."),
    wide("External-IP", "string", "Address outside the cluster."),
    wide("OS-Image", "string", "Operating system."),
    wide("Kernel-Version", "string", "Version of the kernel."),
    wide("Container-Runtime", "string", "Runtime and its version."),
];

pub(crate) fn cells(node: &Value, now: Timestamp) -> Vec<Cell> {
    let address = |kind: &str| {
        let found = items(node, "status.addresses").iter().find(|one| text(one, "type") == kind);
        json!(found.map_or("<none>", |one| text(one, "address")))
    };
    let info = |field: &str, instead: &str| json!(or(text(&node["status"]["nodeInfo"], field), instead));
    vec![
        name(node),
        json!(status(node)),
        json!(roles(node)),
        age(node, now),
        info("kubeletVersion", ""),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage", "<unknown>"),
        info("kernelVersion", "<unknown>"),
        info("containerRuntimeVersion", "<unknown>"),
    ]
}

fn status(node: &Value) -> String {
    let ready = items(node, "status.conditions").iter().find(|one| text(one, "type") == "Ready");
    let mut status = match ready.map(|one| text(one, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_string();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (label, value) in node["metadata"]["labels"].as_object().into_iter().flatten() {
        let role = match label.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if label == "kubernetes.io/role" => value.as_str().unwrap_or(""),
            None => "",
        };
        roles.extend(Some(role).filter(|role| !role.is_empty()));
    }
    roles.sort_unstable();
    roles.dedup();
    or(&roles.join(","), "<none>").to_string()
}
