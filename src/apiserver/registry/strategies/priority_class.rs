//! Priority classes. Two are the system's own: their names, and priorities as high, are nobody else's.

use api::json::{number, text};
use api::validation::{Faults, Path, immutable};
use api::{ApiError, FieldError};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::rules::one_of;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

/// Name, value, description: what every cluster has.
pub(crate) const SYSTEM: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];
const SYSTEM_PREFIX: &str = "system-";
const HIGHEST: i64 = 1_000_000_000;
const POLICIES: [&str; 2] = ["PreemptLowerPriority", "Never"];

pub(super) struct PriorityClasses;

/// Why a class with such a name is not the system's.
fn foreign(tree: &Value) -> Option<String> {
    let name = text(tree, "metadata.name");
    let Some((_, value, _)) = SYSTEM.iter().find(|(own, ..)| *own == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if number(tree, "value") != *value {
        return Some(format!("value of {name} PriorityClass must be {value}"));
    }
    (tree["globalDefault"] == true).then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

impl Strategy for PriorityClasses {
    /// Upstream sets it and never counts on.
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        tree["metadata"]["generation"] = json!(1);
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        let mut faults = Faults::new();
        if text(tree, "metadata.name").starts_with(SYSTEM_PREFIX) {
            if let Some(why) = foreign(tree) {
                let message = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
                );
                faults.push(FieldError::forbidden("metadata.name", message));
            }
        } else if number(tree, "value") > HIGHEST {
            let message = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            faults.push(FieldError::forbidden("value", message));
        }
        if let Some(policy) = tree["preemptionPolicy"].as_str() {
            one_of(&mut faults, &Path::new("preemptionPolicy"), policy, &POLICIES);
        }
        faults
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = Faults::new();
        if number(new, "value") != number(old, "value") {
            faults.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        let at = Path::new("preemptionPolicy");
        immutable(&mut faults, &at, &new["preemptionPolicy"], &old["preemptionPolicy"]);
        faults
    }

    fn columns(&self) -> &[Column] {
        printers::classes::PRIORITY_CLASS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::classes::priority_class(tree, now)
    }
}
