//! Between the versions of a kind: today only events, which `v1` and `events.k8s.io/v1` serve from one storage.
//!
//! Both forms hold the same facts under other names; the tables below are upstream's conversion.

use api::KindRow;
use serde_json::{Map, Value, json};

/// `events.k8s.io/v1` name, core name.
const RENAMED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

/// Field selector paths of `events.k8s.io/v1` and what they are called in storage.
const SELECTORS: &[(&str, &str)] =
    &[("regarding.", "involvedObject."), ("reportingController", "reportingComponent")];

/// From the stored form to a row's.
pub(super) fn outward(row: &KindRow, mut tree: Value) -> Value {
    rename(row, &mut tree, |(new, core)| (*core, *new));
    tree
}

/// From a row's form to the stored one.
pub(super) fn inward(row: &KindRow, mut tree: Value) -> Value {
    rename(row, &mut tree, |(new, core)| (*new, *core));
    tree["apiVersion"] = json!(row.stored_as.as_deref().unwrap_or("v1"));
    tree
}

fn rename(
    row: &KindRow,
    tree: &mut Value,
    direction: fn(&(&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Some(members) = tree.as_object_mut() else { return };
    let mut renamed = Map::new();
    for pair in RENAMED {
        let (from, to) = direction(pair);
        if let Some(value) = members.remove(from) {
            renamed.insert(to.into(), value);
        }
    }
    members.extend(renamed);
    members.insert("apiVersion".into(), json!(row.api_version()));
}

/// A row's field selector path as the stored form calls it.
pub(super) fn stored_path(path: &str) -> String {
    for (new, core) in SELECTORS {
        if let Some(rest) = path.strip_prefix(new) {
            return format!("{core}{rest}");
        }
    }
    path.to_string()
}
