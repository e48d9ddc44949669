//! URLs, addresses, networks, and the formats that names of Kubernetes have.

use std::net::IpAddr;
use std::rc::Rc;

use http::Uri;

use super::call::{Answer, Call, text_of};
use crate::error::EvalError;
use crate::opaque::Opaque;
use crate::shared::Shared;
use crate::value::{Evaluated, Key, Value};

pub(super) const NAMES: &[&str] = &[
    "url",
    "isURL",
    "getScheme",
    "getHost",
    "getHostname",
    "getPort",
    "getEscapedPath",
    "getQuery",
    "ip",
    "isIP",
    "ip.isCanonical",
    "family",
    "isUnspecified",
    "isLoopback",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isGlobalUnicast",
    "cidr",
    "isCIDR",
    "containsIP",
    "containsCIDR",
    "prefixLength",
    "masked",
    "format.named",
    "format.dns1123Label",
    "format.dns1123Subdomain",
    "format.dns1035Label",
    "format.qualifiedName",
    "format.labelValue",
    "format.uuid",
    "validate",
];

pub(super) fn call<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let Some(target) = &call.target else { return global(call) };
    let Value::Opaque(target) = target else { return None };
    match &**target {
        // A query comes to a list of many small parts.
        Opaque::Url { .. } if call.name == "getQuery" && call.budget.spend(target.size()).is_err() => {
            Some(Err(EvalError::Cost))
        }
        Opaque::Url { text, uri } => of_url(text, uri, call.name),
        Opaque::Ip(ip) => of_address(*ip, call.name),
        Opaque::Cidr { address, prefix } => of_network(*address, *prefix, call),
        Opaque::Format(name) if call.name == "validate" => {
            Some(Ok(validate(name, text_of(call.arguments.first()?)?)))
        }
        _ => None,
    }
}

fn opaque<'a>(opaque: Opaque) -> Value<'a> {
    Value::Opaque(Rc::new(opaque))
}

const FORMATS: [&str; 6] =
    ["dns1123Label", "dns1123Subdomain", "dns1035Label", "qualifiedName", "labelValue", "uuid"];

fn global<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    if let Some(name) = call.name.strip_prefix("format.").filter(|_| call.arguments.is_empty()) {
        let known = FORMATS.into_iter().find(|known| *known == name);
        return known.map(|name| Ok(opaque(Opaque::Format(name))));
    }
    let text = call.arguments.first().and_then(text_of)?;
    let found = |found: Option<Opaque>, why: &str| match found {
        Some(found) => Ok(opaque(found)),
        None => Err(EvalError::other(format!("{why} {text:?}"))),
    };
    Some(match call.name {
        "url" => found(url(text), "URL parse error during conversion from string:"),
        "isURL" => Ok(Value::Bool(url(text).is_some())),
        "ip" => found(address(text).map(Opaque::Ip), "IP Address parse error during conversion from string:"),
        "isIP" => Ok(Value::Bool(address(text).is_some())),
        "ip.isCanonical" => match address(text) {
            Some(ip) => Ok(Value::Bool(ip.to_string() == text)),
            None => Err(EvalError::other(format!(
                "IP Address parse error during conversion from string: {text:?}"
            ))),
        },
        "cidr" => found(network(text), "network address parse error during conversion from string:"),
        "isCIDR" => Ok(Value::Bool(network(text).is_some())),
        "format.named" => {
            let known = FORMATS.into_iter().find(|known| *known == text);
            Ok(Value::optional(known.map(|name| opaque(Opaque::Format(name)))))
        }
        _ => return None,
    })
}

/// Absolute ones, and paths.
fn url(text: &str) -> Option<Opaque> {
    let uri: Uri = text.parse().ok()?;
    let is_absolute = uri.scheme().is_some() || text.starts_with('/');
    is_absolute.then(|| Opaque::Url { text: text.to_string(), uri })
}

fn of_url<'a>(text: &str, uri: &Uri, name: &str) -> Answer<'a> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or("");
    Some(Ok(match name {
        "getScheme" => Value::text(uri.scheme_str().unwrap_or("")),
        "getHost" => Value::text(host),
        "getHostname" => Value::text(uri.host().unwrap_or("").trim_matches(['[', ']'])),
        "getPort" => Value::text(uri.port().map_or(String::new(), |port| port.to_string())),
        "getEscapedPath" => {
            // A path that is not there is one slash to the parser, and nothing here.
            let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
            Value::text(if rest.contains('/') { uri.path() } else { "" })
        }
        "getQuery" => {
            let mut query = std::collections::BTreeMap::<Key<'a>, Vec<Value<'a>>>::new();
            for pair in uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                query
                    .entry(Key::String(Shared::Owned(decoded(key).into())))
                    .or_default()
                    .push(Value::text(decoded(value)));
            }
            let query = query.into_iter().map(|(key, values)| (key, Value::list(values)));
            Value::of_map(query.collect())
        }
        _ => return None,
    }))
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Without zones and without IPv4 in the clothes of IPv6.
fn address(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    match ip {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => None,
        ip => Some(ip),
    }
}

fn of_address<'a>(ip: IpAddr, name: &str) -> Answer<'a> {
    Some(Ok(match name {
        "family" => Value::Int(if ip.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Value::Bool(ip.is_unspecified()),
        "isLoopback" => Value::Bool(ip.is_loopback()),
        "isLinkLocalUnicast" => Value::Bool(is_link_local(ip)),
        "isLinkLocalMulticast" => Value::Bool(match ip {
            IpAddr::V4(four) => four.octets()[..3] == [224, 0, 0],
            IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
        }),
        "isGlobalUnicast" => {
            let broadcast = matches!(ip, IpAddr::V4(four) if four.is_broadcast());
            let special = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_link_local(ip);
            Value::Bool(!broadcast && !special)
        }
        _ => return None,
    }))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn bits(ip: IpAddr) -> (u128, u8) {
    match ip {
        IpAddr::V4(four) => (u128::from(u32::from(four)), 32),
        IpAddr::V6(six) => (u128::from(six), 128),
    }
}

fn network(text: &str) -> Option<Opaque> {
    let (ip, prefix) = text.split_once('/')?;
    let ip = address(ip)?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= bits(ip).1)?;
    Some(Opaque::Cidr { address: ip, prefix })
}

/// The address with nothing after the prefix.
fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    let (value, width) = bits(ip);
    let shift = u32::from(width - prefix);
    let value = value.checked_shr(shift).unwrap_or(0).checked_shl(shift).unwrap_or(0);
    match ip {
        IpAddr::V4(_) => IpAddr::V4(u32::try_from(value).unwrap_or(0).into()),
        IpAddr::V6(_) => IpAddr::V6(value.into()),
    }
}

fn of_network<'a>(ip: IpAddr, prefix: u8, call: &Call<'_, 'a>) -> Answer<'a> {
    let holds = |other: IpAddr, longer: u8| {
        other.is_ipv4() == ip.is_ipv4() && longer >= prefix && masked(other, prefix) == masked(ip, prefix)
    };
    Some(match (call.name, &call.arguments[..]) {
        ("prefixLength", []) => Ok(Value::Int(i64::from(prefix))),
        ("ip", []) => Ok(opaque(Opaque::Ip(ip))),
        ("masked", []) => Ok(opaque(Opaque::Cidr { address: masked(ip, prefix), prefix })),
        ("containsIP", [other]) => within(other, |other| match other {
            Opaque::Ip(other) => Some(holds(other, bits(other).1)),
            _ => None,
        }),
        ("containsCIDR", [other]) => within(other, |other| match other {
            Opaque::Cidr { address, prefix } => Some(holds(address, prefix)),
            _ => None,
        }),
        _ => return None,
    })
}

fn within<'a>(other: &Value<'a>, holds: impl Fn(Opaque) -> Option<bool>) -> Evaluated<'a> {
    let found = match other {
        Value::Opaque(opaque) => holds((**opaque).clone()),
        Value::String(text) => {
            let parsed = address(text).map(Opaque::Ip).or_else(|| network(text));
            parsed.and_then(holds)
        }
        _ => None,
    };
    found.map(Value::Bool).ok_or(EvalError::NoOverload)
}

/// What is wrong with a text of a format: optional, a list of messages.
fn validate<'a>(format: &str, text: &str) -> Value<'a> {
    let faults = match format {
        "dns1123Label" => api::validation::dns1123_label(text),
        "dns1123Subdomain" => api::validation::dns1123_subdomain(text),
        "dns1035Label" => api::validation::dns1035_label(text),
        "qualifiedName" => api::validation::qualified_name(text),
        "labelValue" => api::validation::label_value(text),
        _ => {
            let groups: Vec<usize> = text.split('-').map(str::len).collect();
            let hex = text.chars().all(|one| one.is_ascii_hexdigit() || one == '-');
            let good = hex && groups == [8, 4, 4, 4, 12];
            if good { Vec::new() } else { vec!["does not match the UUID format".to_string()] }
        }
    };
    if faults.is_empty() {
        return Value::Optional(None);
    }
    Value::some(Value::list(faults.into_iter().map(Value::text).collect()))
}
