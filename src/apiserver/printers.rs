//! Cells of server-side tables: upstream's columns, one file per family of kinds.
//!
//! Everything works on the JSON tree, absent fields and all: an object made by another version of a type
//! still prints.

pub(crate) mod apps;
pub(crate) mod autoscaling;
pub(crate) mod batch;
pub(crate) mod certificates;
pub(crate) mod classes;
pub(crate) mod core;
pub(crate) mod discovery;
pub(crate) mod event;
pub(crate) mod extension;
pub(crate) mod networking;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod policy;
pub(crate) mod rbac;
pub(crate) mod resource;
pub(crate) mod service;
pub(crate) mod storage;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use api::LabelSelector;
pub(crate) use api::json::{at, items, number, text};
use jiff::Timestamp;
use serde_json::Value;

use crate::strategy::Column;

/// A column that is always shown.
pub(crate) const fn column(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    made(name, kind, "", description, 0)
}

/// A column of `-o wide`.
pub(crate) const fn wide(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    made(name, kind, "", description, 1)
}

/// The primary column.
const fn name_column(priority: i32) -> Column {
    made("Name", "string", "name", "Name must be unique within a namespace.", priority)
}

const fn made(
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    description: &'static str,
    priority: i32,
) -> Column {
    Column {
        name: Cow::Borrowed(name),
        kind: Cow::Borrowed(kind),
        format: Cow::Borrowed(format),
        description: Cow::Borrowed(description),
        priority,
    }
}

pub(crate) const NAME: Column = name_column(0);
pub(crate) const AGE: Column = column("Age", "string", "Time since the server stored the object.");
pub(crate) const CREATED_AT: Column =
    column("Created At", "date", "Time at which the server stored the object.");
pub(crate) const CONTAINERS: Column =
    wide("Containers", "string", "Names of each container in the template.");
pub(crate) const IMAGES: Column =
    wide("Images", "string", "Images referenced by each container in the template.");

pub(crate) fn or<'a>(text: &'a str, instead: &'a str) -> &'a str {
    if text.is_empty() { instead } else { text }
}

pub(crate) fn name(object: &Value) -> Value {
    text(object, "metadata.name").into()
}

pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    since(text(object, "metadata.creationTimestamp"), now).into()
}

/// Time passed since an RFC 3339 time; `<unknown>` if there is none.
pub(crate) fn since(time: &str, now: Timestamp) -> String {
    match api::time::parse(time) {
        Some(then) => api::time::human_duration(now.duration_since(then)),
        None => "<unknown>".to_string(),
    }
}

/// Names and images of a pod template's containers, comma-separated.
pub(crate) fn containers(template: &Value) -> [Value; 2] {
    ["name", "image"].map(|field| {
        let parts: Vec<&str> =
            items(template, "spec.containers").iter().map(|one| text(one, field)).collect();
        parts.join(",").into()
    })
}

/// A `LabelSelector`; `<none>` if it selects everything.
pub(crate) fn label_selector(selector: &Value) -> Value {
    let parsed = serde_json::from_value(selector.clone()).ok();
    let selector = LabelSelector::from_meta(parsed.as_ref());
    let printed = if selector.nothing { Cow::Borrowed("") } else { Cow::Owned(selector.to_string()) };
    or(&printed, "<none>").into()
}

/// A plain map of labels, `a=b,c=d`; `<none>` if it is empty.
pub(crate) fn label_map(labels: &Value) -> Value {
    let pairs = labels.as_object().into_iter().flatten();
    let parts: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
    or(&parts.join(","), "<none>").into()
}

/// At most three of a list, then how many more there are.
pub(crate) fn first_three(list: &[String]) -> String {
    const SHOWN: usize = 3;
    match list.len() {
        0..=SHOWN => list.join(","),
        all => format!("{} + {} more...", list[..SHOWN].join(","), all - SHOWN),
    }
}
