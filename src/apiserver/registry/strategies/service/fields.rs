//! Fields of a service that depend on each other: the two forms of the cluster IP, address families, and what
//! an update keeps or drops when the type changes.

use std::collections::{HashMap, HashSet};

use api::json::{items, number, text};
use serde_json::{Map, Value, json};

use super::{allocates_node_ports, is_headless, needs_cluster_ip, needs_health_check, takes_node_ports};
use crate::registry::strategies::{items_mut, object};

/// `clusterIP` is the first of `clusterIPs`; a client that knows only one of the two writes that one.
pub(super) fn normalize(tree: &mut Value, old: Option<&Value>) {
    let (one, list) = (text(tree, "spec.clusterIP").to_string(), tree["spec"]["clusterIPs"].clone());
    let empty = list.as_array().is_none_or(Vec::is_empty);
    let set = match old {
        None if !one.is_empty() && empty => Some(json!([one])),
        Some(old) => {
            let (was_one, was_list) = (text(old, "spec.clusterIP"), &old["spec"]["clusterIPs"]);
            match () {
                // Cleared in the old form, left alone in the new one.
                () if one.is_empty() && !was_one.is_empty() && list == *was_list => Some(Value::Null),
                () if !one.is_empty() && one != was_one && (list == *was_list || empty) => Some(json!([one])),
                () => None,
            }
        }
        None => None,
    };
    let Some(spec) = object(tree, "spec") else { return };
    match set {
        Some(Value::Null) => {
            spec.remove("clusterIPs");
        }
        Some(list) => {
            spec.insert("clusterIPs".into(), list);
        }
        None => {}
    }
    // A client that knows the list only.
    let first = spec.get("clusterIPs").and_then(|list| list[0].as_str()).unwrap_or("").to_string();
    if spec.get("clusterIP").and_then(Value::as_str).unwrap_or("").is_empty() && !first.is_empty() {
        spec.insert("clusterIP".into(), json!(first));
    }
}

/// Address families: this cluster's services have IPv4. A headless service without selector may point
/// anywhere.
pub(super) fn families(tree: &mut Value) {
    let external = !needs_cluster_ip(tree);
    let free = is_headless(tree) && tree["spec"]["selector"].as_object().is_none_or(Map::is_empty);
    let Some(spec) = object(tree, "spec") else { return };
    if external {
        return;
    }
    let empty = |spec: &Map<String, Value>, field: &str| match spec.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(value) => value == "",
    };
    if empty(spec, "ipFamilyPolicy") {
        spec.insert("ipFamilyPolicy".into(), json!(if free { "RequireDualStack" } else { "SingleStack" }));
    }
    if empty(spec, "ipFamilies") {
        let dual = free && spec.get("ipFamilyPolicy") != Some(&json!("SingleStack"));
        spec.insert("ipFamilies".into(), if dual { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) });
    }
}

/// An update that leaves out what was handed out keeps it.
pub(super) fn keep_allocated(new: &mut Value, old: &Value) {
    if needs_cluster_ip(new) && needs_cluster_ip(old) && text(new, "spec.clusterIP").is_empty() {
        let listed = !items(new, "spec.clusterIPs").is_empty();
        if let Some(spec) = object(new, "spec")
            && !listed
        {
            for field in ["clusterIP", "clusterIPs"] {
                if let Some(value) = old["spec"].get(field) {
                    spec.insert(field.to_string(), value.clone());
                }
            }
        }
    }
    if allocates_node_ports(new) && allocates_node_ports(old) {
        keep_node_ports(new, old);
    }
    if needs_health_check(new)
        && needs_health_check(old)
        && number(new, "spec.healthCheckNodePort") == 0
        && let Some(port) = old["spec"].get("healthCheckNodePort").cloned()
        && let Some(spec) = object(new, "spec")
    {
        spec.insert("healthCheckNodePort".into(), port);
    }
}

/// The node ports of a service that are not 0.
fn node_ports(service: &Value) -> HashSet<i64> {
    let all = items(service, "spec.ports").iter().map(|port| number(port, "nodePort"));
    all.filter(|port| *port != 0).collect()
}

/// An entry that names no node port keeps that of the old entry of its name, unless another entry has it now.
fn keep_node_ports(new: &mut Value, old: &Value) {
    let used = node_ports(new);
    let given: HashMap<&str, i64> =
        items(old, "spec.ports").iter().map(|port| (text(port, "name"), number(port, "nodePort"))).collect();
    let Some(spec) = new.get_mut("spec") else { return };
    for port in items_mut(spec, "ports").iter_mut().filter(|port| number(port, "nodePort") == 0) {
        let was = given.get(text(port, "name")).copied().unwrap_or(0);
        if was != 0 && !used.contains(&was) {
            port["nodePort"] = json!(was);
        }
    }
}

/// What belonged to the old type only and was not touched by the client goes with it.
pub(super) fn drop_of_old_type(new: &mut Value, old: &Value) {
    let drop = |spec: &mut Map<String, Value>, fields: &[&str]| {
        for field in fields {
            if spec.get(*field) == old["spec"].get(*field) {
                spec.remove(*field);
            }
        }
    };
    let (had_ip, has_ip) = (needs_cluster_ip(old), needs_cluster_ip(new));
    // What the client has changed itself is for validation to refuse.
    let lost_ports =
        takes_node_ports(old) && !takes_node_ports(new) && node_ports(new).is_subset(&node_ports(old));
    let lost_check = needs_health_check(old) && !needs_health_check(new);
    let balancer = |tree: &Value| text(tree, "spec.type") == "LoadBalancer";
    let (had_balancer, has_balancer) = (balancer(old), balancer(new));
    let external = |tree: &Value| {
        matches!(text(tree, "spec.type"), "NodePort" | "LoadBalancer")
            || !items(tree, "spec.externalIPs").is_empty()
    };
    let (was_external, is_external) = (external(old), external(new));
    let Some(spec) = object(new, "spec") else { return };
    if had_ip && !has_ip {
        drop(spec, &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]);
    }
    if had_balancer && !has_balancer {
        drop(spec, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if was_external && !is_external {
        drop(spec, &["externalTrafficPolicy"]);
    }
    if lost_check {
        drop(spec, &["healthCheckNodePort"]);
    }
    if lost_ports {
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(port) = port.as_object_mut() {
                port.remove("nodePort");
            }
        }
    }
}
