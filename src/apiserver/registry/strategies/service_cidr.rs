//! The ranges that cluster IPs of services are taken from.
//!
//! The first, `kubernetes`, is made at start from the server's flags; others can be added. A controller keeps
//! a finalizer on each until no address depends on it.

use api::json::{items, text};
use api::kinds::SERVICE_CIDR;
use api::validation::{Faults, Path, canonical_cidr, invalid_each};
use api::{Cidr, FieldError};
use jiff::Timestamp;
use serde_json::Value;

use crate::claims::{Record, Records};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

/// The range that the flags name.
pub(crate) const DEFAULT: &str = "kubernetes";
const IMMUTABLE: &str = "field is immutable";

pub(super) struct ServiceCidrs;

/// A range that addresses can be taken from, and the record that says so.
pub(crate) struct ServiceRange {
    pub(crate) range: Cidr,
    pub(crate) record: Record,
}

/// Whether a range is ready; one that no controller has looked at yet is.
fn is_ready(tree: &Value) -> bool {
    let ready = items(tree, "status.conditions").iter().find(|one| one["type"] == "Ready");
    let marked = !text(tree, "metadata.deletionTimestamp").is_empty();
    !marked && ready.is_none_or(|ready| ready["status"] == "True")
}

fn ranges(records: &dyn Records, wanted: impl Fn(&Value) -> bool) -> Vec<ServiceRange> {
    let prefix = SERVICE_CIDR.storage_prefix(None).unwrap_or_default();
    let mut found = Vec::new();
    for record in records.below(&prefix) {
        let Ok(tree) = serde_json::from_slice::<Value>(&record.value) else { continue };
        if wanted(&tree) {
            let cidrs = items(&tree, "spec.cidrs").iter().filter_map(|one| one.as_str()?.parse().ok());
            found.extend(cidrs.map(|range| ServiceRange { range, record: record.clone() }));
        }
    }
    found
}

/// The ranges that are ready.
pub(crate) fn ready(records: &dyn Records) -> Vec<ServiceRange> {
    ranges(records, is_ready)
}

/// All ranges, also those that are not ready or on their way out.
pub(crate) fn all(records: &dyn Records) -> Vec<ServiceRange> {
    ranges(records, |_| true)
}

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let at = at.child("cidrs");
    let cidrs: Vec<&str> = items(tree, "spec.cidrs").iter().filter_map(Value::as_str).collect();
    match cidrs.len() {
        0 => faults.push(FieldError::required(at, "at least one CIDR required")),
        1 | 2 => {
            for (index, cidr) in cidrs.iter().enumerate() {
                invalid_each(&mut faults, &at.index(index), cidr, canonical_cidr(cidr));
            }
            let families: Vec<bool> = cidrs
                .iter()
                .filter_map(|one| one.parse::<Cidr>().ok())
                .map(|range| range.is_ipv4())
                .collect();
            if matches!(families[..], [one, other] if one == other) {
                let message = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                faults.push(FieldError::invalid(at, &cidrs, message));
            }
        }
        _ => faults.push(FieldError::invalid(at, &tree["spec"], "may only hold up to 2 values")),
    }
    faults
}

/// Ranges stay as they are, but a second family may be added.
fn validate_update(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let at = at.child("cidrs");
    let (was, is) = (items(old, "spec.cidrs"), items(new, "spec.cidrs"));
    let kept = |faults: &mut Faults, count: usize| {
        for (index, (was, is)) in was.iter().zip(is).enumerate().take(count) {
            if was != is {
                faults.push(FieldError::invalid(at.index(index), is, IMMUTABLE));
            }
        }
    };
    match (was.len(), is.len()) {
        (before, after) if before == after => kept(&mut faults, before),
        (1, 2) => {
            kept(&mut faults, 1);
            faults.extend(validate(new));
        }
        _ => faults.push(FieldError::invalid(at, is, IMMUTABLE)),
    }
    faults
}

impl Strategy for ServiceCidrs {
    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource.is_some() { Faults::new() } else { validate_update(new, old) }
    }

    fn columns(&self) -> &'static [Column] {
        printers::networking::SERVICE_CIDR
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::networking::service_cidr(tree, now)
    }
}

#[cfg(test)]
mod tests;
