//! Flow schemas and priority levels. Four objects are fixed: whoever writes them, they say what upstream's
//! say.

mod level;
pub(crate) mod objects;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use api::FieldError;
use api::json::{items, number, text};
use api::validation::{Faults, Path, dns1123_label, dns1123_subdomain, invalid_each};
use jiff::Timestamp;
use serde_json::Value;

use super::rules::{one_of, required_fields, same, subdomain};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

pub(super) use level::PriorityLevels;
use objects::fixed_schema;

const METHODS: [&str; 2] = ["ByNamespace", "ByUser"];
const SUBJECTS: [&str; 3] = ["Group", "ServiceAccount", "User"];
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const MAX_PRECEDENCE: i64 = 10_000;

pub(super) struct FlowSchemas;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let (name, spec) = (text(tree, "metadata.name"), &tree["spec"]);
    let at = Path::new("spec");
    let precedence = number(spec, "matchingPrecedence");
    let field = at.child("matchingPrecedence");
    if precedence <= 0 {
        faults.push(FieldError::invalid(field, precedence, "must be a positive value"));
    }
    if precedence > MAX_PRECEDENCE {
        let message = format!("must not be greater than {MAX_PRECEDENCE}");
        faults.push(FieldError::invalid(field, precedence, message));
    }
    if precedence == 1 && name != "exempt" {
        let message = "only the schema named 'exempt' may have matchingPrecedence 1";
        faults.push(FieldError::invalid(field, precedence, message));
    }
    if !spec["distinguisherMethod"].is_null() {
        let field = at.child("distinguisherMethod");
        one_of(&mut faults, &field.child("type"), text(spec, "distinguisherMethod.type"), &METHODS);
    }
    let field = at.child("priorityLevelConfiguration");
    match text(spec, "priorityLevelConfiguration.name") {
        "" => faults.push(FieldError::required(field.child("name"), "must reference a priority level")),
        level => subdomain(&mut faults, &field.child("name"), level),
    }
    let list = at.child("rules");
    for (index, one) in items(spec, "rules").iter().enumerate() {
        rule(one, &list.index(index), &mut faults);
    }
    if let Some(fixed) = fixed_schema(name)
        && !same(spec, &fixed)
    {
        faults.push(FieldError::invalid(at, spec, format!("spec of '{name}' must equal the fixed value")));
    }
    conditions(tree, &mut faults);
    faults
}

fn rule(rule: &Value, at: &Path<'_>, faults: &mut Faults) {
    let list = at.child("subjects");
    let subjects = items(rule, "subjects");
    for (index, one) in subjects.iter().enumerate() {
        subject(one, &list.index(index), faults);
    }
    if subjects.is_empty() {
        faults.push(FieldError::required(list, "subjects must contain at least one value"));
    }
    let (resources, paths) = (items(rule, "resourceRules"), items(rule, "nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        let message = "at least one of resourceRules and nonResourceRules has to be non-empty";
        faults.push(FieldError::required(at, message));
    }
    let list = at.child("resourceRules");
    for (index, one) in resources.iter().enumerate() {
        resource_rule(one, &list.index(index), faults);
    }
    let list = at.child("nonResourceRules");
    for (index, one) in paths.iter().enumerate() {
        path_rule(one, &list.index(index), faults);
    }
}

fn subject(subject: &Value, at: &Path<'_>, faults: &mut Faults) {
    let kind = text(subject, "kind");
    if !SUBJECTS.contains(&kind) {
        return one_of(faults, &at.child("kind"), kind, &SUBJECTS);
    }
    for (own, field) in [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")] {
        let (at, named) = (at.child(field), &subject[field]);
        match (own == kind, named.is_null()) {
            (false, false) => {
                let message = format!("{field} is forbidden when subject kind is not '{own}'");
                faults.push(FieldError::forbidden(at, message));
            }
            (true, true) => {
                let message = format!("{field} is required when subject kind is '{own}'");
                faults.push(FieldError::required(at, message));
            }
            (true, false) if own == "ServiceAccount" => account(named, &at, faults),
            (true, false) => required_fields(faults, &at, named, &["name"]),
            (false, true) => {}
        }
    }
}

fn account(account: &Value, at: &Path<'_>, faults: &mut Faults) {
    match text(account, "name") {
        "" => faults.push(FieldError::required(at.child("name"), "")),
        "*" => {}
        name => invalid_each(faults, &at.child("name"), name, dns1123_subdomain(name)),
    }
    let field = at.child("namespace");
    match text(account, "namespace") {
        "" => faults.push(FieldError::required(field, "must specify namespace for service account")),
        name => invalid_each(faults, &field, name, dns1123_label(name)),
    }
}

fn has_wildcard(list: &[Value]) -> bool {
    list.iter().any(|one| one == "*")
}

/// A wildcard stands alone.
fn alone(list: &[Value], what: &str, at: &Path<'_>, faults: &mut Faults) {
    if has_wildcard(list) && list.len() > 1 {
        let message = format!("if '*' is present, must not specify other {what}");
        faults.push(FieldError::invalid(at, list, message));
    }
}

fn verbs(rule: &Value, at: &Path<'_>, faults: &mut Faults) {
    let (at, list) = (at.child("verbs"), items(rule, "verbs"));
    if list.is_empty() {
        faults.push(FieldError::required(at, "verbs must contain at least one value"));
    } else if has_wildcard(list) {
        alone(list, "verbs", &at, faults);
    } else if list.iter().filter_map(Value::as_str).any(|verb| !VERBS.contains(&verb)) {
        faults.push(FieldError::not_supported(at, list, &VERBS));
    }
}

fn resource_rule(rule: &Value, at: &Path<'_>, faults: &mut Faults) {
    verbs(rule, at, faults);
    for (field, one, others) in
        [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")]
    {
        let (at, list) = (at.child(field), items(rule, field));
        if list.is_empty() {
            let message = format!("resource rules must supply at least one {one}");
            faults.push(FieldError::required(at, message));
        }
        alone(list, others, &at, faults);
    }
    let (at, list) = (at.child("namespaces"), items(rule, "namespaces"));
    if list.is_empty() && rule["clusterScope"] != true {
        let message = "resource rules that are not cluster scoped must supply at least one namespace";
        faults.push(FieldError::required(at, message));
    } else if has_wildcard(list) {
        alone(list, "namespaces", &at, faults);
    } else {
        for (index, namespace) in list.iter().filter_map(Value::as_str).enumerate() {
            let wrong = dns1123_label(namespace).into_iter();
            let wrong =
                wrong.map(|why| format!("each member of this list must be '*' or a DNS-1123 label; {why}"));
            invalid_each(faults, &at.index(index), namespace, wrong.collect());
        }
    }
}

fn path_rule(rule: &Value, at: &Path<'_>, faults: &mut Faults) {
    verbs(rule, at, faults);
    let (at, list) = (at.child("nonResourceURLs"), items(rule, "nonResourceURLs"));
    if list.is_empty() {
        faults.push(FieldError::required(at, "nonResourceURLs must contain at least one value"));
    } else if has_wildcard(list) {
        alone(list, "non-resource URLs", &at, faults);
    } else {
        for (index, path) in list.iter().filter_map(Value::as_str).enumerate() {
            if let Some(why) = path_fault(path) {
                faults.push(FieldError::invalid(at.index(index), path, why));
            }
        }
    }
}

fn path_fault(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !path.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

/// Conditions of the status: one of each type.
fn conditions(tree: &Value, faults: &mut Faults) {
    let at = Path::new("status");
    let list = at.child("conditions");
    let mut types = BTreeSet::new();
    for (index, condition) in items(tree, "status.conditions").iter().enumerate() {
        let kind = text(condition, "type");
        let at = list.index(index);
        if !types.insert(kind) {
            faults.push(FieldError::duplicate(at.child("type"), kind));
        }
        if kind.is_empty() {
            faults.push(FieldError::required(at.child("type"), ""));
        }
    }
}

fn validate_status(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    conditions(tree, &mut faults);
    faults
}

impl Strategy for FlowSchemas {
    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, _old: &Value) -> Faults {
        if ctx.subresource.is_some() { validate_status(new) } else { validate(new) }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        printers::classes::FLOW_SCHEMA
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::classes::flow_schema(tree, now)
    }
}
