//! Defaults of a pod that depend on other fields; the schema knows the others.

use serde_json::{Map, Value, json};

use crate::registry::strategies::{default_to, items_mut, object};

/// Keys of a volume that are no source.
const NAME_ONLY: usize = 1;

/// Defaults of a pod itself.
pub(crate) fn pod(tree: &mut Value) {
    spec(tree);
    let Some(spec) = tree.get_mut("spec") else { return };
    let host_network = spec["hostNetwork"] == true;
    for list in ["containers", "initContainers"] {
        for container in items_mut(spec, list) {
            requests_from_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
}

/// Defaults of the `spec` in a pod or in a template of one.
pub(crate) fn spec(pod_or_template: &mut Value) {
    let Some(spec) = object(pod_or_template, "spec") else { return };
    default_to(spec, "restartPolicy", "Always");
    default_to(spec, "dnsPolicy", "ClusterFirst");
    default_to(spec, "schedulerName", "default-scheduler");
    default_to(spec, "terminationGracePeriodSeconds", 30);
    default_to(spec, "securityContext", json!({}));
    both_account_names(spec);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container_defaults(container);
            }
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(volume) = volume.as_object_mut()
            && volume.values().filter(|value| !value.is_null()).count() <= NAME_ONLY
            && volume.contains_key("name")
        {
            volume.insert("emptyDir".into(), json!({}));
        }
    }
}

/// The account is written under its old name too, for clients that know no other.
fn both_account_names(spec: &mut Map<String, Value>) {
    let of = |spec: &Map<String, Value>, key: &str| {
        spec.get(key).and_then(Value::as_str).unwrap_or("").to_string()
    };
    let (name, old) = (of(spec, "serviceAccountName"), of(spec, "serviceAccount"));
    let name = if name.is_empty() { old } else { name };
    if !name.is_empty() {
        spec.insert("serviceAccountName".into(), json!(name));
        spec.insert("serviceAccount".into(), json!(name));
    }
}

fn container_defaults(container: &mut Map<String, Value>) {
    default_to(container, "terminationMessagePath", "/dev/termination-log");
    default_to(container, "terminationMessagePolicy", "File");
    default_to(container, "resources", json!({}));
    if container.get("imagePullPolicy").and_then(Value::as_str).unwrap_or("").is_empty() {
        let image = container.get("image").and_then(Value::as_str).unwrap_or("");
        let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
        container.insert("imagePullPolicy".into(), json!(policy));
    }
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            default_to(port, "protocol", "TCP");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
            probe_defaults(probe);
        }
    }
}

/// A probe's zeroes mean "as usual".
fn probe_defaults(probe: &mut Map<String, Value>) {
    for (field, usual) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if probe.get(field).and_then(Value::as_i64).unwrap_or(0) == 0 {
            probe.insert(field.into(), json!(usual));
        }
    }
    if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
        for (field, usual) in [("path", "/"), ("scheme", "HTTP")] {
            if get.get(field).and_then(Value::as_str).unwrap_or("").is_empty() {
                get.insert(field.into(), json!(usual));
            }
        }
    }
    if let Some(grpc) = probe.get_mut("grpc").and_then(Value::as_object_mut) {
        default_to(grpc, "service", "");
    }
}

/// Whether an image means "the newest": tag `latest`, or neither tag nor digest.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

/// What is limited and not requested is requested in full.
fn requests_from_limits(container: &mut Value) {
    let Some(resources) = container.get_mut("resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let Some(requests) = object(resources, "requests") else { return };
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// On the host's network a container's port is the host's.
fn host_ports(container: &mut Value) {
    for port in items_mut(container, "ports").iter_mut().filter_map(Value::as_object_mut) {
        if port.get("hostPort").and_then(Value::as_i64).unwrap_or(0) == 0
            && let Some(own) = port.get("containerPort").cloned()
        {
            port.insert("hostPort".into(), own);
        }
    }
}
