//! What makes a schema structural, and what no schema may have.
//!
//! Rules, paths and messages are upstream's: `ValidateStructural` for the former, the validator of the
//! OpenAPI standard for the latter.

use serde_json::Value;

use super::node::Kind;
use super::parse::{Level, NodeContext, Object, Parser, flag, is_own, list, text};
use crate::FieldError;
use crate::validation::{Faults, Path};

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// Members that a root may have whose status is checked by itself: by their names in JSON and in Go, in which
/// upstream tells them.
const AT_ROOT: [(&str, &str); 22] = [
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    (PRESERVE, "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// What holds at the root alone.
pub(super) fn root(schema: &Object, path: &Path<'_>, status: bool, faults: &mut Faults) {
    let kind = text(schema, "type");
    if status && !kind.is_empty() && kind != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        faults.push(FieldError::invalid(path.child("type"), kind, why));
    } else if status {
        let allowed = |name: &str| AT_ROOT.iter().any(|(known, _)| *known == name);
        if schema.iter().any(|(name, value)| !allowed(name) && is_set(name, value)) {
            let names: Vec<&str> = AT_ROOT.iter().map(|(_, name)| *name).collect();
            let why = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                names.join(" ")
            );
            faults.push(FieldError::invalid(path, schema, why));
        }
    }
    if flag(schema, "nullable") {
        faults.push(FieldError::forbidden(path.child("nullable"), "nullable cannot be true at the root"));
    }
}

/// Whether Go sees more than nothing in a member.
fn is_set(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag || name == "additionalProperties",
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => !members.is_empty() || name == "additionalProperties",
        Value::Number(_) => true,
    }
}

impl Parser {
    /// What makes a node structural.
    pub(super) fn invariants(&mut self, schema: &Object, path: &Path<'_>, context: NodeContext) {
        match context.level {
            Level::IntOrString => return,
            Level::Nested => return self.only_values(schema, path),
            Level::Root | Level::Field | Level::Item => {}
        }
        if text(schema, "type") == "array" && !schema.contains_key("items") {
            self.not_structural(|| FieldError::required(path.child("items"), "must be specified"));
        }
        let additional = schema.get("additionalProperties").is_some_and(|value| !value.is_null());
        if additional && context.level == Level::Root {
            let at = path.child("additionalProperties");
            self.not_structural(|| FieldError::forbidden(at, "must not be used at the root"));
        }
        for (name, value) in [(PRESERVE, flag(schema, PRESERVE)), (EMBEDDED, flag(schema, EMBEDDED))] {
            if value && flag(schema, INT_OR_STRING) {
                let why = "must be false if x-kubernetes-int-or-string is true";
                self.not_structural(|| FieldError::invalid(path.child(name), true, why));
            }
        }
        self.kind(schema, path, context.level);
        if flag(schema, EMBEDDED) {
            self.embedded(schema, additional, path);
        }
        self.own_members(schema, path, context.level);
    }

    fn kind(&mut self, schema: &Object, path: &Path<'_>, level: Level) {
        let (name, at) = (text(schema, "type"), path.child("type"));
        let free = flag(schema, INT_OR_STRING) || flag(schema, PRESERVE);
        if flag(schema, EMBEDDED) && name != "object" {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            self.not_structural(|| match name {
                "" => FieldError::required(at, why),
                name => FieldError::invalid(at, name, why),
            });
        } else if name.is_empty() && !free {
            let why = match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                _ => "must not be empty for specified object fields",
            };
            self.not_structural(|| FieldError::required(at, why));
        }
        if level == Level::Root && !name.is_empty() && name != "object" {
            self.not_structural(|| FieldError::invalid(at, name, "must be object at the root"));
        }
    }

    fn embedded(&mut self, schema: &Object, additional: bool, path: &Path<'_>) {
        if additional {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            self.not_structural(|| FieldError::forbidden(path.child("additionalProperties"), why));
        }
        let empty = schema.get("properties").and_then(Value::as_object).is_none_or(|all| all.is_empty());
        if !flag(schema, PRESERVE) && empty {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            self.not_structural(|| FieldError::required(path.child("properties"), why));
        }
    }

    /// `metadata` of the whole object may be restricted by its name only; `apiVersion` and `kind` are text.
    fn own_members(&mut self, schema: &Object, path: &Path<'_>, level: Level) {
        if level != Level::Root && !flag(schema, EMBEDDED) {
            return;
        }
        let properties_path = path.child("properties");
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, child) in properties.into_iter().flatten().filter(|(name, _)| is_own(name)) {
            let at = properties_path.key(name);
            let Some(child) = child.as_object() else { continue };
            let (kind, wanted) = (text(child, "type"), if name == "metadata" { "object" } else { "string" });
            if kind != wanted {
                let why = format!("must be {wanted}");
                self.not_structural(|| FieldError::invalid(at.child("type"), kind, why));
            }
            if name == "metadata" && level == Level::Root && !restricts_names_only(child) {
                let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
                self.not_structural(|| FieldError::forbidden(at, why));
            }
        }
    }

    /// Inside of `allOf` and its kin a schema restricts values; it defines nothing.
    fn only_values(&mut self, schema: &Object, path: &Path<'_>) {
        let empty = "must be empty to be structural";
        let undefined = "must be undefined to be structural";
        let off = "must be false to be structural";
        for (name, why) in [
            ("type", empty),
            ("additionalProperties", undefined),
            ("default", undefined),
            ("title", empty),
            ("description", empty),
            ("nullable", off),
            (PRESERVE, off),
            (EMBEDDED, off),
            (INT_OR_STRING, off),
            ("x-kubernetes-list-map-keys", empty),
            ("x-kubernetes-list-type", undefined),
            ("x-kubernetes-map-type", undefined),
            ("x-kubernetes-validations", empty),
        ] {
            let Some(value) = schema.get(name) else { continue };
            // `additionalProperties: false` restricts nothing.
            if is_set(name, value) && *value != Value::Bool(false) {
                self.not_structural(|| FieldError::forbidden(path.child(name), why));
            }
        }
        if schema.get("properties").is_some_and(|properties| properties.get("metadata").is_some()) {
            let properties = path.child("properties");
            let why = "must not be specified in a nested context";
            self.not_structural(|| FieldError::forbidden(properties.key("metadata"), why));
        }
    }

    /// What no schema may have.
    pub(super) fn unsupported(&mut self, schema: &Object, path: &Path<'_>, context: NodeContext) {
        let name = text(schema, "type");
        if !name.is_empty() && Kind::parse(name).is_none() {
            let known = ["array", "boolean", "integer", "number", "object", "string"];
            self.fault(|| FieldError::not_supported(path.child("type"), name, &known));
        }
        if let Some(why) = context.no_default
            && schema.get("default").is_some_and(|default| !default.is_null())
        {
            self.fault(|| FieldError::forbidden(path.child("default"), format!("must not be set {why}")));
        }
        for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
            if schema
                .get(name)
                .is_some_and(|value| is_set(name, value) || value.is_object() || value.is_boolean())
            {
                self.unreadable(|| {
                    FieldError::forbidden(path.child(name), format!("{name} is not supported"))
                });
            }
        }
        if name == "null" {
            let why = "type cannot be set to null, use nullable as an alternative";
            self.fault(|| FieldError::forbidden(path.child("type"), why));
        }
        if schema.get("items").is_some_and(Value::is_array) {
            let why = "items must be a schema object and not an array";
            self.unreadable(|| FieldError::forbidden(path.child("items"), why));
        }
        if context.in_metadata && flag(schema, EMBEDDED) {
            let why = "must not be used inside of resource meta";
            self.fault(|| FieldError::forbidden(path.child(EMBEDDED), why));
        }
        if flag(schema, "uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.fault(|| FieldError::forbidden(path.child("uniqueItems"), why));
        }
        let has_properties =
            schema.get("properties").and_then(Value::as_object).is_some_and(|all| !all.is_empty());
        let additional = schema.get("additionalProperties").filter(|value| !value.is_null());
        if has_properties && additional.is_some_and(|value| *value != Value::Bool(true)) {
            let why = "additionalProperties and properties are mutual exclusive";
            self.fault(|| FieldError::forbidden(path.child("additionalProperties"), why));
        }
    }

    /// What `allOf` and its kin of the root say of a field presupposes that the schema itself has it.
    pub(super) fn complete(&mut self, root: &Object, path: &Path<'_>) {
        self.complete_below(root, Some(root), path, path);
    }

    fn complete_below(&mut self, rules: &Object, node: Option<&Object>, path: &Path<'_>, at: &Path<'_>) {
        for name in ["allOf", "anyOf", "oneOf"] {
            let lists = at.child(name);
            for (number, one) in list(rules, name).iter().filter_map(Value::as_object).enumerate() {
                self.complete_nested(one, node, path, &lists.index(number));
            }
        }
        if let Some(one) = rules.get("not").and_then(Value::as_object) {
            self.complete_nested(one, node, path, &at.child("not"));
        }
    }

    fn complete_nested(&mut self, nested: &Object, node: Option<&Object>, path: &Path<'_>, at: &Path<'_>) {
        let missing = |at: &Path<'_>| format!("because it is defined in {at}");
        if node.is_none() {
            self.not_structural(|| FieldError::required(path, missing(at)));
            return;
        }
        self.complete_below(nested, node, path, at);
        let member = |name: &str| node.and_then(|node| node.get(name));
        if let Some(items) = nested.get("items").and_then(Value::as_object) {
            let own = member("items").and_then(Value::as_object);
            self.complete_nested(items, own, &path.child("items"), &at.child("items"));
        }
        let (own_path, nested_path) = (path.child("properties"), at.child("properties"));
        for (name, one) in nested.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let own = member("properties").and_then(|all| all.get(name)).and_then(Value::as_object);
            let (path, at) = (own_path.key(name), nested_path.key(name));
            match one.as_object() {
                Some(one) => self.complete_nested(one, own, &path, &at),
                None if own.is_none() => self.not_structural(|| FieldError::required(path, missing(&at))),
                None => {}
            }
        }
    }
}

/// Whether a schema of `metadata` says nothing but what `name` and `generateName` are.
fn restricts_names_only(schema: &Object) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.is_none_or(|all| all.keys().all(|name| matches!(name.as_str(), "name" | "generateName")))
        && schema.iter().all(|(name, value)| {
            matches!(name.as_str(), "type" | "properties" | "default") || !is_set(name, value)
        })
}
