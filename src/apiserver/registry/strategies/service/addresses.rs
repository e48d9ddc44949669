//! Cluster IPs: those that a service asks for, and free ones for a service that leaves the choice to the
//! server.
//!
//! An address is free if no `IPAddress` has its name, nor a service that is known has it: somebody may have
//! deleted the former, and the repair may not have made it again yet. It is taken from a range
//! (`ServiceCIDR`) that is ready; the claim holds only while that range is as it was, so no address is taken
//! from a range that is being deleted.
//!
//! Invariant: a write claims every address that the new object has and the old one has not, compared by
//! value, or it is refused here. So an address is never held without a claim, whatever validation lets pass.

use std::cell::OnceCell;
use std::net::IpAddr;

use api::json::{items, text};
use api::kinds::{IP_ADDRESS, SERVICE};
use api::{ApiError, Cidr, FieldError};
use serde_json::{Value, json};

use super::allocate::addresses_of;
use super::pick::Range;
use super::{is_headless, needs_cluster_ip, validate};
use crate::claims::{Claims, Records};
use crate::registry::strategies::service_cidr::{self, ServiceRange};
use crate::registry::strategies::{ip_address, object};
use crate::strategy::RequestContext;

/// One of each family.
pub(super) const MOST_ADDRESSES: usize = 2;

pub(super) fn claim(
    ctx: &RequestContext<'_>,
    records: &dyn Records,
    new: &mut Value,
    old: Option<&Value>,
    claims: &mut Claims,
) -> Result<(), ApiError> {
    if !needs_cluster_ip(new) {
        return Ok(());
    }
    let mut asked = asked(new);
    if asked.len() > MOST_ADDRESSES {
        return Err(refused(new, "spec.clusterIPs".into(), validate::TOO_MANY_ADDRESSES.into()));
    }
    let held = old.map(addresses_of).unwrap_or_default();
    let ranges = OnceCell::new();
    let ranges = || ranges.get_or_init(|| service_cidr::ready(records)).as_slice();
    let mut taken: Vec<(IpAddr, &ServiceRange)> = Vec::new();
    let open = open_places(ctx, new);
    for index in 0..asked.len().max(open) {
        let wanted = asked.get(index).map(String::as_str).unwrap_or("");
        let (address, from) = if wanted.is_empty() {
            if index >= open {
                continue;
            }
            let family = new["spec"]["ipFamilies"][index].as_str().unwrap_or("");
            let is_eligible = |address: IpAddr| !is_known(ctx, address);
            let Some(found) = find_free(ranges(), family, records, &is_eligible) else {
                return Err(full(new));
            };
            found
        } else {
            // What is no address at all is for validation to say.
            let Ok(address) = wanted.parse::<IpAddr>() else { continue };
            if held.contains(&address) || taken.iter().any(|(own, _)| *own == address) {
                continue;
            }
            // That an address must not be exchanged for another is said before what is wrong with the other.
            let from = check_asked(ctx, records, new, index, address, ranges()).map_err(|error| {
                let faults = old.map(|old| validate::update(new, old)).unwrap_or_default();
                if faults.is_empty() { error } else { invalid(new, faults) }
            })?;
            (address, from)
        };
        match asked.get_mut(index) {
            Some(place) => *place = address.to_string(),
            None => asked.push(address.to_string()),
        }
        taken.push((address, from));
    }
    write(new, &asked);
    let is_claimed = |address: &IpAddr| held.contains(address) || taken.iter().any(|(own, _)| own == address);
    if !addresses_of(new).iter().all(is_claimed) {
        // The older field has an address that the list has not.
        return Err(refused(new, "spec.clusterIPs".into(), validate::OTHER_FIRST_ADDRESS.into()));
    }
    let (namespace, name) = (text(new, "metadata.namespace"), text(new, "metadata.name"));
    for (address, from) in taken {
        claims.expect(from.record.key.clone(), from.record.revision);
        claims.take(ip_address::key(address), ip_address::record(address, namespace, name, ctx.now)?);
    }
    Ok(())
}

/// How many addresses a service shall have that leaves the choice to the server.
fn open_places(ctx: &RequestContext<'_>, service: &Value) -> usize {
    if is_headless(service) {
        return 0;
    }
    let families = items(service, "spec.ipFamilies");
    // A family that is named twice, or that the cluster has not, is for validation to refuse.
    let is_open = |(index, family): &(usize, &Value)| {
        family.as_str().is_some_and(|family| is_configured(ctx, family))
            && !families[..*index].contains(family)
    };
    families.iter().enumerate().take(MOST_ADDRESSES).take_while(is_open).count()
}

/// Both fields, from the list of addresses. One that names another first address stays as it is.
fn write(service: &mut Value, addresses: &[String]) {
    let Some(first) = addresses.first() else { return };
    let one = text(service, "spec.clusterIP");
    let is_same =
        one.is_empty() || one == first || one.parse::<IpAddr>().is_ok_and(|one| first.parse() == Ok(one));
    let Some(spec) = object(service, "spec") else { return };
    if is_same {
        spec.insert("clusterIP".into(), json!(first));
    }
    spec.insert("clusterIPs".into(), json!(addresses));
}

/// The addresses that a service names; an empty one is a place to be filled.
fn asked(service: &Value) -> Vec<String> {
    let listed = items(service, "spec.clusterIPs");
    let one = Some(text(service, "spec.clusterIP")).filter(|one| listed.is_empty() && !one.is_empty());
    listed.iter().map(|one| one.as_str().unwrap_or("")).chain(one).map(str::to_string).collect()
}

fn is_configured(ctx: &RequestContext<'_>, family: &str) -> bool {
    let range = ctx.services.cidr.parse::<Cidr>();
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
    let family = ip_address::family(address);
    if !is_configured(ctx, family) {
        let message = format!("{family} is not configured on this cluster");
        return Err(refused(new, format!("spec.clusterIPs[{index}]"), message));
    }
    let failed =
        |why: &str| refused(new, "spec.clusterIPs".into(), format!("failed to allocate IP {address}: {why}"));
    let from = ranges.iter().find(|from| from.range.holds_service_address(address));
    let from = from.ok_or_else(|| failed("the provided network does not match the current range"))?;
    // What is in memory is asked first.
    let is_free = !is_known(ctx, address) && records.get(&ip_address::key(address)).is_none();
    if is_free { Ok(from) } else { Err(failed("provided IP is already allocated")) }
}

/// Whether a service is known to have an address, with or without a record of it.
fn is_known(ctx: &RequestContext<'_>, address: IpAddr) -> bool {
    !ctx.caches.indexed(&SERVICE, "spec.clusterIP", &address.to_string()).is_empty()
}

fn refused(new: &Value, field: String, message: String) -> ApiError {
    invalid(new, vec![FieldError::invalid(field, &new["spec"]["clusterIPs"], message)])
}

fn invalid(new: &Value, faults: impl Into<Vec<FieldError>>) -> ApiError {
    ApiError::invalid(&SERVICE, text(new, "metadata.name"), faults)
}

fn full(new: &Value) -> ApiError {
    let name = text(new, "metadata.name");
    ApiError::internal(format!("failed to allocate a serviceIP for Service {name:?}: range is full"))
}

/// An address of a family that has no record and is eligible, from the first range that has one.
pub(super) fn find_free<'a>(
    ranges: &'a [ServiceRange],
    family: &str,
    records: &dyn Records,
    is_eligible: &dyn Fn(IpAddr) -> bool,
) -> Option<(IpAddr, &'a ServiceRange)> {
    let of_family = ranges.iter().filter(|from| ip_address::family(from.range.address()) == family);
    of_family
        .into_iter()
        .find_map(|from| free_in(&from.range, records, is_eligible).map(|address| (address, from)))
}

pub(super) fn free_in(
    range: &Cidr,
    records: &dyn Records,
    is_eligible: &dyn Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let is_free = |number: u128| {
        let free = |address: IpAddr| is_eligible(address) && records.get(&ip_address::key(address)).is_none();
        range.service_address(number).is_some_and(free)
    };
    let taken = || {
        let prefix = IP_ADDRESS.storage_prefix(None).unwrap_or_default();
        let address_of = |key: &[u8]| std::str::from_utf8(key).ok()?.strip_prefix(&*prefix)?.parse().ok();
        let addresses = records.below(&prefix).into_iter().filter_map(|record| address_of(&record.key));
        addresses.filter_map(|address| range.service_index(address)).collect()
    };
    let (size, low) = (range.service_addresses(), range.static_service_addresses());
    Range { size, low, is_free: &is_free, taken: &taken }
        .pick()
        .and_then(|number| range.service_address(number))
}
