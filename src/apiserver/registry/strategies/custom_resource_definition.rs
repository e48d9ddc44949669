//! CustomResourceDefinition: names, versions, schemas. What it defines is served by `definitions`.
//!
//! Absent: conversion webhooks (refused), CEL rules (accepted with a warning, not enforced), `selectableFields` (refused).

use api::schema::structural::Structural;
use api::validation::{Faults, dns1035_label, dns1123_subdomain};
use api::{ApiError, FieldError};
use serde_json::{Value, json};

use super::keep;
use crate::definitions::{self, CLEANUP, Condition, approval};
use crate::printers::{items, text};
use crate::strategy::{RequestContext, Strategy};

pub(crate) struct Definitions;

impl Strategy for Definitions {
    fn default(&self, _ctx: &RequestContext<'_>, tree: &mut Value) {
        let kind = text(tree, "spec.names.kind").to_string();
        let names = &mut tree["spec"]["names"];
        if names.is_object() && !kind.is_empty() {
            if names["singular"].as_str().unwrap_or("").is_empty() {
                names["singular"] = json!(kind.to_lowercase());
            }
            if names["listKind"].as_str().unwrap_or("").is_empty() {
                names["listKind"] = json!(format!("{kind}List"));
            }
        }
        if tree["spec"].is_object() && tree["spec"]["conversion"].is_null() {
            tree["spec"]["conversion"] = json!({ "strategy": "None" });
        }
    }

    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        tree["status"] = json!({});
        note_storage_version(tree);
        Ok(())
    }

    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        match ctx.subresource {
            Some(_) => keep(new, old, "spec"),
            None => note_storage_version(new),
        }
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        let mut faults = validate(tree);
        faults.extend(approval::validate(tree, None));
        let expected = format!("{}.{}", text(tree, "spec.names.plural"), text(tree, "spec.group"));
        let name = text(tree, "metadata.name");
        if name != expected {
            let why = "must be spec.names.plural+\".\"+spec.group";
            faults.push(FieldError::invalid("metadata.name", name, why));
        }
        faults
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource.is_some() {
            return Faults::new();
        }
        let mut faults = validate(new);
        faults.extend(approval::validate(new, Some(old)));
        let established = definitions::is_true(old, "Established");
        for (path, always) in [
            ("spec.group", true),
            ("spec.names.plural", true),
            ("spec.scope", false),
            ("spec.names.kind", false),
        ] {
            let given = text(new, path);
            if (always || established) && given != text(old, path) {
                faults.push(FieldError::invalid(path, given, api::validation::FIELD_IMMUTABLE));
            }
        }
        faults
    }

    fn warnings(&self, _ctx: &RequestContext<'_>, tree: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (at, version) in items(tree, "spec.versions").iter().enumerate() {
            if has_rules(&version["schema"]) {
                warnings.push(format!(
                    "spec.versions[{at}].schema.openAPIV3Schema: x-kubernetes-validations are not enforced by this server"
                ));
            }
        }
        warnings
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// The first deletion only marks: what is defined goes first.
    fn holds_deletion(&self, tree: &Value) -> bool {
        text(tree, "metadata.deletionTimestamp").is_empty()
    }

    fn mark_deleted(&self, _ctx: &RequestContext<'_>, tree: &mut Value) {
        if definitions::condition(tree, "Terminating").is_some() {
            return;
        }
        let mut finalizers = items(tree, "metadata.finalizers").to_vec();
        if !finalizers.iter().any(|one| one == CLEANUP) {
            finalizers.push(json!(CLEANUP));
        }
        tree["metadata"]["finalizers"] = json!(finalizers);
        definitions::set_condition(
            tree,
            &Condition {
                kind: "Terminating",
                holds: true,
                reason: "InstanceDeletionPending",
                message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            },
        );
    }
}

/// Versions that objects may have been stored in.
fn note_storage_version(tree: &mut Value) {
    let storage = items(tree, "spec.versions").iter().find(|version| version["storage"] == true);
    let Some(name) = storage.map(|version| version["name"].clone()) else { return };
    let mut stored = items(tree, "status.storedVersions").to_vec();
    if !stored.contains(&name) {
        stored.push(name);
        tree["status"]["storedVersions"] = json!(stored);
    }
}

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            members.contains_key("x-kubernetes-validations") || members.values().any(has_rules)
        }
        Value::Array(list) => list.iter().any(has_rules),
        _ => false,
    }
}

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let group = text(tree, "spec.group");
    let joined = |errors: Vec<String>| errors.join(",");
    if group.is_empty() {
        faults.push(FieldError::required("spec.group", ""));
    } else if let errors = dns1123_subdomain(group)
        && !errors.is_empty()
    {
        faults.push(FieldError::invalid("spec.group", group, joined(errors)));
    } else if !group.contains('.') {
        faults.push(FieldError::invalid("spec.group", group, "should be a domain with at least one dot"));
    }
    let scope = text(tree, "spec.scope");
    if scope.is_empty() {
        faults.push(FieldError::required("spec.scope", ""));
    } else if !matches!(scope, "Cluster" | "Namespaced") {
        faults.push(FieldError::not_supported("spec.scope", scope, &["Cluster", "Namespaced"]));
    }
    if tree["spec"]["preserveUnknownFields"] == true {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        faults.push(FieldError::invalid("spec.preserveUnknownFields", true, why));
    }
    let conversion = text(tree, "spec.conversion.strategy");
    if conversion != "None" {
        faults.push(FieldError::not_supported("spec.conversion.strategy", conversion, &["None"]));
    }
    validate_names(tree, &mut faults);
    validate_versions(tree, &mut faults);
    faults
}

fn validate_names(tree: &Value, faults: &mut Faults) {
    let kinds = ["kind", "listKind"];
    for name in ["plural", "singular", "kind", "listKind"] {
        let (path, value) = (format!("spec.names.{name}"), text(&tree["spec"]["names"], name));
        if value.is_empty() {
            faults.push(FieldError::required(path, ""));
            continue;
        }
        let is_kind = kinds.contains(&name);
        let errors = dns1035_label(&if is_kind { value.to_lowercase() } else { value.to_string() });
        if !errors.is_empty() {
            let prefix = if is_kind { "may have mixed case, but should otherwise match: " } else { "" };
            faults.push(FieldError::invalid(path, value, format!("{prefix}{}", errors.join(","))));
        }
    }
    let names = &tree["spec"]["names"];
    let (kind, list) = (text(names, "kind"), text(names, "listKind"));
    if !kind.is_empty() && kind == list {
        faults.push(FieldError::invalid(
            "spec.names.listKind",
            list,
            "kind and listKind may not be the same",
        ));
    }
    for part in ["shortNames", "categories"] {
        for (at, value) in items(names, part).iter().filter_map(Value::as_str).enumerate() {
            let errors = dns1035_label(value);
            if !errors.is_empty() {
                let path = format!("spec.names.{part}[{at}]");
                faults.push(FieldError::invalid(path, value, errors.join(",")));
            }
        }
    }
}

fn validate_versions(tree: &Value, faults: &mut Faults) {
    let versions = items(tree, "spec.versions");
    let names: Vec<&str> = versions.iter().map(|version| text(version, "name")).collect();
    if names.iter().enumerate().any(|(at, name)| names[..at].contains(name)) {
        faults.push(FieldError::invalid("spec.versions", versions, "must contain unique version names"));
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        faults.push(FieldError::invalid("spec.versions", versions, why));
    }
    for (at, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{at}]");
        let errors = dns1035_label(names[at]);
        if !errors.is_empty() {
            faults.push(FieldError::invalid(format!("{path}.name"), names[at], errors.join(",")));
        }
        let schema = &version["schema"]["openAPIV3Schema"];
        let schema_path = format!("{path}.schema.openAPIV3Schema");
        if schema.is_null() {
            faults.push(FieldError::required(schema_path, "schemas are required"));
        } else if let Err(found) = Structural::parse(schema, &schema_path) {
            faults.extend(found);
        }
        if !items(version, "selectableFields").is_empty() {
            faults.push(FieldError::forbidden(
                format!("{path}.selectableFields"),
                "not supported by this server",
            ));
        }
        validate_columns(version, &path, faults);
        validate_scale(&version["subresources"]["scale"], &path, faults);
    }
}

fn validate_columns(version: &Value, path: &str, faults: &mut Faults) {
    const TYPES: &str = "boolean,date,integer,number,string";
    for (at, column) in items(version, "additionalPrinterColumns").iter().enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{at}]");
        let kind = text(column, "type");
        if text(column, "name").is_empty() {
            faults.push(FieldError::required(format!("{path}.name"), ""));
        }
        if kind.is_empty() {
            faults.push(FieldError::required(format!("{path}.type"), format!("must be one of {TYPES}")));
        } else if !TYPES.split(',').any(|one| one == kind) {
            faults.push(FieldError::invalid(format!("{path}.type"), kind, format!("must be one of {TYPES}")));
        }
        let expression = text(column, "jsonPath");
        if expression.is_empty() {
            faults.push(FieldError::required(format!("{path}.JSONPath"), ""));
        } else if api::jsonpath::JsonPath::parse(&format!("{{{expression}}}")).is_err() {
            faults.push(FieldError::invalid(format!("{path}.JSONPath"), expression, "is an invalid path"));
        }
    }
}

fn validate_scale(scale: &Value, path: &str, faults: &mut Faults) {
    if !scale.is_object() {
        return;
    }
    let path = format!("{path}.subresources.scale");
    for (name, roots, why) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."][..], "should be a json path under .status"),
        (
            "labelSelectorPath",
            &[".spec.", ".status."][..],
            "should be a json path under either .spec or .status",
        ),
    ] {
        let (at, given) = (format!("{path}.{name}"), text(scale, name));
        if given.is_empty() {
            if name != "labelSelectorPath" {
                faults.push(FieldError::required(at, ""));
            }
        } else if given.contains(['[', ']']) || !roots.iter().any(|root| given.starts_with(root)) {
            faults.push(FieldError::invalid(at, given, why));
        }
    }
}
