//! Conditions of the common form (`meta/v1.Condition`), which newer kinds have in their status.

use std::collections::HashSet;

use serde_json::Value;

use super::names::{condition_reason, qualified_name};
use super::{Faults, Path, invalid_each};
use crate::FieldError;

const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const MAX_REASON: usize = 1024;
const MAX_MESSAGE: usize = 32 * 1024;

/// All faults of a list of conditions; absent is empty.
pub fn validate_conditions(conditions: &Value, at: &Path<'_>, faults: &mut Faults) {
    let mut seen = HashSet::new();
    for (index, condition) in conditions.as_array().into_iter().flatten().enumerate() {
        let at = at.index(index);
        let text = |field: &str| condition[field].as_str().unwrap_or("");
        let (kind, status, reason) = (text("type"), text("status"), text("reason"));
        if !seen.insert(kind) {
            faults.push(FieldError::duplicate(at.child("type"), kind));
        }
        invalid_each(faults, &at.child("type"), kind, qualified_name(kind));
        if !STATUSES.contains(&status) {
            faults.push(FieldError::not_supported(at.child("status"), status, &STATUSES));
        }
        if let Some(generation) = condition["observedGeneration"].as_i64().filter(|number| *number < 0) {
            let message = "must be greater than or equal to zero";
            faults.push(FieldError::invalid(at.child("observedGeneration"), generation, message));
        }
        if text("lastTransitionTime").is_empty() {
            faults.push(FieldError::required(at.child("lastTransitionTime"), ""));
        }
        if reason.is_empty() {
            faults.push(FieldError::required(at.child("reason"), ""));
        } else {
            invalid_each(faults, &at.child("reason"), reason, condition_reason(reason));
        }
        for (field, max) in [("reason", MAX_REASON), ("message", MAX_MESSAGE)] {
            if text(field).len() > max {
                faults.push(FieldError::too_long(at.child(field), max));
            }
        }
    }
}
