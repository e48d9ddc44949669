//! The rule set: elements of a handful of maps, and a few chains that all services share.
//!
//! There is no chain per service: the kernel checks every jump of a table against every other, and ten
//! thousand chains take it a minute. A service is an element `address . protocol . port : goto cluster-N`,
//! where N is how many endpoints it has; the chain `cluster-N` draws a number below N and looks up
//! `address . protocol . port . number`. One endpoint more is one element more, beside the one that says how
//! many there are. Endpoints for outside packets of the traffic policy `Local` are numbered from [`LOCAL`]
//! on. Everything here is text for `nft`; nothing does input or output.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use super::facts::{Backend, Cidr, Family, FrontKey, Protocol};
use crate::script;

/// Number of the first endpoint of this node, where outside packets go to those alone. Also how many
/// endpoints a list has at most.
pub(crate) const LOCAL: u32 = 65_536;

/// Marks packets to be masqueraded on their way out: upstream's bit, which other programs know to leave
/// alone.
const MASQUERADE: u32 = 0x4000;

/// Seeds the hash of clients' addresses. Any number will do, as long as it stays the same.
const SEED: u32 = 0x6b38;

/// A map or set of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Set {
    /// Frontend to the chain that picks an endpoint.
    Services,
    /// The same for packets from outside, where only endpoints on this node may serve them.
    LocalOnly,
    /// Frontend of a protocol and number to endpoint.
    Endpoints(Protocol),
    /// Frontends that have none.
    NoEndpoints,
    /// Addresses of services, whose other ports refuse.
    ClusterIps,
    /// Endpoints on this node, as source and destination.
    Hairpin,
    /// Frontends that not everybody may reach, and who may.
    Guarded,
    Allowed,
    /// Frontends whose clients keep their endpoint, and what endpoints they may keep.
    Sticky,
    StickyEndpoints,
}

impl Set {
    pub(super) const ALL: [Set; 12] = [
        Set::Services,
        Set::LocalOnly,
        Set::Endpoints(Protocol::Tcp),
        Set::Endpoints(Protocol::Udp),
        Set::Endpoints(Protocol::Sctp),
        Set::NoEndpoints,
        Set::ClusterIps,
        Set::Hairpin,
        Set::Guarded,
        Set::Allowed,
        Set::Sticky,
        Set::StickyEndpoints,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Set::Services => "services",
            Set::LocalOnly => "local-only",
            Set::Endpoints(Protocol::Tcp) => "endpoints-tcp",
            Set::Endpoints(Protocol::Udp) => "endpoints-udp",
            Set::Endpoints(Protocol::Sctp) => "endpoints-sctp",
            Set::NoEndpoints => "no-endpoints",
            Set::ClusterIps => "cluster-ips",
            Set::Hairpin => "hairpin",
            Set::Guarded => "guarded",
            Set::Allowed => "allowed",
            Set::Sticky => "sticky",
            Set::StickyEndpoints => "sticky-endpoints",
        }
    }

    fn declaration(self, family: Family) -> String {
        let (ip, address) = (family.keyword(), address_type(family));
        let front = format!("{address} . inet_proto . inet_service");
        match self {
            Set::Services | Set::LocalOnly | Set::NoEndpoints | Set::Sticky => {
                format!("map {} {{ type {front} : verdict; }}", self.name())
            }
            // Only an expression can say that a number is part of the key. Each protocol has a map of its
            // own: nft adds a check for the protocol that the expression names to every rule with the map.
            Set::Endpoints(protocol) => {
                let (name, protocol) = (self.name(), protocol.keyword());
                let to = format!("{ip} daddr . {protocol} dport");
                let front = format!("{ip} daddr . meta l4proto . {protocol} dport");
                format!("map {name} {{ typeof {front} . numgen random mod 2 : {to}\n}}")
            }
            Set::ClusterIps => format!("set {} {{ type {address}; }}", self.name()),
            Set::Hairpin => format!("set {} {{ type {address} . {address}; }}", self.name()),
            Set::Guarded => format!("set {} {{ type {front}; }}", self.name()),
            Set::Allowed => {
                format!("set {} {{ type {front} . {address}; flags interval; }}", self.name())
            }
            Set::StickyEndpoints => {
                format!("set {} {{ type {front} . {address} . inet_service; }}", self.name())
            }
        }
    }
}

fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Front(FrontKey),
    Numbered(FrontKey, u32),
    Backend(FrontKey, Backend),
    Source(FrontKey, Cidr),
    Address(IpAddr),
    Loop(IpAddr),
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Front(front) => write!(out, "{front}"),
            Key::Numbered(front, number) => write!(out, "{front} . {number}"),
            Key::Backend(front, backend) => write!(out, "{front} . {} . {}", backend.ip(), backend.port()),
            Key::Source(front, range) => write!(out, "{front} . {range}"),
            Key::Address(address) => write!(out, "{address}"),
            Key::Loop(address) => write!(out, "{address} . {address}"),
        }
    }
}

/// A chain that is made when the first element leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Chain {
    /// Picks one of so many endpoints. Who is no pod, or everybody, is masqueraded.
    Pick { masquerade_all: bool, sticky: bool, count: u32 },
    /// Picks one of so many endpoints on this node; the client's address is kept.
    PickLocal { sticky: bool, count: u32 },
    /// Notes for so many seconds which endpoint a client has got.
    Remember(u32),
}

impl fmt::Display for Chain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sticky = |sticky: bool| if sticky { "sticky-" } else { "" };
        match *self {
            Chain::Pick { masquerade_all, sticky: s, count } => {
                let kind = if masquerade_all { "external" } else { "cluster" };
                write!(out, "{kind}-{}{count}", sticky(s))
            }
            Chain::PickLocal { sticky: s, count } => write!(out, "local-{}{count}", sticky(s)),
            Chain::Remember(seconds) => write!(out, "remember-{seconds}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Value {
    None,
    Goto(Chain),
    Jump(Chain),
    Reject,
    Drop,
    To(Backend),
}

impl Value {
    pub(crate) fn chain(&self) -> Option<Chain> {
        match self {
            Value::Goto(chain) | Value::Jump(chain) => Some(*chain),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    pub(crate) set: Set,
    pub(crate) key: Key,
    pub(crate) value: Value,
    /// `namespace/service:port`, for people who look at the rules.
    pub(crate) comment: Option<Arc<str>>,
}

impl Element {
    pub(crate) fn new(set: Set, key: Key, value: Value) -> Self {
        Element { set, key, value, comment: None }
    }

    fn write(&self, into: &mut String) {
        let _ = write!(into, "{}", self.key);
        if let Some(comment) = &self.comment {
            let _ = write!(into, " comment \"{comment}\"");
        }
        let _ = match self.value {
            Value::None => Ok(()),
            Value::Goto(chain) => write!(into, " : goto {chain}"),
            Value::Jump(chain) => write!(into, " : jump {chain}"),
            Value::Reject => write!(into, " : goto refuse"),
            Value::Drop => write!(into, " : drop"),
            Value::To(backend) => write!(into, " : {} . {}", backend.ip(), backend.port()),
        };
    }
}

/// Where rules go, and whose packets keep their address.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) family: Family,
    pub(crate) name: String,
    /// Addresses of pods; none if pods have no addresses of the family.
    pub(crate) pods: Option<Cidr>,
}

impl Table {
    /// A transaction that replaces the whole table.
    pub(crate) fn anew<'a>(&self, elements: impl Iterator<Item = &'a Element>) -> String {
        let elements: Vec<&Element> = elements.collect();
        let chains: BTreeSet<Chain> = elements.iter().filter_map(|element| element.value.chain()).collect();
        let mut script = self.removal();
        script.push_str(&self.skeleton());
        self.write_chains(chains.iter(), &mut script);
        self.write_elements("add", &elements, &mut script);
        script
    }

    /// A transaction that takes elements away and adds others. An element whose value changes is among both.
    pub(crate) fn change(&self, chains: &BTreeSet<Chain>, remove: &[Element], add: &[Element]) -> String {
        let mut script = String::new();
        self.write_chains(chains.iter(), &mut script);
        self.write_elements("delete", &remove.iter().collect::<Vec<_>>(), &mut script);
        self.write_elements("add", &add.iter().collect::<Vec<_>>(), &mut script);
        script
    }

    /// Removes the table; that there is none is fine.
    pub(crate) fn removal(&self) -> String {
        script::removal(self.family.keyword(), &self.name)
    }

    fn write_elements(&self, verb: &str, elements: &[&Element], script: &mut String) {
        for set in Set::ALL {
            let of_set = elements.iter().filter(|element| element.set == set);
            let write_one = |element: &&Element, script: &mut String| {
                if verb == "add" {
                    element.write(script);
                } else {
                    let _ = write!(script, "{}", element.key);
                }
            };
            let command = (verb, self.family.keyword(), &*self.name);
            script::write_elements(command, set.name(), of_set, write_one, script);
        }
    }

    fn write_chains<'a>(&self, chains: impl Iterator<Item = &'a Chain>, script: &mut String) {
        let (ip, name) = (self.family.keyword(), &self.name);
        for chain in chains {
            let _ = writeln!(script, "add chain {ip} {name} {chain}");
            for rule in self.rules(*chain) {
                let _ = writeln!(script, "add rule {ip} {name} {chain} {rule}");
            }
        }
    }

    fn rules(&self, chain: Chain) -> Vec<String> {
        let ip = self.family.keyword();
        let front = format!("{ip} daddr . meta l4proto . th dport");
        let kept = format!("dnat {ip} to {ip} saddr . {front} map @affinity");
        // Draws a number below `count`: by chance, or, where clients keep their endpoint by their address,
        // from that.
        let number = |sticky: bool, count: u32| match (sticky, self.family) {
            (true, Family::V6) => format!("jhash {ip} saddr mod {count} seed {SEED:#x}"),
            _ => format!("numgen random mod {count}"),
        };
        // To the endpoint of the number, in the map of the packet's protocol.
        let leads = |number: &str| {
            [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|protocol| {
                let (name, map) = (protocol.keyword(), Set::Endpoints(protocol).name());
                format!("dnat {ip} to {ip} daddr . meta l4proto . {name} dport . {number} map @{map}")
            })
        };
        let looks_back = |sticky: bool| (sticky && self.family == Family::V4).then(|| kept.clone());
        let mut rules = Vec::new();
        match chain {
            Chain::Pick { masquerade_all, sticky, count } => {
                let mark = format!("meta mark set meta mark | {MASQUERADE:#x}");
                match (masquerade_all, self.pods) {
                    (true, _) => rules.push(mark),
                    (false, Some(pods)) => rules.push(format!("{ip} saddr != {pods} {mark}")),
                    (false, None) => {}
                }
                rules.extend(looks_back(sticky));
                rules.extend(leads(&number(sticky, count)));
            }
            Chain::PickLocal { sticky, count } => {
                rules.extend(looks_back(sticky));
                rules.extend(leads(&format!("{} offset {LOCAL}", number(sticky, count))));
            }
            Chain::Remember(seconds) => {
                for protocol in ["tcp", "udp", "sctp"] {
                    let of = format!("ct original {ip} daddr . meta l4proto . ct original proto-dst");
                    let entry = |timeout: &str| {
                        format!("@affinity {{ {ip} saddr . {of}{timeout} : {ip} daddr . th dport }}")
                    };
                    let noted = entry(&format!(" timeout {seconds}s"));
                    rules.push(format!(
                        "meta l4proto {protocol} {of} . {ip} daddr . th dport @sticky-endpoints update {noted} return"
                    ));
                    // The endpoint has gone since it was noted. Sent again, the packet gets another.
                    rules.push(format!("meta l4proto {protocol} delete {} drop", entry("")));
                }
            }
        }
        rules
    }

    /// Everything but what depends on services.
    fn skeleton(&self) -> String {
        let (ip, name, address) = (self.family.keyword(), &self.name, address_type(self.family));
        let front = format!("{ip} daddr . meta l4proto . th dport");
        let original = format!("ct original {ip} daddr . meta l4proto . ct original proto-dst");
        let sets: Vec<String> = Set::ALL.iter().map(|set| set.declaration(self.family)).collect();
        let sets = sets.join("\n");
        let outside = self.pods.map_or(String::new(), |pods| format!("{ip} saddr != {pods} "));
        let keep = !MASQUERADE;
        let (affinity, remember, jump) = match self.family {
            Family::V4 => (
                format!(
                    "map affinity {{ type {address} . {address} . inet_proto . inet_service : {address} . inet_service; \
                     size 65536; flags dynamic,timeout; }}"
                ),
                format!(
                    "meta l4proto tcp {original} vmap @sticky\n  meta l4proto udp {original} vmap @sticky\n  \
                     meta l4proto sctp {original} vmap @sticky"
                ),
                "ct state new ct status dnat jump remember",
            ),
            // nft 1.0.6 ends itself at a rule that writes an address of IPv6 to a map.
            Family::V6 => (String::new(), String::new(), ""),
        };
        format!(
            "table {ip} {name} {{
{sets}
{affinity}
chain refuse {{
  reject
}}
chain services {{
  {outside}fib saddr type != local {front} vmap @local-only
  {front} vmap @services
}}
chain nat-prerouting {{
  type nat hook prerouting priority -100; policy accept;
  jump services
}}
chain nat-output {{
  type nat hook output priority -100; policy accept;
  jump services
}}
chain nat-postrouting {{
  type nat hook postrouting priority 100; policy accept;
  ct status dnat {ip} saddr . {ip} daddr @hairpin masquerade
  meta mark & {MASQUERADE:#x} == 0 return
  meta mark set meta mark & {keep:#x}
  masquerade fully-random
}}
chain guard {{
  {front} @guarded {front} . {ip} saddr != @allowed drop
}}
chain guard-prerouting {{
  type filter hook prerouting priority -110; policy accept;
  ct state new jump guard
}}
chain guard-output {{
  type filter hook output priority -110; policy accept;
  ct state new jump guard
  ct state new {front} vmap @no-endpoints
}}
chain filter-input {{
  type filter hook input priority -110; policy accept;
  ct state new {front} vmap @no-endpoints
}}
chain filter-forward {{
  type filter hook forward priority -110; policy accept;
  ct state new {front} vmap @no-endpoints
  ct state new {ip} daddr @cluster-ips reject
}}
chain remember {{
  {remember}
}}
chain remember-prerouting {{
  type filter hook prerouting priority -90; policy accept;
  {jump}
}}
chain remember-output {{
  type filter hook output priority -90; policy accept;
  {jump}
  ct state new {ip} daddr @cluster-ips reject
}}
}}
"
        )
    }
}
