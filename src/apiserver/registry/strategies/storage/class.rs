//! Storage classes and classes of volumes' attributes: parameters that never change.

use std::collections::{BTreeMap, BTreeSet};

use api::FieldError;
use api::json::{items, text};
use api::validation::{Faults, Path, immutable, invalid_each, qualified_name};
use jiff::Timestamp;
use serde_json::Value;

use crate::printers;
use crate::registry::strategies::rules::{one_of, provisioner, same};
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const MAX_PARAMETERS: usize = 512;
const MAX_BYTES: usize = 256 * 1024;
const RECLAIM: [&str; 2] = ["Delete", "Retain"];
const BINDING: [&str; 2] = ["Immediate", "WaitForFirstConsumer"];

pub(in super::super) struct StorageClasses;
pub(in super::super) struct VolumeAttributesClasses;

fn parameters(tree: &Value, may_be_empty: bool, faults: &mut Faults) {
    let at = Path::new("parameters");
    let parameters: Vec<_> = tree["parameters"].as_object().into_iter().flatten().collect();
    if parameters.len() > MAX_PARAMETERS {
        return faults.push(FieldError::too_long(at, MAX_PARAMETERS));
    }
    if parameters.iter().any(|(key, _)| key.is_empty()) {
        faults.push(FieldError::invalid(at, "", "field can not be empty."));
    }
    let size: usize =
        parameters.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MAX_BYTES {
        faults.push(FieldError::too_long(at, MAX_BYTES));
    }
    if !may_be_empty && parameters.is_empty() {
        faults.push(FieldError::required(at, "must contain at least one key/value pair"));
    }
}

/// Terms that say where volumes may be. None may repeat another.
fn topologies(terms: &[Value], at: &Path<'_>, faults: &mut Faults) {
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for (index, term) in terms.iter().enumerate() {
        let at = at.index(index);
        let list = at.child("matchLabelExpressions");
        let mut expressions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (index, expression) in items(term, "matchLabelExpressions").iter().enumerate() {
            let at = list.index(index);
            let key = text(expression, "key");
            let listed = at.child("values");
            let values = items(expression, "values");
            if values.is_empty() {
                faults.push(FieldError::required(listed, ""));
            }
            let mut set = BTreeSet::new();
            for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
                if !set.insert(value) {
                    faults.push(FieldError::duplicate(listed.index(index), value));
                }
            }
            invalid_each(faults, &at.child("key"), key, qualified_name(key));
            if expressions.insert(key, set).is_some() {
                faults.push(FieldError::duplicate(at.child("key"), key));
            }
        }
        if seen.contains(&expressions) {
            faults.push(FieldError::duplicate(list, ""));
        }
        seen.push(expressions);
    }
}

fn validate_class(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    provisioner(&mut faults, &Path::new("provisioner"), text(tree, "provisioner"));
    parameters(tree, true, &mut faults);
    let policy = text(tree, "reclaimPolicy");
    if !policy.is_empty() {
        one_of(&mut faults, &Path::new("reclaimPolicy"), policy, &RECLAIM);
    }
    match tree["volumeBindingMode"].as_str() {
        None => faults.push(FieldError::required("volumeBindingMode", "")),
        Some(mode) => one_of(&mut faults, &Path::new("volumeBindingMode"), mode, &BINDING),
    }
    topologies(items(tree, "allowedTopologies"), &Path::new("allowedTopologies"), &mut faults);
    faults
}

impl Strategy for StorageClasses {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate_class(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = validate_class(new);
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            if !same(&new[field], &old[field]) {
                immutable(&mut faults, &Path::new(field), &new[field], &old[field]);
            }
        }
        faults
    }

    fn columns(&self) -> &[Column] {
        printers::storage::STORAGE_CLASS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::storage::storage_class(tree, now)
    }
}

fn validate_attributes(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    provisioner(&mut faults, &Path::new("driverName"), text(tree, "driverName"));
    parameters(tree, false, &mut faults);
    faults
}

impl Strategy for VolumeAttributesClasses {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate_attributes(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = Faults::new();
        for field in ["driverName", "parameters"] {
            if new[field] != old[field] {
                faults.push(FieldError::forbidden(field, format!("updates to {field} are forbidden.")));
            }
        }
        faults.extend(validate_attributes(new));
        faults
    }

    fn columns(&self) -> &[Column] {
        printers::storage::VOLUME_ATTRIBUTES_CLASS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::storage::volume_attributes_class(tree, now)
    }
}
