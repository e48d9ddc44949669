//! Which slices a service should have.
//!
//! Endpoints that are in a slice stay there; gaps are filled before slices are made; a slice without change
//! is left alone unless its gaps take all that is left. So most changes of pods write one slice.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::context::text;
use crate::service_pods::{self, HEADLESS, TRIGGER_TIME};
use crate::service_slices::{CAPACITY, MANAGED_BY, SERVICE_NAME, SlicePlan};

pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";

/// Ports by name, number, protocol, application protocol: what the endpoints of one slice share.
type Ports = Vec<(String, i32, String, Option<String>)>;
/// An endpoint's identity: its pod and addresses.
type Identity = (String, Vec<String>);

pub(super) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    present: &[Arc<EndpointSlice>],
    zone: impl Fn(&str) -> Option<String>,
    trigger: Option<Timestamp>,
) -> SlicePlan {
    let mut plan = SlicePlan::default();
    let families = families(service);
    for family in &families {
        let present: Vec<&Arc<EndpointSlice>> =
            present.iter().filter(|slice| slice.address_type == *family).collect();
        plan_family(&mut plan, service, family, pods, &present, &zone, trigger);
    }
    let foreign = present.iter().filter(|slice| !families.contains(&slice.address_type));
    plan.delete.extend(foreign.cloned());
    plan
}

fn families(service: &Service) -> Vec<String> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    if families.is_empty() { vec!["IPv4".to_string()] } else { families }
}

fn plan_family(
    plan: &mut SlicePlan,
    service: &Service,
    family: &str,
    pods: &[Arc<Pod>],
    present: &[&Arc<EndpointSlice>],
    zone: &impl Fn(&str) -> Option<String>,
    trigger: Option<Timestamp>,
) {
    let mut wanted: BTreeMap<Ports, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| service_pods::counts(pod, true)) {
        if let Some(endpoint) = endpoint(service, pod, family, zone) {
            wanted.entry(ports(service, pod)).or_default().push(endpoint);
        }
    }
    let mut by_ports: HashMap<Ports, Vec<&Arc<EndpointSlice>>> = HashMap::new();
    for slice in present {
        by_ports.entry(ports_of(slice)).or_default().push(slice);
    }
    if wanted.is_empty() {
        // One empty slice says that the service has no endpoints, which is more than not to know.
        wanted.insert(Ports::new(), Vec::new());
    }
    let new = |ports: &Ports| new_slice(service, family, ports, trigger);
    for (ports, endpoints) in wanted {
        let present = by_ports.remove(&ports).unwrap_or_default();
        plan_ports(plan, service, endpoints, &present, trigger, || new(&ports));
    }
    plan.delete.extend(by_ports.into_values().flatten().cloned());
}

/// A slice while it is being filled.
struct Filling<'a> {
    slice: &'a Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

fn plan_ports(
    plan: &mut SlicePlan,
    service: &Service,
    endpoints: Vec<Endpoint>,
    present: &[&Arc<EndpointSlice>],
    trigger: Option<Timestamp>,
    new: impl Fn() -> EndpointSlice,
) {
    let labels = labels(service);
    let is_placeholder = endpoints.is_empty();
    let order: Vec<Identity> = endpoints.iter().map(identity).collect();
    let mut left: HashMap<Identity, Endpoint> = order.iter().cloned().zip(endpoints).collect();
    let mut filling: Vec<Filling<'_>> = present
        .iter()
        .map(|slice| {
            let before = slice.endpoints.clone().unwrap_or_default();
            let kept: Vec<Endpoint> = before.iter().filter_map(|one| left.remove(&identity(one))).collect();
            let changed = kept != before || slice.metadata.labels.as_ref() != Some(&labels);
            Filling { slice, endpoints: kept, changed }
        })
        .collect();
    let mut rest: Vec<Endpoint> = order.iter().filter_map(|identity| left.remove(identity)).collect();
    for slice in filling.iter_mut().filter(|slice| slice.changed) {
        let room = CAPACITY.saturating_sub(slice.endpoints.len()).min(rest.len());
        slice.endpoints.extend(rest.drain(..room));
    }
    while !rest.is_empty() {
        // The fullest slice that takes all that is left, if there is one.
        let fits = |slice: &&mut Filling<'_>| slice.endpoints.len() + rest.len() <= CAPACITY;
        let best = filling.iter_mut().filter(fits).max_by_key(|slice| slice.endpoints.len());
        match best {
            Some(slice) => {
                slice.changed = true;
                slice.endpoints.append(&mut rest);
            }
            None => {
                let size = rest.len().min(CAPACITY);
                plan.create.push(EndpointSlice { endpoints: Some(rest.drain(..size).collect()), ..new() });
            }
        }
    }
    let mut placeholder = is_placeholder;
    for slice in filling {
        if slice.endpoints.is_empty() && !placeholder {
            plan.delete.push(slice.slice.clone());
            continue;
        }
        placeholder = false;
        if slice.changed {
            let mut updated = (**slice.slice).clone();
            updated.endpoints = Some(slice.endpoints);
            updated.metadata.labels = Some(labels.clone());
            annotate(&mut updated.metadata, trigger);
            plan.update.push(updated);
        }
    }
    if placeholder {
        plan.create.push(EndpointSlice { endpoints: Some(Vec::new()), ..new() });
    }
}

fn identity(endpoint: &Endpoint) -> Identity {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default();
    (uid, endpoint.addresses.clone())
}

fn ports(service: &Service, pod: &Pod) -> Ports {
    let number = |port| service_pods::target_port(pod, port);
    let mut ports: Ports = service_pods::ports_of(service)
        .iter()
        .filter_map(|port| {
            let protocol = service_pods::protocol(&port.protocol).to_string();
            Some((port.name.clone().unwrap_or_default(), number(port)?, protocol, port.app_protocol.clone()))
        })
        .collect();
    ports.sort();
    ports
}

fn ports_of(slice: &EndpointSlice) -> Ports {
    let key = |port: &EndpointPort| {
        let protocol = service_pods::protocol(&port.protocol).to_string();
        (port.name.clone().unwrap_or_default(), port.port.unwrap_or(0), protocol, port.app_protocol.clone())
    };
    let mut ports: Ports = slice.ports.iter().flatten().map(key).collect();
    ports.sort();
    ports
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    family: &str,
    zone: &impl Fn(&str) -> Option<String>,
) -> Option<Endpoint> {
    let six = family == "IPv6";
    let parsed = service_pods::addresses(pod).filter_map(|address| address.parse::<IpAddr>().ok());
    let addresses: Vec<String> = parsed
        .into_iter()
        .filter(|address| address.is_ipv6() == six)
        .map(|address| address.to_string())
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let serving = api::pod::is_ready(pod);
    let terminating = api::pod::is_terminating(pod);
    let ready = service_pods::publishes_not_ready(service) || (serving && !terminating);
    let node = api::pod::node_name(pod);
    let zone = node.and_then(zone);
    Some(Endpoint {
        hints: hints(service, ready, node, zone.as_deref()),
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: service_pods::hostname(pod, service).map(str::to_string),
        node_name: node.map(str::to_string),
        zone,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_string()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// For whom an endpoint is, where packets are to stay close.
fn hints(service: &Service, ready: bool, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let wanted = service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref());
    let (true, Some(close)) = (ready, wanted) else { return None };
    if !["PreferClose", "PreferSameZone", "PreferSameNode"].contains(&close) {
        return None;
    }
    let for_zones = zone.map(|name| vec![ForZone { name: name.to_string() }]);
    let node = node.filter(|_| close == "PreferSameNode");
    let for_nodes = node.map(|name| vec![ForNode { name: name.to_string() }]);
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_nodes, for_zones })
}

/// The service's own labels, and those that tie the slice to it.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if service_pods::is_headless(service) {
        labels.insert(HEADLESS.to_string(), String::new());
    }
    labels.insert(SERVICE_NAME.to_string(), text(&service.metadata.name).to_string());
    labels.insert(MANAGED_BY.to_string(), MANAGER.to_string());
    labels
}

fn annotate(metadata: &mut ObjectMeta, trigger: Option<Timestamp>) {
    let annotations = metadata.annotations.get_or_insert_default();
    match trigger {
        Some(trigger) => annotations.insert(TRIGGER_TIME.to_string(), trigger.to_string()),
        None => annotations.remove(TRIGGER_TIME),
    };
    if annotations.is_empty() {
        metadata.annotations = None;
    }
}

fn new_slice(service: &Service, family: &str, ports: &Ports, trigger: Option<Timestamp>) -> EndpointSlice {
    let port = |(name, port, protocol, app_protocol): &(String, i32, String, Option<String>)| EndpointPort {
        name: Some(name.clone()),
        port: Some(*port),
        protocol: Some(protocol.clone()),
        app_protocol: app_protocol.clone(),
    };
    let mut metadata = ObjectMeta {
        generate_name: Some(format!("{}-", text(&service.metadata.name))),
        namespace: service.metadata.namespace.clone(),
        labels: Some(labels(service)),
        owner_references: Some(vec![api::owner::controller_reference(service)]),
        ..ObjectMeta::default()
    };
    annotate(&mut metadata, trigger);
    EndpointSlice {
        metadata,
        address_type: family.to_string(),
        endpoints: None,
        ports: Some(ports.iter().map(port).collect()),
    }
}

#[cfg(test)]
mod tests;
