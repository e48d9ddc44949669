//! Classes of pods (priority, runtime), and the objects of flow control.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, column, items, name, number, or, text};
use crate::strategy::{Cell, Column};

pub(crate) const PRIORITY_CLASS: &[Column] = &[
    NAME,
    column("Value", "integer", "The priority of the pods of the class."),
    column("Global-Default", "boolean", "Whether pods that name no class have this one."),
    AGE,
    column("PreemptionPolicy", "string", "Whether the pods of the class may push others out."),
];

pub(crate) fn priority_class(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![
        name(object),
        json!(number(object, "value")),
        json!(object["globalDefault"] == true),
        age(object, now),
        json!(text(object, "preemptionPolicy")),
    ]
}

pub(crate) const RUNTIME_CLASS: &[Column] =
    &[NAME, column("Handler", "string", "What the container runtime calls the class."), AGE];

pub(crate) fn runtime_class(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(text(object, "handler")), age(object, now)]
}

pub(crate) const FLOW_SCHEMA: &[Column] = &[
    NAME,
    column("PriorityLevel", "string", "The level that the requests go to."),
    column("MatchingPrecedence", "string", "Of several schemas that match the lowest counts."),
    column("DistinguisherMethod", "string", "How requests are told apart into flows."),
    AGE,
    column("MissingPL", "string", "Whether the level is missing."),
];

pub(crate) fn flow_schema(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = &object["spec"];
    let dangling = items(object, "status.conditions").iter().find(|one| one["type"] == "Dangling");
    vec![
        name(object),
        json!(text(spec, "priorityLevelConfiguration.name")),
        json!(number(spec, "matchingPrecedence")),
        json!(or(text(spec, "distinguisherMethod.type"), "<none>")),
        age(object, now),
        json!(dangling.map_or("?", |one| text(one, "status"))),
    ]
}

pub(crate) const PRIORITY_LEVEL_CONFIGURATION: &[Column] = &[
    NAME,
    column("Type", "string", "Whether requests of the level are limited."),
    column("NominalConcurrencyShares", "string", "The level's share of all seats."),
    column("Queues", "string", "How many queues the level has."),
    column("HandSize", "string", "How many queues a flow chooses from."),
    column("QueueLengthLimit", "string", "How many requests wait in a queue."),
    AGE,
];

pub(crate) fn priority_level_configuration(object: &Value, now: Timestamp) -> Vec<Cell> {
    let limited = &object["spec"]["limited"];
    let queuing = &limited["limitResponse"]["queuing"];
    let count = |value: &Value| if value.is_null() { json!("<none>") } else { value.clone() };
    vec![
        name(object),
        json!(text(object, "spec.type")),
        count(&limited["nominalConcurrencyShares"]),
        count(&queuing["queues"]),
        count(&queuing["handSize"]),
        count(&queuing["queueLengthLimit"]),
        age(object, now),
    ]
}
