//! What an object counts against its namespace's quotas: upstream's evaluators, for admission, which charges,
//! and for the controller, which counts anew.
//!
//! Pods count with what they ask for until they have ended, services with their ports, claims with their
//! storage; every kind counts its objects (`count/deployments.apps`). Quotas with scopes are about pods, or
//! claims, that the scopes select.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde_json::Value;

use crate::decode;
use crate::object::ObjectError;
use crate::qos::{self, QosClass};
use crate::quantity::{Format, Quantity};
use crate::resources::{self, Amounts};
use crate::{KindRow, Kinded, Object};

#[cfg(test)]
mod tests;

/// Amounts by the names that quotas give them.
pub type Usage = BTreeMap<String, Quantity>;

const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Kinds whose objects were counted under a short name before all kinds were.
const SHORT: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];
const POD: [&str; 11] = [
    "pods",
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
const SERVICE: [&str; 4] = ["services", "count/services", "services.nodeports", "services.loadbalancers"];
/// What each container must say if a quota limits it.
const DEMANDED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// Kinds that quotas know more of than their number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Pods,
    Services,
    Claims,
    Others,
}

fn counted(row: &KindRow) -> Counted {
    match (&*row.group, &*row.plural) {
        ("", "pods") => Counted::Pods,
        ("", "services") => Counted::Services,
        ("", "persistentvolumeclaims") => Counted::Claims,
        _ => Counted::Others,
    }
}

/// The name under which a kind's objects are counted.
fn count_name(row: &KindRow) -> String {
    format!("count/{}", row.group_resource())
}

/// Whether quotas count objects of a kind at all: not events, nor what is not stored.
pub fn is_counted(row: &KindRow) -> bool {
    row.namespaced() && row.storage.is_some() && row.plural != "events"
}

fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    path.split('.').fold(tree, |at, step| &at[step]).as_str().unwrap_or("")
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

/// Whether a quota's resource is counted on objects of a kind.
pub fn concerns(row: &KindRow, resource: &str) -> bool {
    match counted(row) {
        Counted::Pods => {
            POD.contains(&resource)
                || resource.starts_with("hugepages-")
                || resource.starts_with("requests.hugepages-")
                || is_extended(resource)
        }
        Counted::Services => SERVICE.contains(&resource),
        Counted::Claims => {
            let plain = resource.split_once(CLASS_SUFFIX).map_or(resource, |(_, plain)| plain);
            resource == "count/persistentvolumeclaims"
                || matches!(plain, "persistentvolumeclaims" | "requests.storage")
        }
        Counted::Others => {
            resource == count_name(row)
                || (row.group.is_empty() && SHORT.contains(&resource) && resource == row.plural)
        }
    }
}

/// Requests of somebody else's resources.
fn is_extended(resource: &str) -> bool {
    resource.starts_with("requests.") && resource.contains('/') && !resource.contains("kubernetes.io/")
}

/// What an object uses.
pub fn usage(row: &KindRow, tree: &Value, now: Timestamp) -> Usage {
    let mut usage = Usage::from([(count_name(row), one())]);
    match counted(row) {
        Counted::Pods => pod(tree, now, &mut usage),
        Counted::Services => service(tree, &mut usage),
        Counted::Claims => claim(tree, &mut usage),
        Counted::Others => {
            if row.group.is_empty() && SHORT.contains(&&*row.plural) {
                usage.insert(row.plural.to_string(), one());
            }
        }
    }
    usage
}

/// What a stored object uses that the quota selects; none if it is not about the object. Decodes no more of
/// the object than the answer depends on: pods as the type that other readers share, most kinds not at all.
pub fn usage_under(
    quota: &Value,
    row: &KindRow,
    object: &Object,
    now: Timestamp,
) -> Result<Option<Usage>, ObjectError> {
    let has_scopes = !quota["spec"]["scopes"].is_null() || !quota["spec"]["scopeSelector"].is_null();
    let tree = match counted(row) {
        Counted::Others => Value::Null,
        Counted::Pods if !has_scopes => Value::Null,
        _ => object.tree_without_managed_fields()?,
    };
    if !matches(quota, row, &tree) {
        return Ok(None);
    }
    if counted(row) != Counted::Pods {
        return Ok(Some(usage(row, &tree, now)));
    }
    let mut usage = Usage::from([(count_name(row), one())]);
    typed_pod(&*object.typed::<Pod>()?, now, &mut usage);
    Ok(Some(usage))
}

/// Whether a pod still holds what it asked for.
fn is_charged(pod: &Pod, now: Timestamp) -> bool {
    if crate::pod::is_terminal(pod) {
        return false;
    }
    let metadata = &pod.metadata;
    match (&metadata.deletion_timestamp, metadata.deletion_grace_period_seconds) {
        // One that its node does not let go of holds nothing for ever.
        (Some(at), Some(grace)) => now.as_second() <= at.0.as_second().saturating_add(grace),
        _ => true,
    }
}

fn pod(tree: &Value, now: Timestamp, usage: &mut Usage) {
    match Pod::from_tree(tree) {
        Ok(pod) => typed_pod(&pod, now, usage),
        Err(_) => drop(usage.insert("pods".into(), one())),
    }
}

fn typed_pod(pod: &Pod, now: Timestamp, usage: &mut Usage) {
    if !is_charged(pod, now) {
        return;
    }
    usage.insert("pods".into(), one());
    let Some(spec) = &pod.spec else { return };
    let formats = formats(spec);
    let counted = |amounts: Amounts| -> Vec<(String, Quantity)> {
        let quantity = |name: &str, amount| {
            if name == resources::CPU {
                return Quantity::from_milli(amount);
            }
            Quantity::new(amount, formats.get(name).copied().unwrap_or_default())
        };
        amounts.into_iter().map(|(name, amount)| (name.clone(), quantity(&name, amount))).collect()
    };
    for (name, amount) in counted(resources::held_requests(pod)) {
        let plain =
            matches!(&*name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if plain {
            usage.insert(name.clone(), amount);
        }
        if plain || is_extended(&format!("requests.{name}")) {
            usage.insert(format!("requests.{name}"), amount);
        }
    }
    for (name, amount) in counted(resources::pod_limits(spec)) {
        if matches!(&*name, "cpu" | "memory" | "ephemeral-storage") {
            usage.insert(format!("limits.{name}"), amount);
        }
    }
}

/// How the first container that asks for a resource writes amounts of it.
fn formats(spec: &PodSpec) -> BTreeMap<String, Format> {
    let mut formats = BTreeMap::new();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let lists = container.resources.iter().flat_map(|own| [&own.requests, &own.limits]);
        for (name, text) in lists.flatten().flatten() {
            if let Ok(quantity) = text.0.parse::<Quantity>() {
                formats.entry(name.clone()).or_insert_with(|| quantity.format());
            }
        }
    }
    formats
}

fn service(tree: &Value, usage: &mut Usage) {
    let ports = tree["spec"]["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let count = |ports: usize| Quantity::new(i64::try_from(ports).unwrap_or(i64::MAX), Format::DecimalSi);
    let (mut node_ports, mut balancers) = (Quantity::ZERO, Quantity::ZERO);
    match text(tree, "spec.type") {
        "NodePort" => node_ports = count(ports.len()),
        "LoadBalancer" => {
            let explicit = ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0).count();
            let all = tree["spec"]["allocateLoadBalancerNodePorts"] != false;
            node_ports = count(if all { ports.len() } else { explicit });
            balancers = one();
        }
        _ => {}
    }
    usage.insert("services".into(), one());
    usage.insert("services.nodeports".into(), node_ports);
    usage.insert("services.loadbalancers".into(), balancers);
}

fn claim(tree: &Value, usage: &mut Usage) {
    let class = match tree["metadata"]["annotations"][BETA_CLASS].as_str() {
        Some(class) => class,
        None => text(tree, "spec.storageClassName"),
    };
    let amount = |path: &str| tree.pointer(path).and_then(Value::as_str)?.parse::<Quantity>().ok();
    let requested = amount("/spec/resources/requests/storage");
    let allocated = amount("/status/allocatedResources/storage");
    let mut charge = |name: &str, amount: Quantity| {
        usage.insert(name.to_string(), amount);
        if !class.is_empty() {
            usage.insert(format!("{class}{CLASS_SUFFIX}{name}"), amount);
        }
    };
    charge("persistentvolumeclaims", one());
    if let Some(requested) = requested {
        let held = requested.max(allocated.unwrap_or(requested));
        charge("requests.storage", Quantity::new(held.value(), held.format()));
    }
}

/// Whether a quota is about an object: it limits something of its kind, and its scopes select it.
pub fn matches(quota: &Value, row: &KindRow, object: &Value) -> bool {
    let limits = |part: &str| {
        let hard = quota[part]["hard"].as_object().into_iter().flatten();
        hard.map(|(name, _)| name).any(|name| concerns(row, name))
    };
    if !limits("status") && !limits("spec") {
        return false;
    }
    let scopes = quota["spec"]["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut scopes = scopes.map(|scope| (scope, "Exists", &Value::Null));
    let expressions = quota["spec"]["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    let mut expressions =
        expressions.map(|one| (text(one, "scopeName"), text(one, "operator"), &one["values"]));
    let selects = |(scope, operator, values): (&str, &str, &Value)| {
        let has = |name: &str| values.as_array().is_some_and(|list| list.iter().any(|one| one == name));
        match counted(row) {
            Counted::Pods => pod_selected(scope, operator, &has, object),
            Counted::Claims => claim_selected(scope, operator, &has, object),
            Counted::Services | Counted::Others => false,
        }
    };
    scopes.all(selects) && expressions.all(selects)
}

/// Whether a name, empty if there is none, satisfies an operator.
fn satisfies(name: &str, operator: &str, has: &dyn Fn(&str) -> bool) -> bool {
    match operator {
        "Exists" => !name.is_empty(),
        "DoesNotExist" => name.is_empty(),
        "In" => !name.is_empty() && has(name),
        "NotIn" => name.is_empty() || !has(name),
        _ => false,
    }
}

fn pod_selected(scope: &str, operator: &str, has: &dyn Fn(&str) -> bool, pod: &Value) -> bool {
    let spec = &pod["spec"];
    let terminates = spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
    let is_best_effort = || {
        let spec = decode::pod_spec(spec).unwrap_or_default();
        qos::class_of(&spec) == QosClass::BestEffort
    };
    match scope {
        "Terminating" => terminates,
        "NotTerminating" => !terminates,
        "BestEffort" => is_best_effort(),
        "NotBestEffort" => !is_best_effort(),
        "PriorityClass" => satisfies(text(spec, "priorityClassName"), operator, has),
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        _ => false,
    }
}

fn crosses_namespaces(spec: &Value) -> bool {
    let list = |term: &Value| term.as_array().cloned().unwrap_or_default();
    let crosses = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|names| !names.is_empty())
            || !term["namespaceSelector"].is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &spec["affinity"][*kind];
        list(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]).iter().any(crosses)
            || list(&affinity["preferredDuringSchedulingIgnoredDuringExecution"])
                .iter()
                .any(|term| crosses(&term["podAffinityTerm"]))
    })
}

fn claim_selected(scope: &str, operator: &str, has: &dyn Fn(&str) -> bool, claim: &Value) -> bool {
    if scope != "VolumeAttributesClass" {
        return false;
    }
    let paths = [
        "spec.volumeAttributesClassName",
        "status.currentVolumeAttributesClassName",
        "status.modifyVolumeStatus.targetVolumeAttributesClassName",
    ];
    let names: Vec<&str> =
        paths.iter().map(|path| text(claim, path)).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return satisfies("", operator, has);
    }
    names.into_iter().any(|name| satisfies(name, operator, has))
}

/// What a pod's containers must say because a quota limits it, in upstream's words; none if they say it.
pub fn missing(row: &KindRow, object: &Value, limited: &[&str]) -> Option<String> {
    let spec = &object["spec"];
    let of_pod = ["requests", "limits"]
        .iter()
        .any(|list| spec["resources"][*list].as_object().is_some_and(|list| !list.is_empty()));
    if counted(row) != Counted::Pods || of_pod {
        return None;
    }
    let lists = ["containers", "initContainers"].into_iter();
    let containers: Vec<&Value> =
        lists.flat_map(|list| spec[list].as_array().into_iter().flatten()).collect();
    let mut parts = Vec::new();
    let mut demanded: Vec<&str> = DEMANDED.iter().copied().filter(|name| limited.contains(name)).collect();
    demanded.sort_unstable();
    for name in demanded {
        let (list, resource) = match name.split_once('.') {
            Some(("limits", resource)) => ("limits", resource),
            Some((_, resource)) => ("requests", resource),
            None => ("requests", name),
        };
        let lacks = |container: &&&Value| container["resources"][list][resource].is_null();
        let mut names: Vec<&str> =
            containers.iter().filter(lacks).map(|container| text(container, "name")).collect();
        names.sort_unstable();
        if !names.is_empty() {
            parts.push(format!("{name} for: {}", names.join(",")));
        }
    }
    (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
}

/// Amounts of a list in a quota's tree.
pub fn amounts(list: &Value) -> Usage {
    let members = list.as_object().into_iter().flatten();
    members.filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?))).collect()
}

/// As messages print amounts: `cpu=1,pods=2`.
pub fn printed(usage: &Usage) -> String {
    usage.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}
