//! Deployments and replica sets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, CONTAINERS, IMAGES, NAME, age, column, containers, label_selector, name, number, wide};
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
