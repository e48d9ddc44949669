//! Deployments, replica sets, stateful sets, daemon sets and their revisions.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    AGE, CONTAINERS, IMAGES, NAME, age, column, containers, items, label_map, label_selector, name, number,
    text, wide,
};
use crate::strategy::{Cell, Column};

const SELECTOR: Column = wide("Selector", "string", "Labels of the pods that belong to it.");

pub(crate) const DEPLOYMENT: &[Column] = &[
    NAME,
    column("Ready", "string", "Number of the pod with ready state"),
    column("Up-to-date", "string", "Pods that run the present template."),
    column("Available", "string", "Pods that have been ready for at least minReadySeconds."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) fn deployment(object: &Value, now: Timestamp) -> Vec<Cell> {
    let ready = format!("{}/{}", number(object, "status.readyReplicas"), number(object, "spec.replicas"));
    let [names, images] = containers(&object["spec"]["template"]);
    vec![
        name(object),
        json!(ready),
        json!(number(object, "status.updatedReplicas")),
        json!(number(object, "status.availableReplicas")),
        age(object, now),
        names,
        images,
        label_selector(&object["spec"]["selector"]),
    ]
}

pub(crate) const REPLICA_SET: &[Column] = &[
    NAME,
    column("Desired", "integer", "Number of pods that are wanted."),
    column("Current", "integer", "Number of pods that exist."),
    column("Ready", "integer", "Number of pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) fn replica_set(object: &Value, now: Timestamp) -> Vec<Cell> {
    let [names, images] = containers(&object["spec"]["template"]);
    vec![
        name(object),
        json!(number(object, "spec.replicas")),
        json!(number(object, "status.replicas")),
        json!(number(object, "status.readyReplicas")),
        age(object, now),
        names,
        images,
        label_selector(&object["spec"]["selector"]),
    ]
}

pub(crate) const STATEFUL_SET: &[Column] =
    &[NAME, column("Ready", "string", "Number of the pod with ready state"), AGE, CONTAINERS, IMAGES];

pub(crate) fn stateful_set(object: &Value, now: Timestamp) -> Vec<Cell> {
    let ready = format!("{}/{}", number(object, "status.readyReplicas"), number(object, "spec.replicas"));
    let [names, images] = containers(&object["spec"]["template"]);
    vec![name(object), json!(ready), age(object, now), names, images]
}

pub(crate) const DAEMON_SET: &[Column] = &[
    NAME,
    column("Desired", "integer", "Number of nodes that are to run the pod."),
    column("Current", "integer", "Number of nodes that run the pod and are to."),
    column("Ready", "integer", "Number of nodes whose pod is ready."),
    column("Up-to-date", "integer", "Number of nodes whose pod has the present template."),
    column("Available", "integer", "Number of nodes whose pod has been ready for at least minReadySeconds."),
    column("Node Selector", "string", "Labels that a node must have to run the pod."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) fn daemon_set(object: &Value, now: Timestamp) -> Vec<Cell> {
    let template = &object["spec"]["template"];
    let [names, images] = containers(template);
    let count = |field: &str| json!(number(&object["status"], field));
    vec![
        name(object),
        count("desiredNumberScheduled"),
        count("currentNumberScheduled"),
        count("numberReady"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
        label_map(&template["spec"]["nodeSelector"]),
        age(object, now),
        names,
        images,
        label_selector(&object["spec"]["selector"]),
    ]
}

pub(crate) const CONTROLLER_REVISION: &[Column] = &[
    NAME,
    column("Controller", "string", "Controller of the object"),
    column("Revision", "string", "Number of the state that it keeps."),
    AGE,
];

pub(crate) fn controller_revision(object: &Value, now: Timestamp) -> Vec<Cell> {
    let owners = items(object, "metadata.ownerReferences");
    let controller = match owners.iter().find(|owner| owner["controller"] == true) {
        None => "<none>".to_string(),
        Some(owner) => {
            let group = text(owner, "apiVersion")
                .split_once('/')
                .map_or(String::new(), |(group, _)| format!(".{group}"));
            format!("{}/{}", format!("{}{group}", text(owner, "kind")).to_lowercase(), text(owner, "name"))
        }
    };
    vec![name(object), json!(controller), json!(number(object, "revision")), age(object, now)]
}
