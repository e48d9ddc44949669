//! `fieldRef` and `resourceFieldRef`: parts of a pod as text, for environment variables and downward API
//! files.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::PodExt;
use super::amount::{self, Resources};

/// Addresses that the pod's status will show; it may not show them yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) host: Vec<String>,
    pub(crate) pod: Vec<String>,
}

/// Why a part of a pod has no text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FieldRefError {
    #[error("fieldPath {0:?} does not support subscript")]
    Subscript(String),
    #[error("unsupported fieldPath: {0}")]
    Path(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
}

/// The text of a field path.
pub(crate) fn field(pod: &Pod, path: &str, addresses: &Addresses) -> Result<String, FieldRefError> {
    if let Some((map, key)) = subscript(path) {
        let found = match map {
            "metadata.labels" => pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)),
            "metadata.annotations" => pod.metadata.annotations.as_ref().and_then(|all| all.get(key)),
            _ => return Err(FieldRefError::Subscript(path.to_string())),
        };
        return Ok(found.cloned().unwrap_or_default());
    }
    let spec = pod.spec_ref();
    Ok(match path {
        "metadata.name" => pod.name().to_string(),
        "metadata.namespace" => pod.namespace().to_string(),
        "metadata.uid" => pod.uid().to_string(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => addresses.host.first().cloned().unwrap_or_default(),
        "status.hostIPs" => addresses.host.join(","),
        "status.podIP" => addresses.pod.first().cloned().unwrap_or_default(),
        "status.podIPs" => addresses.pod.join(","),
        _ => return Err(FieldRefError::Path(path.to_string())),
    })
}

/// `metadata.labels['key']` in its parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    let key = rest.strip_suffix(']')?;
    let key = key.strip_prefix('\'').and_then(|key| key.strip_suffix('\'')).unwrap_or(key);
    Some((map, key))
}

/// One `key="value"` per line, sorted; values quoted as Go's `%q`.
fn lines(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The number of a resource of a container. A limit that is not set is what the node can give.
pub(crate) fn resource(
    selector: &ResourceFieldSelector,
    container: &Container,
    allocatable: &Resources,
) -> Result<String, FieldRefError> {
    let divisor = selector.divisor.as_ref();
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|one| one.limits.as_ref());
    let requests = resources.and_then(|one| one.requests.as_ref());
    let (list, name, is_limit) = match selector.resource.split_once('.') {
        Some(("limits", name)) => (limits, name, true),
        Some(("requests", name)) => (requests, name, false),
        _ => return Err(FieldRefError::Resource(selector.resource.clone())),
    };
    let set = list
        .and_then(|list| list.get(name))
        .filter(|set| !is_limit || api::resources::amount(name, set) != 0);
    let fallback = if is_limit { allocatable.get(name) } else { limits.and_then(|limits| limits.get(name)) };
    let zero = Quantity("0".to_string());
    let quantity = set.or(fallback).unwrap_or(&zero);
    Ok(amount::ratio(name, quantity, divisor).to_string())
}
