//! Ranges of addresses with ranges of ports, brought to a form in which none overlaps another: sets of ranges
//! take no overlaps. Pure.
//!
//! A line is swept over all addresses. Between two places where a range begins or ends the same ports are
//! allowed; pieces that touch and allow the same become one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::facts::Block;
use crate::nfnetlink::elements::last_address;
use crate::proxy::facts::{Cidr, Family, Protocol};

/// First and last address.
pub(crate) type Span = (IpAddr, IpAddr);

/// Protocol, first and last port. None is everything, also what has no ports.
pub(crate) type PortRange = Option<(Protocol, u16, u16)>;

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(bits as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

fn span(range: &Cidr) -> (u128, u128) {
    (bits(range.address), bits(last_address(range.address, range.prefix)))
}

/// Every address of a family.
pub(crate) fn whole(family: Family) -> Span {
    match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()),
        Family::V6 => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::from_bits(u128::MAX).into()),
    }
}

/// What is left of a block without its holes.
pub(crate) fn without_holes(block: &Block) -> Vec<Span> {
    let family = Family::of(block.range.address);
    let (first, last) = span(&block.range);
    let of_family = block.except.iter().filter(|hole| Family::of(hole.address) == family);
    let mut holes: Vec<(u128, u128)> = of_family.map(span).collect();
    holes.sort_unstable();
    let (mut left, mut next) = (Vec::new(), Some(first));
    for hole in holes {
        let Some(from) = next else { break };
        if hole.0 > last || hole.1 < from {
            continue;
        }
        if hole.0 > from {
            left.push((from, hole.0 - 1));
        }
        next = hole.1.checked_add(1).filter(|next| *next <= last);
    }
    left.extend(next.map(|from| (from, last)));
    left.into_iter().map(|(first, last)| (address(family, first), address(family, last))).collect()
}

/// How many ranges of ports are looked at for each that may come out.
const LOOKS: usize = 32;

/// Ranges of one family that do not overlap, each with ranges of ports that do not either and are in order.
/// None if they come to more than `most`: pieces of ranges that overlap have ports of each.
pub(crate) fn disjoint(
    family: Family,
    boxes: impl IntoIterator<Item = (Span, PortRange)>,
    most: usize,
) -> Option<Vec<(Span, Vec<PortRange>)>> {
    let mut steps: BTreeMap<u128, Vec<(PortRange, bool)>> = BTreeMap::new();
    for ((first, last), ports) in boxes {
        if Family::of(first) != family {
            continue;
        }
        steps.entry(bits(first)).or_default().push((ports, true));
        if let Some(after) = bits(last).checked_add(1) {
            steps.entry(after).or_default().push((ports, false));
        }
    }
    let mut pieces: Vec<((u128, u128), Vec<PortRange>)> = Vec::new();
    let mut open: BTreeMap<PortRange, usize> = BTreeMap::new();
    let mut steps = steps.into_iter().peekable();
    let (mut found, mut looks) = (0, 0);
    while let Some((first, changes)) = steps.next() {
        for (ports, begins) in changes {
            let count = open.entry(ports).or_default();
            *count = if begins { *count + 1 } else { *count - 1 };
            if *count == 0 {
                open.remove(&ports);
            }
        }
        if open.is_empty() {
            continue;
        }
        let last = steps.peek().map_or(bits(whole(family).1), |(next, _)| next - 1);
        looks += open.len();
        if looks > most.saturating_mul(LOOKS) {
            return None;
        }
        let ports = joined(open.keys().copied());
        match pieces.last_mut() {
            Some((span, same)) if span.1 + 1 == first && *same == ports => span.1 = last,
            _ => {
                found += ports.len();
                pieces.push(((first, last), ports));
            }
        }
        if found > most {
            return None;
        }
    }
    let named = |((first, last), ports)| ((address(family, first), address(family, last)), ports);
    Some(pieces.into_iter().map(named).collect())
}

/// Ranges of ports in order, in which those that touch are one.
fn joined(sorted: impl Iterator<Item = PortRange>) -> Vec<PortRange> {
    let mut all: Vec<PortRange> = Vec::new();
    for range in sorted {
        let Some((protocol, first, last)) = range else { return vec![None] };
        match all.last_mut() {
            Some(Some((same, _, end))) if *same == protocol && u32::from(first) <= u32::from(*end) + 1 => {
                *end = last.max(*end);
            }
            _ => all.push(Some((protocol, first, last))),
        }
    }
    all
}

#[cfg(test)]
mod tests;
