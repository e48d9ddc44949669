//! Limit ranges: bounds and defaults for what single pods, containers and claims ask for.

use std::collections::{BTreeMap, BTreeSet};

use api::FieldError;
use api::json::{items, text};
use api::quantity::Quantity;
use api::validation::{Faults, Path, invalid_each, qualified_name};
use serde_json::Value;

use super::resource_names::{container_resource_name, is_overcommit_allowed, resource_name};
use super::rules::amount;
use crate::strategy::{RequestContext, Strategy};

const TYPES: [&str; 3] = ["Pod", "Container", "PersistentVolumeClaim"];

pub(super) struct LimitRanges;

/// The amounts of one list of an item, by resource.
type Amounts<'a> = BTreeMap<&'a str, Quantity>;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let list = at.child("limits");
    let mut types = BTreeSet::new();
    for (index, item) in items(tree, "spec.limits").iter().enumerate() {
        let at = list.index(index);
        let kind = text(item, "type");
        let field = at.child("type");
        let wrong = qualified_name(kind);
        if !wrong.is_empty() {
            invalid_each(&mut faults, &field, kind, wrong);
        } else if !kind.contains('/') && !TYPES.contains(&kind) {
            let message = "must be a standard limit type or fully qualified";
            faults.push(FieldError::invalid(field, kind, message));
        }
        if !types.insert(kind) {
            faults.push(FieldError::duplicate(field, kind));
        }
        validate_item(item, kind, &at, &mut faults);
    }
    faults
}

fn amounts<'a>(item: &'a Value, kind: &str, part: &str, at: &Path<'_>, faults: &mut Faults) -> Amounts<'a> {
    let at = at.child(part);
    let mut found = Amounts::new();
    for (name, value) in item[part].as_object().into_iter().flatten() {
        let at = at.key(name);
        match kind {
            "Pod" | "Container" => container_resource_name(faults, &at, name),
            _ => resource_name(faults, &at, name),
        }
        found.extend(amount(value).map(|amount| (name.as_str(), amount)));
    }
    found
}

fn validate_item(item: &Value, kind: &str, at: &Path<'_>, faults: &mut Faults) {
    let max = amounts(item, kind, "max", at, faults);
    let min = amounts(item, kind, "min", at, faults);
    let (mut defaults, mut requests) = (Amounts::new(), Amounts::new());
    if kind == "Pod" {
        for part in ["default", "defaultRequest"] {
            if item[part].as_object().is_some_and(|list| !list.is_empty()) {
                let message = "may not be specified when `type` is 'Pod'";
                faults.push(FieldError::forbidden(at.child(part), message));
            }
        }
    } else {
        defaults = amounts(item, kind, "default", at, faults);
        requests = amounts(item, kind, "defaultRequest", at, faults);
    }
    if kind == "PersistentVolumeClaim" && item["min"]["storage"].is_null() && item["max"]["storage"].is_null()
    {
        let message = "either minimum or maximum storage value is required, but neither was provided";
        faults.push(FieldError::required(at.child("limits"), message));
    }
    let ratios = amounts(item, kind, "maxLimitRequestRatio", at, faults);
    let lists = [&max, &min, &defaults, &requests, &ratios];
    let names: BTreeSet<&str> = lists.iter().flat_map(|list| list.keys().copied()).collect();
    for name in names {
        let of = |list: &Amounts<'_>| list.get(name).copied();
        let bounds = Bounds {
            name,
            min: of(&min),
            max: of(&max),
            default: of(&defaults),
            request: of(&requests),
            ratio: of(&ratios),
        };
        bounds.validate(at, faults);
    }
}

/// What an item says of one resource.
struct Bounds<'a> {
    name: &'a str,
    min: Option<Quantity>,
    max: Option<Quantity>,
    default: Option<Quantity>,
    request: Option<Quantity>,
    ratio: Option<Quantity>,
}

impl Bounds<'_> {
    fn validate(&self, at: &Path<'_>, faults: &mut Faults) {
        let mut fault = |part: &str, value: Quantity, message: String| {
            faults.push(FieldError::invalid(at.child(part).key(self.name), value.to_string(), message));
        };
        // Smaller, greater, where, which of the two is shown, what is said.
        let orders = [
            (self.min, self.max, "min", true, ["min value", "greater than max value"]),
            (
                self.min,
                self.request,
                "defaultRequest",
                false,
                ["min value", "greater than default request value"],
            ),
            (
                self.request,
                self.max,
                "defaultRequest",
                true,
                ["default request value", "greater than max value"],
            ),
            (
                self.request,
                self.default,
                "defaultRequest",
                true,
                ["default request value", "greater than default limit value"],
            ),
            (self.min, self.default, "default", true, ["min value", "greater than default value"]),
            (self.default, self.max, "default", false, ["default value", "greater than max value"]),
        ];
        for (smaller, greater, part, shows_smaller, [what, than]) in orders {
            let (Some(smaller), Some(greater)) = (smaller, greater) else { continue };
            if smaller > greater {
                let shown = if shows_smaller { smaller } else { greater };
                fault(part, shown, format!("{what} {smaller} is {than} {greater}"));
            }
        }
        if let Some(ratio) = self.ratio {
            if ratio.milli_value() < 1000 {
                fault("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
            }
            if let (Some(min), Some(max)) = (self.min, self.max) {
                let most = max.as_f64() / min.as_f64();
                if ratio.as_f64() > most {
                    let message = format!("ratio {ratio} is greater than max/min = {most:.6}");
                    fault("maxLimitRequestRatio", ratio, message);
                }
            }
        }
        if let (Some(default), Some(request)) = (self.default, self.request)
            && !is_overcommit_allowed(self.name)
            && default != request
        {
            let message = format!(
                "default value {default} must equal to defaultRequest value {request} in {}",
                self.name
            );
            fault("defaultRequest", request, message);
        }
    }
}

impl Strategy for LimitRanges {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, _old: &Value) -> Faults {
        validate(new)
    }
}

#[cfg(test)]
mod tests;
