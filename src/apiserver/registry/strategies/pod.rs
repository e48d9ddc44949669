//! Pods.

pub(super) mod annotations;
mod container;
mod environment;
mod os;
pub(super) mod placement;
mod resize;
mod resources;
mod security;
pub(super) mod spec;
mod update;
mod volumes;
pub(super) mod warnings;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use api::json::{items, text};
use api::validation::{Faults, Path};
use api::{ApiError, DeleteOptions, FieldError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use super::{flag, typed};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

pub(crate) struct Pods;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    if let Some(spec) = typed::<PodSpec>(&tree["spec"], &at, &mut faults) {
        spec::validate(&spec, &at, &mut faults);
    }
    faults
}

fn validate_annotations(tree: &Value, faults: &mut Faults) {
    annotations::validate(tree, &Path::new("metadata").child("annotations"), faults);
}

/// The state of a pod that nobody has looked at yet.
fn first_status(tree: &Value) -> Value {
    let spec = api::decode::pod_spec(&tree["spec"]).unwrap_or_default();
    let mut status = json!({"phase": "Pending", "qosClass": api::qos::class_of(&spec).as_str()});
    if !items(tree, "spec.schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    status
}

/// A kubelet tells how a pod is; what the pod is to be, and who owns it, is not its business.
fn keep_for_status(new: &mut Value, old: &Value) {
    if let Some(metadata) = new.get_mut("metadata") {
        super::keep(metadata, &old["metadata"], "ownerReferences");
    }
    let class = &old["status"]["qosClass"];
    if text(new, "status.qosClass").is_empty()
        && !class.is_null()
        && let Some(status) = super::object(new, "status")
    {
        status.insert("qosClass".into(), class.clone());
    }
}

impl Strategy for Pods {
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        tree["status"] = first_status(tree);
        annotations::to_fields(tree);
        Ok(())
    }

    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        match ctx.subresource {
            Some("status") => keep_for_status(new, old),
            Some("ephemeralcontainers") => {
                let added = new["spec"]["ephemeralContainers"].take();
                super::keep(new, old, "spec");
                super::keep(new, old, "status");
                super::keep_metadata(new, old);
                if !added.is_null() {
                    new["spec"]["ephemeralContainers"] = added;
                }
            }
            Some("resize") => resize::prepare(new, old),
            _ => super::keep(new, old, "status"),
        }
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        let mut faults = validate(tree);
        validate_annotations(tree, &mut faults);
        annotations::validate_match(tree, &Path::new("spec"), &mut faults);
        if !items(tree, "spec.ephemeralContainers").is_empty() {
            let message = "cannot be set on create";
            faults.push(FieldError::forbidden("spec.ephemeralContainers", message));
        }
        faults
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = Faults::new();
        annotations::validate_change(new, old, &mut faults);
        match ctx.subresource {
            // The server itself has made this change, but for the annotations.
            Some("binding") => {}
            Some("status") => faults.extend(update::validate_status(new, old)),
            Some("ephemeralcontainers") => {
                if annotations::is_mirror(old) {
                    let message = "static pods do not support ephemeral containers";
                    return vec![FieldError::forbidden("", message)].into();
                }
                faults.extend(update::validate_ephemeral(new, old));
                faults.extend(validate(new));
            }
            Some("resize") => return resize::validate(new, old, validate(new)),
            _ => {
                validate_annotations(new, &mut faults);
                if new["spec"] != old["spec"] {
                    faults.extend(validate(new));
                }
                faults.extend(update::validate(new, old));
            }
        }
        faults
    }

    fn warnings(&self, ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        // A writer of the status is not warned of a spec that is not his.
        match ctx.subresource {
            None if old.is_none_or(|old| old["spec"] != tree["spec"]) => {
                let mut warnings = Vec::new();
                if old.is_none() {
                    warnings::name(tree, "the Pod's hostname", &mut warnings);
                }
                warnings::spec(&tree["spec"], "spec", &mut warnings);
                warnings
            }
            _ => Vec::new(),
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn grace_period(&self, _ctx: &RequestContext<'_>, tree: &Value, options: &DeleteOptions) -> Option<i64> {
        let own = || tree["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(0);
        let wanted = options.grace_period_seconds.unwrap_or_else(own);
        let unbound = text(tree, "spec.nodeName").is_empty();
        let finished = matches!(text(tree, "status.phase"), "Succeeded" | "Failed");
        match wanted {
            _ if unbound || finished => Some(0),
            ..0 => Some(1),
            seconds => Some(seconds),
        }
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ])
    }

    fn indexed_fields(&self) -> Vec<Str> {
        fields(&["spec.nodeName"])
    }

    fn field_value<'a>(&self, tree: &'a Value, path: &str) -> Cow<'a, str> {
        Cow::Borrowed(match path {
            "spec.hostNetwork" => flag(tree, path),
            "status.podIPs" => items(tree, path).first().map_or("", |one| text(one, "ip")),
            _ => text(tree, path),
        })
    }

    fn columns(&self) -> &'static [Column] {
        printers::pod::COLUMNS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::pod::cells(tree, now)
    }
}
