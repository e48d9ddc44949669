//! A range of addresses in `address/prefix` form, and its subranges. IPv4 and IPv6 share one arithmetic on 128 bits.

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

    /// How many subranges of `prefix` bits there are, at most 65,536 (upstream's limit for nodes of one range).
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
    pub fn index_of(&self, prefix: u8, part: &Cidr) -> Option<u32> {
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
