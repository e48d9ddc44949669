//! The slices that say the same as an Endpoints object.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::text;
use crate::service_pods::TRIGGER_TIME;
use crate::service_slices::{CAPACITY, MANAGED_BY, SERVICE_NAME, SlicePlan};

pub(super) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The most endpoints of one subset that are mirrored.
const SUBSET_CAPACITY: usize = 1000;

/// Not opted out, and not an old leader election lock.
pub(super) fn is_mirrored(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    let annotations = endpoints.metadata.annotations.as_ref();
    labels.and_then(|labels| labels.get(SKIP)).map(String::as_str) != Some("true")
        && !annotations.is_some_and(|annotations| annotations.contains_key(LEADER))
}

/// Without Endpoints all slices go.
pub(super) fn plan(endpoints: Option<&Endpoints>, present: &[Arc<EndpointSlice>]) -> SlicePlan {
    let mut plan = SlicePlan::default();
    let mut left = present.to_vec();
    left.sort_by_key(|slice| slice.metadata.name.clone());
    let mut open: Vec<EndpointSlice> = Vec::new();
    for wanted in endpoints.map(wanted).unwrap_or_default() {
        let same = |slice: &Arc<EndpointSlice>| {
            slice.address_type == wanted.address_type
                && slice.ports.clone().unwrap_or_default() == wanted.ports.clone().unwrap_or_default()
                && slice.endpoints.clone().unwrap_or_default() == wanted.endpoints.clone().unwrap_or_default()
                && slice.metadata.labels == wanted.metadata.labels
                && slice.metadata.annotations.clone().unwrap_or_default()
                    == wanted.metadata.annotations.clone().unwrap_or_default()
        };
        match left.iter().position(same) {
            Some(at) => {
                left.remove(at);
            }
            None => open.push(wanted),
        }
    }
    for wanted in open {
        // The family of a slice cannot change; everything else can.
        match left.iter().position(|slice| slice.address_type == wanted.address_type) {
            Some(at) => {
                let mut updated = (*left.remove(at)).clone();
                updated.metadata.labels = wanted.metadata.labels;
                updated.metadata.annotations = wanted.metadata.annotations;
                (updated.endpoints, updated.ports) = (wanted.endpoints, wanted.ports);
                plan.update.push(updated);
            }
            None => plan.create.push(wanted),
        }
    }
    plan.delete = left;
    plan
}

fn wanted(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: port.protocol.clone(),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        for (family, list) in by_family(subset) {
            for part in list.chunks(CAPACITY) {
                slices.push(EndpointSlice {
                    metadata: metadata(endpoints),
                    address_type: family.to_string(),
                    endpoints: Some(part.to_vec()),
                    ports: Some(ports.clone()),
                });
            }
        }
    }
    slices
}

fn by_family(subset: &EndpointSubset) -> BTreeMap<&'static str, Vec<Endpoint>> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let mut families: BTreeMap<&'static str, Vec<Endpoint>> = BTreeMap::new();
    for (address, ready) in ready.chain(not_ready).take(SUBSET_CAPACITY) {
        let family = match address.ip.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => "IPv4",
            Ok(IpAddr::V6(_)) => "IPv6",
            Err(_) => continue,
        };
        families.entry(family).or_default().push(endpoint(address, ready));
    }
    families
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn metadata(endpoints: &Endpoints) -> ObjectMeta {
    let own = &endpoints.metadata;
    let mut labels = own.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_string(), text(&own.name).to_string());
    labels.insert(MANAGED_BY.to_string(), MANAGER.to_string());
    let mut annotations = own.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key != TRIGGER_TIME && key != LAST_APPLIED);
    ObjectMeta {
        generate_name: Some(format!("{}-", text(&own.name))),
        namespace: own.namespace.clone(),
        labels: Some(labels),
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        owner_references: Some(vec![api::owner::controller_reference(endpoints)]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;
