//! Quotas: what a namespace may use at most, of all pods or of those in a scope.

use std::collections::BTreeSet;

use api::FieldError;
use api::json::{items, text};
use api::validation::{FIELD_IMMUTABLE, Faults, Path};
use jiff::Timestamp;
use serde_json::Value;

use super::resource_names::{is_standard_quota, quota_resource_name, resource_amount};
use super::rules::amount;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];
const POD_COMPUTE: [&str; 6] =
    ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
const EXCLUSIVE: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

pub(super) struct ResourceQuotas;

/// Whether a scope can be told of what the resource is counted on.
fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        scope if SCOPES.contains(&scope) => resource == "pods" || POD_COMPUTE.contains(&resource),
        _ => true,
    }
}

fn amounts(list: &Value, at: &Path<'_>, faults: &mut Faults) {
    for (name, value) in list.as_object().into_iter().flatten() {
        quota_resource_name(faults, &at.key(name), name);
        resource_amount(faults, &at.key(name), name, value);
    }
}

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let spec = &tree["spec"];
    let at = Path::new("spec");
    amounts(&spec["hard"], &at.child("hard"), &mut faults);
    let hard: BTreeSet<&str> =
        spec["hard"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let hard: Vec<&str> = hard.into_iter().filter(|name| is_standard_quota(name)).collect();
    scopes(spec, &hard, &at.child("scopes"), &mut faults);
    selector(spec, &hard, &at.child("scopeSelector"), &mut faults);
    faults
}

fn scopes(spec: &Value, hard: &[&str], at: &Path<'_>, faults: &mut Faults) {
    let list = items(spec, "scopes");
    let named: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    for scope in &named {
        if !SCOPES.contains(scope) {
            faults.push(FieldError::invalid(at, list, "unsupported scope"));
        }
        for _ in hard.iter().filter(|resource| !fits(scope, resource)) {
            faults.push(FieldError::invalid(at, list, "unsupported scope applied to resource"));
        }
    }
    exclusive(&named, list, at, faults);
}

fn exclusive(named: &[&str], shown: &[Value], at: &Path<'_>, faults: &mut Faults) {
    for _ in EXCLUSIVE.iter().filter(|pair| pair.iter().all(|scope| named.contains(scope))) {
        faults.push(FieldError::invalid(at, shown, "conflicting scopes"));
    }
}

fn selector(spec: &Value, hard: &[&str], at: &Path<'_>, faults: &mut Faults) {
    let at = at.child("matchExpressions");
    let expressions = items(spec, "scopeSelector.matchExpressions");
    let mut named = Vec::new();
    for one in expressions {
        let (scope, operator) = (text(one, "scopeName"), text(one, "operator"));
        if !SCOPES.contains(&scope) {
            faults.push(FieldError::invalid(at.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in hard.iter().filter(|resource| !fits(scope, resource)) {
            let message = "unsupported scope applied to resource";
            faults.push(FieldError::invalid(at, &spec["scopeSelector"], message));
        }
        let valued = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&scope) && !valued && operator != "Exists" {
            let message = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            faults.push(FieldError::invalid(at.child("operator"), operator, message));
        }
        let values = items(one, "values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let message =
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                faults.push(FieldError::required(at.child("values"), message));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let message =
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                faults.push(FieldError::invalid(at.child("values"), values, message));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                faults.push(FieldError::invalid(at.child("operator"), other, "not a valid selector operator"))
            }
        }
        named.push(scope);
    }
    exclusive(&named, items(spec, "scopes"), &at, faults);
}

fn validate_status(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("status");
    for part in ["hard", "used"] {
        amounts(&tree["status"][part], &at.child(part), &mut faults);
    }
    faults
}

impl Strategy for ResourceQuotas {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource.is_some() {
            return validate_status(new);
        }
        let mut faults = validate(new);
        let scopes = |tree| -> BTreeSet<&str> {
            items(tree, "spec.scopes").iter().filter_map(Value::as_str).collect()
        };
        if scopes(new) != scopes(old) {
            faults.push(FieldError::invalid("spec.scopes", items(new, "spec.scopes"), FIELD_IMMUTABLE));
        }
        faults
    }

    fn warnings(&self, _ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_some() {
            return warnings;
        }
        let hard = &tree["spec"]["hard"];
        for resource in ["cpu", "memory", "storage", "ephemeral-storage"] {
            let mut named = format!("requests.{resource}");
            if hard[&named].is_null() && matches!(resource, "cpu" | "memory") {
                named = resource.to_string();
            }
            let limit = format!("limits.{resource}");
            if let (Some(request), Some(most)) = (amount(&hard[&named]), amount(&hard[&limit]))
                && request > most
            {
                warnings
                    .push(format!("ResourceQuota {named} ({request}) should be less than {limit} ({most})"));
            }
        }
        warnings
    }

    fn columns(&self) -> &[Column] {
        printers::core::RESOURCE_QUOTA
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::core::resource_quota(tree, now)
    }
}

#[cfg(test)]
mod tests;
