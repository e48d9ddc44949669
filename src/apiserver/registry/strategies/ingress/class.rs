//! Classes of ingresses: whose controller serves them, for good.

use api::FieldError;
use api::json::text;
use api::validation::{Faults, Path, dns1123_label, dns1123_subdomain, immutable, invalid_each};
use jiff::Timestamp;
use serde_json::Value;

use super::reference;
use crate::printers;
use crate::registry::strategies::rules::one_of;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const CONTROLLER_MAX: usize = 250;
const SCOPES: [&str; 2] = ["Cluster", "Namespace"];

pub(in super::super) struct IngressClasses;

/// A path below a domain, such as `example.com/name`.
fn domain_path(value: &str, at: &Path<'_>, faults: &mut Faults) {
    if value.is_empty() {
        return faults.push(FieldError::required(at, ""));
    }
    let parts = value.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty());
    let Some((host, path)) = parts else {
        let message = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return faults.push(FieldError::invalid(at, value, message));
    };
    invalid_each(faults, at, host, dns1123_subdomain(host));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !path.bytes().all(fits) {
        let message = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        faults.push(FieldError::invalid(at, path, message));
    }
}

fn parameters(parameters: &Value, at: &Path<'_>, faults: &mut Faults) {
    if parameters.is_null() {
        return;
    }
    reference(parameters, at, faults);
    let Some(scope) = parameters["scope"].as_str() else {
        return faults.push(FieldError::required(at.child("scope"), ""));
    };
    one_of(faults, &at.child("scope"), scope, &SCOPES);
    let field = at.child("namespace");
    match (scope, parameters["namespace"].as_str()) {
        ("Namespace", None) => {
            faults.push(FieldError::required(field, "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", Some(name)) => invalid_each(faults, &field, name, dns1123_label(name)),
        ("Cluster", Some(_)) => {
            faults.push(FieldError::forbidden(field, "`parameters.scope` is set to 'Cluster'"));
        }
        _ => {}
    }
}

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let controller = text(tree, "spec.controller");
    if controller.len() > CONTROLLER_MAX {
        faults.push(FieldError::too_long(at.child("controller"), CONTROLLER_MAX));
    }
    domain_path(controller, &at.child("controller"), &mut faults);
    parameters(&tree["spec"]["parameters"], &at.child("parameters"), &mut faults);
    faults
}

impl Strategy for IngressClasses {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = Faults::new();
        let at = Path::new("spec");
        let (is, was) = (&new["spec"]["controller"], &old["spec"]["controller"]);
        immutable(&mut faults, &at.child("controller"), is, was);
        faults.extend(validate(new));
        faults
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        printers::networking::INGRESS_CLASS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::networking::ingress_class(tree, now)
    }
}
