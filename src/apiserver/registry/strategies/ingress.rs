//! Ingresses and their classes.

mod class;

#[cfg(test)]
mod tests;

use api::FieldError;
use api::ingress::CLASS_ANNOTATION;
use api::json::{items, number, text};
use api::validation::{
    Faults, Path, dns1123_label, dns1123_subdomain, invalid_each, path_segment, port_name, port_number,
    strict_ip_address, wildcard_dns1123_subdomain,
};
use jiff::Timestamp;
use serde_json::Value;

use super::rules::subdomain;
use crate::printers;
use crate::strategy::{Cell, Column, References, RequestContext, Strategy};

pub(super) use class::IngressClasses;

const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const NOT_IN_PATHS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const NOT_AT_ENDS: [&str; 2] = ["/..", "/."];

pub(super) struct Ingresses;

/// What an object that is there already may keep though it would not be made so today.
#[derive(Default)]
struct Lenience {
    secret_names: bool,
    wildcard_rules: bool,
}

impl Lenience {
    fn towards(old: &Value) -> Self {
        let bad_secret = |tls: &Value| {
            let name = text(tls, "secretName");
            !name.is_empty() && !dns1123_subdomain(name).is_empty()
        };
        let bad_wildcard = |rule: &Value| {
            let mut faults = Faults::new();
            rule_value(rule, &Path::new("rule"), &mut faults);
            text(rule, "host").contains('*') && !faults.is_empty()
        };
        Lenience {
            secret_names: items(old, "spec.tls").iter().any(bad_secret),
            wildcard_rules: items(old, "spec.rules").iter().any(bad_wildcard),
        }
    }
}

fn validate(tree: &Value, lenience: &Lenience) -> Faults {
    let mut faults = Faults::new();
    let spec = &tree["spec"];
    let at = Path::new("spec");
    let (listed, default) = (items(spec, "rules"), &spec["defaultBackend"]);
    if listed.is_empty() && default.is_null() {
        let message = "either `defaultBackend` or `rules` must be specified";
        faults.push(FieldError::invalid(at, &spec["rules"], message));
    }
    if !default.is_null() {
        backend(default, &at.child("defaultBackend"), &mut faults);
    }
    rules(listed, lenience, &at.child("rules"), &mut faults);
    tls(items(spec, "tls"), lenience, &at.child("tls"), &mut faults);
    if let Some(class) = spec["ingressClassName"].as_str() {
        subdomain(&mut faults, &at.child("ingressClassName"), class);
    }
    faults
}

/// A host, which may begin with a wildcard.
fn host_name(host: &str, at: &Path<'_>, faults: &mut Faults) {
    let wrong = if host.contains('*') { wildcard_dns1123_subdomain(host) } else { dns1123_subdomain(host) };
    invalid_each(faults, at, host, wrong);
}

fn is_address(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok()
}

fn tls(list: &[Value], lenience: &Lenience, at: &Path<'_>, faults: &mut Faults) {
    for (index, one) in list.iter().enumerate() {
        let at = at.index(index);
        let hosts = at.child("hosts");
        for (index, host) in items(one, "hosts").iter().filter_map(Value::as_str).enumerate() {
            host_name(host, &hosts.index(index), faults);
        }
        let secret = text(one, "secretName");
        if !secret.is_empty() && !lenience.secret_names {
            subdomain(faults, &at.child("secretName"), secret);
        }
    }
}

fn rules(list: &[Value], lenience: &Lenience, at: &Path<'_>, faults: &mut Faults) {
    for (index, rule) in list.iter().enumerate() {
        let at = at.index(index);
        let host = text(rule, "host");
        if !host.is_empty() {
            if is_address(host) {
                let message = "must be a DNS name, not an IP address";
                faults.push(FieldError::invalid(at.child("host"), host, message));
            }
            host_name(host, &at.child("host"), faults);
        }
        if !host.contains('*') || !lenience.wildcard_rules {
            rule_value(rule, &at, faults);
        }
    }
}

fn rule_value(rule: &Value, at: &Path<'_>, faults: &mut Faults) {
    if rule["http"].is_null() {
        return;
    }
    let at = at.child("http");
    let list = at.child("paths");
    let paths = items(rule, "http.paths");
    if paths.is_empty() {
        faults.push(FieldError::required(list, ""));
    }
    for (index, one) in paths.iter().enumerate() {
        path(one, &list.index(index), faults);
    }
}

fn path(one: &Value, at: &Path<'_>, faults: &mut Faults) {
    let Some(kind) = one["pathType"].as_str() else {
        return faults.push(FieldError::required(at.child("pathType"), "pathType must be specified"));
    };
    let path = text(one, "path");
    let mut wrong = Vec::new();
    let relative = !path.starts_with('/');
    match kind {
        "Exact" | "Prefix" => {
            wrong.extend(relative.then(|| "must be an absolute path".to_string()));
            let inside = NOT_IN_PATHS.iter().filter(|part| path.contains(**part));
            wrong.extend(inside.map(|part| format!("must not contain '{part}'")));
            let ends = NOT_AT_ENDS.iter().filter(|end| path.ends_with(**end));
            wrong.extend(ends.map(|end| format!("cannot end with '{end}'")));
        }
        "ImplementationSpecific" => {
            wrong.extend((relative && !path.is_empty()).then(|| "must be an absolute path".to_string()));
        }
        other => faults.push(FieldError::not_supported(at.child("pathType"), other, &PATH_TYPES)),
    }
    invalid_each(faults, &at.child("path"), path, wrong);
    backend(&one["backend"], &at.child("backend"), faults);
}

fn backend(backend: &Value, at: &Path<'_>, faults: &mut Faults) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_null(), resource.is_null()) {
        (false, false) => {
            faults.push(FieldError::invalid(at, "", "cannot set both resource and service backends"));
        }
        (true, true) => faults.push(FieldError::invalid(at, "", "resource or service backend is required")),
        (true, false) => reference(resource, &at.child("resource"), faults),
        (false, true) => service_backend(service, at, faults),
    }
}

fn service_backend(service: &Value, at: &Path<'_>, faults: &mut Faults) {
    let field = at.child("service");
    match text(service, "name") {
        "" => faults.push(FieldError::required(field.child("name"), "")),
        name => invalid_each(faults, &field.child("name"), name, dns1123_label(name)),
    }
    let port = field.child("port");
    let (name, count) = (text(service, "port.name"), number(service, "port.number"));
    match (name.is_empty(), count == 0) {
        (false, false) => {
            faults.push(FieldError::invalid(at, "", "cannot set both port name & port number"));
        }
        (true, true) => faults.push(FieldError::required(at, "port name or number is required")),
        (false, true) => invalid_each(faults, &port.child("name"), name, port_name(name)),
        (true, false) => {
            let wrong = port_number(count).into_iter();
            faults.extend(wrong.map(|fault| FieldError::invalid(port.child("number"), count, fault)));
        }
    }
}

/// An object by group, kind and name.
fn reference(object: &Value, at: &Path<'_>, faults: &mut Faults) {
    if let Some(group) = object["apiGroup"].as_str() {
        subdomain(faults, &at.child("apiGroup"), group);
    }
    for field in ["kind", "name"] {
        match text(object, field) {
            "" => faults.push(FieldError::required(at.child(field), "")),
            value => invalid_each(faults, &at.child(field), value, path_segment(value)),
        }
    }
}

fn validate_status(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("status");
    let at = at.child("loadBalancer");
    let list = at.child("ingress");
    let known: Vec<&str> =
        items(old, "status.loadBalancer.ingress").iter().map(|one| text(one, "ip")).collect();
    for (index, one) in items(new, "status.loadBalancer.ingress").iter().enumerate() {
        let at = list.index(index);
        let (ip, host) = (text(one, "ip"), text(one, "hostname"));
        if let (false, Err(wrong)) = (ip.is_empty() || known.contains(&ip), strict_ip_address(ip)) {
            invalid_each(&mut faults, &at.child("ip"), ip, wrong);
        }
        if host.is_empty() {
            continue;
        }
        subdomain(&mut faults, &at.child("hostname"), host);
        if is_address(host) {
            let message = "must be a DNS name, not an IP address";
            faults.push(FieldError::invalid(at.child("hostname"), host, message));
        }
    }
    faults
}

fn secrets_of_tls(tree: &Value) -> Vec<&str> {
    let all = items(tree, "spec.tls").iter().map(|tls| text(tls, "secretName"));
    all.filter(|name| !name.is_empty()).collect()
}

impl Strategy for Ingresses {
    /// Secrets of TLS: which of them a node may read is asked for each of its requests.
    fn indexed_references(&self) -> Option<References> {
        Some(References { path: "spec.tls", of: secrets_of_tls })
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        let mut faults = validate(tree, &Lenience::default());
        let annotation = tree["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
        let class = tree["spec"]["ingressClassName"].as_str();
        if let (Some(annotation), Some(class)) = (annotation, class)
            && annotation != class
        {
            let at = Path::new("annotations");
            let message = "must match `ingressClassName` when both are specified";
            faults.push(FieldError::invalid(at.child(CLASS_ANNOTATION), annotation, message));
        }
        faults
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource.is_some() {
            return validate_status(new, old);
        }
        validate(new, &Lenience::towards(old))
    }

    fn warnings(&self, _ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        let annotated = !tree["metadata"]["annotations"][CLASS_ANNOTATION].is_null();
        if old.is_none() && annotated && tree["spec"]["ingressClassName"].is_null() {
            return vec![format!(
                "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
            )];
        }
        Vec::new()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        printers::networking::INGRESS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::networking::ingress(tree, now)
    }
}
