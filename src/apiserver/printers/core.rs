//! Kinds of the core group with few columns, quotas and leases.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    AGE, CONTAINERS, IMAGES, NAME, age, column, containers, items, label_map, name, number, text, wide,
};
use crate::strategy::{Cell, Column};

pub(crate) const NAMESPACE: &[Column] =
    &[NAME, column("Status", "string", "The status of the namespace"), AGE];

pub(crate) fn namespace(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(text(object, "status.phase")), age(object, now)]
}

pub(crate) const CONFIG_MAP: &[Column] = &[NAME, column("Data", "string", "Number of keys."), AGE];

pub(crate) fn config_map(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(keys(&object["data"]) + keys(&object["binaryData"])), age(object, now)]
}

pub(crate) const SECRET: &[Column] = &[
    NAME,
    column("Type", "string", "What the secret is for, which decides the keys it must have."),
    column("Data", "string", "Number of keys."),
    AGE,
];

pub(crate) fn secret(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(text(object, "type")), json!(keys(&object["data"])), age(object, now)]
}

pub(crate) const SERVICE_ACCOUNT: &[Column] = &[NAME, AGE];

pub(crate) fn service_account(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), age(object, now)]
}

pub(crate) const LEASE: &[Column] = &[NAME, column("Holder", "string", "Who holds the lease."), AGE];

pub(crate) fn lease(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(text(object, "spec.holderIdentity")), age(object, now)]
}

pub(crate) const RESOURCE_QUOTA: &[Column] = &[
    NAME,
    column("Request", "string", "What is used and what may be, of requests and objects."),
    column("Limit", "string", "What is used and what may be, of limits."),
    AGE,
];

pub(crate) fn resource_quota(object: &Value, now: Timestamp) -> Vec<Cell> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let mut hard: Vec<_> = object["status"]["hard"].as_object().into_iter().flatten().collect();
    hard.sort_by_key(|(resource, _)| *resource);
    for (resource, amount) in hard {
        let used = object["status"]["used"][resource.as_str()].as_str().unwrap_or("0");
        let shown = format!("{resource}: {used}/{}", amount.as_str().unwrap_or("0"));
        if resource.starts_with("limits.") { limits.push(shown) } else { requests.push(shown) }
    }
    vec![name(object), json!(requests.join(", ")), json!(limits.join(", ")), age(object, now)]
}

fn keys(map: &Value) -> usize {
    map.as_object().map_or(0, serde_json::Map::len)
}

pub(crate) const REPLICATION_CONTROLLER: &[Column] = &[
    NAME,
    column("Desired", "integer", "Number of pods that are wanted."),
    column("Current", "integer", "Number of pods that exist."),
    column("Ready", "integer", "Number of pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    wide("Selector", "string", "Labels of the pods that belong to it."),
];

pub(crate) fn replication_controller(object: &Value, now: Timestamp) -> Vec<Cell> {
    let [names, images] = containers(&object["spec"]["template"]);
    vec![
        name(object),
        json!(number(object, "spec.replicas")),
        json!(number(object, "status.replicas")),
        json!(number(object, "status.readyReplicas")),
        age(object, now),
        names,
        images,
        label_map(&object["spec"]["selector"]),
    ]
}

pub(crate) const POD_TEMPLATE: &[Column] = &[
    NAME,
    column("Containers", "string", "Names of each container in the template."),
    column("Images", "string", "Images referenced by each container in the template."),
    column("Pod Labels", "string", "The labels for the pod template."),
];

pub(crate) fn pod_template(object: &Value, _now: Timestamp) -> Vec<Cell> {
    let [names, images] = containers(&object["template"]);
    vec![name(object), names, images, label_map(&object["template"]["metadata"]["labels"])]
}

pub(crate) const COMPONENT_STATUS: &[Column] = &[
    NAME,
    column("Status", "string", "Status of the component conditions"),
    column("Message", "string", "Message of the component conditions"),
    column("Error", "string", "Error of the component conditions"),
];

pub(crate) fn component_status(object: &Value, _now: Timestamp) -> Vec<Cell> {
    let healthy = items(object, "conditions").iter().find(|one| text(one, "type") == "Healthy");
    let status = match healthy {
        None => "Unknown",
        Some(healthy) if text(healthy, "status") == "True" => "Healthy",
        Some(_) => "Unhealthy",
    };
    let told = |field: &str| json!(healthy.map_or("", |healthy| text(healthy, field)));
    vec![name(object), json!(status), told("message"), told("error")]
}
