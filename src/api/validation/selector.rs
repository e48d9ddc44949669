//! Rules for a `LabelSelector` inside an object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Faults, Path, invalid_each, label_value, qualified_name, validate_labels};
use crate::FieldError;

pub fn validate_label_selector(selector: &LabelSelector, at: &Path<'_>, faults: &mut Faults) {
    if let Some(labels) = &selector.match_labels {
        validate_labels(labels, &at.child("matchLabels"), faults);
    }
    let list = at.child("matchExpressions");
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let at = list.index(index);
        let values = expression.values.as_deref().unwrap_or(&[]);
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                let message = "must be specified when `operator` is 'In' or 'NotIn'";
                faults.push(FieldError::required(at.child("values"), message));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                faults.push(FieldError::forbidden(at.child("values"), message));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                faults.push(FieldError::invalid(
                    at.child("operator"),
                    other,
                    "not a valid selector operator",
                ));
            }
        }
        invalid_each(faults, &at.child("key"), &expression.key, qualified_name(&expression.key));
        let values_at = at.child("values");
        for (index, value) in values.iter().enumerate() {
            invalid_each(faults, &values_at.index(index), value, label_value(value));
        }
    }
}
