//! Validation of a pod spec, in a pod or in a template of one.

use std::collections::HashSet;
use std::net::IpAddr;

use api::FieldError;
use api::validation::{
    Faults, Path, dns1123_label, dns1123_subdomain, dns1123_subdomain_with_underscore, invalid_each,
    ip_address, name_is_dns_subdomain, qualified_name, validate_labels,
};
use k8s_openapi::api::core::v1::PodSpec;

use super::{container, os, placement, security, volumes};

const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
/// Of all searches together, with a space between two.
const MAX_SEARCH_CHARS: usize = 2048;
/// Longest hostname that Linux takes.
const MAX_HOSTNAME: usize = 64;

/// All faults of a pod spec.
pub(crate) fn validate(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    let volumes = volumes::validate(spec.volumes.as_deref().unwrap_or(&[]), &at.child("volumes"), faults);
    container::validate_all(spec, &volumes, at, faults);
    one_of(faults, &at.child("restartPolicy"), spec.restart_policy.as_deref(), &RESTART_POLICIES);
    one_of(faults, &at.child("dnsPolicy"), spec.dns_policy.as_deref(), &DNS_POLICIES);
    validate_dns(spec, at, faults);
    if let Some(selector) = &spec.node_selector {
        validate_labels(selector, &at.child("nodeSelector"), faults);
    }
    validate_host_network(spec, at, faults);
    security::validate_pod(spec, at, faults);
    let list = at.child("imagePullSecrets");
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if secret.name.is_empty() {
            faults.push(FieldError::required(list.index(index).child("name"), ""));
        }
    }
    os::host_process(spec, at, faults);
    validate_hostname_override(spec, at, faults);
    validate_names(spec, at, faults);
    if let Some(seconds) = spec.active_deadline_seconds.filter(|one| !(1..=i64::from(i32::MAX)).contains(one))
    {
        let message = "must be between 1 and 2147483647, inclusive";
        faults.push(FieldError::invalid(at.child("activeDeadlineSeconds"), seconds, message));
    }
    validate_host_aliases(spec, &at.child("hostAliases"), faults);
    placement::validate(spec, at, faults);
    os::validate(spec, at, faults);
}

/// A word of a fixed set; empty counts as missing.
pub(in crate::registry::strategies) fn one_of(
    faults: &mut Faults,
    at: &Path<'_>,
    value: Option<&str>,
    supported: &[&str],
) {
    match value.unwrap_or("") {
        "" => faults.push(FieldError::required(at, "")),
        known if supported.contains(&known) => {}
        other => faults.push(FieldError::not_supported(at, other, supported)),
    }
}

fn validate_names(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    type Rule = fn(&str) -> Vec<String>;
    let optional: [(&str, Option<&String>, Rule); 6] = [
        ("serviceAccountName", spec.service_account_name.as_ref(), |name| name_is_dns_subdomain(name, false)),
        ("nodeName", spec.node_name.as_ref(), |name| name_is_dns_subdomain(name, false)),
        ("hostname", spec.hostname.as_ref(), dns1123_label),
        ("subdomain", spec.subdomain.as_ref(), dns1123_label),
        ("priorityClassName", spec.priority_class_name.as_ref(), |name| name_is_dns_subdomain(name, false)),
        ("runtimeClassName", spec.runtime_class_name.as_ref(), |name| name_is_dns_subdomain(name, false)),
    ];
    for (field, value, rule) in optional {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            invalid_each(faults, &at.child(field), value, rule(value));
        }
    }
    let list = at.child("schedulingGates");
    let mut seen = HashSet::new();
    for (index, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let at = list.index(index);
        invalid_each(faults, &at.child("name"), &gate.name, qualified_name(&gate.name));
        if !seen.insert(gate.name.as_str()) {
            faults.push(FieldError::duplicate(at, &gate.name));
        }
    }
    if !seen.is_empty() && spec.node_name.as_deref().is_some_and(|name| !name.is_empty()) {
        let message = "cannot be set until all schedulingGates have been cleared";
        faults.push(FieldError::forbidden(at.child("nodeName"), message));
    }
    let list = at.child("readinessGates");
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let at = list.index(index);
        invalid_each(
            faults,
            &at.child("conditionType"),
            &gate.condition_type,
            qualified_name(&gate.condition_type),
        );
    }
}

fn validate_dns(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    let at = at.child("dnsConfig");
    let none = spec.dns_policy.as_deref() == Some("None");
    let message = "must provide at least one DNS nameserver when `dnsPolicy` is None";
    let Some(config) = &spec.dns_config else {
        if none {
            faults.push(FieldError::required(at, "must provide `dnsConfig` when `dnsPolicy` is None"));
        }
        return;
    };
    let servers = config.nameservers.as_deref().unwrap_or(&[]);
    let list = at.child("nameservers");
    if none && servers.is_empty() {
        faults.push(FieldError::required(list, message));
    }
    if servers.len() > MAX_NAMESERVERS {
        let message = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        faults.push(FieldError::invalid(list, servers, message));
    }
    for (index, server) in servers.iter().enumerate() {
        invalid_each(faults, &list.index(index), server, ip_address(server));
    }
    let searches = config.searches.as_deref().unwrap_or(&[]);
    let list = at.child("searches");
    if searches.len() > MAX_SEARCHES {
        let message = format!("must not have more than {MAX_SEARCHES} search paths");
        faults.push(FieldError::invalid(list, searches, message));
    }
    if searches.join(" ").len() > MAX_SEARCH_CHARS {
        let message = format!(
            "must not have more than {MAX_SEARCH_CHARS} characters (including spaces) in the search list"
        );
        faults.push(FieldError::invalid(list, searches, message));
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let name = search.strip_suffix('.').unwrap_or(search);
        invalid_each(faults, &list.index(index), name, dns1123_subdomain_with_underscore(name));
    }
    let list = at.child("options");
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or("").is_empty() {
            faults.push(FieldError::required(list.index(index), "must not be empty"));
        }
    }
}

fn validate_hostname_override(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    let Some(name) = &spec.hostname_override else { return };
    let field = at.child("hostnameOverride");
    for (set, other) in [(spec.set_hostname_as_fqdn, "setHostnameAsFQDN"), (spec.host_network, "hostNetwork")]
    {
        if set == Some(true) {
            faults.push(FieldError::forbidden(field, format!("may not be specified when {other} is true")));
        }
    }
    if name.len() > MAX_HOSTNAME {
        faults.push(FieldError::too_long(field, MAX_HOSTNAME));
    }
    invalid_each(faults, &field, name, dns1123_subdomain(name));
}

fn validate_host_network(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    if spec.host_network != Some(true) {
        return;
    }
    let list = at.child("containers");
    for (index, container) in spec.containers.iter().enumerate() {
        let at = list.index(index);
        let ports = at.child("ports");
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let at = ports.index(index);
            if port.host_port.unwrap_or(0) != port.container_port {
                let message = "must match `hostPort` when `hostNetwork` is true";
                faults.push(FieldError::invalid(at.child("containerPort"), port.container_port, message));
            }
        }
    }
}

fn validate_host_aliases(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let at = at.index(index);
        if alias.ip.parse::<IpAddr>().is_err() {
            invalid_each(faults, &at.child("ip"), &alias.ip, ip_address(&alias.ip));
        }
        let list = at.child("hostnames");
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            invalid_each(faults, &list.index(index), name, dns1123_subdomain(name));
        }
    }
}
