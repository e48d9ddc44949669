//! Events: `v1` is stored, and `events.k8s.io/v1` holds the same facts under other names. The tables below
//! are upstream's conversion.

use api::ApiError;
use client::BoxFuture;
use serde_json::{Map, Value, json};

use super::Conversion;

const CORE: &str = "v1";

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

/// The conversion of events.
pub(super) struct Events;

impl Conversion for Events {
    fn convert<'a>(
        &'a self,
        mut objects: Vec<Value>,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Value>, ApiError>> {
        objects.iter_mut().filter(|object| object["apiVersion"] != version).for_each(|object| {
            rename(object, version == CORE);
            object["apiVersion"] = json!(version);
        });
        Box::pin(std::future::ready(Ok(objects)))
    }

    fn stored_path(&self, path: &str) -> String {
        for (new, core) in SELECTORS {
            if let Some(rest) = path.strip_prefix(new) {
                return format!("{core}{rest}");
            }
        }
        path.to_string()
    }
}

fn rename(tree: &mut Value, to_core: bool) {
    let Some(members) = tree.as_object_mut() else { return };
    let mut renamed = Map::new();
    for (new, core) in RENAMED {
        let (from, to) = if to_core { (new, core) } else { (core, new) };
        if let Some(value) = members.remove(*from) {
            renamed.insert((*to).into(), value);
        }
    }
    members.extend(renamed);
}
