//! Conditions of a definition, and the finalizer that holds it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::registry::time;
use api::json::items;

/// The finalizer that holds a definition until its instances are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// A condition of a definition.
pub(crate) struct Condition<'a> {
    pub(crate) kind: &'a str,
    pub(crate) holds: bool,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
}

pub(crate) fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a Value> {
    items(definition, "status.conditions").iter().find(|one| one["type"] == kind)
}

pub(crate) fn is_true(definition: &Value, kind: &str) -> bool {
    condition(definition, kind).is_some_and(|one| one["status"] == "True")
}

/// Sets a condition; its time is that of the last change of its status. Tells whether anything changed.
pub(crate) fn set_condition(definition: &mut Value, condition: &Condition<'_>) -> bool {
    let status = if condition.holds { "True" } else { "False" };
    let mut all = items(definition, "status.conditions").to_vec();
    let old = all.iter().position(|one| one["type"] == condition.kind);
    let since = match old {
        // One without a time, which others may write, would never be the same as what is stored of it.
        Some(at) if all[at]["status"] == status && all[at]["lastTransitionTime"].is_string() => {
            all[at]["lastTransitionTime"].clone()
        }
        _ => json!(time(Timestamp::now())),
    };
    let new = json!({
        "type": condition.kind, "status": status, "lastTransitionTime": since,
        "reason": condition.reason, "message": condition.message,
    });
    match old {
        Some(at) if all[at] == new => return false,
        Some(at) => all[at] = new,
        None => all.push(new),
    }
    definition["status"]["conditions"] = json!(all);
    true
}
