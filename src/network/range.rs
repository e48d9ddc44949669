//! Ranges of IPv4 addresses.

use std::net::Ipv4Addr;

use crate::error::NetworkError;

/// First and last address of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range(u32, u32);

impl Range {
    /// Bits beyond the prefix must be zero, as the kernel demands.
    pub(crate) fn parse(cidr: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = parse(cidr)?;
        let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let first = address.to_bits();
        if first & hosts != 0 {
            return Err(NetworkError::Range(cidr.to_string()));
        }
        Ok(Range(first, first | hosts))
    }

    pub(crate) fn contains(self, other: Range) -> bool {
        self.0 <= other.0 && other.1 <= self.1
    }

    pub(crate) fn overlaps(self, other: Range) -> bool {
        self.0 <= other.1 && other.0 <= self.1
    }
}

/// Address and length of the prefix.
pub(crate) fn parse(cidr: &str) -> Result<(Ipv4Addr, u8), NetworkError> {
    let wrong = || NetworkError::Range(cidr.to_string());
    let (address, prefix) = cidr.split_once('/').ok_or_else(wrong)?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(wrong)?;
    Ok((address.parse().map_err(|_| wrong())?, prefix))
}
