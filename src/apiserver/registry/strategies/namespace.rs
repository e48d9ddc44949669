//! Namespaces: a label with their name, a phase, and the finalizer that keeps them until their content is
//! gone.

use api::validation::{Faults, Path, invalid_each, name_is_dns_label, qualified_name};
use api::{ApiError, FieldError, json};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::object;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";

pub(super) struct Namespaces;

/// Everyone may select namespaces by name, because the label is always there and always right.
fn label(tree: &mut Value) {
    let name = tree["metadata"]["name"].as_str().unwrap_or("").to_string();
    if name.is_empty() {
        return;
    }
    if let Some(labels) = tree.get_mut("metadata").and_then(|metadata| object(metadata, "labels")) {
        labels.insert(NAME_LABEL.into(), json!(name));
    }
}

impl Strategy for Namespaces {
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        // A generated name is known only now.
        label(tree);
        if let Some(spec) = object(tree, "spec") {
            let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
            if finalizers.is_null() {
                *finalizers = json!([]);
            }
            if let Some(list) = finalizers.as_array_mut().filter(|list| !list.contains(&json!(FINALIZER))) {
                list.push(json!(FINALIZER));
            }
        }
        tree["status"] = json!({"phase": "Active"});
        Ok(())
    }

    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        // Finalizers are taken off through `finalize` only.
        if ctx.subresource.is_none() {
            super::keep(new, old, "spec");
        }
        Ok(())
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = Faults::new();
        let at = Path::new("spec");
        let at = at.child("finalizers");
        for (index, finalizer) in json::items(new, "spec.finalizers").iter().enumerate() {
            let name = finalizer.as_str().unwrap_or("");
            invalid_each(&mut faults, &at.index(index), name, qualified_name(name));
        }
        if ctx.subresource == Some("status") {
            let (phase, deleted) =
                (json::text(new, "status.phase"), !old["metadata"]["deletionTimestamp"].is_null());
            let at = Path::new("status");
            let at = at.child("Phase");
            match (deleted, phase) {
                (false, "Active") | (true, "Terminating") => {}
                (false, _) => {
                    let message = "may only be 'Active' if `deletionTimestamp` is empty";
                    faults.push(FieldError::invalid(at, phase, message));
                }
                (true, _) => {
                    let message = "may only be 'Terminating' if `deletionTimestamp` is not empty";
                    faults.push(FieldError::invalid(at, phase, message));
                }
            }
        }
        faults
    }

    fn name_faults(&self, name: &str, prefix: bool) -> Vec<String> {
        name_is_dns_label(name, prefix)
    }

    fn mark_deleted(&self, _ctx: &RequestContext<'_>, tree: &mut Value) {
        if let Some(status) = object(tree, "status") {
            status.insert("phase".into(), json!("Terminating"));
        }
    }

    fn holds_deletion(&self, tree: &Value) -> bool {
        !json::items(tree, "spec.finalizers").is_empty()
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&["status.phase"])
    }

    fn columns(&self) -> &'static [Column] {
        printers::core::NAMESPACE
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::core::namespace(tree, now)
    }
}
