//! Roles and bindings.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, CREATED_AT, NAME, age, column, items, name, text, wide};
use crate::strategy::{Cell, Column};

pub(crate) const ROLE: &[Column] = &[NAME, CREATED_AT];

pub(crate) fn role(object: &Value, _now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(text(object, "metadata.creationTimestamp"))]
}

pub(crate) const BINDING: &[Column] = &[
    NAME,
    column("Role", "string", "The role that is granted."),
    AGE,
    wide("Users", "string", "Users in the binding"),
    wide("Groups", "string", "Groups in the binding"),
    wide("ServiceAccounts", "string", "ServiceAccounts in the binding"),
];

pub(crate) fn binding(object: &Value, now: Timestamp) -> Vec<Cell> {
    let of = |kind: &str| {
        let own = items(object, "subjects").iter().filter(|one| text(one, "kind") == kind);
        let names: Vec<String> = own
            .map(|one| match kind {
                "ServiceAccount" => format!("{}/{}", text(one, "namespace"), text(one, "name")),
                _ => text(one, "name").to_string(),
            })
            .collect();
        json!(names.join(", "))
    };
    let role = format!("{}/{}", text(object, "roleRef.kind"), text(object, "roleRef.name"));
    vec![name(object), json!(role), age(object, now), of("User"), of("Group"), of("ServiceAccount")]
}
