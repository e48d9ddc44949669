//! The cluster's names: what services and their endpoints are called, in memory, and the answer to a question
//! about them.
//!
//! Names and answers follow the Kubernetes DNS specification (1.1.0) and, where that is silent, CoreDNS:
//! records live 5 s, pods have names made of their address in any namespace (`pods insecure`). A namespace is
//! known by its services. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::rr::rdata::{CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Namespace and name of a service.
pub(crate) type ServiceName = (String, String);

/// For how many seconds an answer may be kept.
pub(crate) const TTL: u32 = 5;

/// A named port: name, protocol (`tcp`), number.
pub(crate) type NamedPort = (String, String, u16);

/// What DNS needs to know of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceFacts {
    /// None for a headless service.
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) external_name: Option<String>,
    pub(crate) ports: Vec<NamedPort>,
}

/// What DNS needs to know of an EndpointSlice: its ready endpoints with their hostnames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SliceFacts {
    pub(crate) ports: Vec<NamedPort>,
    pub(crate) endpoints: Vec<(IpAddr, Option<String>)>,
}

/// What there is to say to a question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// Answers, and addresses of the names in them.
    Records(Vec<Record>, Vec<Record>),
    /// The name is another one's, which is to be looked up.
    Alias(Box<Record>, Name),
    /// The name has no records of the type.
    NoData,
    NoName,
    /// Not a name of the cluster.
    Elsewhere,
}

/// All names of the cluster.
pub(crate) struct Zone {
    domain: Vec<String>,
    domain_name: Name,
    services: HashMap<ServiceName, ServiceFacts>,
    slices: HashMap<ServiceName, BTreeMap<String, SliceFacts>>,
    namespaces: HashMap<String, usize>,
    reverse: HashMap<IpAddr, BTreeSet<Name>>,
}

impl Zone {
    /// An empty zone. None if the domain is no name.
    pub(crate) fn new(domain: &str) -> Option<Self> {
        let domain_name = Name::from_str(&format!("{}.", domain.trim_end_matches('.'))).ok()?.to_lowercase();
        Some(Zone {
            domain: labels(&domain_name),
            domain_name,
            services: HashMap::new(),
            slices: HashMap::new(),
            namespaces: HashMap::new(),
            reverse: HashMap::new(),
        })
    }

    pub(crate) fn set_service(&mut self, name: ServiceName, service: Option<ServiceFacts>) {
        self.change(&name.clone(), |zone| {
            if service.is_some() {
                *zone.namespaces.entry(name.0.clone()).or_default() += 1;
            }
            let old = match service {
                Some(service) => zone.services.insert(name.clone(), service),
                None => zone.services.remove(&name),
            };
            if old.is_some()
                && let Some(count) = zone.namespaces.get_mut(&name.0)
            {
                *count -= 1;
                if *count == 0 {
                    zone.namespaces.remove(&name.0);
                }
            }
        });
    }

    pub(crate) fn set_slice(&mut self, service: ServiceName, slice: String, facts: Option<SliceFacts>) {
        self.change(&service.clone(), |zone| {
            let slices = zone.slices.entry(service.clone()).or_default();
            match facts {
                Some(facts) => slices.insert(slice, facts),
                None => slices.remove(&slice),
            };
            if slices.is_empty() {
                zone.slices.remove(&service);
            }
        });
    }

    /// Changes something of a service, and the names of addresses with it.
    fn change(&mut self, name: &ServiceName, change: impl FnOnce(&mut Self)) {
        for (address, name) in self.addresses(name) {
            if let Some(names) = self.reverse.get_mut(&address) {
                names.remove(&name);
                if names.is_empty() {
                    self.reverse.remove(&address);
                }
            }
        }
        change(self);
        for (address, name) in self.addresses(name) {
            self.reverse.entry(address).or_default().insert(name);
        }
    }

    /// The addresses of a service, with the names that they are known by.
    fn addresses(&self, name: &ServiceName) -> Vec<(IpAddr, Name)> {
        let Some(service) = self.services.get(name) else { return Vec::new() };
        let Some(own) = self.service_name(name) else { return Vec::new() };
        let mut all: Vec<(IpAddr, Name)> =
            service.cluster_ips.iter().map(|address| (*address, own.clone())).collect();
        if service.is_headless() {
            let hosts = self
                .endpoints(name)
                .filter_map(|(address, host, _)| Some((address, own.prepend_label(host.as_str()).ok()?)));
            all.extend(hosts);
        }
        all
    }

    fn service_name(&self, (namespace, name): &ServiceName) -> Option<Name> {
        let svc = Name::from_labels([name.as_str(), namespace.as_str(), "svc"]).ok()?;
        svc.append_domain(&self.domain_name).ok()
    }

    /// Endpoints of a service: address, host label, the ports of their slice.
    fn endpoints(&self, name: &ServiceName) -> impl Iterator<Item = (IpAddr, String, &[NamedPort])> {
        let slices = self.slices.get(name).into_iter().flat_map(BTreeMap::values);
        slices.flat_map(|slice| {
            slice.endpoints.iter().map(|(address, host)| {
                let host = host.clone().unwrap_or_else(|| host_of(*address));
                (*address, host, slice.ports.as_slice())
            })
        })
    }

    /// The record that says how long an absence may be kept.
    pub(crate) fn authority(&self) -> Option<Record> {
        let server = Name::from_labels(["ns", "dns"]).ok()?.append_domain(&self.domain_name).ok()?;
        let people = self.domain_name.prepend_label("hostmaster").ok()?;
        let soa = SOA::new(server, people, 1, 7200, 1800, 86400, TTL);
        Some(Record::from_rdata(self.domain_name.clone(), TTL, RData::SOA(soa)))
    }

    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let asked = labels(name);
        if let Some(rest) = asked.strip_suffix(self.domain.as_slice()) {
            let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
            return self.within(name, &rest, kind);
        }
        let Some(address) = reversed(&asked) else { return Answer::Elsewhere };
        let Some(names) = self.reverse.get(&address) else { return Answer::Elsewhere };
        let pointers = names.iter().map(|target| record(name, RData::PTR(PTR(target.clone())))).collect();
        if kind == RecordType::PTR || kind == RecordType::ANY {
            Answer::Records(pointers, Vec::new())
        } else {
            Answer::NoData
        }
    }

    /// A name of the cluster's domain, by its labels in front of that.
    fn within(&self, name: &Name, rest: &[&str], kind: RecordType) -> Answer {
        match rest {
            [] if kind == RecordType::SOA => {
                self.authority().map_or(Answer::NoData, |soa| Answer::Records(vec![soa], Vec::new()))
            }
            [] | ["svc"] | ["pod"] => Answer::NoData,
            ["dns-version"] if kind == RecordType::TXT => {
                let version = TXT::new(vec!["1.1.0".to_string()]);
                Answer::Records(vec![record(name, RData::TXT(version))], Vec::new())
            }
            ["dns-version"] => Answer::NoData,
            [namespace, "svc" | "pod"] if self.namespaces.contains_key(*namespace) => Answer::NoData,
            [host, _, "pod"] => match address_of(host) {
                Some(address) => of_type(name, &[address], kind),
                None => Answer::NoName,
            },
            [service, namespace, "svc"] => self.service(name, service, namespace, kind),
            [port, protocol, service, namespace, "svc"] => {
                match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                    (Some(port), Some(protocol)) => {
                        let service = (namespace.to_string(), service.to_string());
                        self.ports(name, &service, Some((port, protocol)), kind)
                    }
                    _ => Answer::NoName,
                }
            }
            [host, service, namespace, "svc"] => {
                let service = (namespace.to_string(), service.to_string());
                if !self.services.contains_key(&service) {
                    return Answer::NoName;
                }
                let all = self.endpoints(&service).filter(|(_, name, _)| name == host);
                let addresses: Vec<IpAddr> = all.map(|(address, ..)| address).collect();
                if addresses.is_empty() { Answer::NoName } else { of_type(name, &addresses, kind) }
            }
            _ => Answer::NoName,
        }
    }

    fn service(&self, name: &Name, service: &str, namespace: &str, kind: RecordType) -> Answer {
        let key = (namespace.to_string(), service.to_string());
        let Some(facts) = self.services.get(&key) else { return Answer::NoName };
        if let Some(target) = &facts.external_name {
            let Ok(target) = Name::from_str(&format!("{}.", target.trim_end_matches('.'))) else {
                return Answer::NoData;
            };
            return Answer::Alias(Box::new(record(name, RData::CNAME(CNAME(target.clone())))), target);
        }
        if kind == RecordType::SRV {
            return self.ports(name, &key, None, kind);
        }
        if !facts.is_headless() {
            return of_type(name, &facts.cluster_ips, kind);
        }
        let addresses: Vec<IpAddr> = self.endpoints(&key).map(|(address, ..)| address).collect();
        // As the specification says: a headless service without an endpoint has no name.
        if addresses.is_empty() { Answer::NoName } else { of_type(name, &addresses, kind) }
    }

    /// Where the ports of a service are: all, or the one of a name and protocol.
    fn ports(
        &self,
        name: &Name,
        service: &ServiceName,
        wanted: Option<(&str, &str)>,
        kind: RecordType,
    ) -> Answer {
        let Some(facts) = self.services.get(service) else { return Answer::NoName };
        let Some(own) = self.service_name(service) else { return Answer::NoName };
        let fits =
            |port: &NamedPort| wanted.is_none_or(|(name, protocol)| port.0 == name && port.1 == protocol);
        let mut found: BTreeSet<(Name, u16)> = BTreeSet::new();
        let mut addresses: BTreeSet<(Name, IpAddr)> = BTreeSet::new();
        if facts.is_headless() {
            for (address, host, ports) in self.endpoints(service) {
                let Ok(target) = own.prepend_label(host.as_str()) else { continue };
                for port in ports.iter().filter(|port| fits(port)) {
                    found.insert((target.clone(), port.2));
                    addresses.insert((target.clone(), address));
                }
            }
        } else {
            for port in facts.ports.iter().filter(|port| fits(port)) {
                found.insert((own.clone(), port.2));
                addresses.extend(facts.cluster_ips.iter().map(|address| (own.clone(), *address)));
            }
        }
        if found.is_empty() {
            return if wanted.is_none() { Answer::NoData } else { Answer::NoName };
        }
        if kind != RecordType::SRV && kind != RecordType::ANY {
            return Answer::NoData;
        }
        let weight = (100 / found.len().min(100)) as u16;
        let srv = |(target, port): (Name, u16)| record(name, RData::SRV(SRV::new(0, weight, port, target)));
        let glue = addresses.into_iter().map(|(name, address)| record(&name, address.into()));
        Answer::Records(found.into_iter().map(srv).collect(), glue.collect())
    }
}

impl ServiceFacts {
    fn is_headless(&self) -> bool {
        self.cluster_ips.is_empty() && self.external_name.is_none()
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

/// Addresses as records of the type that was asked for.
fn of_type(name: &Name, addresses: &[IpAddr], kind: RecordType) -> Answer {
    let unique: BTreeSet<&IpAddr> = addresses.iter().collect();
    let fits = |address: &IpAddr| match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    let found: Vec<Record> =
        unique.into_iter().filter(|it| fits(it)).map(|it| record(name, (*it).into())).collect();
    if found.is_empty() { Answer::NoData } else { Answer::Records(found, Vec::new()) }
}

/// The labels of a name in lower case.
fn labels(name: &Name) -> Vec<String> {
    name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect()
}

/// What an endpoint without a hostname is called: its address with dashes.
fn host_of(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The address that a label such as `10-42-0-5` or `fd00--5` means.
fn address_of(label: &str) -> Option<IpAddr> {
    label.replace('-', ".").parse().ok().or_else(|| label.replace('-', ":").parse().ok())
}

/// The address that a name of `in-addr.arpa` or `ip6.arpa` is about.
pub(crate) fn address_in(name: &Name) -> Option<IpAddr> {
    reversed(&labels(name))
}

fn reversed(labels: &[String]) -> Option<IpAddr> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    if let Some(digits) = labels.strip_suffix(&["in-addr", "arpa"]) {
        let digits: Vec<&str> = digits.iter().rev().copied().collect();
        return (digits.len() == 4).then(|| digits.join(".").parse().ok()).flatten();
    }
    let digits = labels.strip_suffix(&["ip6", "arpa"])?;
    if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
        return None;
    }
    let digits: String = digits.iter().rev().copied().collect();
    u128::from_str_radix(&digits, 16).ok().map(|bits| std::net::Ipv6Addr::from(bits).into())
}

#[cfg(test)]
mod tests;
