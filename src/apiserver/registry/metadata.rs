//! The metadata that the server owns: set on create, kept on update, and its validation.

use api::validation::{Faults, validate_object_meta, validate_object_meta_update};
use api::{FieldError, KindRow};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::strategy::Strategy;

/// RFC 3339 in whole seconds, as `metav1.Time` prints it.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Fields of metadata that a client cannot choose on create.
const ASSIGNED: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
];

/// Fields of metadata that an update keeps from the stored object.
const KEPT: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
];

fn members(tree: &mut Value) -> Option<&mut Map<String, Value>> {
    tree.get_mut("metadata").and_then(Value::as_object_mut)
}

/// Takes out what a client cannot choose on create.
pub(super) fn wipe(tree: &mut Value) {
    let Some(metadata) = members(tree) else { return };
    for field in ASSIGNED {
        metadata.remove(*field);
    }
}

/// Gives a new object its identity.
pub(super) fn assign(tree: &mut Value, strategy: &dyn Strategy, now: Timestamp) {
    let Some(metadata) = members(tree) else { return };
    metadata.insert("uid".into(), json!(uuid::Uuid::new_v4().to_string()));
    metadata.insert("creationTimestamp".into(), json!(time(now)));
    if strategy.has_generation() {
        metadata.insert("generation".into(), json!(1));
    }
}

/// Puts back what an update may not touch.
pub(super) fn keep(new: &mut Value, old: &Value) {
    let Some(metadata) = members(new) else { return };
    metadata.remove("selfLink");
    for field in KEPT {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert((*field).into(), value.clone()),
            None => metadata.remove(*field),
        };
    }
}

/// Empty collections are left out, as upstream's encoding does: so that objects that mean the same are the
/// same bytes.
pub(super) fn tidy(tree: &mut Value) {
    let Some(metadata) = members(tree) else { return };
    metadata.retain(|_, value| match value {
        Value::Null => false,
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    });
}

/// Counts a change of anything but metadata and, as a rule, status.
pub(super) fn bump_generation(new: &mut Value, old: &Value, strategy: &dyn Strategy) {
    let with_status = strategy.generation_counts_status();
    let counts = |tree: &Value, other: &Value| {
        let members = tree.as_object().into_iter().flatten();
        let mut rest = members.filter(|(key, _)| *key != "metadata" && (with_status || *key != "status"));
        rest.any(|(key, value)| other.get(key) != Some(value))
    };
    if counts(new, old) || counts(old, new) {
        add_generation(new);
    }
}

pub(super) fn add_generation(tree: &mut Value) {
    let generation = tree["metadata"]["generation"].as_i64().unwrap_or(0);
    tree["metadata"]["generation"] = json!(generation + 1);
}

fn typed(tree: &Value) -> Result<ObjectMeta, Faults> {
    ObjectMeta::deserialize(&tree["metadata"])
        .map_err(|error| vec![FieldError::invalid("metadata", "", error.to_string())].into())
}

pub(super) fn validate_create(row: &KindRow, strategy: &dyn Strategy, tree: &Value) -> Faults {
    let metadata = match typed(tree) {
        Ok(metadata) => metadata,
        Err(faults) => return faults,
    };
    let rule = |name: &str, prefix: bool| strategy.name_faults(name, prefix);
    validate_object_meta(&metadata, row.namespaced(), rule, row.group.is_empty())
}

pub(super) fn validate_update(row: &KindRow, new: &Value, old: &Value) -> Faults {
    match (typed(new), typed(old)) {
        (Ok(new), Ok(old)) => validate_object_meta_update(&new, &old, row.group.is_empty()),
        (Err(faults), _) | (_, Err(faults)) => faults,
    }
}

/// A member of an object's metadata.
pub(super) fn meta<'a>(tree: &'a Value, field: &str) -> &'a Value {
    &tree["metadata"][field]
}

pub(super) fn meta_str<'a>(tree: &'a Value, field: &str) -> &'a str {
    meta(tree, field).as_str().unwrap_or("")
}
