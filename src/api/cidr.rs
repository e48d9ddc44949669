//! A range of addresses in `address/prefix` form, its subranges, and the addresses of it that services can
//! have. IPv4 and IPv6 share one arithmetic on 128 bits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Invariant: host bits are zero, the prefix fits the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a range of addresses.
#[derive(Debug, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct CidrError(String);

impl Cidr {
    /// The range of `prefix` bits that holds `address`; none if the prefix is too long for the family.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let width = width(address);
        let host_bits = width.checked_sub(prefix)?;
        let network = if u32::from(host_bits) >= 128 { 0 } else { bits(address) >> host_bits << host_bits };
        Some(Cidr { address: address_of(network, width), prefix })
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether an address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        Cidr::new(address, self.prefix) == Some(*self)
    }

    /// Whether all of another range lies in this one.
    pub fn covers(&self, other: &Cidr) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The last address of the range; in IPv4 its broadcast address.
    pub fn last(&self) -> IpAddr {
        let width = width(self.address);
        address_of(bits(self.address) | mask(u32::from(width - self.prefix)), width)
    }

    /// How many addresses of the range services can have: all but the network's own and, in IPv4, the
    /// broadcast address.
    pub fn service_addresses(&self) -> u128 {
        let all_but_one = mask(u32::from(width(self.address) - self.prefix));
        if self.is_ipv4() { all_but_one.saturating_sub(1) } else { all_but_one }
    }

    /// The `index`th address that a service can have.
    pub fn service_address(&self, index: u128) -> Option<IpAddr> {
        let inside = index < self.service_addresses();
        inside.then(|| address_of(bits(self.address) + 1 + index, width(self.address)))
    }

    /// Which of the addresses that services can have this one is; none if it is none of them.
    pub fn service_index(&self, address: IpAddr) -> Option<u128> {
        self.holds_service_address(address).then(|| bits(address) - bits(self.address) - 1)
    }

    /// Whether an address of the range is one that a service can have.
    pub fn holds_service_address(&self, address: IpAddr) -> bool {
        self.contains(address) && address != self.address && !(self.is_ipv4() && address == self.last())
    }

    /// How many addresses at the beginning are left to those who ask for a certain one, as long as there are
    /// others (KEP-3070).
    pub fn static_service_addresses(&self) -> u128 {
        const LEAST: u128 = 16;
        const MOST: u128 = 256;
        const SHARE: u128 = 16;
        let size = mask(u32::from(width(self.address) - self.prefix)).saturating_add(1);
        if size <= LEAST { 0 } else { (size / SHARE).clamp(LEAST, MOST) }
    }

    /// How many subranges of `prefix` bits there are, at most 65,536 (upstream's limit for nodes of one
    /// range).
    pub fn subnets(&self, prefix: u8) -> u32 {
        match prefix.checked_sub(self.prefix) {
            Some(extra) if prefix <= width(self.address) => 1u32 << extra.min(16),
            _ => 0,
        }
    }

    /// The `index`th subrange of `prefix` bits.
    pub fn subnet(&self, prefix: u8, index: u32) -> Option<Cidr> {
        if index >= self.subnets(prefix) {
            return None;
        }
        let width = width(self.address);
        let offset = u128::from(index).checked_shl(u32::from(width - prefix)).unwrap_or(0);
        Some(Cidr { address: address_of(bits(self.address) | offset, width), prefix })
    }

    /// Which subrange of `prefix` bits holds the start of `part`, if `part` lies in this range.
    pub(crate) fn index_of(&self, prefix: u8, part: &Cidr) -> Option<u32> {
        let width = width(self.address);
        let inside = Cidr::new(part.address, self.prefix) == Some(*self) && part.prefix >= self.prefix;
        if !inside || prefix > width {
            return None;
        }
        let offset = bits(part.address) ^ bits(self.address);
        let index = u32::try_from(offset.checked_shr(u32::from(width - prefix)).unwrap_or(0)).ok()?;
        (index < self.subnets(prefix)).then_some(index)
    }

    /// The indices of the subranges of `prefix` bits that share an address with `other`.
    pub fn indices_touched(&self, prefix: u8, other: &Cidr) -> std::ops::Range<u32> {
        if Cidr::new(self.address, other.prefix) == Some(*other) && other.prefix <= self.prefix {
            return 0..self.subnets(prefix);
        }
        let Some(first) = self.index_of(prefix, other) else { return 0..0 };
        let count = 1u32.checked_shl(u32::from(prefix.saturating_sub(other.prefix))).unwrap_or(u32::MAX);
        first..first.saturating_add(count).min(self.subnets(prefix))
    }
}

/// So many low bits that are set.
fn mask(bits: u32) -> u128 {
    1_u128.checked_shl(bits).map_or(u128::MAX, |bit| bit - 1)
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address_of(bits: u128, width: u8) -> IpAddr {
    if width == 32 {
        // The upper bits are zero by construction.
        IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            Cidr::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| CidrError(text.to_string()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests;
