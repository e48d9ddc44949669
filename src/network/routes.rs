//! Plain routes to the pods of other nodes.
//!
//! Routes carry no name, so those that were made are noted in a file before they are made: a later start takes back what is no
//! longer wanted, and uninstalling what is left, without touching anyone else's.
//!
//! A Node object's range is not taken on trust: whoever could write one would draw others' traffic to itself. Only ranges
//! within the cluster's get a route, and of two that overlap the one whose node has been there longer keeps its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{Handle, RouteMessageBuilder};
use supervisor::{OnExit, Stage};

use crate::{NetworkError, chain};

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

/// The routes that a node wants, given all nodes. A node on the same address (a second one in a test) needs none.
pub(crate) fn wanted(
    peers: &[Peer],
    own_name: &str,
    cluster_cidr: &str,
) -> Result<(Table, Refusals), NetworkError> {
    let cluster = Range::parse(cluster_cidr)?;
    let own_address = peers.iter().find(|peer| peer.name == own_name).and_then(|own| own.address);
    let mut peers: Vec<&Peer> = peers.iter().collect();
    // The own range first, then the oldest node's: who comes later can take nothing away.
    peers.sort_by_key(|peer| (peer.name != own_name, peer.created.is_none(), peer.created, &peer.name));
    let (mut routes, mut refused) = (Table::new(), Refusals::new());
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
        match peer.address {
            Some(IpAddr::V4(address)) if !is_own && peer.address != own_address => {
                routes.insert(cidr.clone(), address);
            }
            _ => {}
        }
    }
    Ok((routes, refused))
}

/// First and last address of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range(u32, u32);

impl Range {
    /// Bits beyond the prefix must be zero, as the kernel demands.
    fn parse(cidr: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = parse(cidr)?;
        let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let first = address.to_bits();
        if first & hosts != 0 {
            return Err(NetworkError::Range(cidr.to_string()));
        }
        Ok(Range(first, first | hosts))
    }

    fn contains(self, other: Range) -> bool {
        self.0 <= other.0 && other.1 <= self.1
    }

    fn overlaps(self, other: Range) -> bool {
        self.0 <= other.1 && other.0 <= self.1
    }
}

fn parse(cidr: &str) -> Result<(Ipv4Addr, u8), NetworkError> {
    let wrong = || NetworkError::Range(cidr.to_string());
    let (address, prefix) = cidr.split_once('/').ok_or_else(wrong)?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(wrong)?;
    Ok((address.parse().map_err(|_| wrong())?, prefix))
}

/// The routes that were made and the way to make more.
pub(crate) struct Routes {
    handle: Handle,
    file: PathBuf,
    /// Noted in the file; each was made or is about to be.
    noted: Table,
    /// Made by this process.
    made: Table,
    /// Told of in the log.
    refused: Refusals,
}

fn note_file(state_dir: &Path) -> PathBuf {
    state_dir.join("routes.json")
}

/// What the file says. A file that cannot be read counts as empty: a route too many is harmless, no network is not.
fn read_note(file: &Path) -> Table {
    fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

impl Routes {
    pub(crate) fn open(state_dir: &Path, stage: &Stage) -> Result<Self, NetworkError> {
        let failed = |source| NetworkError::Run { program: "netlink".to_string(), source };
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        stage.spawn_cancellable("netlink", OnExit::Done, connection);
        let file = note_file(state_dir);
        let noted = read_note(&file);
        Ok(Routes { handle, file, noted, made: Table::new(), refused: Refusals::new() })
    }

    /// Tells once of each range that gets no route.
    pub(crate) fn tell_refused(&mut self, refused: Refusals) {
        for (node, why) in &refused {
            if self.refused.get(node) != Some(why) {
                tracing::warn!(%node, why, "no route to the pods of this node: its range cannot be right");
            }
        }
        self.refused = refused;
    }

    pub(crate) async fn reconcile(&mut self, wanted: &Table) -> Result<(), NetworkError> {
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
            remove(&self.handle, &cidr, gateway).await?;
            self.made.remove(&cidr);
        }
        let mut first_error = None;
        for (cidr, gateway) in wanted {
            if self.made.get(cidr) == Some(gateway) {
                continue;
            }
            match replace(&self.handle, cidr, *gateway).await {
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

fn message(cidr: &str, gateway: Ipv4Addr) -> Result<RouteMessage, NetworkError> {
    let (address, prefix) = parse(cidr)?;
    Ok(RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, prefix).gateway(gateway).build())
}

async fn replace(handle: &Handle, cidr: &str, gateway: Ipv4Addr) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Route {
        destination: cidr.to_string(),
        gateway: gateway.to_string(),
        source: Box::new(source),
    };
    handle.route().add(message(cidr, gateway)?).replace().execute().await.map_err(failed)
}

/// No such route, no such device, no such process (what the kernel says of a missing route).
fn is_absent(error: &rtnetlink::Error) -> bool {
    let rtnetlink::Error::NetlinkError(message) = error else { return false };
    let code = message.raw_code().abs();
    [nix::errno::Errno::ENOENT, nix::errno::Errno::ESRCH, nix::errno::Errno::ENODEV]
        .iter()
        .any(|errno| *errno as i32 == code)
}

async fn remove(handle: &Handle, cidr: &str, gateway: Ipv4Addr) -> Result<(), NetworkError> {
    match handle.route().del(message(cidr, gateway)?).execute().await {
        Ok(()) => Ok(()),
        Err(error) if is_absent(&error) => Ok(()),
        Err(source) => Err(NetworkError::Route {
            destination: cidr.to_string(),
            gateway: gateway.to_string(),
            source: Box::new(source),
        }),
    }
}

/// Runs `task` with a netlink connection of its own.
async fn with_netlink<T>(task: impl AsyncFnOnce(Handle) -> T) -> Result<T, NetworkError> {
    let failed = |source| NetworkError::Run { program: "netlink".to_string(), source };
    let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
    let mut connection = std::pin::pin!(connection);
    let mut task = std::pin::pin!(task(handle));
    tokio::select! {
        outcome = &mut task => return Ok(outcome),
        () = &mut connection => {}
    }
    Ok(task.await)
}

/// Removes every route that is noted; a sentence for each that stays.
pub(crate) async fn remove_recorded(state_dir: &Path) -> Vec<String> {
    let noted = read_note(&note_file(state_dir));
    if noted.is_empty() {
        return Vec::new();
    }
    let removal = async |handle: Handle| {
        let mut left = Vec::new();
        for (cidr, gateway) in &noted {
            left.extend(remove(&handle, cidr, *gateway).await.err().map(|error| chain(&error)));
        }
        left
    };
    with_netlink(removal).await.unwrap_or_else(|error| vec![chain(&error)])
}

/// Removes an interface; that there is none is fine.
pub(crate) async fn remove_link(name: &str) -> Result<(), NetworkError> {
    let removal = async |handle: Handle| -> Result<(), rtnetlink::Error> {
        let found = handle.link().get().match_name(name.to_string()).execute().try_next().await;
        match found {
            Ok(Some(link)) => handle.link().del(link.header.index).execute().await,
            Ok(None) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error),
        }
    };
    with_netlink(removal).await?.map_err(|error| NetworkError::Failed {
        program: format!("removing interface {name}"),
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
