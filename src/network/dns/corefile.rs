//! The part of CoreDNS' configuration that means something here: which names are answered from a list of
//! hosts, and who is asked about which others.
//!
//! Understood are `hosts`, `forward`, `cache`, `kubernetes`, `import` of the files of the two ConfigMaps;
//! what concerns CoreDNS' own working (`errors`, `health`, `ready`, `log`, `prometheus`, `loop`, `reload`,
//! `loadbalance`, …) is passed over. Anything else is an error: names must not be answered in another way
//! than somebody has written down. Absent: ports other than 53, TLS to other servers, `rewrite`, `template`,
//! zone files. Pure; files are looked up by a function.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use hickory_proto::rr::Name;

mod parse;

use parse::{Directive, parse};

/// Where CoreDNS has the ConfigMap `coredns`, and below it `coredns-custom`.
const MOUNT: &str = "/etc/coredns/";
const CUSTOM: &str = "/etc/coredns/custom/";

/// What the plugins have where nothing is said.
const CACHE_OF_PLUGIN: u32 = 3600;
const DEFAULT_HOSTS_TTL: u32 = 3600;
const MOST_TARGETS: usize = 15;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}:{line}: {why}")]
pub(crate) struct CorefileError {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) why: String,
}

/// What the two ConfigMaps hold; none if there is no such object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Maps {
    pub(crate) main: Option<Vec<(String, String)>>,
    pub(crate) custom: Option<Vec<(String, String)>>,
}

/// Somebody who is asked about names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The servers that a file in the format of `resolv.conf` names.
    File(PathBuf),
    Server(SocketAddr),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) from: Name,
    pub(crate) except: Vec<Name>,
    pub(crate) to: Vec<Target>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    pub(crate) addresses: HashMap<Name, Vec<IpAddr>>,
    pub(crate) names: HashMap<IpAddr, Vec<Name>>,
    pub(crate) ttl: u32,
    /// Names that are not listed are asked of the next; else there are none.
    pub(crate) falls_through: bool,
    /// Zones that it answers for.
    pub(crate) zones: Vec<Name>,
}

/// What holds for some zones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) zones: Vec<Name>,
    pub(crate) hosts: Vec<Hosts>,
    /// The cluster's names are answered.
    pub(crate) has_cluster: bool,
    pub(crate) forwards: Vec<Forward>,
    /// For how many seconds answers of others are kept at most.
    pub(crate) cache: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Corefile {
    pub(crate) blocks: Vec<Block>,
}

/// What holds where there is no ConfigMap `coredns`: k3s' own.
const DEFAULT: &str = ".:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    hosts /etc/coredns/NodeHosts {
        ttl 60
        reload 15s
        fallthrough
    }
    prometheus :9153
    cache 30
    loop
    reload
    loadbalance
    import /etc/coredns/custom/*.override
    forward . /etc/resolv.conf
}
import /etc/coredns/custom/*.server
";

/// Passed over: they say how CoreDNS itself works, not what is answered.
const WITHOUT_MEANING: [&str; 14] = [
    "errors",
    "log",
    "health",
    "ready",
    "prometheus",
    "loop",
    "reload",
    "loadbalance",
    "bufsize",
    "debug",
    "minimal",
    "lameduck",
    "bind",
    "root",
];

impl Corefile {
    /// What two ConfigMaps come to. `read` gives files of the machine.
    pub(crate) fn of(maps: &Maps, read: &dyn Fn(&str) -> Option<String>) -> Result<Self, CorefileError> {
        let listed = maps.main.iter().flatten().find(|(name, _)| name == "Corefile");
        let text = match &maps.main {
            Some(_) => listed.map(|(_, text)| text.as_str()).ok_or_else(|| CorefileError {
                file: "coredns".to_string(),
                line: 0,
                why: "the ConfigMap has no key Corefile".to_string(),
            })?,
            None => DEFAULT,
        };
        let reader = Reader { maps, read };
        let mut corefile = Corefile { blocks: Vec::new() };
        reader.add_blocks("Corefile", text, 0, &mut corefile)?;
        if corefile.blocks.is_empty() {
            return Err(CorefileError {
                file: "Corefile".to_string(),
                line: 0,
                why: "there is no server block".to_string(),
            });
        }
        let mut zones: Vec<&Name> = corefile.blocks.iter().flat_map(|block| &block.zones).collect();
        zones.sort();
        if let Some(twice) = zones.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(CorefileError {
                file: "Corefile".to_string(),
                line: 0,
                why: format!("the zone {} has two server blocks", twice[0]),
            });
        }
        Ok(corefile)
    }

    /// The block with the longest zone that a name is in.
    pub(crate) fn block(&self, name: &Name) -> Option<usize> {
        let within = |block: &Block| {
            block.zones.iter().filter(|zone| zone.zone_of(name)).map(|zone| zone.num_labels()).max()
        };
        let found = self.blocks.iter().enumerate().filter_map(|(at, block)| Some((within(block)?, at)));
        found.max_by_key(|(labels, _)| *labels).map(|(_, at)| at)
    }
}

impl Block {
    /// Who is asked about a name: the place of the entry with the longest zone.
    pub(crate) fn forward(&self, name: &Name) -> Option<usize> {
        let fits = |forward: &Forward| {
            forward.from.zone_of(name) && !forward.except.iter().any(|zone| zone.zone_of(name))
        };
        let found = self.forwards.iter().enumerate().filter(|(_, forward)| fits(forward));
        found.max_by_key(|(_, forward)| forward.from.num_labels()).map(|(at, _)| at)
    }
}

struct Reader<'a> {
    maps: &'a Maps,
    read: &'a dyn Fn(&str) -> Option<String>,
}

/// How deep files may import others.
const DEEPEST: usize = 3;

fn zone(text: &str) -> Option<Name> {
    let text = text.strip_prefix("dns://").unwrap_or(text);
    let (name, port) = text.rsplit_once(':').unwrap_or((text, "53"));
    let name = if name.is_empty() { "." } else { name };
    if port != "53" || name.contains("://") {
        return None;
    }
    name_of(name)
}

/// A name in full and in lower case.
fn name_of(text: &str) -> Option<Name> {
    let name = Name::from_str(&format!("{}.", text.trim_end_matches('.'))).ok()?;
    Some(name.to_lowercase())
}

impl Reader<'_> {
    fn add_blocks(
        &self,
        file: &str,
        text: &str,
        depth: usize,
        into: &mut Corefile,
    ) -> Result<(), CorefileError> {
        for directive in parse(file, text)? {
            if directive.name == "import" {
                for (file, text) in self.imported(&directive, depth)? {
                    self.add_blocks(&file, &text, depth + 1, into)?;
                }
                continue;
            }
            let Some(body) = &directive.body else {
                return Err(directive.wrong("it is no server block"));
            };
            let mut block = Block::default();
            for text in std::iter::once(&directive.name).chain(&directive.arguments) {
                let text = text.trim_end_matches(',');
                let zone =
                    zone(text).ok_or_else(|| directive.wrong(&format!("{text:?} is no zone of port 53")))?;
                block.zones.push(zone);
            }
            self.add_plugins(body, depth, &mut block)?;
            into.blocks.push(block);
        }
        Ok(())
    }

    fn add_plugins(
        &self,
        plugins: &[Directive],
        depth: usize,
        block: &mut Block,
    ) -> Result<(), CorefileError> {
        for plugin in plugins {
            match plugin.name.as_str() {
                "import" => {
                    for (file, text) in self.imported(plugin, depth)? {
                        self.add_plugins(&parse(&file, &text)?, depth + 1, block)?;
                    }
                }
                "kubernetes" => block.has_cluster = true,
                "hosts" => {
                    let hosts = self.hosts(plugin, block)?;
                    block.hosts.push(hosts);
                }
                "forward" => block.forwards.push(forward(plugin)?),
                "cache" => {
                    let number = plugin.arguments.iter().find_map(|text| text.parse().ok());
                    block.cache = number.unwrap_or(CACHE_OF_PLUGIN);
                }
                name if WITHOUT_MEANING.contains(&name) => {}
                name => {
                    return Err(plugin.wrong(&format!("the plugin {name:?} is not supported")));
                }
            }
        }
        Ok(())
    }

    /// The files that an `import` means, with their texts.
    fn imported(&self, directive: &Directive, depth: usize) -> Result<Vec<(String, String)>, CorefileError> {
        let [pattern] = directive.arguments.as_slice() else {
            return Err(directive.wrong("it takes one file"));
        };
        if depth >= DEEPEST {
            return Err(directive.wrong("files import each other"));
        }
        let (map, pattern) = match (pattern.strip_prefix(CUSTOM), pattern.strip_prefix(MOUNT)) {
            (Some(pattern), _) | (None, Some(pattern)) if pattern.contains('/') => {
                return Err(directive.wrong("there is no such directory"));
            }
            (Some(pattern), _) => (&self.maps.custom, pattern),
            (None, Some(pattern)) => (&self.maps.main, pattern),
            _ => return Err(directive.wrong("only files of the ConfigMaps can be imported")),
        };
        let fits = |name: &str| match pattern.split_once('*') {
            Some((start, end)) => {
                name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
            }
            None => name == pattern,
        };
        let mut found: Vec<(String, String)> =
            map.iter().flatten().filter(|(name, _)| fits(name)).cloned().collect();
        found.sort();
        Ok(found)
    }

    fn hosts(&self, plugin: &Directive, block: &Block) -> Result<Hosts, CorefileError> {
        let mut arguments = plugin.arguments.iter().peekable();
        let mut hosts = Hosts { ttl: DEFAULT_HOSTS_TTL, ..Hosts::default() };
        let mut reverse = true;
        if let Some(path) = arguments.next_if(|text| text.contains('/')) {
            // A file that is not there is an empty one, as for CoreDNS.
            let text = self.file(path).unwrap_or_default();
            for line in text.lines() {
                let line = line.split('#').next().unwrap_or_default();
                hosts.add(line.split_whitespace(), true);
            }
        }
        for text in arguments {
            let zone = name_of(text).ok_or_else(|| plugin.wrong(&format!("{text:?} is no zone")))?;
            hosts.zones.push(zone);
        }
        if hosts.zones.is_empty() {
            hosts.zones.clone_from(&block.zones);
        }
        for line in plugin.body.iter().flatten() {
            match line.name.as_str() {
                "ttl" => {
                    let number = line.arguments.first().and_then(|text| text.parse().ok());
                    hosts.ttl = number.ok_or_else(|| line.wrong("it is no number of seconds"))?;
                }
                "fallthrough" => hosts.falls_through = true,
                "no_reverse" => reverse = false,
                "reload" => {}
                address => {
                    let words = std::iter::once(address).chain(line.arguments.iter().map(String::as_str));
                    if !hosts.add(words, true) {
                        return Err(line.wrong("it is no address with names"));
                    }
                }
            }
        }
        if !reverse {
            hosts.names.clear();
        }
        Ok(hosts)
    }

    fn file(&self, path: &str) -> Option<String> {
        let in_map = |map: &Option<Vec<(String, String)>>, name: &str| {
            map.iter().flatten().find(|(key, _)| key == name).map(|(_, text)| text.clone())
        };
        match (path.strip_prefix(CUSTOM), path.strip_prefix(MOUNT)) {
            (Some(name), _) => in_map(&self.maps.custom, name),
            (None, Some(name)) => in_map(&self.maps.main, name),
            _ => (self.read)(path),
        }
    }
}

impl Hosts {
    /// Adds a line: an address and its names. Whether it is one.
    fn add<'a>(&mut self, mut words: impl Iterator<Item = &'a str>, reverse: bool) -> bool {
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { return false };
        let mut any = false;
        for name in words.filter_map(name_of) {
            any = true;
            let addresses = self.addresses.entry(name.clone()).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
            if reverse {
                self.names.entry(address).or_default().push(name);
            }
        }
        any
    }
}

fn forward(plugin: &Directive) -> Result<Forward, CorefileError> {
    let mut arguments = plugin.arguments.iter();
    let from = arguments.next().and_then(|text| name_of(text));
    let from = from.ok_or_else(|| plugin.wrong("it takes a zone and servers"))?;
    let mut to = Vec::new();
    for text in arguments {
        to.push(
            target(text).ok_or_else(|| plugin.wrong(&format!("{text:?} is no server that can be asked")))?,
        );
    }
    if to.is_empty() || to.len() > MOST_TARGETS {
        return Err(plugin.wrong(&format!("it takes 1 to {MOST_TARGETS} servers")));
    }
    let mut except = Vec::new();
    for line in plugin.body.iter().flatten() {
        match line.name.as_str() {
            "except" => {
                for text in &line.arguments {
                    except.push(name_of(text).ok_or_else(|| line.wrong(&format!("{text:?} is no zone")))?);
                }
            }
            // How servers are chosen and connections kept: all are asked at once here.
            "policy" | "max_fails" | "expire" | "health_check" | "max_concurrent" | "prefer_udp"
            | "force_tcp" | "max_idle_conns" | "next" | "failover" => {}
            name => return Err(line.wrong(&format!("the option {name:?} is not supported"))),
        }
    }
    Ok(Forward { from, except, to })
}

fn target(text: &str) -> Option<Target> {
    if text.starts_with('/') {
        return Some(Target::File(PathBuf::from(text)));
    }
    let text = text.strip_prefix("dns://").unwrap_or(text);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(Target::Server(address));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().ok().map(|address| Target::Server(SocketAddr::new(address, 53)))
}

#[cfg(test)]
mod tests;
