//! Secrets: each type has keys it must hold.

use api::json::text;
use api::validation::{Faults, Path, config_map_key, immutable, invalid_each};
use api::{ApiError, FieldError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::config_map::{MAX_BYTES, decoded_len, immutable_data};
use super::object;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

pub(super) struct Secrets;

/// `stringData` is write-only: it ends up in `data`.
fn merge_string_data(tree: &mut Value) {
    let Some(members) = tree.as_object_mut() else { return };
    let Some(Value::Object(texts)) = members.remove("stringData") else { return };
    let Some(data) = object(tree, "data") else { return };
    for (key, value) in texts {
        data.insert(key, json!(STANDARD.encode(value.as_str().unwrap_or(""))));
    }
}

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("data");
    let mut size = 0;
    for (key, value) in tree["data"].as_object().into_iter().flatten() {
        invalid_each(&mut faults, &at.key(key), key, config_map_key(key));
        size += value.as_str().map_or(0, decoded_len);
    }
    if size > MAX_BYTES {
        faults.push(FieldError::too_long(at, MAX_BYTES));
    }
    by_type(tree, &at, &mut faults);
    faults
}

fn by_type(tree: &Value, at: &Path<'_>, faults: &mut Faults) {
    let data = &tree["data"];
    let need = |key: &str, faults: &mut Faults| {
        if data.get(key).is_none() {
            faults.push(FieldError::required(at.key(key), ""));
        }
    };
    match text(tree, "type") {
        "kubernetes.io/service-account-token"
            if tree["metadata"]["annotations"][ACCOUNT_NAME].as_str().unwrap_or("").is_empty() => {
                let at = Path::new("metadata");
                faults.push(FieldError::required(at.child("annotations").key(ACCOUNT_NAME), ""));
            }
        "kubernetes.io/dockercfg" => json_key(data, ".dockercfg", at, faults),
        "kubernetes.io/dockerconfigjson" => json_key(data, ".dockerconfigjson", at, faults),
        "kubernetes.io/basic-auth"
            // One of the two is enough; without either the first is asked for.
            if data.get("username").is_none() && data.get("password").is_none() => {
                faults.push(FieldError::required(at.key("username"), ""));
                faults.push(FieldError::required(at.key("password"), ""));
            }
        "kubernetes.io/ssh-auth"
            if data["ssh-privatekey"].as_str().unwrap_or("").is_empty() => {
                faults.push(FieldError::required(at.key("ssh-privatekey"), ""));
            }
        "kubernetes.io/tls" => {
            need("tls.crt", faults);
            need("tls.key", faults);
        }
        _ => {}
    }
}

fn json_key(data: &Value, key: &'static str, at: &Path<'_>, faults: &mut Faults) {
    let Some(value) = data[key].as_str() else {
        return faults.push(FieldError::required(at.key(key), ""));
    };
    let decoded = STANDARD.decode(value).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&decoded) {
        faults.push(FieldError::invalid(at.key(key), "<secret contents redacted>", error.to_string()));
    }
}

impl Strategy for Secrets {
    fn default(&self, _ctx: &RequestContext<'_>, tree: &mut Value) {
        merge_string_data(tree);
    }

    fn prepare_for_update(
        &self,
        _ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        // A client that knows no types leaves it out.
        if text(new, "type").is_empty() {
            super::keep(new, old, "type");
        }
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = Faults::new();
        immutable(&mut faults, &Path::new("type"), &new["type"], &old["type"]);
        faults.extend(immutable_data(new, old, &["data"]));
        faults.extend(validate(new));
        faults
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&["type"])
    }

    fn columns(&self) -> &'static [Column] {
        printers::core::SECRET
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::core::secret(tree, now)
    }
}
