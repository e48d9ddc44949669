//! Endpoints and endpoint slices.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, column, first_three, items, name, number, or, text};
use crate::strategy::{Cell, Column};

pub(crate) const ENDPOINTS: &[Column] =
    &[NAME, column("Endpoints", "string", "Addresses and ports that serve."), AGE];

pub(crate) fn endpoints(object: &Value, now: Timestamp) -> Vec<Cell> {
    let subsets = items(object, "subsets");
    if subsets.is_empty() {
        return vec![name(object), json!("<none>"), age(object, now)];
    }
    let mut list = Vec::new();
    for subset in subsets {
        let addresses = items(subset, "addresses").iter().map(|one| text(one, "ip"));
        let ports = items(subset, "ports");
        if ports.is_empty() {
            list.extend(addresses.clone().map(str::to_string));
        }
        for port in ports {
            list.extend(addresses.clone().map(|address| joined(address, number(port, "port"))));
        }
    }
    vec![name(object), json!(first_three(&list)), age(object, now)]
}

fn joined(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

pub(crate) const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    column("AddressType", "string", "What the addresses are: IPv4, IPv6 or FQDN."),
    column("Ports", "string", "Ports that every endpoint of the slice serves."),
    column("Endpoints", "string", "Addresses of the slice."),
    AGE,
];

pub(crate) fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Cell> {
    let port = |one: &Value| match one["port"].as_i64() {
        Some(port) => port.to_string(),
        None => "*".to_string(),
    };
    let ports: Vec<String> = items(object, "ports").iter().map(port).collect();
    let all = items(object, "endpoints").iter().flat_map(|one| items(one, "addresses"));
    let addresses: Vec<String> = all.filter_map(|one| one.as_str().map(str::to_string)).collect();
    vec![
        name(object),
        json!(text(object, "addressType")),
        json!(or(&first_three(&ports), "<unset>")),
        json!(or(&first_three(&addresses), "<unset>")),
        age(object, now),
    ]
}
