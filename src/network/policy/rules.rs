//! The rule set of policies: elements of a few sets, and a chain per profile.
//!
//! Pods that the same policies select share a profile, which has a number; what a profile allows is elements
//! that begin with the number. `in-N` and `out-N` look the other end up under N and drop what is not found.
//! So a policy, a pod or a label more is elements more. The chains are there before they are needed, in
//! powers of two; a table of its own that is made anew has more.
//!
//! The rules look at both ends as connection tracking knows them (the client is the source of the first
//! packet, the server that of its answer): services are translated already and masquerading is still to
//! come. They look at every packet of a connection in either direction, so what a policy forbids ends at
//! once, and nothing needs to be forgotten. `numgen random mod 1 offset N` is N: a set's key takes
//! expressions, but no number.

use std::fmt::{self, Write};
use std::net::IpAddr;

use super::facts::{DIRECTIONS, Direction};
use crate::nfnetlink::Batch;
use crate::nfnetlink::elements::{self, Data, Encoded, write_address, write_port, write_protocol};
use crate::proxy::facts::{Family, Protocol};
use crate::script;

/// A map or set of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Set {
    /// Pods of this node that policies select, to the chain of their profile.
    Pods(Direction),
    /// The same pods as both ends: nobody is kept from itself.
    Selves,
    /// Addresses of the node itself that stand for pods: those of its DNS.
    OnNode,
    /// Profile and address: everything is allowed.
    Peers(Direction),
    /// Profile, address, protocol and port.
    Ports(Direction),
    /// The same two with ranges of addresses and ports.
    Blocks(Direction),
    Ranges(Direction),
}

const SETS: [Set; 12] = [
    Set::Pods(Direction::Ingress),
    Set::Pods(Direction::Egress),
    Set::Selves,
    Set::OnNode,
    Set::Peers(Direction::Ingress),
    Set::Peers(Direction::Egress),
    Set::Ports(Direction::Ingress),
    Set::Ports(Direction::Egress),
    Set::Blocks(Direction::Ingress),
    Set::Blocks(Direction::Egress),
    Set::Ranges(Direction::Ingress),
    Set::Ranges(Direction::Egress),
];

impl Set {
    fn name(self) -> &'static str {
        use Direction::{Egress, Ingress};
        match self {
            Set::Pods(Ingress) => "ingress-pods",
            Set::Pods(Egress) => "egress-pods",
            Set::Selves => "selves",
            Set::OnNode => "on-node",
            Set::Peers(Ingress) => "ingress-peers",
            Set::Peers(Egress) => "egress-peers",
            Set::Ports(Ingress) => "ingress-ports",
            Set::Ports(Egress) => "egress-ports",
            Set::Blocks(Ingress) => "ingress-blocks",
            Set::Blocks(Egress) => "egress-blocks",
            Set::Ranges(Ingress) => "ingress-ranges",
            Set::Ranges(Egress) => "egress-ranges",
        }
    }

    fn declaration(self, family: Family) -> String {
        let (ip, name) = (family.keyword(), self.name());
        let address = match family {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        };
        // Only an expression can say that a number is part of the key.
        let peer = format!("typeof numgen random mod 2 . {ip} saddr");
        let port = format!("{peer} . meta l4proto . tcp dport");
        match self {
            Set::Pods(_) => format!("map {name} {{ type {address} : verdict; }}"),
            Set::Selves => format!("set {name} {{ type {address} . {address}; }}"),
            Set::OnNode => format!("set {name} {{ type {address}; }}"),
            Set::Peers(_) => format!("set {name} {{ {peer}\n}}"),
            Set::Ports(_) => format!("set {name} {{ {port}\n}}"),
            Set::Blocks(_) => format!("set {name} {{ {peer}\nflags interval; }}"),
            Set::Ranges(_) => format!("set {name} {{ {port}\nflags interval; }}"),
        }
    }
}

/// Number of a profile.
pub(crate) type Profile = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Address(IpAddr),
    Twice(IpAddr),
    Peer(Profile, IpAddr),
    Port(Profile, IpAddr, Protocol, u16),
    Block(Profile, IpAddr, IpAddr),
    Range(Profile, IpAddr, IpAddr, Protocol, u16, u16),
}

impl Key {
    pub(crate) fn family(&self) -> Family {
        match self {
            Key::Address(it) | Key::Twice(it) | Key::Peer(_, it) | Key::Port(_, it, ..) => Family::of(*it),
            Key::Block(_, it, _) | Key::Range(_, it, ..) => Family::of(*it),
        }
    }

    /// It begins with this number of a profile.
    pub(crate) fn is_of(&self, profile: Profile) -> bool {
        match self {
            Key::Address(_) | Key::Twice(_) => false,
            Key::Peer(of, ..) | Key::Port(of, ..) | Key::Block(of, ..) | Key::Range(of, ..) => *of == profile,
        }
    }

    /// The key in bytes; its end, if it is a range.
    fn bytes(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut key = Vec::new();
        match *self {
            Key::Address(address) => write_address(address, &mut key),
            Key::Twice(address) => {
                write_address(address, &mut key);
                write_address(address, &mut key);
            }
            Key::Peer(profile, address) => {
                key.extend(profile.to_ne_bytes());
                write_address(address, &mut key);
            }
            Key::Port(profile, address, protocol, port) => {
                key.extend(profile.to_ne_bytes());
                write_address(address, &mut key);
                write_protocol(protocol.number(), &mut key);
                write_port(port, &mut key);
            }
            // Sets of ranges compare byte by byte: the number has its highest byte first.
            Key::Block(profile, first, last) => {
                let end = |address| {
                    let mut bytes = profile.to_be_bytes().to_vec();
                    write_address(address, &mut bytes);
                    bytes
                };
                return (end(first), Some(end(last)));
            }
            Key::Range(profile, first, last, protocol, low, high) => {
                let end = |address, port| {
                    let mut bytes = profile.to_be_bytes().to_vec();
                    write_address(address, &mut bytes);
                    write_protocol(protocol.number(), &mut bytes);
                    write_port(port, &mut bytes);
                    bytes
                };
                return (end(first, low), Some(end(last, high)));
            }
        }
        (key, None)
    }
}

/// A range, or the one thing that it consists of.
fn write_range<T: fmt::Display + PartialEq>(out: &mut fmt::Formatter<'_>, first: T, last: T) -> fmt::Result {
    if first == last { write!(out, "{first}") } else { write!(out, "{first}-{last}") }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Key::Address(address) => write!(out, "{address}"),
            Key::Twice(address) => write!(out, "{address} . {address}"),
            Key::Peer(profile, address) => write!(out, "{profile} . {address}"),
            Key::Port(profile, address, protocol, port) => {
                write!(out, "{profile} . {address} . {} . {port}", protocol.keyword())
            }
            Key::Block(profile, first, last) => {
                write!(out, "{profile} . ")?;
                write_range(out, first, last)
            }
            Key::Range(profile, first, last, protocol, low, high) => {
                write!(out, "{profile} . ")?;
                write_range(out, first, last)?;
                write!(out, " . {} . ", protocol.keyword())?;
                write_range(out, low, high)
            }
        }
    }
}

/// What a set holds; a map's elements lead to the chain of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    pub(crate) set: Set,
    pub(crate) key: Key,
    pub(crate) profile: Option<Profile>,
}

fn chain(direction: Direction, profile: Profile) -> String {
    match direction {
        Direction::Ingress => format!("in-{profile}"),
        Direction::Egress => format!("out-{profile}"),
    }
}

impl Element {
    fn leads_to(&self) -> Option<String> {
        match (self.set, self.profile) {
            (Set::Pods(direction), Some(profile)) => Some(chain(direction, profile)),
            _ => None,
        }
    }

    fn encoded(&self) -> Encoded {
        let (key, key_end) = self.key.bytes();
        let data = self.leads_to().map_or(Data::None, Data::Jump);
        Encoded { set: self.set.name(), key, key_end, data, comment: None }
    }
}

/// Chains that are always there; one that is emptied by somebody else means that the table is to be made
/// anew.
pub(crate) const KEPT_CHAINS: &[&str] = &["forward", "input", "check", "untracked"];

/// Where the rules of a family are.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) family: Family,
    pub(crate) name: String,
}

impl Table {
    /// A transaction that replaces the whole table, with chains for profiles below `profiles`.
    pub(crate) fn anew<'a>(&self, profiles: Profile, elements: impl Iterator<Item = &'a Element>) -> String {
        let elements: Vec<&Element> = elements.filter(|it| it.key.family() == self.family).collect();
        let mut script = self.removal();
        self.write_skeleton(profiles, &mut script);
        self.write_elements("add", &elements, &mut script);
        script
    }

    /// A transaction that takes elements away and adds others.
    pub(crate) fn change(&self, remove: &[Element], add: &[Element]) -> String {
        let mut script = String::new();
        self.write_elements("delete", &remove.iter().collect::<Vec<_>>(), &mut script);
        self.write_elements("add", &add.iter().collect::<Vec<_>>(), &mut script);
        script
    }

    /// The same for the kernel itself.
    pub(crate) fn batch(&self, remove: &[Element], add: &[Element]) -> Batch {
        let encoded = |all: &[Element]| all.iter().map(Element::encoded).collect();
        elements::batch(self.family.number(), &self.name, encoded(remove), encoded(add))
    }

    /// Removes the table; that there is none is fine.
    pub(crate) fn removal(&self) -> String {
        script::removal(self.family.keyword(), &self.name)
    }

    fn write_elements(&self, verb: &str, elements: &[&Element], script: &mut String) {
        for set in SETS {
            let of_set = elements.iter().filter(|element| element.set == set);
            let write_one = |element: &&Element, script: &mut String| {
                let _ = write!(script, "{}", element.key);
                if let Some(chain) = element.leads_to().filter(|_| verb == "add") {
                    let _ = write!(script, " : jump {chain}");
                }
            };
            let command = (verb, self.family.keyword(), &*self.name);
            script::write_elements(command, set.name(), of_set, write_one, script);
        }
    }

    fn write_skeleton(&self, profiles: Profile, script: &mut String) {
        let (ip, name) = (self.family.keyword(), &self.name);
        let _ = writeln!(script, "table {ip} {name} {{");
        for set in SETS {
            let _ = writeln!(script, "{}", set.declaration(self.family));
        }
        for profile in 0..profiles {
            for direction in DIRECTIONS {
                self.write_profile(direction, profile, script);
            }
        }
        // The neighbours of IPv6 are found by packets; those of IPv4 by others.
        let neighbours = match self.family {
            Family::V4 => "",
            Family::V6 => {
                "\n  icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect } accept"
            }
        };
        let _ = writeln!(
            script,
            "chain check {{
  ct original {ip} saddr . ct reply {ip} saddr @selves return
  ct original {ip} saddr vmap @egress-pods
  ct reply {ip} saddr vmap @ingress-pods
}}
chain untracked {{
  {ip} saddr vmap @egress-pods
  {ip} daddr vmap @ingress-pods
}}
chain forward {{
  type filter hook forward priority -5; policy accept;{neighbours}
  ct state invalid,untracked jump untracked
  jump check
}}
chain input {{
  type filter hook input priority -5; policy accept;
  ct reply {ip} saddr @on-node jump check
}}
}}"
        );
    }

    fn write_profile(&self, direction: Direction, profile: Profile, script: &mut String) {
        let ip = self.family.keyword();
        // The other end, as its client or its server.
        let peer = match direction {
            Direction::Ingress => format!("ct original {ip} saddr"),
            Direction::Egress => format!("ct reply {ip} saddr"),
        };
        let key = format!("numgen random mod 1 offset {profile} . {peer}");
        let _ = writeln!(script, "chain {} {{", chain(direction, profile));
        for set in [Set::Peers(direction), Set::Blocks(direction)] {
            let _ = writeln!(script, "  {key} @{} return", set.name());
        }
        for protocol in ["tcp", "udp", "sctp"] {
            for set in [Set::Ports(direction), Set::Ranges(direction)] {
                let key = format!("{key} . meta l4proto . ct reply proto-src");
                let _ = writeln!(script, "  meta l4proto {protocol} {key} @{} return", set.name());
            }
        }
        script.push_str("  drop\n}\n");
    }
}
