//! Endpoint slices.

use std::collections::HashSet;

use api::FieldError;
use api::json::text;
use api::validation::{Faults, Path, dns1123_label, dns1123_subdomain, immutable, invalid_each};
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort};
use serde_json::Value;

use super::endpoints::{PROTOCOLS, endpoint_ip};
use super::typed;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20000;

pub(super) struct EndpointSlices;

fn too_many(at: &Path<'_>, count: usize, max: usize) -> FieldError {
    FieldError {
        kind: api::FieldErrorKind::TooMany,
        field: at.into(),
        value: count.to_string(),
        detail: format!("must have at most {max} items"),
    }
}

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let kind = text(tree, "addressType");
    match kind {
        "" => faults.push(FieldError::required("addressType", "")),
        known if ADDRESS_TYPES.contains(&known) => {}
        other => faults.push(FieldError::not_supported("addressType", other, &ADDRESS_TYPES)),
    }
    let at = Path::new("endpoints");
    let endpoints = typed::<Vec<Endpoint>>(&tree["endpoints"], &at, &mut faults).unwrap_or_default();
    if endpoints.len() > MAX_ENDPOINTS {
        faults.push(too_many(&at, endpoints.len(), MAX_ENDPOINTS));
        return faults;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let at = at.index(index);
        let at = at.child("addresses");
        match endpoint.addresses.len() {
            0 => faults.push(FieldError::required(at, "must contain at least 1 address")),
            count if count > MAX_ADDRESSES => faults.push(too_many(&at, count, MAX_ADDRESSES)),
            _ => {}
        }
        for (index, address) in endpoint.addresses.iter().enumerate() {
            validate_address(kind, address, &at.index(index), &mut faults);
        }
    }
    let at = Path::new("ports");
    let ports = typed::<Vec<EndpointPort>>(&tree["ports"], &at, &mut faults).unwrap_or_default();
    validate_ports(&ports, &at, &mut faults);
    faults
}

fn validate_address(kind: &str, address: &str, at: &Path<'_>, faults: &mut Faults) {
    let message = match kind {
        "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => "must be an IPv4 address",
        "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => "must be an IPv6 address",
        "IPv4" | "IPv6" => return endpoint_ip(address, at, faults),
        "FQDN" => return invalid_each(faults, at, address, dns1123_subdomain(address)),
        _ => return,
    };
    faults.push(FieldError::invalid(at, address, message));
}

fn validate_ports(ports: &[EndpointPort], at: &Path<'_>, faults: &mut Faults) {
    if ports.len() > MAX_PORTS {
        return faults.push(too_many(at, ports.len(), MAX_PORTS));
    }
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        let name = port.name.as_deref().unwrap_or("");
        if !name.is_empty() {
            invalid_each(faults, &at.child("name"), name, dns1123_label(name));
        }
        if !seen.insert(name) {
            faults.push(FieldError::duplicate(at.child("name"), name));
        }
        match port.protocol.as_deref().unwrap_or("") {
            "" => faults.push(FieldError::required(at.child("protocol"), "")),
            known if PROTOCOLS.contains(&known) => {}
            other => faults.push(FieldError::not_supported(at.child("protocol"), other, &PROTOCOLS)),
        }
    }
}

impl Strategy for EndpointSlices {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = validate(new);
        immutable(&mut faults, &Path::new("addressType"), &new["addressType"], &old["addressType"]);
        faults
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allows_create_on_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        printers::discovery::ENDPOINT_SLICE
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::discovery::endpoint_slice(tree, now)
    }
}
