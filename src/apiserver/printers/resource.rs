//! Devices that pods claim (`resource.k8s.io`).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, column, items, name, text};
use crate::strategy::{Cell, Column};

pub(crate) const NAME_AND_AGE: &[Column] = &[NAME, AGE];

pub(crate) fn name_and_age(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), age(object, now)]
}

pub(crate) const RESOURCE_CLAIM: &[Column] =
    &[NAME, column("State", "string", "Whether devices are allocated and reserved."), AGE];

pub(crate) fn resource_claim(object: &Value, now: Timestamp) -> Vec<Cell> {
    let deleted = !text(object, "metadata.deletionTimestamp").is_empty();
    let allocated = !object["status"]["allocation"].is_null();
    let reserved = allocated && !items(object, "status.reservedFor").is_empty();
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (reserved, "reserved"),
    ];
    let states: Vec<&str> = states.iter().filter(|(is, _)| *is).map(|(_, state)| *state).collect();
    vec![name(object), json!(states.join(",")), age(object, now)]
}

pub(crate) const RESOURCE_SLICE: &[Column] = &[
    NAME,
    column("Node", "string", "The node that has the devices."),
    column("Driver", "string", "The driver of the devices."),
    column("Pool", "string", "The pool that the devices belong to."),
    AGE,
];

pub(crate) fn resource_slice(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = &object["spec"];
    vec![
        name(object),
        json!(text(spec, "nodeName")),
        json!(text(spec, "driver")),
        json!(text(spec, "pool.name")),
        age(object, now),
    ]
}
