//! Defaults of pods and pod templates.
//!
//! Some are a pod's only and not a template's: requests from limits, host ports of the host network, service
//! links.

use serde_json::{Map, Value, json};

use super::{Object, object, set, text};
use crate::quantity::Quantity;

/// Every container list of a pod spec whose containers upstream defaults together.
const MAIN_LISTS: [&str; 2] = ["containers", "initContainers"];

pub(super) fn pod(pod: &mut Object) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for container in containers_mut(spec) {
        requests_from_limits(container);
    }
    pod_requests(spec);
    set(spec, "enableServiceLinks", || json!(true));
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for port in containers_mut(spec).flat_map(|container| list_mut(container, "ports")) {
            let unset = port.get("hostPort").is_none_or(|port| *port == json!(0));
            if let (true, Some(number)) = (unset, port.get("containerPort").cloned()) {
                port.insert("hostPort".to_string(), number);
            }
        }
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`: both are always there, the new one wins.
pub(super) fn spec(spec: &mut Object) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    };
    if !name.is_empty() {
        let name = Value::String(name.to_string());
        spec.insert("serviceAccountName".to_string(), name.clone());
        spec.insert("serviceAccount".to_string(), name);
    }
}

/// A volume without a source is an empty directory.
pub(super) fn volume(volume: &mut Object) {
    if volume.keys().all(|key| key == "name") {
        volume.insert("emptyDir".to_string(), Value::Object(Map::new()));
    }
}

pub(super) fn image_pull_policy(container: &mut Object) {
    let policy = if is_latest(text(container, "image")) { "Always" } else { "IfNotPresent" };
    set(container, "imagePullPolicy", || json!(policy));
}

/// Whether an image's tag is `latest`: named so, or neither tag nor digest is given.
fn is_latest(image: &str) -> bool {
    if image.is_empty() {
        return false;
    }
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none(),
    }
}

fn list_mut<'a>(map: &'a mut Object, name: &str) -> impl Iterator<Item = &'a mut Object> {
    map.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn containers_mut(spec: &mut Object) -> impl Iterator<Item = &mut Object> {
    spec.iter_mut()
        .filter(|(name, _)| MAIN_LISTS.contains(&name.as_str()))
        .filter_map(|(_, list)| list.as_array_mut())
        .flatten()
        .filter_map(Value::as_object_mut)
}

fn requests_from_limits(container: &mut Object) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if let Some(requests) = object(resources, "requests") {
        for (resource, limit) in limits {
            requests.entry(resource).or_insert(limit);
        }
    }
}

/// Resources that may be given for a pod as a whole.
fn is_pod_level(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

/// Pod-level requests where pod-level limits are given: the containers' sum, else the limit.
fn pod_requests(spec: &mut Object) {
    let limits =
        spec.get("resources").and_then(|resources| resources.get("limits")).and_then(Value::as_object);
    let Some(limits) = limits.filter(|limits| !limits.is_empty()).cloned() else { return };
    let summed = container_requests(spec);
    let requests = spec.get_mut("resources").and_then(Value::as_object_mut);
    let Some(requests) = requests.and_then(|resources| object(resources, "requests")) else { return };
    for (resource, sum) in
        summed.into_iter().filter(|(resource, _)| matches!(resource.as_str(), "cpu" | "memory"))
    {
        requests.entry(resource).or_insert_with(|| json!(sum.to_string()));
    }
    for (resource, limit) in limits.into_iter().filter(|(resource, _)| is_pod_level(resource)) {
        requests.entry(resource).or_insert(limit);
    }
}

/// What the containers ask for together: regular ones and sidecars add up, init containers count at their
/// peak.
fn container_requests(spec: &Object) -> std::collections::BTreeMap<String, Quantity> {
    type Sum = std::collections::BTreeMap<String, Quantity>;
    let requests = |container: &Value| -> Sum {
        let requests = container.pointer("/resources/requests").and_then(Value::as_object).cloned();
        let entries = requests.unwrap_or_default().into_iter();
        entries.filter_map(|(name, text)| Some((name, text.as_str()?.parse().ok()?))).collect()
    };
    let add = |sum: &mut Sum, more: &Sum| {
        for (name, amount) in more {
            let own = sum.entry(name.clone()).or_insert(Quantity::ZERO);
            *own = own.plus(*amount);
        }
    };
    let raise = |sum: &mut Sum, peak: &Sum| {
        for (name, amount) in peak {
            let own = sum.entry(name.clone()).or_insert(Quantity::ZERO);
            *own = (*own).max(*amount);
        }
    };
    let list = |name: &str| spec.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let (mut sum, mut sidecars, mut peak) = (Sum::new(), Sum::new(), Sum::new());
    list("containers").iter().for_each(|container| add(&mut sum, &requests(container)));
    for container in list("initContainers") {
        let own = requests(&container);
        if container.get("restartPolicy") == Some(&json!("Always")) {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut peak, &sidecars.clone());
        } else {
            let mut while_running = sidecars.clone();
            add(&mut while_running, &own);
            raise(&mut peak, &while_running);
        }
    }
    raise(&mut sum, &peak);
    sum
}
