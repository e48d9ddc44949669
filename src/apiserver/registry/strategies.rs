//! The strategy of each kind, one file a kind (or a family of kinds that differ in little).
//!
//! Rules and messages are those of upstream's `pkg/apis/*/validation` and `pkg/registry/*/strategy.go`, for what a user is
//! likely to get wrong.

mod certificate_signing_request;
mod config_map;
mod custom_resource_definition;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod event;
pub(crate) mod ip_address;
mod lease;
mod namespace;
pub(crate) mod node;
pub(crate) mod pod;
mod pod_template;
mod rbac;
mod replica_set;
mod secret;
pub(crate) mod service;
mod service_account;
pub(crate) mod service_cidr;

use std::sync::Arc;

use api::validation::{Faults, Path};
use api::{FieldError, KindRow};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::strategy::Strategy;

/// A kind without rules of its own.
pub struct Plain;

impl Strategy for Plain {}

/// The strategy of a row.
pub fn for_row(row: &KindRow) -> Arc<dyn Strategy> {
    match (&*row.group, &*row.kind) {
        ("", "Namespace") => Arc::new(namespace::Namespaces),
        ("", "Node") => Arc::new(node::Nodes),
        ("", "Pod") => Arc::new(pod::Pods),
        ("" | "events.k8s.io", "Event") => Arc::new(event::Events),
        ("", "Service") => Arc::new(service::Services),
        ("", "Endpoints") => Arc::new(endpoints::EndpointsStrategy),
        ("discovery.k8s.io", "EndpointSlice") => Arc::new(endpoint_slice::EndpointSlices),
        ("", "ConfigMap") => Arc::new(config_map::ConfigMaps),
        ("", "Secret") => Arc::new(secret::Secrets),
        ("", "ServiceAccount") => Arc::new(service_account::ServiceAccounts),
        ("coordination.k8s.io", "Lease") => Arc::new(lease::Leases),
        ("apps", "Deployment") => Arc::new(deployment::Deployments),
        ("apps", "ReplicaSet") => Arc::new(replica_set::ReplicaSets),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => Arc::new(rbac::Roles),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => Arc::new(rbac::Bindings),
        ("networking.k8s.io", "IPAddress") => Arc::new(ip_address::IpAddresses),
        ("networking.k8s.io", "ServiceCIDR") => Arc::new(service_cidr::ServiceCidrs),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            Arc::new(certificate_signing_request::Requests)
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            Arc::new(custom_resource_definition::Definitions)
        }
        _ => Arc::new(Plain),
    }
}

/// A part of a tree as its type. The schema has been checked, so a failure is a fault of the whole part.
fn typed<T: DeserializeOwned + Default>(part: &Value, at: &Path<'_>, faults: &mut Faults) -> Option<T> {
    if part.is_null() {
        return Some(T::default());
    }
    match T::deserialize(part) {
        Ok(typed) => Some(typed),
        Err(error) => {
            faults.push(FieldError::invalid(at, "", error.to_string()));
            None
        }
    }
}

/// The object at `key`, made if it is not there.
fn object<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    let parent = parent.as_object_mut()?;
    let entry = parent.entry(key).or_insert_with(|| json!({}));
    if entry.is_null() {
        *entry = json!({});
    }
    entry.as_object_mut()
}

/// Sets a field that is absent or null.
fn default_to(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    match map.get_mut(key) {
        Some(Value::Null) => {
            map.insert(key.to_string(), value.into());
        }
        Some(_) => {}
        None => {
            map.insert(key.to_string(), value.into());
        }
    }
}

/// The items of an array, mutable; none if it is absent.
fn items_mut<'a>(parent: &'a mut Value, key: &str) -> &'a mut [Value] {
    parent.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// Takes a top-level part from the stored object.
fn keep(new: &mut Value, old: &Value, part: &str) {
    let Some(members) = new.as_object_mut() else { return };
    match old.get(part) {
        Some(value) => members.insert(part.to_string(), value.clone()),
        None => members.remove(part),
    };
}

/// What a subresource that is about one part of an object leaves of the metadata as it was: upstream's
/// `ResetObjectMetaForStatus`. The registry keeps the rest.
fn keep_metadata(new: &mut Value, old: &Value) {
    let Some(metadata) = new.get_mut("metadata") else { return };
    for part in ["labels", "annotations", "finalizers", "ownerReferences"] {
        keep(metadata, &old["metadata"], part);
    }
}

fn non_negative(faults: &mut Faults, at: &Path<'_>, value: i64) {
    if value < 0 {
        faults.push(FieldError::invalid(at, value, "must be greater than or equal to 0"));
    }
}

/// `true` and `false` of a flag that may be absent, as field selectors see it.
fn flag(object: &Value, path: &str) -> &'static str {
    let value = path.split('.').fold(object, |at, step| &at[step]);
    if value == true { "true" } else { "false" }
}
