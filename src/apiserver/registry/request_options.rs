//! What a request asks for beside its object: its options, as webhooks and policies are shown them.

use api::{CreateOptions, DeleteOptions, DryRun, FieldValidation, PropagationPolicy, UpdateOptions};
use serde_json::{Value, json};

/// The options of a request, as webhooks are shown them.
pub(super) enum RequestOptions {
    Create(CreateOptions),
    Update(UpdateOptions),
    Patch(UpdateOptions),
    Delete(DeleteOptions),
}

impl RequestOptions {
    pub(super) fn json(&self, dry_run: DryRun) -> Value {
        let mut options = match self {
            RequestOptions::Create(options) => {
                written("CreateOptions", options.field_manager.as_deref(), options.field_validation)
            }
            RequestOptions::Update(options) => {
                written("UpdateOptions", options.field_manager.as_deref(), options.field_validation)
            }
            RequestOptions::Patch(options) => {
                let mut patch =
                    written("PatchOptions", options.field_manager.as_deref(), options.field_validation);
                if options.force {
                    patch["force"] = json!(true);
                }
                patch
            }
            RequestOptions::Delete(options) => deletion(options),
        };
        if dry_run == DryRun::All {
            options["dryRun"] = json!(["All"]);
        }
        options
    }
}

fn written(kind: &str, manager: Option<&str>, validation: FieldValidation) -> Value {
    let validation = match validation {
        FieldValidation::Ignore => "Ignore",
        FieldValidation::Warn => "Warn",
        FieldValidation::Strict => "Strict",
    };
    let mut options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1", "fieldValidation": validation });
    if let Some(manager) = manager.filter(|manager| !manager.is_empty()) {
        options["fieldManager"] = json!(manager);
    }
    options
}

fn deletion(options: &DeleteOptions) -> Value {
    let mut deletion = json!({ "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1" });
    if let Some(seconds) = options.grace_period_seconds {
        deletion["gracePeriodSeconds"] = json!(seconds);
    }
    if let Some(policy) = options.propagation_policy {
        deletion["propagationPolicy"] = json!(match policy {
            PropagationPolicy::Orphan => "Orphan",
            PropagationPolicy::Background => "Background",
            PropagationPolicy::Foreground => "Foreground",
        });
    }
    let wanted = &options.preconditions;
    for (member, value) in [("uid", &wanted.uid), ("resourceVersion", &wanted.resource_version)] {
        if let Some(value) = value {
            deletion["preconditions"][member] = json!(value);
        }
    }
    deletion
}
