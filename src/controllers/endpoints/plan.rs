//! What a service's Endpoints should hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::jiff::Timestamp;

use crate::context::text;
use crate::service_pods::{self, HEADLESS, TRIGGER_TIME};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// The most addresses of one object.
const CAPACITY: usize = 1000;

/// Brings the object up to date; tells whether anything but the trigger time changed.
pub(super) fn update(
    endpoints: &mut Endpoints,
    service: &Service,
    pods: &[Arc<Pod>],
    trigger: Option<Timestamp>,
) -> bool {
    let mut subsets = subsets(service, pods);
    let truncated = truncate(&mut subsets);
    let subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_string(), "endpoint-controller".to_string());
    if service_pods::is_headless(service) {
        labels.insert(HEADLESS.to_string(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    let old = endpoints.metadata.annotations.clone().unwrap_or_default();
    let told_truncated = old.get(OVER_CAPACITY).map(String::as_str) == Some("truncated");
    let changed = subsets_of(endpoints) != subsets
        || endpoints.metadata.labels.clone().unwrap_or_default() != labels
        || told_truncated != truncated;
    if !changed {
        return false;
    }
    let mut annotations = old;
    match trigger {
        Some(trigger) => annotations.insert(TRIGGER_TIME.to_string(), trigger.to_string()),
        None => annotations.remove(TRIGGER_TIME),
    };
    if truncated {
        annotations.insert(OVER_CAPACITY.to_string(), "truncated".to_string());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    endpoints.metadata.labels = Some(labels);
    endpoints.metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    endpoints.subsets = subsets;
    true
}

fn subsets_of(endpoints: &Endpoints) -> Option<Vec<EndpointSubset>> {
    endpoints.subsets.clone().filter(|subsets| !subsets.is_empty())
}

/// Sorts like addresses, not like text.
type AddressKey = (IpAddr, String);
/// Ports are compared by name, number, protocol and application protocol.
type PortKey = (String, i32, String, Option<String>);

/// Ports with the same addresses make one subset.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publish = service_pods::publishes_not_ready(service);
    let mut addresses: BTreeMap<AddressKey, EndpointAddress> = BTreeMap::new();
    let mut by_port: BTreeMap<Option<PortKey>, BTreeSet<(AddressKey, bool)>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| service_pods::counts(pod, publish)) {
        let Some((key, address)) = address(service, pod) else { continue };
        let ready = publish || api::pod::is_ready(pod);
        addresses.insert(key.clone(), address);
        let ports = service_pods::ports_of(service);
        if ports.is_empty() {
            by_port.entry(None).or_default().insert((key.clone(), ready));
        }
        for port in ports {
            let Some(number) = service_pods::target_port(pod, port) else { continue };
            let name = port.name.clone().unwrap_or_default();
            let protocol = service_pods::protocol(&port.protocol).to_string();
            let port = Some((name, number, protocol, port.app_protocol.clone()));
            by_port.entry(port).or_default().insert((key.clone(), ready));
        }
    }
    let mut grouped: BTreeMap<BTreeSet<(AddressKey, bool)>, Vec<PortKey>> = BTreeMap::new();
    for (port, set) in by_port {
        grouped.entry(set).or_default().extend(port);
    }
    let pick = |set: &BTreeSet<(AddressKey, bool)>, wanted: bool| {
        let chosen = set
            .iter()
            .filter(|(_, ready)| *ready == wanted)
            .filter_map(|(key, _)| addresses.get(key).cloned());
        Some(chosen.collect::<Vec<_>>()).filter(|list| !list.is_empty())
    };
    grouped
        .into_iter()
        .map(|(set, ports)| EndpointSubset {
            addresses: pick(&set, true),
            not_ready_addresses: pick(&set, false),
            ports: Some(ports.into_iter().map(port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
        })
        .collect()
}

fn port((name, port, protocol, app_protocol): PortKey) -> EndpointPort {
    let name = Some(name).filter(|name| !name.is_empty());
    EndpointPort { name, port, protocol: Some(protocol), app_protocol }
}

/// The address of the service's (first) family.
fn address(service: &Service, pod: &Pod) -> Option<(AddressKey, EndpointAddress)> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let six = families.and_then(|families| families.first()).is_some_and(|family| family == "IPv6");
    let parsed = service_pods::addresses(pod).filter_map(|address| address.parse::<IpAddr>().ok());
    let ip = parsed.into_iter().find(|address| address.is_ipv6() == six)?;
    let address = EndpointAddress {
        ip: ip.to_string(),
        node_name: api::pod::node_name(pod).map(str::to_string),
        hostname: service_pods::hostname(pod, service).map(str::to_string),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_string()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    };
    Some(((ip, text(&pod.metadata.uid).to_string()), address))
}

/// Cuts at the capacity, ready addresses kept first; tells whether anything was cut.
fn truncate(subsets: &mut Vec<EndpointSubset>) -> bool {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let all: usize =
        subsets.iter().map(|subset| count(&subset.addresses) + count(&subset.not_ready_addresses)).sum();
    if all <= CAPACITY {
        return false;
    }
    let mut room = CAPACITY;
    for ready in [true, false] {
        for subset in subsets.iter_mut() {
            let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
            if let Some(addresses) = list {
                addresses.truncate(room);
                room -= addresses.len();
                if addresses.is_empty() {
                    *list = None;
                }
            }
        }
    }
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    true
}

#[cfg(test)]
mod tests;
