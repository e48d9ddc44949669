//! Faults of services.

use std::collections::HashSet;
use std::net::IpAddr;

use api::FieldError;
use api::json::{items, number, text};
use api::validation::{
    Faults, Path, dns1123_label, dns1123_subdomain, invalid_each, ip_address, port_name, port_number,
    validate_labels,
};
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::{is_headless, needs_health_check};
use crate::registry::strategies::pod::spec::one_of;
use crate::registry::strategies::typed;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const AFFINITIES: [&str; 2] = ["ClientIP", "None"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const FAMILY_POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
const MAX_AFFINITY_SECONDS: i32 = 86400;
pub(super) const TOO_MANY_ADDRESSES: &str = "may only hold up to 2 values";
pub(super) const OTHER_FIRST_ADDRESS: &str = "first value must match `clusterIP`";

pub(super) fn service(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let Some(spec) = typed::<ServiceSpec>(&tree["spec"], &at, &mut faults) else { return faults };
    let kind = spec.type_.as_deref().unwrap_or("");
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let ports = spec.ports.as_deref().unwrap_or(&[]);
    if ports.is_empty() && !headless && kind != "ExternalName" {
        faults.push(FieldError::required(at.child("ports"), ""));
    }
    by_type(&spec, kind, headless, &at, &mut faults);
    validate_ports(ports, kind, &at.child("ports"), &mut faults);
    if let Some(selector) = &spec.selector {
        validate_labels(selector, &at.child("selector"), &mut faults);
    }
    affinity(&spec, &at, &mut faults);
    one_of(&mut faults, &at.child("type"), Some(kind), &TYPES);
    addresses(&spec, &at, &mut faults);
    families(&spec, kind, headless, &at, &mut faults);
    traffic(&spec, kind, &at, &mut faults);
    faults
}

fn by_type(spec: &ServiceSpec, kind: &str, headless: bool, at: &Path<'_>, faults: &mut Faults) {
    let first = at.child("clusterIPs");
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let message = format!("may not be set to 'None' for {kind} services");
            faults.push(FieldError::invalid(first.index(0), "None", message));
        }
        "ExternalName" => {
            if spec.cluster_ip.as_deref().is_some_and(|ip| !ip.is_empty()) {
                faults.push(FieldError::forbidden(first, "may not be set when `type` is 'ExternalName'"));
            }
            let name = spec.external_name.as_deref().unwrap_or("");
            match name.strip_suffix('.').unwrap_or(name) {
                "" => faults.push(FieldError::required(at.child("externalName"), "")),
                domain => invalid_each(faults, &at.child("externalName"), name, dns1123_subdomain(domain)),
            }
        }
        _ => {}
    }
    if kind == "LoadBalancer" {
        let list = at.child("ports");
        for (index, _) in spec.ports.iter().flatten().enumerate().filter(|(_, port)| port.port == 10250) {
            let message = "may not expose port 10250 externally since it is used by kubelet";
            faults.push(FieldError::invalid(list.index(index), 10250, message));
        }
    }
}

fn validate_ports(ports: &[ServicePort], kind: &str, at: &Path<'_>, faults: &mut Faults) {
    let mut names = HashSet::new();
    let mut numbers = HashSet::new();
    let mut node_ports = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        let protocol = port.protocol.as_deref().unwrap_or("");
        match port.name.as_deref().unwrap_or("") {
            "" if ports.len() > 1 => faults.push(FieldError::required(at.child("name"), "")),
            "" => {}
            name => {
                invalid_each(faults, &at.child("name"), name, dns1123_label(name));
                if !names.insert(name) {
                    faults.push(FieldError::duplicate(at.child("name"), name));
                }
            }
        }
        let valid = |number: i32, at: &Path<'_>, faults: &mut Faults| {
            let messages = port_number(i64::from(number)).into_iter();
            faults.extend(messages.map(|message| FieldError::invalid(at, number, message)));
        };
        valid(port.port, &at.child("port"), faults);
        one_of(faults, &at.child("protocol"), Some(protocol), &PROTOCOLS);
        match &port.target_port {
            Some(IntOrString::Int(number)) => valid(*number, &at.child("targetPort"), faults),
            Some(IntOrString::String(name)) => {
                invalid_each(faults, &at.child("targetPort"), name, port_name(name))
            }
            None => {}
        }
        if !numbers.insert((protocol, port.port)) {
            faults.push(FieldError::duplicate(at, json!({"protocol": protocol, "port": port.port})));
        }
        let node_port = port.node_port.unwrap_or(0);
        if node_port != 0 {
            if kind == "ClusterIP" {
                let message = "may not be used when `type` is 'ClusterIP'";
                faults.push(FieldError::forbidden(at.child("nodePort"), message));
            }
            if !node_ports.insert((protocol, node_port)) {
                faults.push(FieldError::duplicate(at.child("nodePort"), node_port));
            }
        }
    }
}

fn affinity(spec: &ServiceSpec, at: &Path<'_>, faults: &mut Faults) {
    one_of(faults, &at.child("sessionAffinity"), spec.session_affinity.as_deref(), &AFFINITIES);
    let seconds = spec
        .session_affinity_config
        .as_ref()
        .and_then(|one| one.client_ip.as_ref())
        .and_then(|one| one.timeout_seconds);
    let at = at.child("sessionAffinityConfig");
    match spec.session_affinity.as_deref() {
        Some("ClientIP") => {
            let at = at.child("clientIP");
            let field = at.child("timeoutSeconds");
            match seconds {
                None => faults.push(FieldError::required(field, "")),
                Some(seconds) if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) => {
                    let message = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                    faults.push(FieldError::invalid(field, seconds, message));
                }
                Some(_) => {}
            }
        }
        Some("None") if spec.session_affinity_config.is_some() => {
            faults.push(FieldError::forbidden(at, "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn addresses(spec: &ServiceSpec, at: &Path<'_>, faults: &mut Faults) {
    let list = at.child("externalIPs");
    for (index, address) in spec.external_ips.iter().flatten().enumerate() {
        super::super::endpoints::endpoint_ip(address, &list.index(index), faults);
    }
    let ips = spec.cluster_ips.as_deref().unwrap_or(&[]);
    let at_ips = at.child("clusterIPs");
    let one = spec.cluster_ip.as_deref().unwrap_or("");
    if !one.is_empty() && ips.first().is_none_or(|first| first != one) {
        faults.push(FieldError::invalid(at_ips, ips, OTHER_FIRST_ADDRESS));
    }
    for (index, ip) in ips.iter().enumerate() {
        if ip == "None" {
            if (index > 0 || ips.len() > 1) && !faults.is_full() {
                faults.push(FieldError::invalid(at_ips, ips, "'None' must be the first and only value"));
            }
        } else if ip.parse::<IpAddr>().is_err() {
            invalid_each(faults, &at_ips.index(index), ip, ip_address(ip));
        }
    }
    stacks(spec, ips, &at_ips, faults);
}

/// A service has one address, or one of each family, in the order of its families.
fn stacks(spec: &ServiceSpec, ips: &[String], at: &Path<'_>, faults: &mut Faults) {
    if ips.len() > 2 && !faults.is_full() {
        faults.push(FieldError::invalid(at, ips, TOO_MANY_ADDRESSES));
    }
    // Faults of single addresses come first: without them there is nothing to compare.
    let Ok(addresses) = ips.iter().map(|ip| ip.parse::<IpAddr>()).collect::<Result<Vec<_>, _>>() else {
        return;
    };
    let sixes = addresses.iter().filter(|address| address.is_ipv6()).count();
    if addresses.len() > 1 && (sixes == 0 || sixes == addresses.len()) && !faults.is_full() {
        let message = "may specify no more than one IP for each IP family";
        faults.push(FieldError::invalid(at, ips, message));
    }
    let families = spec.ip_families.as_deref().unwrap_or(&[]);
    for (index, (address, family)) in addresses.iter().zip(families).enumerate() {
        if matches!((family.as_str(), address), ("IPv4", IpAddr::V6(_)) | ("IPv6", IpAddr::V4(_))) {
            let message = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            faults.push(FieldError::invalid(at.index(index), address.to_string(), message));
        }
    }
}

fn families(spec: &ServiceSpec, kind: &str, headless: bool, at: &Path<'_>, faults: &mut Faults) {
    let families = spec.ip_families.as_deref().unwrap_or(&[]);
    let policy = spec.ip_family_policy.as_deref();
    if kind == "ExternalName" {
        if !families.is_empty() {
            let message = "may not be set when `type` is 'ExternalName'";
            faults.push(FieldError::forbidden(at.child("ipFamilies"), message));
        }
        return;
    }
    if let Some(policy) = policy.filter(|policy| !FAMILY_POLICIES.contains(policy)) {
        faults.push(FieldError::not_supported(at.child("ipFamilyPolicy"), policy, &FAMILY_POLICIES));
    }
    let free = headless && spec.selector.as_ref().is_none_or(|selector| selector.is_empty());
    let list = at.child("ipFamilies");
    for (index, family) in families.iter().enumerate() {
        if families[..index.min(2)].contains(family) {
            faults.push(FieldError::duplicate(list.index(index), family));
        }
        match family.as_str() {
            "IPv4" => {}
            "IPv6" if free => {}
            "IPv6" => {
                faults.push(FieldError::invalid(list.index(index), family, "not configured on this cluster"))
            }
            other => faults.push(FieldError::not_supported(list.index(index), other, &["IPv4", "IPv6"])),
        }
    }
    if policy == Some("RequireDualStack") && !free {
        let message = "this cluster is not configured for dual-stack services";
        faults.push(FieldError::invalid(at.child("ipFamilyPolicy"), policy, message));
    }
}

fn traffic(spec: &ServiceSpec, kind: &str, at: &Path<'_>, faults: &mut Faults) {
    let reachable = matches!(kind, "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && spec.external_ips.as_ref().is_some_and(|list| !list.is_empty()));
    if let Some(policy) = spec.external_traffic_policy.as_deref().filter(|policy| !policy.is_empty()) {
        let at = at.child("externalTrafficPolicy");
        if !reachable {
            let message = "may only be set for externally-accessible services";
            faults.push(FieldError::invalid(at, policy, message));
        } else if !POLICIES.contains(&policy) {
            faults.push(FieldError::not_supported(at, policy, &POLICIES));
        }
    } else if reachable {
        faults.push(FieldError::required(at.child("externalTrafficPolicy"), ""));
    }
    health_check(spec, kind, at, faults);
    if let Some(policy) = spec.internal_traffic_policy.as_deref().filter(|policy| !POLICIES.contains(policy))
    {
        faults.push(FieldError::not_supported(at.child("internalTrafficPolicy"), policy, &POLICIES));
    }
}

fn health_check(spec: &ServiceSpec, kind: &str, at: &Path<'_>, faults: &mut Faults) {
    let needed = kind == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local");
    let port = spec.health_check_node_port.unwrap_or(0);
    let at = at.child("healthCheckNodePort");
    match (needed, port) {
        (false, 0) => {}
        (false, port) => {
            let message =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            faults.push(FieldError::invalid(at, port, message));
        }
        (true, 0) => faults.push(FieldError::required(at, "")),
        (true, port) => {
            let messages = port_number(i64::from(port)).into_iter();
            faults.extend(messages.map(|message| FieldError::invalid(at, port, message)));
        }
    }
}

/// The addresses of a service stay, unless it becomes or was an external name; the second may come and go.
pub(super) fn update(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    kept_addresses(new, old, &mut faults);
    let check = |tree: &Value| number(tree, "spec.healthCheckNodePort");
    let both = needs_health_check(old) && needs_health_check(new);
    // Services of versions that gave none get one.
    if both && check(old) != 0 && check(old) != check(new) {
        faults.push(FieldError::forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
    faults
}

fn kept_addresses(new: &Value, old: &Value, faults: &mut Faults) {
    let external = |tree: &Value| text(tree, "spec.type") == "ExternalName";
    if external(old) || external(new) || (is_headless(old) && is_headless(new)) {
        return;
    }
    // Data of others may have the older field only.
    let older = [old["spec"]["clusterIP"].clone()];
    let was = match items(old, "spec.clusterIPs") {
        [] if !text(old, "spec.clusterIP").is_empty() => &older[..],
        listed => listed,
    };
    let is = items(new, "spec.clusterIPs");
    if is.is_empty() && !was.is_empty() {
        let message = "primary clusterIP can not be unset";
        faults.push(FieldError::invalid("spec.clusterIPs[0]", is, message));
    }
    // The list has two values at most; more is refused by what checks the object itself.
    for (index, (was, one)) in was.iter().zip(is).enumerate().take(2) {
        if was != one {
            let message = "may not change once set";
            faults.push(FieldError::invalid(format!("spec.clusterIPs[{index}]"), is, message));
        }
    }
    if was.len() > 1 && is.len() == 1 && text(new, "spec.ipFamilyPolicy") != "SingleStack" {
        let message = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        let policy = &new["spec"]["ipFamilyPolicy"];
        faults.push(FieldError::invalid("spec.ipFamilyPolicy", policy, message));
    }
}
