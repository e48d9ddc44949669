//! Services' addresses and node ports.

use std::net::IpAddr;

use api::json::text;
use api::kinds::{IP_ADDRESS, SERVICE};
use api::{Kinded, Object};
use bytes::Bytes;
use embedded_store::StoreError;
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::networking::v1::IPAddress;
use serde_json::{Value, json};

use super::pass::{EventAction, Notice, RepairPass, RepairStep};
use crate::claims::{Owner, Record, Records};
use crate::registry::strategies::service::node_ports;
use crate::registry::strategies::{ip_address, service_cidr};

/// How long an address of a service that is not there may be there: what makes both may make the address
/// first.
const GRACE_SECONDS: f64 = 60.0;

fn reference<K: Kinded>(object: &Object) -> v1::ObjectReference {
    let row = K::row();
    v1::ObjectReference {
        api_version: Some(row.api_version()),
        kind: Some(row.kind.to_string()),
        name: Some(object.name().to_string()),
        namespace: object.namespace().map(str::to_string),
        uid: Some(object.uid().to_string()),
        resource_version: Some(object.resource_version().to_string()),
        field_path: None,
    }
}

fn about(service: &Object, action: EventAction, reason: &'static str, message: String) -> Notice {
    Notice { about: reference::<v1::Service>(service), action, reason, message }
}

impl RepairPass<'_> {
    /// Gives a service the records that it lacks, and tells of what cannot be repaired.
    pub(super) async fn check_service(&mut self, service: &Object) -> Result<(), StoreError> {
        let Some(uses) = self.uses(&SERVICE, service) else { return Ok(()) };
        let Some(key) = SERVICE.storage_key(service.namespace(), service.name()) else { return Ok(()) };
        for address in &uses.addresses {
            self.pause().await;
            let step = self.about_address(service, *address);
            self.carry_out(key.clone(), service.resource_version(), step).await?;
        }
        for port in &uses.ports {
            self.pause().await;
            let step = self.about_port(service, *port);
            self.carry_out(key.clone(), service.resource_version(), step).await?;
        }
        Ok(())
    }

    /// Whether an address lies in a range. Ranges are read again before one is said to be outside: they may
    /// be new.
    fn is_in_range(&mut self, address: IpAddr) -> bool {
        let holds = |pass: &Self| pass.ranges.iter().any(|range| range.holds_service_address(address));
        if holds(self) {
            return true;
        }
        self.ranges = service_cidr::all(&self.records).into_iter().map(|from| from.range).collect();
        holds(self)
    }

    fn about_address(&mut self, service: &Object, address: IpAddr) -> RepairStep {
        let family = ip_address::family(address);
        let (namespace, name) = (service.namespace().unwrap_or(""), service.name());
        let mut step = RepairStep::default();
        let tell = |step: &mut RepairStep, reason: &'static str, message: String| {
            step.notices.push(about(service, EventAction::ClusterIp, reason, message));
        };
        if !self.is_in_range(address) {
            let message = format!(
                "Cluster IP [{family}]: {address} is not within any configured Service CIDR; please recreate service"
            );
            tell(&mut step, "ClusterIPOutOfRange", message);
            return step;
        }
        let Some(record) = self.records.get(&ip_address::key(address)) else {
            if let Ok(value) = ip_address::record(address, namespace, name, Timestamp::now()) {
                step.claims.take(ip_address::key(address), value);
                let message = format!("Cluster IP [{family}]: {address} is not allocated; repairing");
                tell(&mut step, "ClusterIPNotAllocated", message);
            }
            return step;
        };
        let tree: Value = serde_json::from_slice(&record.value).unwrap_or_default();
        let parent = ip_address::parent_service(&tree);
        let is_own = parent.as_ref().is_some_and(|(of, by)| of == namespace && by == name);
        if is_own && has_labels(&tree, address) {
            return step;
        }
        if !is_own {
            let other = parent.and_then(|(of, by)| self.used_by(&of, &by));
            if other.is_some_and(|other| other.addresses.contains(&address)) {
                let message = format!(
                    "Cluster IP [{family}]:{address} was assigned to multiple services; please recreate service"
                );
                tell(&mut step, "ClusterIPAlreadyAllocated", message);
                return step;
            }
        }
        if let Some(value) = corrected(tree, address, namespace, name) {
            step.claims.replace(&record, value);
            if !is_own {
                let message = format!(
                    "the ClusterIP [{family}]: {address} for Service {namespace}/{name} has a wrong reference; repairing"
                );
                tell(&mut step, "ClusterIPNotAllocated", message);
            }
        }
        step
    }

    fn about_port(&mut self, service: &Object, port: u16) -> RepairStep {
        let range = self.registry.config.node_ports.clone();
        let mut step = RepairStep::default();
        let tell = |step: &mut RepairStep, reason: &'static str, message: String| {
            step.notices.push(about(service, EventAction::Port, reason, message));
        };
        if !range.contains(&port) {
            let (first, last) = (range.start(), range.end());
            let message =
                format!("Port {port} is not within the port range {first}-{last}; please recreate service");
            tell(&mut step, "PortOutOfRange", message);
        }
        let owner = Owner {
            resource: SERVICE.plural.to_string(),
            namespace: service.namespace().unwrap_or("").into(),
            name: service.name().into(),
        };
        let Ok(value) = owner.encode() else { return step };
        match self.records.get(&node_ports::key(port)) {
            None => step.claims.take(node_ports::key(port), value),
            Some(record) => {
                let present = Owner::of(&record);
                if present.as_ref() == Some(&owner) {
                    return step;
                }
                let other = present.and_then(|other| self.used_by(&other.namespace, &other.name));
                if other.is_some_and(|other| other.ports.contains(&port)) {
                    let message =
                        format!("Port {port} was assigned to multiple services; please recreate service");
                    tell(&mut step, "PortAlreadyAllocated", message);
                    return step;
                }
                step.claims.replace(&record, value);
            }
        }
        if range.contains(&port) {
            tell(&mut step, "PortNotAllocated", format!("Port {port} is not allocated; repairing"));
        }
        step
    }

    /// Takes away an address that the allocator made and no service has.
    pub(super) async fn check_address(&mut self, object: &Object) -> Result<(), StoreError> {
        if object.labels().get(ip_address::MANAGED_BY).is_none_or(|by| by != ip_address::MANAGER) {
            return Ok(());
        }
        let Ok(tree) = object.tree_without_managed_fields() else { return Ok(()) };
        let name = object.name();
        let (reason, message, gone, version) = match ip_address::parent_service(&tree) {
            None => {
                let parent = &tree["spec"]["parentRef"];
                let parts = ["group", "resource", "namespace", "name"].map(|part| text(parent, part));
                let message = format!(
                    "IPAddress {name} appears to have been modified, not referencing a Service &{{{}}}: cleaning up",
                    parts.join(" ")
                );
                // What it refers to has no say.
                let own = IP_ADDRESS.storage_key(None, name).unwrap_or_default();
                ("IPAddressNotAllocated", message, own, object.resource_version())
            }
            Some((namespace, by)) => {
                let Some(key) = SERVICE.storage_key(Some(&namespace), &by) else { return Ok(()) };
                match self.object(&SERVICE, &namespace, &by) {
                    None if age(&tree) <= GRACE_SECONDS => return Ok(()),
                    None => {
                        let message = format!(
                            "IPAddress: {name} for Service {namespace}/{by} appears to have leaked: cleaning up"
                        );
                        ("IPAddressNotAllocated", message, key, 0)
                    }
                    Some(service) => {
                        let Some(uses) = self.uses(&SERVICE, &service) else { return Ok(()) };
                        if name.parse().is_ok_and(|address| uses.addresses.contains(&address)) {
                            return Ok(());
                        }
                        let message = format!(
                            "IPAddress: {name} for Service {namespace}/{by} has a wrong reference; cleaning up"
                        );
                        ("IPAddressWrongReference", message, key, service.resource_version())
                    }
                }
            }
        };
        let about = reference::<IPAddress>(object);
        let key = Bytes::from(IP_ADDRESS.storage_key(None, name).unwrap_or_default());
        let record =
            Record { key, value: object.stored_bytes().clone(), revision: object.resource_version() };
        let notice = Notice { about, action: EventAction::IpAddress, reason, message };
        let mut step = RepairStep { notices: vec![notice], ..RepairStep::default() };
        step.claims.release(&record);
        // Somebody may have been faster, and then nothing had leaked.
        self.carry_out(gone, version, step).await
    }
}

/// Seconds since an object was made.
fn age(tree: &Value) -> f64 {
    let made = api::time::parse(text(tree, "metadata.creationTimestamp"));
    made.map_or(f64::MAX, |made| api::time::seconds_between(made, Timestamp::now()))
}

fn has_labels(tree: &Value, address: IpAddr) -> bool {
    let labels = &tree["metadata"]["labels"];
    labels[ip_address::FAMILY] == ip_address::family(address)
        && labels[ip_address::MANAGED_BY] == ip_address::MANAGER
}

/// The same object with the labels and the reference that it should have; none if it is no object.
fn corrected(mut tree: Value, address: IpAddr, namespace: &str, name: &str) -> Option<Bytes> {
    let metadata = tree.get_mut("metadata")?.as_object_mut()?;
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    labels[ip_address::FAMILY] = json!(ip_address::family(address));
    labels[ip_address::MANAGED_BY] = json!(ip_address::MANAGER);
    tree["spec"] = json!({"parentRef": {"resource": "services", "namespace": namespace, "name": name}});
    api::object::encode(tree).ok()
}
