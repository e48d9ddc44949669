//! API services: which group and version is served where. Those without a service are served here, the
//! others by `aggregation`.

use api::json::{items, number, text};
use api::validation::{Faults, Path, dns1035_label, dns1123_subdomain, invalid_each, port_number};
use api::{ApiError, FieldError};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::object;
use super::rules::{one_of, required_fields};
use crate::printers;
use crate::registry::time;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const STATES: [&str; 3] = ["True", "False", "Unknown"];

pub(super) struct ApiServices;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let spec = &tree["spec"];
    let at = Path::new("spec");
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    let (name, wanted) = (text(tree, "metadata.name"), format!("{version}.{group}"));
    if name != wanted {
        let message = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        faults.push(FieldError::invalid("metadata.name", name, message));
    }
    if group.is_empty() && version != "v1" {
        let message = "only v1 may have an empty group and it better be legacy kube";
        faults.push(FieldError::required(at.child("group"), message));
    }
    if !group.is_empty() {
        invalid_each(&mut faults, &at.child("group"), group, dns1123_subdomain(group));
    }
    invalid_each(&mut faults, &at.child("version"), version, dns1035_label(version));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let priority = number(spec, field);
        if !(1..=most).contains(&priority) {
            let message = format!("must be positive and less than {most}");
            faults.push(FieldError::invalid(at.child(field), priority, message));
        }
    }
    let bundle = text(spec, "caBundle");
    let skips = spec["insecureSkipTLSVerify"] == true;
    let service = &spec["service"];
    if service.is_null() {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.trim_end_matches('=').len() * 3 / 4);
            let message = "local APIServices may not have a caBundle";
            faults.push(FieldError::invalid(at.child("caBundle"), shown, message));
        }
        if skips {
            let message = "local APIServices may not have insecureSkipTLSVerify";
            faults.push(FieldError::invalid(at.child("insecureSkipTLSVerify"), true, message));
        }
        return faults;
    }
    let field = at.child("service");
    required_fields(&mut faults, &field, service, &["namespace", "name"]);
    let port = number(service, "port");
    let wrong = port_number(port);
    if !wrong.is_empty() {
        let message = format!("port is not valid: {}", wrong.join(", "));
        faults.push(FieldError::invalid(field.child("port"), port, message));
    }
    if skips && !bundle.is_empty() {
        let message = "may not be true if caBundle is present";
        faults.push(FieldError::invalid(at.child("insecureSkipTLSVerify"), true, message));
    }
    faults
}

fn validate_status(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("status");
    let list = at.child("conditions");
    for (index, condition) in items(tree, "status.conditions").iter().enumerate() {
        one_of(&mut faults, &list.index(index).child("status"), text(condition, "status"), &STATES);
    }
    faults
}

impl Strategy for ApiServices {
    fn prepare_for_create(&self, ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        if tree["spec"]["service"].is_null()
            && let Some(status) = object(tree, "status")
        {
            let available = json!({
                "type": "Available", "status": "True", "lastTransitionTime": time(ctx.now),
                "reason": "Local", "message": "Local APIServices are always available",
            });
            status.insert("conditions".into(), json!([available]));
        }
        Ok(())
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, _old: &Value) -> Faults {
        if ctx.subresource.is_some() { validate_status(new) } else { validate(new) }
    }

    /// The core group's ends in a dot.
    fn name_faults(&self, name: &str, _prefix: bool) -> Vec<String> {
        api::validation::path_segment(name)
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        printers::extension::API_SERVICE
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::extension::api_service(tree, now)
    }
}
