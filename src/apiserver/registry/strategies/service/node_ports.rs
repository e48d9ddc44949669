//! Node ports: those that a service asks for, and free ones for those that it leaves open.
//!
//! A port is one number for all protocols, and free if it has no record. Which ports of a service share a
//! number, and which it keeps, is as upstream's `portallocator` has it.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use api::json::{items, number, text};
use api::kinds::SERVICE;
use api::{ApiError, FieldError};
use serde_json::{Value, json};

use super::allocate::{owner, ports_of};
use super::pick::Range;
use super::{allocates_node_ports, needs_health_check, takes_node_ports};
use crate::claims::{CLAIMS, Claims, Records};
use crate::registry::strategies::{items_mut, object};
use crate::strategy::RequestContext;

/// Why a port is not given out.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("provided port is not in the valid range. The range of valid ports is {0}-{1}")]
    NotInRange(u16, u16),
    #[error("provided port is already allocated")]
    Allocated,
    #[error("range is full")]
    Full,
}

/// Where the records of all node ports lie.
pub(crate) fn prefix() -> String {
    format!("{CLAIMS}nodeports/")
}

/// Where the record of a node port lies.
pub(crate) fn key(port: u16) -> String {
    format!("{CLAIMS}nodeports/{port}")
}

/// The port of a record.
pub(crate) fn port_of(key: &[u8]) -> Option<u16> {
    std::str::from_utf8(key).ok()?.strip_prefix(&*prefix())?.parse().ok()
}

/// The ports that one write gives out.
struct Ports<'a> {
    range: &'a RangeInclusive<u16>,
    records: &'a dyn Records,
    /// Those that the service has had.
    own: BTreeSet<u16>,
    /// Those that are given out.
    chosen: BTreeSet<u16>,
}

impl Ports<'_> {
    /// Takes a port that is asked for.
    fn take(&mut self, number: i64) -> Result<(), Refusal> {
        let known = u16::try_from(number).ok();
        let Some(port) = known.filter(|port| self.range.contains(port) || self.own.contains(port)) else {
            return Err(Refusal::NotInRange(*self.range.start(), *self.range.end()));
        };
        let kept = self.own.contains(&port);
        if !kept && (self.chosen.contains(&port) || self.records.get(&key(port)).is_some()) {
            return Err(Refusal::Allocated);
        }
        if !kept {
            self.chosen.insert(port);
        }
        Ok(())
    }

    /// Takes a free port.
    fn next(&mut self) -> Result<u16, Refusal> {
        let others = |port: u16| !self.own.contains(&port) && !self.chosen.contains(&port);
        let port = find_free(self.range, self.records, &others).ok_or(Refusal::Full)?;
        self.chosen.insert(port);
        Ok(port)
    }
}

/// How many ports at the beginning of a range are left to those who ask for a certain one, as long as there
/// are others (KEP-3668).
fn static_ports(range: &RangeInclusive<u16>) -> usize {
    match range.len() {
        0..=16 => 0,
        size => (size / 32).clamp(16, 128),
    }
}

/// A port of a range that has no record and is eligible.
pub(super) fn find_free(
    range: &RangeInclusive<u16>,
    records: &dyn Records,
    is_eligible: &dyn Fn(u16) -> bool,
) -> Option<u16> {
    let port_at = |number: u128| u16::try_from(u128::from(*range.start()) + number).ok();
    let is_free = |number: u128| {
        port_at(number).is_some_and(|port| is_eligible(port) && records.get(&key(port)).is_none())
    };
    let taken = || {
        let ports = records.below(&prefix()).into_iter().filter_map(|record| port_of(&record.key));
        ports.filter_map(|port| port.checked_sub(*range.start())).map(u128::from).collect()
    };
    let (size, low) = (range.len() as u128, static_ports(range) as u128);
    Range { size, low, is_free: &is_free, taken: &taken }.pick().and_then(port_at)
}

pub(super) fn claim(
    ctx: &RequestContext<'_>,
    records: &dyn Records,
    new: &mut Value,
    old: Option<&Value>,
    claims: &mut Claims,
) -> Result<(), ApiError> {
    if !takes_node_ports(new) {
        return Ok(());
    }
    let own = old.map(ports_of).unwrap_or_default();
    let mut ports = Ports { range: ctx.services.node_ports, records, own, chosen: BTreeSet::new() };
    match old {
        None => for_new(new, &mut ports)?,
        Some(_) => for_changed(new, &mut ports)?,
    }
    if needs_health_check(new) {
        health_check(new, old, &mut ports)?;
    }
    let owner = owner(new).encode()?;
    for port in ports.chosen {
        claims.take(key(port), owner.clone());
    }
    Ok(())
}

fn refused(service: &Value, index: usize, number: i64, why: Refusal) -> ApiError {
    let fault = FieldError::invalid(format!("spec.ports[{index}].nodePort"), number, why.to_string());
    ApiError::invalid(&SERVICE, text(service, "metadata.name"), vec![fault])
}

fn none_left(why: Refusal) -> ApiError {
    ApiError::internal(format!("failed to allocate a nodePort: {why}"))
}

/// Ports of a new service: entries with the same port (of two protocols) share a node port.
fn for_new(new: &mut Value, ports: &mut Ports<'_>) -> Result<(), ApiError> {
    let allocates = allocates_node_ports(new);
    let entries: Vec<(i64, i64)> = items(new, "spec.ports")
        .iter()
        .map(|entry| (number(entry, "port"), number(entry, "nodePort")))
        .collect();
    let mut given: HashMap<i64, i64> = HashMap::new();
    let mut chosen = Vec::with_capacity(entries.len());
    for (index, (port, asked)) in entries.iter().copied().enumerate() {
        chosen.push(match given.get(&port).copied() {
            _ if asked == 0 && !allocates => 0,
            None => {
                // What a later entry of the same port asks for is for this one, too.
                let wanted = entries.iter().find(|entry| entry.0 == port && entry.1 != 0);
                let number = match wanted {
                    Some((_, number)) => {
                        ports.take(*number).map_err(|why| refused(new, index, *number, why))?;
                        *number
                    }
                    None => i64::from(ports.next().map_err(none_left)?),
                };
                given.insert(port, number);
                number
            }
            Some(number) if asked == 0 || asked == number => number,
            Some(_) => {
                ports.take(asked).map_err(|why| refused(new, index, asked, why))?;
                asked
            }
        });
    }
    set(new, &chosen);
    Ok(())
}

/// Ports of a service that is changed: what it has had is its own, each new entry gets a node port for
/// itself.
fn for_changed(new: &mut Value, ports: &mut Ports<'_>) -> Result<(), ApiError> {
    let allocates = allocates_node_ports(new);
    let entries: Vec<i64> = items(new, "spec.ports").iter().map(|entry| number(entry, "nodePort")).collect();
    let mut seen = BTreeSet::new();
    for (index, asked) in entries.iter().copied().enumerate().filter(|(_, asked)| *asked != 0) {
        // One number may serve two protocols.
        if seen.insert(asked) {
            ports.take(asked).map_err(|why| refused(new, index, asked, why))?;
        }
    }
    let mut chosen = entries;
    for entry in chosen.iter_mut().filter(|asked| **asked == 0 && allocates) {
        *entry = i64::from(ports.next().map_err(none_left)?);
    }
    set(new, &chosen);
    Ok(())
}

fn set(new: &mut Value, chosen: &[i64]) {
    let Some(spec) = new.get_mut("spec") else { return };
    for (entry, number) in items_mut(spec, "ports").iter_mut().zip(chosen).filter(|(_, number)| **number != 0)
    {
        entry["nodePort"] = json!(number);
    }
}

/// The port where a balancer asks a node whether it has endpoints of the service. A service that needs one
/// and has none gets one, also if it was written by a version that did not give any.
fn health_check(new: &mut Value, old: Option<&Value>, ports: &mut Ports<'_>) -> Result<(), ApiError> {
    let asked = number(new, "spec.healthCheckNodePort");
    let had =
        old.filter(|old| needs_health_check(old)).map_or(0, |old| number(old, "spec.healthCheckNodePort"));
    if had != 0 {
        // It stays, and validation says so if it does not.
        return Ok(());
    }
    if asked != 0 {
        return ports.take(asked).map_err(|why| {
            ApiError::internal(format!("failed to allocate requested HealthCheck NodePort {asked}: {why}"))
        });
    }
    let port = ports
        .next()
        .map_err(|why| ApiError::internal(format!("failed to allocate a HealthCheck NodePort 0: {why}")))?;
    if let Some(spec) = object(new, "spec") {
        spec.insert("healthCheckNodePort".into(), json!(port));
    }
    Ok(())
}
