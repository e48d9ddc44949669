//! Cluster IPs: those that a service asks for, and free ones for a service that leaves the choice to the
//! server.
//!
//! An address is free if no `IPAddress` has its name, nor a service that is known has it: somebody may have
//! deleted the former, and the repair may not have made it again yet. It is taken from a range
//! (`ServiceCIDR`) that is ready; the claim holds only while that range is as it was, so no address is taken
//! from a range that is being deleted.

use std::net::IpAddr;

use api::kinds::SERVICE;
use api::{ApiError, Cidr, FieldError};
use rand::Rng;
use serde_json::{Value, json};

use super::allocate::addresses_of;
use super::{is_headless, needs_cluster_ip};
use crate::claims::{Claims, Records};
use crate::printers::{items, text};
use crate::registry::strategies::service_cidr::{self, ServiceRange};
use crate::registry::strategies::{ip_address, object};
use crate::strategy::RequestContext;

/// How many addresses of a range are looked at before it counts as full. So many services there are not, but
/// an IPv6 range has more addresses than can be looked at.
const MOST_LOOKED_AT: u128 = 1 << 22;

pub(super) fn claim(
    ctx: &RequestContext<'_>,
    records: &dyn Records,
    new: &mut Value,
    old: Option<&Value>,
    claims: &mut Claims,
) -> Result<(), ApiError> {
    if !needs_cluster_ip(new) || is_headless(new) || old.is_some_and(is_headless) {
        return Ok(());
    }
    // What an update does to addresses that are there is for validation to judge, and so is what is too much.
    let kept = old.map_or(0, |old| addresses_of(old).len());
    let mut addresses: Vec<String> = asked(new);
    let families: Vec<String> =
        items(new, "spec.ipFamilies").iter().filter_map(Value::as_str).map(str::to_string).collect();
    if addresses.len() > 2
        || families.len() > 2
        || families.first() == families.get(1) && !families.is_empty()
    {
        return Ok(());
    }
    let count = addresses.len().max(families.len());
    if kept >= count {
        return Ok(());
    }
    let ranges = service_cidr::ready(records);
    let mut taken = Vec::new();
    for index in kept..count {
        let asked = addresses.get(index).map(String::as_str).unwrap_or("");
        let (address, from) = if asked.is_empty() {
            let Some(family) = families.get(index).filter(|family| is_configured(ctx, family)) else { break };
            let free = |address: IpAddr| is_free(ctx, records, address);
            let Some(found) = find_free(&ranges, family, &free) else { return Err(full(new)) };
            found
        } else {
            // What is no address at all is for validation to say.
            let Ok(address) = asked.parse::<IpAddr>() else { return Ok(()) };
            (address, check_asked(ctx, records, new, index, address, &ranges)?)
        };
        match addresses.get_mut(index) {
            Some(place) => *place = address.to_string(),
            None => addresses.push(address.to_string()),
        }
        taken.push((address, from));
    }
    let (namespace, name) = (text(new, "metadata.namespace"), text(new, "metadata.name"));
    for (address, from) in taken {
        claims.expect(from.record.key.clone(), from.record.revision);
        claims.take(ip_address::key(address), ip_address::record(address, namespace, name, ctx.now)?);
    }
    if let Some(first) = addresses.first().cloned()
        && let Some(spec) = object(new, "spec")
    {
        spec.insert("clusterIP".into(), json!(first));
        spec.insert("clusterIPs".into(), json!(addresses));
    }
    Ok(())
}

/// The addresses that a service names; an empty one is a place to be filled.
fn asked(service: &Value) -> Vec<String> {
    let listed = items(service, "spec.clusterIPs");
    let one = Some(text(service, "spec.clusterIP")).filter(|one| listed.is_empty() && !one.is_empty());
    listed.iter().map(|one| one.as_str().unwrap_or("")).chain(one).map(str::to_string).collect()
}

fn is_configured(ctx: &RequestContext<'_>, family: &str) -> bool {
    let range = ctx.config.service_cidr.parse::<Cidr>();
    range.is_ok_and(|range| ip_address::family(range.address()) == family)
}

/// The range that an address which is asked for is taken from.
fn check_asked<'a>(
    ctx: &RequestContext<'_>,
    records: &dyn Records,
    new: &Value,
    index: usize,
    address: IpAddr,
    ranges: &'a [ServiceRange],
) -> Result<&'a ServiceRange, ApiError> {
    let refused = |field: String, message: String| {
        let fault = FieldError::invalid(field, &new["spec"]["clusterIPs"], message);
        ApiError::invalid(&SERVICE, text(new, "metadata.name"), vec![fault])
    };
    let family = ip_address::family(address);
    if !is_configured(ctx, family) {
        let message = format!("{family} is not configured on this cluster");
        return Err(refused(format!("spec.clusterIPs[{index}]"), message));
    }
    let failed =
        |why: &str| refused("spec.clusterIPs".to_string(), format!("failed to allocate IP {address}: {why}"));
    let from = ranges.iter().find(|from| from.range.holds_service_address(address));
    let from = from.ok_or_else(|| failed("the provided network does not match the current range"))?;
    if is_free(ctx, records, address) { Ok(from) } else { Err(failed("provided IP is already allocated")) }
}

fn is_free(ctx: &RequestContext<'_>, records: &dyn Records, address: IpAddr) -> bool {
    // The cheaper question first: in a range that is full it is asked for every address.
    ctx.caches.indexed(&SERVICE, "spec.clusterIP", &address.to_string()).is_empty()
        && records.get(&ip_address::key(address)).is_none()
}

fn full(new: &Value) -> ApiError {
    let name = text(new, "metadata.name");
    ApiError::internal(format!("failed to allocate a serviceIP for Service {name:?}: range is full"))
}

/// A free address of a family, from the first range that has one.
pub(super) fn find_free<'a>(
    ranges: &'a [ServiceRange],
    family: &str,
    is_free: &dyn Fn(IpAddr) -> bool,
) -> Option<(IpAddr, &'a ServiceRange)> {
    let of_family = ranges.iter().filter(|from| ip_address::family(from.range.address()) == family);
    of_family.into_iter().find_map(|from| free_in(&from.range, is_free).map(|address| (address, from)))
}

/// A free address of a range: from a random one on, first among those that nobody asks for by number.
pub(super) fn free_in(range: &Cidr, is_free: &dyn Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let (low, all) = (range.static_service_addresses(), range.service_addresses());
    let low = low.min(all);
    let mut random = rand::rng();
    [(low, all), (0, low)].into_iter().find_map(|(first, end)| {
        let size = end - first;
        let start = if size == 0 { 0 } else { random.random_range(0..size) };
        let around = (0..size.min(MOST_LOOKED_AT)).map(|step| first + (start + step) % size);
        around.filter_map(|index| range.service_address(index)).find(|address| is_free(*address))
    })
}
