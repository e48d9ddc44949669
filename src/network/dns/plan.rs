//! A Corefile at work: what lists of hosts say to a question, and who is asked about other names.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::corefile::{Block, Corefile, CorefileError, Hosts, Maps};
use super::upstream::{Files, Upstreams};
use super::zone::{Answer, address_in};

/// What systemd-resolved forwards to.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

pub(crate) struct Plan {
    corefile: Corefile,
    /// Of each block, who is asked by each of its `forward`s.
    upstreams: Vec<Vec<Arc<Upstreams>>>,
}

impl Plan {
    /// `own` are the addresses that this server answers on: it never asks itself.
    pub(crate) fn new(corefile: Corefile, own: &[IpAddr]) -> Self {
        let files = Files { resolved_conf: PathBuf::from(RESOLVED), port: super::PORT };
        let of_block = |block: &Block| {
            let asked = block.forwards.iter().map(|forward| {
                Arc::new(Upstreams::new(forward.to.clone(), files.clone(), own.to_vec(), block.cache))
            });
            asked.collect()
        };
        let upstreams = corefile.blocks.iter().map(of_block).collect();
        Plan { corefile, upstreams }
    }

    /// What the two ConfigMaps come to.
    pub(crate) fn of(maps: &Maps, own: &[IpAddr]) -> Result<Self, CorefileError> {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Corefile::of(maps, &read).map(|corefile| Plan::new(corefile, own))
    }

    /// What holds for a name.
    pub(crate) fn block(&self, name: &Name) -> Option<(&Block, &[Arc<Upstreams>])> {
        let at = self.corefile.block(name)?;
        Some((&self.corefile.blocks[at], &self.upstreams[at]))
    }

    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstreams>> {
        self.upstreams.iter().flatten()
    }

    /// How many names lists of hosts have.
    pub(crate) fn host_count(&self) -> usize {
        let hosts = self.corefile.blocks.iter().flat_map(|block| &block.hosts);
        hosts.map(|hosts| hosts.addresses.len()).sum()
    }
}

impl Block {
    /// What the lists of hosts say. None: the next is to be asked.
    pub(crate) fn listed(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        self.hosts.iter().find_map(|hosts| hosts.answer(name, kind))
    }
}

impl Hosts {
    fn answer(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        if self.addresses.is_empty() || !self.zones.iter().any(|zone| zone.zone_of(name)) {
            return None;
        }
        let record = |data: RData| Record::from_rdata(name.clone(), self.ttl, data);
        if let Some(names) = address_in(name).and_then(|address| self.names.get(&address)) {
            if kind != RecordType::PTR && kind != RecordType::ANY {
                return Some(Answer::NoData);
            }
            let pointers = names.iter().map(|target| record(RData::PTR(PTR(target.clone()))));
            return Some(Answer::Records(pointers.collect(), Vec::new()));
        }
        let Some(addresses) = self.addresses.get(&name.to_lowercase()) else {
            return (!self.falls_through).then_some(Answer::NoName);
        };
        let fits = |address: &&IpAddr| match kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        };
        let found: Vec<Record> =
            addresses.iter().filter(fits).map(|address| record((*address).into())).collect();
        Some(if found.is_empty() { Answer::NoData } else { Answer::Records(found, Vec::new()) })
    }
}

#[cfg(test)]
mod tests;
