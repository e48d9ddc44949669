//! Events, in the core form and in that of `events.k8s.io`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, column, name, number, or, since, text, wide};
use crate::strategy::Cell;

const NAME: Column = super::name_column(1);

pub(crate) const COLUMNS: &[Column] = &[
    column("Last Seen", "string", "Time since the event was last seen."),
    column("Type", "string", "Normal or Warning."),
    column("Reason", "string", "Why, in one word for machines."),
    column("Object", "string", "What the event is about."),
    wide("Subobject", "string", "The part of the object the event is about."),
    wide("Source", "string", "Who reported the event, and from which node."),
    column("Message", "string", "What happened, for people."),
    wide("First Seen", "string", "Time since the event was first seen."),
    wide("Count", "string", "How often it happened."),
    NAME,
];

pub(crate) fn cells(event: &Value, now: Timestamp) -> Vec<Cell> {
    // The two forms name the same things differently.
    let either = |core: &str, events: &str| or(text(event, core), text(event, events)).to_string();
    let involved = |field: &str| either(&format!("involvedObject.{field}"), &format!("regarding.{field}"));
    let first =
        or(&either("firstTimestamp", "deprecatedFirstTimestamp"), text(event, "eventTime")).to_string();
    let series = &event["series"];
    let count = match (series["count"].as_i64(), number(event, "count").max(number(event, "deprecatedCount")))
    {
        (Some(count), _) => count,
        (None, 0) => 1,
        (None, count) => count,
    };
    let last = either("lastTimestamp", "deprecatedLastTimestamp");
    let last = if series.is_null() { or(&last, &first) } else { text(series, "lastObservedTime") };
    let kind = involved("kind").to_lowercase();
    let object = match involved("name").as_str() {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        json!(since(last, now)),
        json!(text(event, "type")),
        json!(text(event, "reason")),
        json!(object),
        json!(involved("fieldPath")),
        json!(source(event)),
        json!(either("message", "note").trim()),
        json!(since(&first, now)),
        json!(count),
        name(event),
    ]
}

fn source(event: &Value) -> String {
    let pick = |fields: [&'static str; 3]| {
        fields.into_iter().map(|field| text(event, field)).find(|one| !one.is_empty())
    };
    let component = pick(["source.component", "deprecatedSource.component", "reportingComponent"])
        .unwrap_or_else(|| text(event, "reportingController"));
    let host = pick(["source.host", "deprecatedSource.host", "reportingInstance"]).unwrap_or("");
    if host.is_empty() || component.is_empty() {
        component.to_string()
    } else {
        format!("{component}, {host}")
    }
}
