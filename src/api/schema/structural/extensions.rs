//! What `x-kubernetes-*` members of a schema may be beside each other: list types, map types, their keys, and
//! the form of CEL rules (which are not evaluated).
//!
//! Rules and messages are upstream's `ValidateCustomResourceDefinitionOpenAPISchema`.

use serde_json::Value;

use super::limits::MAX_MAP_KEYS;
use super::parse::{Object, Parser, flag, list, text};
use crate::FieldError;
use crate::validation::Path;

const LIST_TYPE: &str = "x-kubernetes-list-type";
const MAP_KEYS: &str = "x-kubernetes-list-map-keys";
const MAP_TYPE: &str = "x-kubernetes-map-type";
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const RULES: &str = "x-kubernetes-validations";

impl Parser {
    pub(super) fn extensions(&mut self, schema: &Object, path: &Path<'_>) {
        if schema.get(PRESERVE) == Some(&Value::Bool(false)) {
            self.fault(|| FieldError::invalid(path.child(PRESERVE), false, "must be true or undefined"));
        }
        self.of_type(schema, MAP_TYPE, "object", &["atomic", "granular"], path);
        self.of_type(schema, LIST_TYPE, "array", &["atomic", "set", "map"], path);
        match text(schema, LIST_TYPE) {
            "set" => self.set(schema, path),
            "map" => self.map(schema, path),
            _ => {}
        }
        self.keys(schema, path);
        self.cel(schema, path);
    }

    /// An extension that goes with one type, and its values.
    fn of_type(&mut self, schema: &Object, name: &str, wanted: &str, known: &[&str], path: &Path<'_>) {
        let Some(given) = schema.get(name).and_then(Value::as_str) else { return };
        let kind = text(schema, "type");
        if kind != wanted {
            let (at, why) = (path.child("type"), format!("must be {wanted} if {name} is specified"));
            self.fault(|| match kind {
                "" => FieldError::required(at, why),
                kind => FieldError::invalid(at, kind, why),
            });
        }
        if !known.contains(&given) {
            self.fault(|| FieldError::not_supported(path.child(name), given, known));
        }
    }

    /// Elements of a set are compared as a whole.
    fn set(&mut self, schema: &Object, path: &Path<'_>) {
        let Some(items) = schema.get("items").and_then(Value::as_object) else { return };
        let items_path = path.child("items");
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        match text(items, "type") {
            "array" if !matches!(text(items, LIST_TYPE), "" | "atomic") => {
                self.fault(|| FieldError::invalid(items_path.child(LIST_TYPE), items.get(LIST_TYPE), why));
            }
            "object" if text(items, MAP_TYPE) != "atomic" => {
                self.fault(|| FieldError::invalid(items_path.child(MAP_TYPE), items.get(LIST_TYPE), why));
            }
            _ => {}
        }
        self.not_nullable(items, "set", &items_path);
    }

    fn not_nullable(&mut self, items: &Object, kind: &str, path: &Path<'_>) {
        if flag(items, "nullable") {
            let why = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
            self.fault(|| FieldError::forbidden(path.child("nullable"), why));
        }
    }

    fn keys(&mut self, schema: &Object, path: &Path<'_>) {
        let keys = list(schema, MAP_KEYS);
        if keys.is_empty() {
            return;
        }
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match schema.get(LIST_TYPE) {
            None => self.fault(|| FieldError::required(path.child(LIST_TYPE), why)),
            Some(given) if given != "map" => {
                self.fault(|| FieldError::invalid(path.child(LIST_TYPE), given, why));
            }
            Some(_) => {}
        }
        if keys.len() > MAX_MAP_KEYS {
            let most = MAX_MAP_KEYS as i64;
            self.fault(|| FieldError::too_many(path.child(MAP_KEYS), keys.len(), most));
        }
    }

    /// Elements of a map are told apart by keys that each of them has.
    fn map(&mut self, schema: &Object, path: &Path<'_>) {
        let keys = list(schema, MAP_KEYS);
        let keys_path = path.child(MAP_KEYS);
        if keys.is_empty() {
            let why = "must not be empty if x-kubernetes-list-type is map";
            self.fault(|| FieldError::required(keys_path, why));
        }
        let items_path = path.child("items");
        let Some(items) = schema.get("items").and_then(Value::as_object) else {
            let why = "must have a schema if x-kubernetes-list-type is map";
            self.fault(|| FieldError::required(items_path, why));
            return;
        };
        self.not_nullable(items, "map", &items_path);
        let kind = text(items, "type");
        if kind != "object" {
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            self.fault(|| FieldError::invalid(items_path.child("type"), kind, why));
            return;
        }
        let (properties, required) = (items.get("properties"), list(items, "required"));
        let properties_path = items_path.child("properties");
        let keys = keys.iter().filter_map(Value::as_str).take(MAX_MAP_KEYS);
        for (at, key) in keys.clone().enumerate() {
            if keys.clone().take(at).any(|other| other == key) {
                let why = "must not contain duplicate entries";
                self.fault(|| FieldError::invalid(keys_path, list(schema, MAP_KEYS), why));
            }
            let Some(property) = properties.and_then(|all| all.get(key)).and_then(Value::as_object) else {
                let why = "entries must all be names of item properties";
                self.fault(|| FieldError::invalid(keys_path, list(schema, MAP_KEYS), why));
                continue;
            };
            let at = properties_path.key(key);
            if matches!(text(property, "type"), "array" | "object") {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                self.fault(|| FieldError::invalid(at.child("type"), kind, why));
            }
            let has_default = property.get("default").is_some_and(|default| !default.is_null());
            if !has_default && !required.iter().any(|name| name == key) {
                let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.fault(|| FieldError::required(at.child("default"), why));
            }
            if flag(property, "nullable") {
                let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.fault(|| FieldError::forbidden(at.child("nullable"), why));
            }
        }
    }

    /// The form of rules, which are not evaluated.
    fn cel(&mut self, schema: &Object, path: &Path<'_>) {
        let rules_path = path.child(RULES);
        for (at, rule) in list(schema, RULES).iter().filter_map(Value::as_object).enumerate() {
            let at = rules_path.index(at);
            let breaks = |text: &str| text.contains(['\n', '\r']);
            let (expression, message) = (text(rule, "rule"), text(rule, "message"));
            if expression.trim().is_empty() {
                self.fault(|| FieldError::required(at.child("rule"), "rule is not specified"));
            } else if !message.is_empty() && message.trim().is_empty() {
                let why = "must be non-empty if specified";
                self.fault(|| FieldError::invalid(at.child("message"), message, why));
            } else if breaks(message.trim()) {
                let why = "must not contain line breaks";
                self.fault(|| FieldError::invalid(at.child("message"), message, why));
            } else if breaks(expression.trim()) && message.is_empty() {
                let why = "message must be specified if rule contains line breaks";
                self.fault(|| FieldError::required(at.child("message"), why));
            }
            let expression = text(rule, "messageExpression");
            if !expression.is_empty() && expression.trim().is_empty() {
                let why = "messageExpression must be non-empty if specified";
                self.fault(|| FieldError::required(at.child("messageExpression"), why));
            }
            let known =
                ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
            if let Some(reason) =
                rule.get("reason").and_then(Value::as_str).filter(|one| !known.contains(one))
            {
                self.fault(|| FieldError::not_supported(at.child("reason"), reason, &known));
            }
            let field = text(rule, "fieldPath");
            if !field.is_empty() && field.trim().is_empty() {
                let why = "must be non-empty if specified";
                self.fault(|| FieldError::invalid(at.child("fieldPath"), field, why));
            }
            if breaks(field) {
                let why = "must not contain line breaks";
                self.fault(|| FieldError::invalid(at.child("fieldPath"), field, why));
            }
        }
    }
}
