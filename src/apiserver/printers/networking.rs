//! IP addresses and the ranges that services' addresses come from.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, column, items, name, text};
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
