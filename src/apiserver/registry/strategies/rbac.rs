//! The RBAC kinds. That nobody grants more than he holds is checked in admission, which knows what he holds.

use api::validation::{
    Faults, Path, invalid_each, name_is_dns_subdomain, name_is_path_segment, path_segment,
};
use api::{FieldError, KindRow};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{AggregationRule, PolicyRule, RoleRef, Subject};
use serde_json::Value;

use super::typed;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) struct Roles;
pub(super) struct Bindings;

fn validate_role(row: &KindRow, tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("rules");
    let rules = typed::<Vec<PolicyRule>>(&tree["rules"], &at, &mut faults).unwrap_or_default();
    for (index, rule) in rules.iter().enumerate() {
        validate_rule(rule, row.namespaced(), &at.index(index), &mut faults);
    }
    let at = Path::new("aggregationRule");
    if !tree["aggregationRule"].is_null()
        && let Some(rule) = typed::<AggregationRule>(&tree["aggregationRule"], &at, &mut faults)
    {
        let selectors = rule.cluster_role_selectors.unwrap_or_default();
        let at = at.child("clusterRoleSelectors");
        if selectors.is_empty() {
            faults.push(FieldError::required(
                at,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            ));
        }
        for (index, selector) in selectors.iter().enumerate() {
            api::validation::validate_label_selector(selector, &at.index(index), &mut faults);
        }
    }
    faults
}

fn validate_rule(rule: &PolicyRule, namespaced: bool, at: &Path<'_>, faults: &mut Faults) {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if rule.verbs.is_empty() {
        faults.push(FieldError::required(at.child("verbs"), "verbs must contain at least one value"));
    }
    if some(&rule.non_resource_urls) {
        if namespaced {
            let message = "namespaced rules cannot apply to non-resource URLs";
            faults.push(FieldError::invalid(at.child("nonResourceURLs"), &rule.non_resource_urls, message));
        }
        if some(&rule.api_groups) || some(&rule.resources) || some(&rule.resource_names) {
            let message = "rules cannot apply to both regular resources and non-resource URLs";
            faults.push(FieldError::invalid(at.child("nonResourceURLs"), &rule.non_resource_urls, message));
        }
        return;
    }
    if !some(&rule.api_groups) {
        faults.push(FieldError::required(
            at.child("apiGroups"),
            "resource rules must supply at least one api group",
        ));
    }
    if !some(&rule.resources) {
        faults.push(FieldError::required(
            at.child("resources"),
            "resource rules must supply at least one resource",
        ));
    }
}

fn validate_binding(row: &KindRow, tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("roleRef");
    if let Some(role) = typed::<RoleRef>(&tree["roleRef"], &at, &mut faults) {
        let group = role.api_group.as_deref().unwrap_or("");
        if group != GROUP {
            faults.push(FieldError::not_supported(at.child("apiGroup"), group, &[GROUP]));
        }
        let kinds: &[&str] = if row.namespaced() { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
        if !kinds.contains(&role.kind.as_str()) {
            faults.push(FieldError::not_supported(at.child("kind"), &role.kind, kinds));
        }
        if role.name.is_empty() {
            faults.push(FieldError::required(at.child("name"), ""));
        } else {
            invalid_each(&mut faults, &at.child("name"), &role.name, path_segment(&role.name));
        }
    }
    let at = Path::new("subjects");
    let subjects = typed::<Vec<Subject>>(&tree["subjects"], &at, &mut faults).unwrap_or_default();
    for (index, subject) in subjects.iter().enumerate() {
        validate_subject(subject, row.namespaced(), &at.index(index), &mut faults);
    }
    faults
}

fn validate_subject(subject: &Subject, namespaced: bool, at: &Path<'_>, faults: &mut Faults) {
    if subject.name.is_empty() {
        faults.push(FieldError::required(at.child("name"), ""));
    }
    let group = subject.api_group.as_deref().unwrap_or("");
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                let messages = name_is_dns_subdomain(&subject.name, false);
                invalid_each(faults, &at.child("name"), &subject.name, messages);
            }
            if !group.is_empty() {
                faults.push(FieldError::not_supported(at.child("apiGroup"), group, &[""]));
            }
            if !namespaced && subject.namespace.as_deref().unwrap_or("").is_empty() {
                faults.push(FieldError::required(at.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                faults.push(FieldError::not_supported(at.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            let kinds = ["ServiceAccount", "User", "Group"];
            faults.push(FieldError::not_supported(at.child("kind"), other, &kinds));
        }
    }
}

impl Strategy for Roles {
    fn validate_create(&self, ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate_role(ctx.row, tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, _old: &Value) -> Faults {
        validate_role(ctx.row, new)
    }

    fn name_faults(&self, name: &str, prefix: bool) -> Vec<String> {
        name_is_path_segment(name, prefix)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        printers::rbac::ROLE
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::rbac::role(tree, now)
    }
}

impl Strategy for Bindings {
    fn validate_create(&self, ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate_binding(ctx.row, tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = validate_binding(ctx.row, new);
        if new["roleRef"] != old["roleRef"] {
            faults.push(FieldError::invalid("roleRef", &new["roleRef"], "cannot change roleRef"));
        }
        faults
    }

    fn name_faults(&self, name: &str, prefix: bool) -> Vec<String> {
        name_is_path_segment(name, prefix)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        printers::rbac::BINDING
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::rbac::binding(tree, now)
    }
}
