//! Config maps: keys, size, and the promise not to change.

use api::FieldError;
use api::validation::{FIELD_IMMUTABLE, Faults, Path, config_map_key, invalid_each};
use jiff::Timestamp;
use serde_json::Value;

use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

pub(super) const MAX_BYTES: usize = 1024 * 1024;

pub(super) struct ConfigMaps;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let (text, binary) = (&tree["data"], &tree["binaryData"]);
    let mut size = 0;
    let at = Path::new("data");
    for (key, value) in text.as_object().into_iter().flatten() {
        invalid_each(&mut faults, &at.key(key), key, config_map_key(key));
        if binary.get(key).is_some() {
            let message = format!("duplicate of key present in binaryData (keys must be unique): {key}");
            faults.push(FieldError::invalid(at.key(key), key, message));
        }
        size += value.as_str().map_or(0, str::len);
    }
    let at = Path::new("binaryData");
    for (key, value) in binary.as_object().into_iter().flatten() {
        invalid_each(&mut faults, &at.key(key), key, config_map_key(key));
        size += value.as_str().map_or(0, decoded_len);
    }
    if size > MAX_BYTES {
        let mut fault = FieldError::too_long("", MAX_BYTES);
        fault.field = "[]".to_string();
        faults.push(fault);
    }
    faults
}

/// Length of what a base64 text stands for.
pub(super) fn decoded_len(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

impl Strategy for ConfigMaps {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = immutable_data(new, old, &["data", "binaryData"]);
        faults.extend(validate(new));
        faults
    }

    fn columns(&self) -> &'static [Column] {
        printers::core::CONFIG_MAP
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::core::config_map(tree, now)
    }
}

/// Once `immutable` is set it stays, and so does the data.
pub(super) fn immutable_data(new: &Value, old: &Value, parts: &[&'static str]) -> Faults {
    let mut faults = Faults::new();
    if old["immutable"] != true {
        return faults;
    }
    if new["immutable"] != true {
        faults.push(FieldError::forbidden("immutable", "field is immutable when `immutable` is set"));
    }
    let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    for part in parts {
        if new[*part] != old[*part] && !(empty(&new[*part]) && empty(&old[*part])) {
            let message = format!("{FIELD_IMMUTABLE} when `immutable` is set");
            faults.push(FieldError::forbidden(*part, message));
        }
    }
    faults
}
