//! Rules for addresses and ranges: each gives what is wrong, nothing if nothing is.

use std::net::{IpAddr, Ipv4Addr};

use crate::Cidr;

pub fn ip_address(value: &str) -> Vec<String> {
    match value.parse::<IpAddr>() {
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()],
    }
}

/// An address in the one form that fields have which are newer than strict validation, and names of IP
/// addresses.
pub fn canonical_ip_address(value: &str) -> Vec<String> {
    match strict_ip_address(value) {
        Ok(address) => canonical(value, &address.to_string()),
        Err(faults) => faults,
    }
}

/// An address that every reader takes for the same, in whatever form: what older fields demand.
pub fn strict_ip_address(value: &str) -> Result<IpAddr, Vec<String>> {
    let Ok(address) = value.parse::<IpAddr>() else {
        return Err(match sloppy(value) {
            Some(_) => vec!["must not have leading 0s".into()],
            None => ip_address(value),
        });
    };
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(vec!["must not be an IPv4-mapped IPv6 address".into()]);
    }
    Ok(address)
}

/// A range of addresses in the same form.
pub fn canonical_cidr(value: &str) -> Vec<String> {
    match strict_cidr(value) {
        Ok(range) => canonical(value, &range.to_string()),
        Err(faults) => faults,
    }
}

/// A range that every reader takes for the same, in whatever form.
pub fn strict_cidr(value: &str) -> Result<Cidr, Vec<String>> {
    let invalid = || Err(vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()]);
    let Some((text, bits)) = value.split_once('/') else { return invalid() };
    let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = Some(bits).filter(|_| digits).and_then(|bits| bits.parse::<u8>().ok());
    let address = text.parse::<IpAddr>().ok();
    let range = address.or_else(|| sloppy(text)).zip(prefix).and_then(|(ip, bits)| Cidr::new(ip, bits));
    let Some(range) = range else { return invalid() };
    let Some(address) = address.filter(|_| bits == "0" || !bits.starts_with('0')) else {
        return Err(vec!["must not have leading 0s in IP or prefix length".into()]);
    };
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(vec!["must not have an IPv4-mapped IPv6 address".into()]);
    }
    if address != range.address() {
        return Err(vec!["must not have bits set beyond the prefix length".into()]);
    }
    Ok(range)
}

/// An IPv4 address some of whose numbers begin with zeros, which older fields allow.
fn sloppy(value: &str) -> Option<IpAddr> {
    let stripped: Vec<&str> = value
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0",
            number => number,
        })
        .collect();
    stripped.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

fn canonical(value: &str, form: &str) -> Vec<String> {
    if value == form { Vec::new() } else { vec![format!("must be in canonical form ({form:?})")] }
}
