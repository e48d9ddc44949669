//! Disruption budgets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, at, column, name, number};
use crate::strategy::{Cell, Column};

pub(crate) const DISRUPTION_BUDGET: &[Column] = &[
    NAME,
    column("Min Available", "string", "The minimum number of pods that must be available."),
    column("Max Unavailable", "string", "The maximum number of pods that may be unavailable."),
    column("Allowed Disruptions", "integer", "Calculated number of pods that may be disrupted at this time."),
    AGE,
];

pub(crate) fn disruption_budget(object: &Value, now: Timestamp) -> Vec<Cell> {
    let amount = |path| match at(object, path) {
        Value::Null => json!("N/A"),
        Value::Number(count) => json!(count.to_string()),
        other => other.clone(),
    };
    vec![
        name(object),
        amount("spec.minAvailable"),
        amount("spec.maxUnavailable"),
        json!(number(object, "status.disruptionsAllowed")),
        age(object, now),
    ]
}
