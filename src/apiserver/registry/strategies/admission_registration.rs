//! Webhooks and admission policies, as objects. `registry::admit` and `registry::policies` act on them.

mod policy;

use std::collections::BTreeSet;

use api::FieldError;
use api::json::{items, number, text};
use api::validation::{
    Faults, Path, dns1035_label, dns1123_subdomain, invalid_each, path_segment, port_number,
    validate_label_selector,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::rules::{one_of, required, required_fields};
use super::typed;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MATCHES: [&str; 2] = ["Equivalent", "Exact"];
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

pub(super) struct Webhooks;
/// A policy, by the name of the list of its expressions.
pub(super) struct Policies(pub(super) &'static str);
pub(super) struct Bindings;

fn validate_webhooks(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let list = Path::new("webhooks");
    let mut names = BTreeSet::new();
    for (index, one) in items(tree, "webhooks").iter().enumerate() {
        let at = list.index(index);
        let name = text(one, "name");
        webhook(one, &at, &mut faults);
        if !names.insert(name) {
            faults.push(FieldError::duplicate(at.child("name"), name));
        }
    }
    faults
}

fn webhook(one: &Value, at: &Path<'_>, faults: &mut Faults) {
    review_versions(items(one, "admissionReviewVersions"), &at.child("admissionReviewVersions"), faults);
    let (name, field) = (text(one, "name"), at.child("name"));
    let wrong = dns1123_subdomain(name);
    if name.is_empty() {
        faults.push(FieldError::required(field, ""));
    } else if !wrong.is_empty() {
        faults.push(FieldError::invalid(field, name, wrong.join(",")));
    } else if name.split('.').count() < 3 {
        let message = "should be a domain with at least three segments separated by dots";
        faults.push(FieldError::invalid(field, name, message));
    }
    let list = at.child("rules");
    for (index, rule) in items(one, "rules").iter().enumerate() {
        validate_rule(rule, &list.index(index), faults);
    }
    for (field, supported) in
        [("failurePolicy", &POLICIES), ("matchPolicy", &MATCHES), ("sideEffects", &SIDE_EFFECTS)]
    {
        match one[field].as_str() {
            Some(value) => one_of(faults, &at.child(field), value, supported),
            None if field == "sideEffects" => {
                let message = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
                faults.push(FieldError::required(at.child(field), message));
            }
            None => {}
        }
    }
    if let Some(seconds) = one["timeoutSeconds"].as_i64().filter(|seconds| !(1..=30).contains(seconds)) {
        let message = "the timeout value must be between 1 and 30 seconds";
        faults.push(FieldError::invalid(at.child("timeoutSeconds"), seconds, message));
    }
    for field in ["namespaceSelector", "objectSelector"] {
        selector(&one[field], &at.child(field), faults);
    }
    validate_client(&one["clientConfig"], &at.child("clientConfig"), faults);
    policy::webhook_conditions(one, at, faults);
}

fn selector(value: &Value, at: &Path<'_>, faults: &mut Faults) {
    if let Some(selector) = typed::<LabelSelector>(value, at, faults) {
        validate_label_selector(&selector, at, faults);
    }
}

pub(super) fn review_versions(versions: &[Value], at: &Path<'_>, faults: &mut Faults) {
    if versions.is_empty() {
        let message = format!("must specify one of {}", REVIEWS.join(", "));
        return faults.push(FieldError::required(at, message));
    }
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().filter_map(Value::as_str).enumerate() {
        if seen.insert(version) {
            invalid_each(faults, &at.index(index), version, dns1035_label(version));
        } else {
            faults.push(FieldError::invalid(at.index(index), version, "duplicate version"));
        }
    }
    if !REVIEWS.iter().any(|known| seen.contains(known)) {
        let message = format!("must include at least one of {}", REVIEWS.join(", "));
        faults.push(FieldError::invalid(at, versions, message));
    }
}

pub(super) fn validate_client(config: &Value, at: &Path<'_>, faults: &mut Faults) {
    let (url, service) = (&config["url"], &config["service"]);
    if url.is_null() == service.is_null() {
        return faults.push(FieldError::required(at, "exactly one of url or service is required"));
    }
    if let Some(url) = url.as_str() {
        return validate_url(url, &at.child("url"), faults);
    }
    let at = at.child("service");
    required_fields(faults, &at, service, &["name", "namespace"]);
    let port = number(service, "port");
    let wrong = port_number(port);
    if !wrong.is_empty() {
        let message = format!("port is not valid: {}", wrong.join(", "));
        faults.push(FieldError::invalid(at.child("port"), port, message));
    }
    service_path(text(service, "path"), &at.child("path"), faults);
}

fn validate_url(url: &str, at: &Path<'_>, faults: &mut Faults) {
    const FORM: &str = "; desired format: https://host[/path]";
    let Ok(uri) = url.parse::<http::Uri>() else {
        return faults.push(FieldError::required(at, format!("url must be a valid URL: {url:?}{FORM}")));
    };
    let scheme = uri.scheme_str().unwrap_or("");
    if scheme != "https" {
        let message = format!("'https' is the only allowed URL scheme{FORM}");
        faults.push(FieldError::invalid(at, scheme, message));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.is_empty() {
        faults.push(FieldError::invalid(at, "", format!("host must be specified{FORM}")));
    }
    if let Some((user, _)) = authority.rsplit_once('@') {
        faults.push(FieldError::invalid(at, user, "user information is not permitted in the URL"));
    }
    if let Some((_, fragment)) = url.split_once('#') {
        faults.push(FieldError::invalid(at, fragment, "fragments are not permitted in the URL"));
    }
    if let Some(query) = uri.query().filter(|query| !query.is_empty()) {
        faults.push(FieldError::invalid(at, query, "query parameters are not permitted in the URL"));
    }
}

fn service_path(path: &str, at: &Path<'_>, faults: &mut Faults) {
    match path {
        "" | "/" => return,
        "//" => return faults.push(FieldError::invalid(at, path, "segment[0] may not be empty")),
        _ => {}
    }
    if !path.starts_with('/') {
        faults.push(FieldError::invalid(at, path, "must start with a '/'"));
    }
    // What comes first is taken for the slash, as upstream does.
    let rest: String = path.chars().skip(1).collect();
    let rest = rest.strip_suffix('/').unwrap_or(&rest);
    for (index, step) in rest.split('/').enumerate() {
        if step.is_empty() {
            faults.push(FieldError::invalid(at, path, format!("segment[{index}] may not be empty")));
        } else {
            let wrong = dns1123_subdomain(step).into_iter().map(|why| format!("segment[{index}]: {why}"));
            invalid_each(faults, at, path, wrong.collect());
        }
    }
}

/// What a webhook is asked about.
fn validate_rule(rule: &Value, at: &Path<'_>, faults: &mut Faults) {
    wildcard(rule, "operations", "operations", at, faults);
    let list = at.child("operations");
    for (index, one) in items(rule, "operations").iter().filter_map(Value::as_str).enumerate() {
        one_of(faults, &list.index(index), one, &OPERATIONS);
    }
    wildcard(rule, "apiGroups", "API groups", at, faults);
    wildcard(rule, "apiVersions", "API versions", at, faults);
    let list = at.child("apiVersions");
    for (index, version) in items(rule, "apiVersions").iter().filter_map(Value::as_str).enumerate() {
        required(faults, &list.index(index), version);
    }
    resources(items(rule, "resources"), &at.child("resources"), faults);
    if let Some(scope) = rule["scope"].as_str() {
        one_of(faults, &at.child("scope"), scope, &SCOPES);
    }
}

/// A list that must not be empty and in which a wildcard stands alone.
fn wildcard(rule: &Value, field: &str, others: &str, at: &Path<'_>, faults: &mut Faults) {
    let (at, list) = (at.child(field), items(rule, field));
    if list.is_empty() {
        faults.push(FieldError::required(at, ""));
    }
    if list.len() > 1 && list.iter().any(|one| one == "*") {
        let message = format!("if '*' is present, must not specify other {others}");
        faults.push(FieldError::invalid(at, list, message));
    }
}

fn resources(list: &[Value], at: &Path<'_>, faults: &mut Faults) {
    if list.is_empty() {
        faults.push(FieldError::required(at, ""));
    }
    // Resources all of whose subresources are meant, and subresources of all resources.
    let (mut whole, mut everywhere) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    let named: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    for (index, one) in named.iter().copied().enumerate() {
        let at = at.index(index);
        if one.is_empty() {
            faults.push(FieldError::required(at, ""));
            continue;
        }
        let Some((resource, part)) = one.split_once('/') else {
            plain = one != "*";
            continue;
        };
        if whole.contains(resource) {
            let message = format!("if '{resource}/*' is present, must not specify {one}");
            faults.push(FieldError::invalid(at, one, message));
        }
        if everywhere.contains(part) {
            let message = format!("if '*/{part}' is present, must not specify {one}");
            faults.push(FieldError::invalid(at, one, message));
        }
        if part == "*" {
            whole.insert(resource);
        }
        if resource == "*" {
            everywhere.insert(part);
        }
    }
    if named.len() > 1 && named.contains(&"*/*") {
        let message = "if '*/*' is present, must not specify other resources";
        faults.push(FieldError::invalid(at, list, message));
    }
    if plain && named.contains(&"*") {
        let message = "if '*' is present, must not specify other resources without subresources";
        faults.push(FieldError::invalid(at, list, message));
    }
}

/// The parameters that a binding gives its policy.
fn validate_binding(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    if tree["spec"]["matchResources"].is_object() {
        let at = at.child("matchResources");
        policy::match_resources(&tree["spec"]["matchResources"], &at, &mut faults);
    }
    let field = at.child("policyName");
    match text(tree, "spec.policyName") {
        "" => faults.push(FieldError::required(field, "")),
        name => invalid_each(&mut faults, &field, name, dns1123_subdomain(name)),
    }
    let (at, parameters) = (at.child("paramRef"), &tree["spec"]["paramRef"]);
    if parameters.is_null() {
        return faults;
    }
    const ONE: &str = "name and selector are mutually exclusive";
    let (name, selects) = (text(parameters, "name"), !parameters["selector"].is_null());
    if !name.is_empty() {
        invalid_each(&mut faults, &at.child("name"), name, path_segment(name));
        if selects {
            faults.push(FieldError::forbidden(at.child("name"), ONE));
        }
    }
    if selects {
        selector(&parameters["selector"], &at.child("selector"), &mut faults);
        if !name.is_empty() {
            faults.push(FieldError::forbidden(at.child("selector"), ONE));
        }
    }
    if name.is_empty() && !selects {
        faults.push(FieldError::required(at, "one of name or selector must be specified"));
    }
    let field = at.child("parameterNotFoundAction");
    match text(parameters, "parameterNotFoundAction") {
        "" => faults.push(FieldError::required(field, "")),
        action => one_of(&mut faults, &field, action, &["Deny", "Allow"]),
    }
    faults
}

impl Strategy for Webhooks {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate_webhooks(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, _old: &Value) -> Faults {
        validate_webhooks(new)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        printers::extension::WEBHOOKS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::extension::webhooks(tree, now)
    }
}

impl Strategy for Policies {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        policy::validate(tree, self.0)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        // What is stored may stay, and a status has no expressions.
        let same = ctx.subresource.is_some() || new["spec"] == old["spec"];
        if same { Faults::new() } else { policy::validate(new, self.0) }
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        match self.0 {
            "mutations" => printers::extension::MUTATING_POLICY,
            _ => printers::extension::VALIDATING_POLICY,
        }
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::extension::policy(tree, self.0, now)
    }
}

impl Strategy for Bindings {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate_binding(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, _old: &Value) -> Faults {
        validate_binding(new)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        printers::extension::POLICY_BINDING
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::extension::policy_binding(tree, now)
    }
}
