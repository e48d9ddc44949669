//! CustomResourceDefinition: what is kept and checked of it. What it defines is served by `definitions`.
//!
//! Absent: the costs of rules, which show only when they are evaluated.

mod validate;

use api::ApiError;
use api::FieldError;
use api::json::{items, text};
use api::validation::Faults;
use serde_json::{Value, json};

use crate::definitions::approval;
use crate::definitions::conditions::{self, CLEANUP, Condition};
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
        let service = tree.pointer_mut("/spec/conversion/webhook/clientConfig/service");
        if let Some(service) = service.and_then(Value::as_object_mut) {
            service.entry("port").or_insert(json!(443));
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
        _old: &Value,
    ) -> Result<(), ApiError> {
        if ctx.subresource.is_none() {
            note_storage_version(new);
        }
        Ok(())
    }

    fn validate_create(&self, ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        let mut faults = Faults::new();
        let expected = format!("{}.{}", text(tree, "spec.names.plural"), text(tree, "spec.group"));
        let name = text(tree, "metadata.name");
        if name != expected {
            let why = "must be spec.names.plural+\".\"+spec.group";
            faults.push(FieldError::invalid("metadata.name", name, why));
        }
        faults.extend(validate::spec(ctx, tree, None));
        faults.extend(validate::stored_versions(tree));
        faults.extend(approval::validate(tree, None));
        faults.extend(validate::preserve_unknown_fields(tree));
        faults
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let accepted = validate::names(&new["status"]["acceptedNames"], "status.acceptedNames");
        if ctx.subresource.is_some() {
            return accepted;
        }
        let mut faults = validate::spec(ctx, new, Some(old));
        let established = conditions::is_true(old, "Established");
        for (path, always) in [
            ("spec.scope", false),
            ("spec.names.kind", false),
            ("spec.group", true),
            ("spec.names.plural", true),
        ] {
            let given = text(new, path);
            if (always || established) && given != text(old, path) {
                faults.push(FieldError::invalid(path, given, api::validation::FIELD_IMMUTABLE));
            }
        }
        faults.extend(accepted);
        faults.extend(validate::stored_versions(new));
        faults.extend(approval::validate(new, Some(old)));
        if old["spec"]["preserveUnknownFields"] != true {
            faults.extend(validate::preserve_unknown_fields(new));
        }
        faults
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    /// The first deletion only marks: what is defined goes first.
    fn holds_deletion(&self, tree: &Value) -> bool {
        text(tree, "metadata.deletionTimestamp").is_empty()
    }

    fn mark_deleted(&self, _ctx: &RequestContext<'_>, tree: &mut Value) {
        let mut finalizers = items(tree, "metadata.finalizers").to_vec();
        if !finalizers.iter().any(|one| one == CLEANUP) {
            finalizers.push(json!(CLEANUP));
        }
        tree["metadata"]["finalizers"] = json!(finalizers);
        conditions::set_condition(
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
