//! The ranges of pod addresses that nodes have (`spec.podCIDRs`), none of which overlaps another node's.
//!
//! Each range has a record whose key has its first address in full, so that records sort like addresses:
//! those of ranges within a range lie side by side, and those of ranges around it are few and known. So one
//! transaction can demand that nothing overlaps, whatever lengths of prefix were handed out before.

use std::net::IpAddr;

use api::json::{items, text};
use api::kinds::NODE;
use api::{ApiError, Cidr, FieldError};
use serde_json::Value;

use crate::claims::{CLAIMS, Claims, Owner, Record, Records};

/// Where the records of all ranges lie.
pub(crate) fn prefix() -> String {
    format!("{CLAIMS}podcidrs/")
}

/// `…/ipv4/010.042.003.000/24`, `…/ipv6/fd00:…:0000/64`.
pub(crate) fn key(range: &Cidr) -> String {
    format!("{}/{}", place(range.address()), range.prefix())
}

fn place(address: IpAddr) -> String {
    let prefix = prefix();
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{prefix}ipv4/{a:03}.{b:03}.{c:03}.{d:03}")
        }
        IpAddr::V6(v6) => {
            let parts = v6.segments().map(|segment| format!("{segment:04x}"));
            format!("{prefix}ipv6/{}", parts.join(":"))
        }
    }
}

/// The keys of ranges that begin in a range: from, and up to but not with.
fn within(range: &Cidr) -> (String, String) {
    // `0` is the character after `/`.
    (format!("{}/", place(range.address())), format!("{}0", place(range.last())))
}

/// The keys of ranges that begin before a range and reach into it.
fn around(range: &Cidr) -> impl Iterator<Item = String> {
    let range = *range;
    let wider = (0..range.prefix()).filter_map(move |prefix| Cidr::new(range.address(), prefix));
    wider.filter(move |wider| wider.address() != range.address()).map(|wider| key(&wider))
}

/// The ranges that a node has, in order, each once.
pub(crate) fn ranges_of(node: &Value) -> Vec<Cidr> {
    let listed = items(node, "spec.podCIDRs").iter().filter_map(Value::as_str);
    let all = Some(text(node, "spec.podCIDR")).into_iter().chain(listed);
    let mut ranges = Vec::new();
    for range in all.filter_map(|text| text.parse::<Cidr>().ok()) {
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    ranges
}

pub(crate) fn owner(node: &Value) -> Owner {
    let name = text(node, "metadata.name").to_string();
    Owner { resource: NODE.plural.to_string(), namespace: String::new(), name }
}

/// A record of a range that overlaps this one.
pub(crate) fn overlapping(records: &dyn Records, range: &Cidr) -> Option<Record> {
    let (from, to) = within(range);
    records.between(&from, &to).into_iter().next().or_else(|| around(range).find_map(|key| records.get(&key)))
}

/// Claims a range: nothing may overlap it.
pub(crate) fn take(range: &Cidr, owner: &Owner, claims: &mut Claims) -> Result<(), ApiError> {
    let (from, to) = within(range);
    claims.expect_none(from, to);
    around(range).for_each(|key| claims.expect(key, 0));
    claims.take(key(range), owner.encode()?);
    Ok(())
}

pub(super) fn claim(records: &dyn Records, new: &Value, old: Option<&Value>) -> Result<Claims, ApiError> {
    let mut claims = Claims::default();
    if old.is_some_and(|old| !ranges_of(old).is_empty()) {
        // They stay; what else an update makes of them is for validation to refuse.
        return Ok(claims);
    }
    let has = ranges_of(new);
    let owner = owner(new);
    for (index, range) in has.iter().enumerate() {
        let refused = |why: String| {
            let fault = FieldError::invalid(format!("spec.podCIDRs[{index}]"), range.to_string(), why);
            ApiError::invalid(&NODE, text(new, "metadata.name"), vec![fault])
        };
        if let Some(other) = has.iter().find(|other| *other != range && other.overlaps(range)) {
            return Err(refused(format!("overlaps {other} of the same node")));
        }
        if let Some(record) = overlapping(records, range) {
            let whose = Owner::of(&record).map_or_else(String::new, |owner| owner.name);
            return Err(refused(format!("overlaps a range of node {whose:?}")));
        }
        take(range, &owner, &mut claims)?;
    }
    Ok(claims)
}

pub(super) fn release(records: &dyn Records, old: &Value) -> Claims {
    let mut claims = Claims::default();
    let owner = owner(old);
    for range in ranges_of(old) {
        let record = records.get(&key(&range));
        if let Some(record) = record.filter(|record| Owner::of(record).as_ref() == Some(&owner)) {
            claims.release(&record);
        }
    }
    claims
}

#[cfg(test)]
mod tests;
