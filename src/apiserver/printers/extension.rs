//! What extends the API server: webhooks, admission policies and their bindings, API services.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, column, items, label_selector, name, text};
use crate::strategy::{Cell, Column};

pub(crate) const WEBHOOKS: &[Column] =
    &[NAME, column("Webhooks", "integer", "How many webhooks there are."), AGE];

pub(crate) fn webhooks(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(items(object, "webhooks").len()), age(object, now)]
}

const PARAM_KIND: Column = column("ParamKind", "string", "The kind of the policy's parameters.");
pub(crate) const VALIDATING_POLICY: &[Column] =
    &[NAME, column("Validations", "integer", "How many expressions validate."), PARAM_KIND, AGE];
pub(crate) const MUTATING_POLICY: &[Column] =
    &[NAME, column("Mutations", "integer", "How many changes there are."), PARAM_KIND, AGE];

/// `rules` is the list that is counted.
pub(crate) fn policy(object: &Value, rules: &str, now: Timestamp) -> Vec<Cell> {
    let kind = match &object["spec"]["paramKind"] {
        Value::Null => "<unset>".to_string(),
        kind => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")),
    };
    vec![name(object), json!(items(&object["spec"], rules).len()), json!(kind), age(object, now)]
}

pub(crate) const POLICY_BINDING: &[Column] = &[
    NAME,
    column("PolicyName", "string", "The policy that is bound."),
    column("ParamRef", "string", "The parameters that the policy gets."),
    AGE,
];

pub(crate) fn policy_binding(object: &Value, now: Timestamp) -> Vec<Cell> {
    let parameters = &object["spec"]["paramRef"];
    let shown = match (text(parameters, "namespace"), text(parameters, "name")) {
        (_, "") if parameters["selector"].is_null() => json!("<unset>"),
        (_, "") => label_selector(&parameters["selector"]),
        // Whether the parameters have a namespace is not known here.
        ("", name) => json!(format!("*/{name}")),
        (namespace, name) => json!(format!("{namespace}/{name}")),
    };
    vec![name(object), json!(text(object, "spec.policyName")), shown, age(object, now)]
}

pub(crate) const API_SERVICE: &[Column] = &[
    NAME,
    column("Service", "string", "The service that serves the group, or Local."),
    column("Available", "string", "Whether the group is served."),
    AGE,
];

pub(crate) fn api_service(object: &Value, now: Timestamp) -> Vec<Cell> {
    let service = match &object["spec"]["service"] {
        Value::Null => "Local".to_string(),
        service => format!("{}/{}", text(service, "namespace"), text(service, "name")),
    };
    let condition = items(object, "status.conditions").iter().find(|one| one["type"] == "Available");
    let available = match condition {
        None => "Unknown".to_string(),
        Some(one) if one["status"] == "True" || text(one, "reason").is_empty() => {
            text(one, "status").to_string()
        }
        Some(one) => format!("{} ({})", text(one, "status"), text(one, "reason")),
    };
    vec![name(object), json!(service), json!(available), age(object, now)]
}
