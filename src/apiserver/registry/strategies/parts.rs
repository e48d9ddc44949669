//! Parts of the JSON trees that strategies work on: read as types, made, defaulted, kept.

use api::FieldError;
use api::validation::{Faults, Path};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// A part of a tree as its type. The schema has been checked, so a failure is a fault of the whole part.
pub(crate) fn typed<T: DeserializeOwned + Default>(
    part: &Value,
    at: &Path<'_>,
    faults: &mut Faults,
) -> Option<T> {
    if part.is_null() {
        return Some(T::default());
    }
    match T::deserialize(part) {
        Ok(typed) => Some(typed),
        Err(error) => {
            faults.push(FieldError::invalid(at, "", error.to_string()));
            None
        }
    }
}

/// The object at `key`, made if it is not there.
pub(crate) fn object<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    let parent = parent.as_object_mut()?;
    let entry = parent.entry(key).or_insert_with(|| json!({}));
    if entry.is_null() {
        *entry = json!({});
    }
    entry.as_object_mut()
}

/// Sets a field that is absent or null.
pub(crate) fn default_to(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    match map.get_mut(key) {
        Some(Value::Null) => {
            map.insert(key.to_string(), value.into());
        }
        Some(_) => {}
        None => {
            map.insert(key.to_string(), value.into());
        }
    }
}

/// The items of an array, mutable; none if it is absent.
pub(crate) fn items_mut<'a>(parent: &'a mut Value, key: &str) -> &'a mut [Value] {
    parent.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// Takes a top-level part from the stored object.
pub(crate) fn keep(new: &mut Value, old: &Value, part: &str) {
    let Some(members) = new.as_object_mut() else { return };
    match old.get(part) {
        Some(value) => members.insert(part.to_string(), value.clone()),
        None => members.remove(part),
    };
}

/// What a subresource that is about one part of an object leaves of the metadata as it was: upstream's
/// `ResetObjectMetaForStatus`. The registry keeps the rest.
pub(crate) fn keep_metadata(new: &mut Value, old: &Value) {
    let Some(metadata) = new.get_mut("metadata") else { return };
    for part in ["labels", "annotations", "finalizers", "ownerReferences"] {
        keep(metadata, &old["metadata"], part);
    }
}

pub(crate) fn non_negative(faults: &mut Faults, at: &Path<'_>, value: i64) {
    if value < 0 {
        faults.push(FieldError::invalid(at, value, "must be greater than or equal to 0"));
    }
}

/// `true` and `false` of a flag that may be absent, as field selectors see it.
pub(crate) fn flag(object: &Value, path: &str) -> &'static str {
    if api::json::at(object, path) == true { "true" } else { "false" }
}

/// A count as field selectors see it: one that is absent is 0.
pub(crate) fn count<'a>(object: &Value, path: &str) -> std::borrow::Cow<'a, str> {
    let value = path.split('.').fold(object, |at, step| &at[step]);
    value.as_i64().unwrap_or(0).to_string().into()
}

/// How many differences are named: enough to find the mistake.
const SHOWN: usize = 10;

/// What has changed between two versions of a part, a line each: what was there begins with `-`, what is
/// there with `+`.
pub(crate) fn differences(path: &str, old: &Value, new: &Value) -> String {
    let mut found = Vec::new();
    compare(path, old, new, &mut found);
    found.truncate(SHOWN);
    found.join("\n")
}

/// Lists the leaves in which two trees differ.
fn compare(path: &str, old: &Value, new: &Value, out: &mut Vec<String>) {
    match (old, new) {
        _ if out.len() >= SHOWN || old == new => {}
        (Value::Object(a), Value::Object(b)) => {
            let added = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(added) {
                compare(&format!("{path}.{key}"), &old[key.as_str()], &new[key.as_str()], out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{index}]"), a, b, out);
            }
        }
        _ => {
            out.extend(Some(format!("- {path}: {old}")).filter(|_| !old.is_null()));
            out.extend(Some(format!("+ {path}: {new}")).filter(|_| !new.is_null()));
        }
    }
}
