//! IP addresses: each cluster IP of a service is one of these, named like the address.
//!
//! The API server writes them itself, in the transaction that writes the service; whoever else hands out
//! addresses of the same ranges (a gateway) makes them by hand, and a service does not get them then.

use std::net::IpAddr;

use api::kinds::IP_ADDRESS;
use api::managed::{self, Author};
use api::schema::{BuiltIn, Schema};
use api::validation::{Faults, Path, dns1123_subdomain, immutable, invalid_each, path_segment};
use api::{ApiError, FieldError, object};
use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::ParentReference;
use serde_json::{Value, json};

use super::typed;
use crate::claims::Record;
use crate::printers;
use crate::registry::time;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

/// What allocates the addresses that the API server writes.
pub(crate) const MANAGER: &str = "ipallocator.k8s.io";
pub(crate) const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub(crate) const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// The manager that writes them, in managed fields.
const AUTHOR: &str = "kube-apiserver";

pub(super) struct IpAddresses;

/// The name of an address's family.
pub(crate) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Where the object of an address is stored.
pub(crate) fn key(address: IpAddr) -> String {
    IP_ADDRESS.storage_key(None, &address.to_string()).unwrap_or_default()
}

/// An address that belongs to a service, as it is stored.
pub(crate) fn record(
    address: IpAddr,
    namespace: &str,
    service: &str,
    now: Timestamp,
) -> Result<Bytes, ApiError> {
    let now = time(now);
    let mut tree = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "labels": {FAMILY: family(address), MANAGED_BY: MANAGER},
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}},
    });
    let delta = managed::compare(BuiltIn::of(&IP_ADDRESS).root(), None, &tree);
    let author = Author { manager: AUTHOR, api_version: "networking.k8s.io/v1", subresource: "", now: &now };
    let mut entries = Vec::new();
    managed::update(&mut entries, delta, &author);
    tree["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
    tree["metadata"]["creationTimestamp"] = json!(now);
    object::encode_managed(tree, managed::encode(&entries).as_deref()).map_err(ApiError::internal)
}

/// Namespace and name of the service that a stored address belongs to; none if it belongs to something else.
pub(crate) fn service_of(record: &Record) -> Option<(String, String)> {
    let tree: Value = serde_json::from_slice(&record.value).ok()?;
    parent_service(&tree)
}

/// The same of a tree.
pub(crate) fn parent_service(tree: &Value) -> Option<(String, String)> {
    let parent = &tree["spec"]["parentRef"];
    let part = |field: &str| parent[field].as_str().unwrap_or("").to_string();
    let is_service = part("group").is_empty() && part("resource") == "services";
    is_service.then(|| (part("namespace"), part("name")))
}

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let at = at.child("parentRef");
    let parent = &tree["spec"]["parentRef"];
    if parent.is_null() {
        faults.push(FieldError::required(at, ""));
        return faults;
    }
    let Some(parent) = typed::<ParentReference>(parent, &at, &mut faults) else { return faults };
    // The group of services is empty, so it is optional.
    let group = parent.group.as_deref().unwrap_or("");
    if !group.is_empty() {
        invalid_each(&mut faults, &at.child("group"), group, dns1123_subdomain(group));
    }
    for (field, value) in [("resource", &parent.resource), ("name", &parent.name)] {
        match value.as_str() {
            "" => faults.push(FieldError::required(at.child(field), "")),
            value => invalid_each(&mut faults, &at.child(field), value, path_segment(value)),
        }
    }
    let namespace = parent.namespace.as_deref().unwrap_or("");
    if !namespace.is_empty() {
        invalid_each(&mut faults, &at.child("namespace"), namespace, path_segment(namespace));
    }
    faults
}

impl Strategy for IpAddresses {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = validate(new);
        let at = Path::new("spec");
        immutable(&mut faults, &at.child("parentRef"), &new["spec"]["parentRef"], &old["spec"]["parentRef"]);
        faults
    }

    /// A name that is generated cannot be an address.
    fn name_faults(&self, name: &str, _prefix: bool) -> Vec<String> {
        api::validation::canonical_ip_address(name)
    }

    fn columns(&self) -> &'static [Column] {
        printers::networking::IP_ADDRESS
    }

    fn cells(&self, tree: &Value, _now: Timestamp) -> Vec<Cell> {
        printers::networking::ip_address(tree)
    }
}

#[cfg(test)]
mod tests;
