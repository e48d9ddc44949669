//! Plain routes to the pods of other nodes.
//!
//! Routes carry no name, so those that were made are noted in a file before they are made: a later start
//! takes back what is no longer wanted, and uninstalling what is left, without touching anyone else's.
//!
//! A Node object's range is not taken on trust: who can write one could draw others' traffic to itself.
//! Only ranges within the cluster's get a route, and of two that overlap the one whose node has been there
//! longer keeps its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;

use crate::config::Config;
use crate::error::{NetworkError, chain};
use crate::host::{Host, HostCall};
use crate::parts::NetworkPart;
use crate::range::Range;

/// What the network needs to know of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) pod_cidr: Option<String>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) created: Option<Timestamp>,
}

impl Peer {
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
        let internal = addresses.and_then(|all| all.iter().find(|address| address.type_ == "InternalIP"));
        Some(Peer {
            name: node.metadata.name.clone()?,
            pod_cidr: node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone()),
            address: internal.and_then(|address| address.address.parse().ok()),
            created: node.metadata.creation_timestamp.as_ref().map(|time| time.0),
        })
    }
}

/// Destination range to gateway.
pub(crate) type Table = BTreeMap<String, Ipv4Addr>;

/// By node, why its range gets no route.
pub(crate) type Refusals = BTreeMap<String, String>;

/// Nodes whose ranges are taken for theirs, with their ranges.
type Accepted<'a> = Vec<(&'a Peer, &'a str)>;

/// The nodes whose ranges count.
pub(crate) fn accepted<'a>(
    peers: &'a [Peer],
    own_name: &str,
    cluster_cidr: &str,
) -> Result<(Accepted<'a>, Refusals), NetworkError> {
    let cluster = Range::parse(cluster_cidr)?;
    let mut peers: Vec<&Peer> = peers.iter().collect();
    // The own range first, then the oldest node's: who comes later can take nothing away.
    peers.sort_by_key(|peer| (peer.name != own_name, peer.created.is_none(), peer.created, &peer.name));
    let (mut accepted, mut refused) = (Vec::new(), Refusals::new());
    let mut taken: Vec<(Range, &str)> = Vec::new();
    for peer in peers {
        let Some(cidr) = &peer.pod_cidr else { continue };
        let is_own = peer.name == own_name;
        let range = match Range::parse(cidr) {
            Ok(range) => range,
            Err(error) => {
                refused.extend((!is_own).then(|| (peer.name.clone(), error.to_string())));
                continue;
            }
        };
        if !is_own && !cluster.contains(range) {
            let why = format!("{cidr} is not within the cluster's {cluster_cidr}");
            refused.insert(peer.name.clone(), why);
            continue;
        }
        if let Some((_, holder)) = taken.iter().find(|(other, _)| other.overlaps(range)) {
            refused.insert(peer.name.clone(), format!("{cidr} overlaps the range of node {holder}"));
            continue;
        }
        taken.push((range, &peer.name));
        accepted.push((peer, cidr.as_str()));
    }
    Ok((accepted, refused))
}

/// The routes that a node wants, given all nodes. A node on the same address (a second one in a test) needs
/// none.
pub(crate) fn wanted(
    peers: &[Peer],
    own_name: &str,
    cluster_cidr: &str,
) -> Result<(Table, Refusals), NetworkError> {
    let own_address = peers.iter().find(|peer| peer.name == own_name).and_then(|own| own.address);
    let (accepted, refused) = accepted(peers, own_name, cluster_cidr)?;
    let others = accepted.into_iter().filter(|(peer, _)| peer.name != own_name);
    let routes = others.filter_map(|(peer, cidr)| match peer.address {
        Some(IpAddr::V4(address)) if peer.address != own_address => Some((cidr.to_string(), address)),
        _ => None,
    });
    Ok((routes.collect(), refused))
}

/// The routes to other nodes' pods.
pub(crate) struct Routes {
    host: Arc<dyn Host>,
    own_name: String,
    cluster_cidr: String,
    file: PathBuf,
    /// Noted in the file; each was made or is about to be.
    noted: Table,
    /// Made by this process.
    made: Table,
    /// Told of in the log.
    refused: Refusals,
}

impl NetworkPart for Routes {
    fn name(&self) -> &'static str {
        "routes to other nodes' pods"
    }

    fn reconcile<'a>(&'a mut self, peers: &'a [Peer]) -> HostCall<'a, ()> {
        Box::pin(async move {
            let (wanted, refused) = wanted(peers, &self.own_name, &self.cluster_cidr)?;
            self.tell_refused(refused);
            self.bring(&wanted).await
        })
    }
}

fn note_file(state_dir: &Path) -> PathBuf {
    state_dir.join("routes.json")
}

/// What the file says. A file that cannot be read counts as empty: a route too many is harmless, no network
/// is not.
fn read_note(file: &Path) -> Table {
    fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

impl Routes {
    pub(crate) fn new(host: Arc<dyn Host>, config: &Config) -> Self {
        let file = note_file(&config.state_dir);
        let noted = read_note(&file);
        Routes {
            host,
            own_name: config.node_name.clone(),
            cluster_cidr: config.cluster_cidr.clone(),
            file,
            noted,
            made: Table::new(),
            refused: Refusals::new(),
        }
    }

    /// Tells once of each range that gets no route.
    fn tell_refused(&mut self, refused: Refusals) {
        for (node, why) in &refused {
            if self.refused.get(node) != Some(why) {
                tracing::warn!(%node, why, "no route to the pods of this node: its range cannot be right");
            }
        }
        self.refused = refused;
    }

    async fn bring(&mut self, wanted: &Table) -> Result<(), NetworkError> {
        let stale: Vec<_> = self
            .noted
            .iter()
            .filter(|(cidr, _)| !wanted.contains_key(*cidr))
            .map(|(c, g)| (c.clone(), *g))
            .collect();
        if !stale.is_empty() || self.noted != *wanted {
            let mut note = self.noted.clone();
            note.extend(wanted.iter().map(|(cidr, gateway)| (cidr.clone(), *gateway)));
            self.write(note)?;
        }
        for (cidr, gateway) in stale {
            self.host.remove_route(&cidr, gateway).await?;
            self.made.remove(&cidr);
        }
        let mut first_error = None;
        for (cidr, gateway) in wanted {
            if self.made.get(cidr) == Some(gateway) {
                continue;
            }
            match self.host.replace_route(cidr, *gateway).await {
                Ok(()) => {
                    tracing::info!(%cidr, via = %gateway, "route to another node's pods is set");
                    self.made.insert(cidr.clone(), *gateway);
                }
                // One node that cannot be reached must not keep the others from being.
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        if self.noted != *wanted {
            self.write(wanted.clone())?;
        }
        first_error.map_or(Ok(()), Err)
    }

    fn write(&mut self, note: Table) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::File { path: self.file.clone(), source };
        let fresh = self.file.with_extension("new");
        if let Some(parent) = self.file.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(&fresh, serde_json::to_vec(&note).unwrap_or_default()).map_err(failed)?;
        fs::rename(&fresh, &self.file).map_err(failed)?;
        self.noted = note;
        Ok(())
    }
}

/// Removes every route that is noted; a sentence for each that stays.
pub(crate) async fn remove_recorded(host: &dyn Host, state_dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for (cidr, gateway) in read_note(&note_file(state_dir)) {
        left.extend(host.remove_route(&cidr, gateway).await.err().map(|error| chain(&error)));
    }
    left
}

#[cfg(test)]
mod tests;
