//! IP addresses and the ranges that services' addresses come from, ingresses, network policies.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, column, items, label_selector, name, or, text};
use crate::strategy::{Cell, Column};

/// Upstream's rows have the age as a third cell, which no column shows.
pub(crate) const IP_ADDRESS: &[Column] =
    &[NAME, column("ParentRef", "string", "The object that the address belongs to.")];

pub(crate) fn ip_address(object: &Value) -> Vec<Cell> {
    vec![name(object), json!(parent(&object["spec"]["parentRef"]))]
}

/// `resource.group/namespace/name`, without what is empty.
fn parent(parent: &Value) -> String {
    if parent.is_null() {
        return "<none>".to_string();
    }
    let (group, namespace) = (text(parent, "group"), text(parent, "namespace"));
    let mut printed = text(parent, "resource").to_string();
    if !group.is_empty() {
        printed.push('.');
        printed.push_str(group);
    }
    let mut printed = printed.to_lowercase();
    if !namespace.is_empty() {
        printed.push('/');
        printed.push_str(namespace);
    }
    printed.push('/');
    printed.push_str(text(parent, "name"));
    printed
}

pub(crate) const SERVICE_CIDR: &[Column] =
    &[NAME, column("CIDRs", "string", "Ranges that cluster IPs of services are taken from."), AGE];

pub(crate) fn service_cidr(object: &Value, now: Timestamp) -> Vec<Cell> {
    let cidrs: Vec<&str> = items(object, "spec.cidrs").iter().filter_map(Value::as_str).collect();
    vec![name(object), json!(cidrs.join(",")), age(object, now)]
}

pub(crate) const INGRESS: &[Column] = &[
    NAME,
    column("Class", "string", "The class whose controller serves the ingress."),
    column("Hosts", "string", "Hosts that the rules are for."),
    column("Address", "string", "Where the ingress is reached."),
    column("Ports", "string", "Ports that are open."),
    AGE,
];

pub(crate) fn ingress(object: &Value, now: Timestamp) -> Vec<Cell> {
    let class = or(text(object, "spec.ingressClassName"), "<none>");
    let addresses: BTreeSet<&str> = items(object, "status.loadBalancer.ingress")
        .iter()
        .map(|one| or(text(one, "ip"), text(one, "hostname")))
        .filter(|address| !address.is_empty())
        .collect();
    let address = addresses.into_iter().collect::<Vec<_>>().join(",");
    let ports = if items(object, "spec.tls").is_empty() { "80" } else { "80, 443" };
    vec![
        name(object),
        json!(class),
        json!(hosts(items(object, "spec.rules"))),
        json!(address),
        json!(ports),
        age(object, now),
    ]
}

/// At most three hosts, then how many more rules there are.
fn hosts(rules: &[Value]) -> String {
    const SHOWN: usize = 3;
    let mut list: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= list.len() == SHOWN;
        let host = text(rule, "host");
        if !more && !host.is_empty() {
            list.push(host);
        }
    }
    match list.join(",") {
        hosts if hosts.is_empty() => "*".to_string(),
        hosts if more => format!("{hosts} + {} more...", rules.len() - SHOWN),
        hosts => hosts,
    }
}

pub(crate) const INGRESS_CLASS: &[Column] = &[
    NAME,
    column("Controller", "string", "Who serves the ingresses of the class."),
    column("Parameters", "string", "An object with further settings."),
    AGE,
];

pub(crate) fn ingress_class(object: &Value, now: Timestamp) -> Vec<Cell> {
    let is_default =
        object["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"] == "true";
    let mark = if is_default { " (default)" } else { "" };
    let parameters = match &object["spec"]["parameters"] {
        Value::Null => "<none>".to_string(),
        parameters => {
            let group = parameters["apiGroup"].as_str().map(|group| format!(".{group}")).unwrap_or_default();
            format!("{}{group}/{}", text(parameters, "kind"), text(parameters, "name"))
        }
    };
    vec![
        json!(format!("{}{mark}", text(object, "metadata.name"))),
        json!(text(object, "spec.controller")),
        json!(parameters),
        age(object, now),
    ]
}

pub(crate) const NETWORK_POLICY: &[Column] =
    &[NAME, column("Pod-Selector", "string", "The pods that the policy is for."), AGE];

pub(crate) fn network_policy(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), label_selector(&object["spec"]["podSelector"]), age(object, now)]
}
