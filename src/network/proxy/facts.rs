//! What the proxy needs to know of Services and EndpointSlices, taken out of the objects once per change.
//!
//! Whatever cannot be used (an address or range that is none, a port out of range) is left out here, so that
//! all that follows deals in typed values. Absent: topology annotations that upstream has withdrawn.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;

/// Services that another proxy serves.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// Endpoints that are not meant for proxies.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Names the service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name.
pub(crate) type ServiceName = (String, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// nftables' name.
    pub(crate) fn keyword(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// The kernel's number.
    pub(crate) fn number(self) -> u8 {
        match self {
            Family::V4 => nix::libc::AF_INET as u8,
            Family::V6 => nix::libc::AF_INET6 as u8,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub(crate) fn parse(text: Option<&str>) -> Option<Self> {
        match text.unwrap_or("TCP") {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }

    /// IANA's number.
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    pub(crate) fn keyword(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// A range of addresses, without bits beyond its prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

impl Cidr {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.trim().split_once('/')?;
        let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        let widest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= widest).then(|| Cidr { address: masked(address, prefix), prefix })
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortFacts {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
}

/// When a service was made, and its uid: of two that were made in the same second one is the older all the
/// same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Age {
    created: Timestamp,
    uid: Arc<str>,
}

impl Default for Age {
    /// Of one that does not say: younger than all others.
    fn default() -> Self {
        Age { created: Timestamp::MAX, uid: "".into() }
    }
}

/// A Service that is proxied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceFacts {
    pub(crate) age: Age,
    /// In the order of the object; none is there twice.
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) external_ips: Vec<IpAddr>,
    pub(crate) balancer_ips: Vec<IpAddr>,
    pub(crate) source_ranges: Vec<Cidr>,
    /// For how many seconds a client keeps its endpoint.
    pub(crate) affinity: Option<u32>,
    pub(crate) internal_local: bool,
    pub(crate) external_local: bool,
    pub(crate) health_check_port: Option<u16>,
    pub(crate) ports: Vec<PortFacts>,
}

const DEFAULT_AFFINITY: u32 = 10_800;

impl ServiceFacts {
    /// None for services that no proxy, or not this one, is to serve.
    pub(crate) fn of(service: &Service) -> Option<Self> {
        let labels = service.metadata.labels.as_ref();
        if labels.is_some_and(|labels| labels.contains_key(OTHER_PROXY) || labels.contains_key(HEADLESS)) {
            return None;
        }
        let spec = service.spec.as_ref()?;
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        if kind == "ExternalName" {
            return None;
        }
        let listed = spec.cluster_ips.iter().flatten();
        let mut cluster_ips: Vec<IpAddr> = Vec::new();
        for address in spec.cluster_ip.iter().chain(listed).filter_map(|address| address.parse().ok()) {
            if !cluster_ips.contains(&address) {
                cluster_ips.push(address);
            }
        }
        if cluster_ips.is_empty() {
            return None;
        }
        let parse_all = |all: Option<&Vec<String>>| -> Vec<IpAddr> {
            all.into_iter().flatten().filter_map(|address| address.parse().ok()).collect()
        };
        let ingress = service.status.iter().filter_map(|status| status.load_balancer.as_ref());
        let ingress = ingress.flat_map(|balancer| balancer.ingress.iter().flatten());
        // Such a load balancer takes the packets itself; the address is no business of the node's.
        let ingress = ingress.filter(|entry| entry.ip_mode.as_deref() != Some("Proxy"));
        let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            let seconds = config.and_then(|config| config.timeout_seconds);
            seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(DEFAULT_AFFINITY)
        });
        let is_outside = kind == "NodePort" || kind == "LoadBalancer";
        let external_ips = parse_all(spec.external_ips.as_ref());
        let external_local = spec.external_traffic_policy.as_deref() == Some("Local")
            && (is_outside || !external_ips.is_empty());
        let meta = &service.metadata;
        let created = meta.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
        Some(ServiceFacts {
            age: Age { created, uid: meta.uid.as_deref().unwrap_or("").into() },
            cluster_ips,
            external_local,
            external_ips,
            balancer_ips: ingress
                .filter_map(|entry| entry.ip.as_deref()?.parse().ok())
                .filter(|_| kind == "LoadBalancer")
                .collect(),
            source_ranges: nested_once(spec.load_balancer_source_ranges.as_deref().unwrap_or_default()),
            affinity,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            health_check_port: spec
                .health_check_node_port
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0 && external_local && kind == "LoadBalancer"),
            ports: spec.ports.iter().flatten().filter_map(|port| PortFacts::of(port, is_outside)).collect(),
        })
    }
}

/// The ranges that lie in no other: the kernel wants no overlaps.
fn nested_once(texts: &[String]) -> Vec<Cidr> {
    let mut ranges: Vec<Cidr> = texts.iter().filter_map(|text| Cidr::parse(text)).collect();
    ranges.sort_by_key(|range| (range.prefix, range.address));
    let mut kept: Vec<Cidr> = Vec::new();
    for range in ranges {
        if !kept.iter().any(|wider| wider.contains(range.address)) {
            kept.push(range);
        }
    }
    kept.sort();
    kept
}

impl PortFacts {
    fn of(port: &ServicePort, is_outside: bool) -> Option<Self> {
        Some(PortFacts {
            name: port.name.clone().unwrap_or_default(),
            protocol: Protocol::parse(port.protocol.as_deref())?,
            port: u16::try_from(port.port).ok()?,
            node_port: port
                .node_port
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0 && is_outside),
        })
    }
}

/// One address of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointFacts {
    pub(crate) address: IpAddr,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) zone_hints: Vec<String>,
    pub(crate) node_hints: Vec<String>,
}

impl EndpointFacts {
    /// On its way out but still answering: what is used when nothing is ready.
    pub(crate) fn is_leaving(&self) -> bool {
        self.serving && self.terminating
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SliceFacts {
    pub(crate) ports: Vec<(String, Protocol, u16)>,
    pub(crate) endpoints: Vec<EndpointFacts>,
}

impl SliceFacts {
    /// The service and what the slice adds to it. None for slices of no service, of names, or not meant for
    /// proxies.
    pub(crate) fn of(slice: &EndpointSlice) -> Option<(ServiceName, Self)> {
        let labels = slice.metadata.labels.as_ref()?;
        if labels.contains_key(OTHER_PROXY) || labels.contains_key(HEADLESS) {
            return None;
        }
        let service = labels.get(SERVICE_NAME).filter(|name| !name.is_empty())?.clone();
        if !["IPv4", "IPv6"].contains(&slice.address_type.as_str()) {
            return None;
        }
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            let number = u16::try_from(port.port?).ok().filter(|number| *number != 0)?;
            let protocol = Protocol::parse(port.protocol.as_deref())?;
            Some((port.name.clone().unwrap_or_default(), protocol, number))
        });
        let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            let hints = endpoint.hints.as_ref();
            Some(EndpointFacts {
                address: endpoint.addresses.first()?.parse().ok()?,
                node: endpoint.node_name.as_deref().map(Arc::from),
                ready: conditions.and_then(|all| all.ready).unwrap_or(true),
                serving: conditions.and_then(|all| all.serving).unwrap_or(true),
                terminating: conditions.and_then(|all| all.terminating).unwrap_or(false),
                zone_hints: hints
                    .and_then(|hints| hints.for_zones.as_ref())
                    .into_iter()
                    .flatten()
                    .map(|zone| zone.name.clone())
                    .collect(),
                node_hints: hints
                    .and_then(|hints| hints.for_nodes.as_ref())
                    .into_iter()
                    .flatten()
                    .map(|node| node.name.clone())
                    .collect(),
            })
        });
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        Some(((namespace, service), SliceFacts { ports: ports.collect(), endpoints: endpoints.collect() }))
    }
}

/// What the rules depend on beside services and slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) zone: Option<String>,
    /// The node's own address of the family, if it has one.
    pub(crate) address: Option<IpAddr>,
    /// Where node ports are served.
    pub(crate) node_port_addresses: Vec<IpAddr>,
    /// The address that the node's own DNS answers on: packets to it are local, and not to be rewritten.
    pub(crate) local_dns: Option<IpAddr>,
}

/// One address and port that are served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FrontKey {
    pub(crate) address: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl fmt::Display for FrontKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} . {} . {}", self.address, self.protocol.keyword(), self.port)
    }
}

impl fmt::Debug for FrontKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// An endpoint as packets are sent to it.
pub(crate) type Backend = SocketAddr;
