//! Rules for a `LabelSelector` inside an object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Faults, Path, invalid_each, label_value, qualified_name, validate_labels};
use crate::FieldError;

/// Whether an operator is one of those on sets, which selectors of labels and of nodes share; faults if its
/// values are not as it wants them.
pub fn validate_set_operator(operator: &str, values: &[String], at: &Path<'_>, faults: &mut Faults) -> bool {
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let message = "must be specified when `operator` is 'In' or 'NotIn'";
            faults.push(FieldError::required(at.child("values"), message));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            faults.push(FieldError::forbidden(at.child("values"), message));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => return false,
    }
    true
}

pub fn validate_label_selector(selector: &LabelSelector, at: &Path<'_>, faults: &mut Faults) {
    if let Some(labels) = &selector.match_labels {
        validate_labels(labels, &at.child("matchLabels"), faults);
    }
    let list = at.child("matchExpressions");
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let at = list.index(index);
        let values = expression.values.as_deref().unwrap_or(&[]);
        let operator = expression.operator.as_str();
        if !validate_set_operator(operator, values, &at, faults) {
            faults.push(FieldError::invalid(at.child("operator"), operator, "not a valid selector operator"));
        }
        invalid_each(faults, &at.child("key"), &expression.key, qualified_name(&expression.key));
        let values_at = at.child("values");
        for (index, value) in values.iter().enumerate() {
            invalid_each(faults, &values_at.index(index), value, label_value(value));
        }
    }
}
