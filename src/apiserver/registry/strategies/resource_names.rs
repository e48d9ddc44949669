//! Names of resources in quotas, limit ranges and overheads: upstream's `pkg/apis/core/helper`.

use api::FieldError;
use api::validation::{Faults, Path, invalid_each, qualified_name};
use serde_json::Value;

use super::rules::{amount, non_negative_amount};

const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What a quota counts as whole things.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const MEASURED: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

/// A name that quotas know without a domain.
pub(crate) fn is_standard_quota(name: &str) -> bool {
    COUNTED.contains(&name) || MEASURED.contains(&name) || is_huge(name)
}

/// Kubernetes' own resources: without a domain, or with one of its own.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether more of it may be promised than there is.
pub(crate) fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}

pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && qualified_name(&format!("requests.{name}")).is_empty()
}

/// Any name of a resource.
pub(crate) fn resource_name(faults: &mut Faults, at: &Path<'_>, name: &str) {
    let wrong = qualified_name(name);
    let is_wrong = !wrong.is_empty();
    invalid_each(faults, at, name, wrong);
    if !is_wrong && !name.contains('/') && name != "storage" && !is_standard_quota(name) {
        faults.push(FieldError::invalid(at, name, "must be a standard resource type or fully qualified"));
    }
}

/// A resource that containers ask for.
pub(crate) fn container_resource_name(faults: &mut Faults, at: &Path<'_>, name: &str) {
    resource_name(faults, at, name);
    if !name.contains('/') {
        if !CONTAINER.contains(&name) && !name.starts_with("hugepages-") {
            faults.push(FieldError::invalid(at, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        faults.push(FieldError::invalid(at, name, "doesn't follow extended resource name standard"));
    }
}

/// A resource that quotas limit.
pub(crate) fn quota_resource_name(faults: &mut Faults, at: &Path<'_>, name: &str) {
    resource_name(faults, at, name);
    if !name.contains('/') && !is_standard_quota(name) {
        faults.push(FieldError::invalid(at, name, "must be a standard resource for quota"));
    }
}

/// An amount of a resource; of things that are counted a whole one.
pub(crate) fn resource_amount(faults: &mut Faults, at: &Path<'_>, name: &str, value: &Value) {
    non_negative_amount(faults, at, value);
    let is_whole = amount(value).is_none_or(|amount| amount.milli_value() % 1000 == 0);
    if (COUNTED.contains(&name) || is_extended(name)) && !is_whole {
        faults.push(FieldError::invalid(at, value, "must be an integer"));
    }
}
