//! Services' addresses and node ports.

use std::net::IpAddr;

use api::kinds::{IP_ADDRESS, SERVICE};
use api::{Kinded, Object};
use bytes::Bytes;
use embedded_store::StoreError;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};

use super::Look;
use crate::claims::{Claims, Owner, Record, Records};
use crate::printers::{items, text};
use crate::registry::strategies::service::{allocate, node_ports};
use crate::registry::strategies::{ip_address, service_cidr};

/// How long an address of a service that is not there may be there: what makes both may make the address
/// first.
const GRACE_SECONDS: f64 = 60.0;
const ON_SERVICE: &str = "ClusterIPAllocation";
const ON_ADDRESS: &str = "IPAddressAllocation";

/// A service that is looked at.
struct Service<'a> {
    object: &'a Object,
    tree: Value,
    reference: ObjectReference,
    key: String,
}

impl Service<'_> {
    fn namespace(&self) -> &str {
        self.object.namespace().unwrap_or("")
    }

    fn name(&self) -> &str {
        self.object.name()
    }
}

fn reference<K: Kinded>(object: &Object) -> ObjectReference {
    let row = K::row();
    ObjectReference {
        api_version: Some(row.api_version()),
        kind: Some(row.kind.to_string()),
        name: Some(object.name().to_string()),
        namespace: object.namespace().map(str::to_string),
        uid: Some(object.uid().to_string()),
        resource_version: Some(object.resource_version().to_string()),
        field_path: None,
    }
}

impl Look<'_> {
    /// Gives a service the records that it lacks, and tells of what cannot be repaired.
    pub(super) async fn check_service(&mut self, object: &Object) -> Result<(), StoreError> {
        let Ok(tree) = object.tree_without_managed_fields() else { return Ok(()) };
        let Some(key) = SERVICE.storage_key(object.namespace(), object.name()) else { return Ok(()) };
        let reference = reference::<k8s_openapi::api::core::v1::Service>(object);
        let service = Service { object, tree, reference, key };
        let ranges = service_cidr::all(&self.records);
        for address in allocate::addresses_of(&service.tree) {
            let family = ip_address::family(address);
            if !ranges.iter().any(|range| range.range.holds_service_address(address)) {
                let message = format!(
                    "Cluster IP [{family}]: {address} is not within any configured Service CIDR; please recreate service"
                );
                self.about_address(&service.reference, "ClusterIPOutOfRange", ON_SERVICE, message);
                continue;
            }
            self.check_address_of(&service, address).await?;
        }
        for port in allocate::ports_of(&service.tree) {
            self.check_port_of(&service, port).await?;
        }
        Ok(())
    }

    async fn check_address_of(&mut self, service: &Service<'_>, address: IpAddr) -> Result<(), StoreError> {
        let family = ip_address::family(address);
        let (namespace, name) = (service.namespace(), service.name());
        let version = service.object.resource_version();
        let mut claims = Claims::default();
        let Some(record) = self.records.get(&ip_address::key(address)) else {
            let message = format!("Cluster IP [{family}]: {address} is not allocated; repairing");
            self.about_address(&service.reference, "ClusterIPNotAllocated", ON_SERVICE, message);
            let Ok(value) = ip_address::record(address, namespace, name, Timestamp::now()) else {
                return Ok(());
            };
            claims.take(ip_address::key(address), value);
            return self.carry_out(service.key.clone(), version, &claims).await.map(drop);
        };
        match ip_address::service_of(&record) {
            Some((of, by)) if of == namespace && by == name => {
                if has_labels(&record, address) {
                    return Ok(());
                }
            }
            Some((of, by)) if self.has_address(&of, &by, address) => {
                let message = format!(
                    "Cluster IP [{family}]:{address} was assigned to multiple services; please recreate service"
                );
                self.about_address(&service.reference, "ClusterIPAlreadyAllocated", ON_SERVICE, message);
                return Ok(());
            }
            _ => {
                let message = format!(
                    "the ClusterIP [{family}]: {address} for Service {namespace}/{name} has a wrong reference; repairing"
                );
                self.about_address(&service.reference, "ClusterIPNotAllocated", ON_SERVICE, message);
            }
        }
        let Some(value) = corrected(&record, address, namespace, name) else { return Ok(()) };
        claims.replace(&record, value);
        self.carry_out(service.key.clone(), version, &claims).await.map(drop)
    }

    fn has_address(&self, namespace: &str, name: &str, address: IpAddr) -> bool {
        let tree = self.object(&SERVICE, namespace, name).and_then(|object| object.tree().ok());
        tree.is_some_and(|tree| allocate::addresses_of(&tree).contains(&address))
    }

    fn has_port(&self, owner: &Owner, port: u16) -> bool {
        let object = self.object(&SERVICE, &owner.namespace, &owner.name);
        let tree = object.and_then(|object| object.tree().ok());
        tree.is_some_and(|tree| allocate::ports_of(&tree).contains(&port))
    }

    async fn check_port_of(&mut self, service: &Service<'_>, port: u16) -> Result<(), StoreError> {
        let range = self.registry.config.node_ports.clone();
        let about = &service.reference;
        if !range.contains(&port) {
            let (first, last) = (range.start(), range.end());
            let message =
                format!("Port {port} is not within the port range {first}-{last}; please recreate service");
            self.about_port(about, "PortOutOfRange", message);
        }
        let owner = allocate::owner(&service.tree);
        let Ok(value) = owner.encode() else { return Ok(()) };
        let mut claims = Claims::default();
        match self.records.get(&node_ports::key(port)) {
            None => claims.take(node_ports::key(port), value),
            Some(record) => match Owner::of(&record) {
                Some(present) if present == owner => return Ok(()),
                Some(other) if self.has_port(&other, port) => {
                    let message =
                        format!("Port {port} was assigned to multiple services; please recreate service");
                    self.about_port(about, "PortAlreadyAllocated", message);
                    return Ok(());
                }
                _ => claims.replace(&record, value),
            },
        }
        if range.contains(&port) {
            self.about_port(about, "PortNotAllocated", format!("Port {port} is not allocated; repairing"));
        }
        self.carry_out(service.key.clone(), service.object.resource_version(), &claims).await.map(drop)
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
                        let own = service.tree().is_ok_and(|tree| lists(&tree, name));
                        if own {
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
        let about = reference::<k8s_openapi::api::networking::v1::IPAddress>(object);
        let key = Bytes::from(IP_ADDRESS.storage_key(None, name).unwrap_or_default());
        let record =
            Record { key, value: object.stored_bytes().clone(), revision: object.resource_version() };
        let mut claims = Claims::default();
        claims.release(&record);
        // Somebody may have been faster, and then nothing had leaked.
        if self.carry_out(gone, version, &claims).await? {
            self.about_address(&about, reason, ON_ADDRESS, message);
        }
        Ok(())
    }
}

fn lists(service: &Value, address: &str) -> bool {
    let addresses = allocate::addresses_of(service);
    !items(service, "spec.clusterIPs").is_empty() && addresses.iter().any(|one| one.to_string() == address)
}

/// Seconds since an object was made.
fn age(tree: &Value) -> f64 {
    let made = api::time::parse(text(tree, "metadata.creationTimestamp"));
    made.map_or(f64::MAX, |made| api::time::seconds_between(made, Timestamp::now()))
}

fn has_labels(record: &Record, address: IpAddr) -> bool {
    let tree: Value = serde_json::from_slice(&record.value).unwrap_or_default();
    let labels = &tree["metadata"]["labels"];
    labels[ip_address::FAMILY] == ip_address::family(address)
        && labels[ip_address::MANAGED_BY] == ip_address::MANAGER
}

/// The same object with the labels and the reference that it should have; none if it cannot be read.
fn corrected(record: &Record, address: IpAddr, namespace: &str, name: &str) -> Option<Bytes> {
    let mut tree: Value = serde_json::from_slice(&record.value).ok()?;
    let metadata = tree.get_mut("metadata")?.as_object_mut()?;
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    labels[ip_address::FAMILY] = json!(ip_address::family(address));
    labels[ip_address::MANAGED_BY] = json!(ip_address::MANAGER);
    tree["spec"] = json!({"parentRef": {"resource": "services", "namespace": namespace, "name": name}});
    api::object::encode(tree).ok()
}
