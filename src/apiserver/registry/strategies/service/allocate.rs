//! What a service claims: its cluster IPs and its node ports.
//!
//! Each cluster IP is an `IPAddress`, each node port a record of its own; both are written and deleted in the
//! transaction that writes or deletes the service. So two servers cannot hand out one address, a crash leaks
//! nothing, and services that claim different things do not wait for each other, as they would for one bitmap
//! of all.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::ApiError;
use api::json::{items, number, text};
use api::kinds::SERVICE;
use serde_json::Value;

use super::{addresses, node_ports};
use super::{needs_cluster_ip, needs_health_check, takes_node_ports};
use crate::claims::{Claims, Owner, Records};
use crate::registry::strategies::ip_address;
use crate::strategy::RequestContext;

/// The addresses that a service has, in order and each once, by value: however they are written, and in
/// whichever of its two fields. Data of others may have only the older one.
pub(crate) fn addresses_of(service: &Value) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    if !needs_cluster_ip(service) {
        return addresses;
    }
    let listed = items(service, "spec.clusterIPs").iter().filter_map(Value::as_str);
    // `None` of a service without addresses is no address either.
    for address in listed.chain([text(service, "spec.clusterIP")]).filter_map(|text| text.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// The node ports that a service has, that of its health check among them.
pub(crate) fn ports_of(service: &Value) -> BTreeSet<u16> {
    if !takes_node_ports(service) {
        return BTreeSet::new();
    }
    let ports = items(service, "spec.ports").iter().map(|port| number(port, "nodePort"));
    let check = Some(number(service, "spec.healthCheckNodePort")).filter(|_| needs_health_check(service));
    ports.chain(check).filter(|port| *port != 0).filter_map(|port| u16::try_from(port).ok()).collect()
}

/// The owner of the records that are written with a service.
pub(crate) fn owner(service: &Value) -> Owner {
    Owner {
        resource: SERVICE.plural.to_string(),
        namespace: text(service, "metadata.namespace").to_string(),
        name: text(service, "metadata.name").to_string(),
    }
}

pub(super) fn claim(
    ctx: &RequestContext<'_>,
    records: &dyn Records,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<Claims, ApiError> {
    let mut claims = Claims::default();
    addresses::claim(ctx, records, new, old, &mut claims)?;
    node_ports::claim(ctx, records, new, old, &mut claims)?;
    if let Some(old) = old {
        let (addresses, ports) = (addresses_of(new), ports_of(new));
        give_back(
            records,
            old,
            |address| !addresses.contains(&address),
            |port| !ports.contains(&port),
            &mut claims,
        );
    }
    Ok(claims)
}

pub(super) fn release(records: &dyn Records, old: &Value) -> Claims {
    let mut claims = Claims::default();
    give_back(records, old, |_| true, |_| true, &mut claims);
    claims
}

/// Releases what a service has and does not keep. A record that belongs to somebody else stays, however the
/// service came to name it.
fn give_back(
    records: &dyn Records,
    old: &Value,
    address_goes: impl Fn(IpAddr) -> bool,
    port_goes: impl Fn(u16) -> bool,
    claims: &mut Claims,
) {
    let owner = owner(old);
    for address in addresses_of(old).into_iter().filter(|address| address_goes(*address)) {
        let record = records.get(&ip_address::key(address));
        let own = |(namespace, name): (String, String)| namespace == owner.namespace && name == owner.name;
        if let Some(record) = record.filter(|record| ip_address::service_of(record).is_some_and(own)) {
            claims.release(&record);
        }
    }
    for port in ports_of(old).into_iter().filter(|port| port_goes(*port)) {
        let record = records.get(&node_ports::key(port));
        if let Some(record) = record.filter(|record| Owner::of(record).as_ref() == Some(&owner)) {
            claims.release(&record);
        }
    }
}
