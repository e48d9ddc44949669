//! The claim on a network namespace: at most one node runs in it.
//!
//! A node's ports, the addresses of its pods and that of the cluster's DNS are the namespace's; a second node
//! would take them from the first. The claim is a socket with an abstract name: the kernel has one set of
//! such names for each network namespace, whatever else its processes share or not, and takes the name back
//! when the process ends. A second socket carries the claimant's data directory in its name, for messages.
//!
//! Any process may take such a name, also one of a pod on the host's network. A claim therefore counts only
//! if a process holds it that could run a node: one with `CAP_SYS_ADMIN` in this user namespace. Whoever else
//! holds the name is told of and keeps nothing from starting.
//!
//! Absent: claims of processes that are not to be seen from here (a sibling's PID namespace). Two such nodes
//! find each other by the ports that they listen on.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::{Instance, Problem};

const CLAIM: &str = "minik8s.node";
/// The data directory follows.
const CLAIMANT: &str = "minik8s.node:";
/// A socket's name has no room for more.
const LONGEST_NAME: usize = 100;
/// The bit of `CAP_SYS_ADMIN`, which nodes need for their mounts.
const CAP_SYS_ADMIN: u32 = 21;

/// Held while a node runs in this network namespace.
#[derive(Debug)]
pub struct NodeClaim {
    /// None if a stranger has the name.
    _claim: Option<UnixDatagram>,
    _claimant: Option<UnixDatagram>,
}

/// Another node has the namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Claimed {
    #[error("the node of {0:?} runs in this network namespace, which takes no second one")]
    By(String),
    #[error("another node runs in this network namespace, which takes no second one")]
    BySomebody,
}

fn bound(name: &str) -> std::io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

impl NodeClaim {
    /// Claims the namespace for a node of this instance.
    pub fn take(instance: &Instance) -> Result<Self, Problem> {
        Self::try_take(instance).map_err(|claimed| {
            let advice = "run this server with --disable-agent, or in a network namespace of its own; to replace \
                          that node, uninstall it ('minik8s uninstall --data-dir DIR')";
            Problem::new("run a node", claimed, advice)
        })
    }

    pub(crate) fn try_take(instance: &Instance) -> Result<Self, Claimed> {
        let claim = match bound(CLAIM) {
            Ok(claim) => Some(claim),
            Err(error) => {
                let sockets = fs::read("/proc/thread-self/net/unix").unwrap_or_default();
                let sockets = String::from_utf8_lossy(&sockets);
                if let Some(node) = holder(&sockets) {
                    return Err(claimant(&sockets, &node).map_or(Claimed::BySomebody, Claimed::By));
                }
                tracing::warn!(
                    name = CLAIM,
                    %error,
                    "nothing keeps a second node out of this network namespace: a stranger has the claim's name"
                );
                None
            }
        };
        let mut name = format!("{CLAIMANT}{}", instance.data_dir().display());
        while name.len() > LONGEST_NAME {
            name.pop();
        }
        Ok(NodeClaim { _claim: claim, _claimant: bound(&name).ok() })
    }
}

/// A socket as the kernel lists them.
#[derive(Debug, PartialEq, Eq)]
struct Socket<'a> {
    inode: &'a str,
    /// Without the zero byte that abstract names begin with, which the kernel shows as `@`.
    name: &'a str,
}

/// The sockets with abstract names. Their names may have blanks.
fn named(sockets: &str) -> impl Iterator<Item = Socket<'_>> {
    sockets.lines().filter_map(|line| {
        let (fields, name) = line.split_once(" @")?;
        Some(Socket { inode: fields.split_whitespace().nth(6)?, name })
    })
}

/// The process that has the claim, as its folder in `/proc`; none if no node can be it.
fn holder(sockets: &str) -> Option<PathBuf> {
    let claims: Vec<Socket<'_>> = named(sockets).filter(|socket| socket.name == CLAIM).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    processes
        .filter(|process| is_administrator(process))
        .find(|process| claims.iter().any(|socket| holds(process, socket)))
}

/// The data directory of the node that this process runs.
fn claimant(sockets: &str, node: &Path) -> Option<String> {
    named(sockets)
        .filter_map(|socket| Some((socket.name.strip_prefix(CLAIMANT)?, socket)))
        .find(|(_, socket)| holds(node, socket))
        .map(|(data_dir, _)| data_dir.to_string())
}

fn holds(process: &Path, socket: &Socket<'_>) -> bool {
    let link = format!("socket:[{}]", socket.inode);
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|file| file.path());
    files
        .filter(|file| fs::read_link(file).is_ok_and(|target| target == Path::new(&link)))
        .any(|file| has_name(process, &file, socket.name).unwrap_or(false))
}

/// Asks the socket itself: a name may have the end of a line in it, so the kernel's list can be made to say
/// anything.
fn has_name(process: &Path, file: &Path, name: &str) -> Option<bool> {
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<i32>().ok();
    let process = pidfd_open(Pid::from_raw(number(process)?)?, PidfdFlags::empty()).ok()?;
    let socket = pidfd_getfd(&process, number(file)?, PidfdGetfdFlags::empty()).ok()?;
    let address = UnixDatagram::from(socket).local_addr().ok()?;
    Some(address.as_abstract_name() == Some(name.as_bytes()))
}

/// Whether the process may administer this machine. One that made itself a user namespace has all
/// capabilities, but only there.
fn is_administrator(process: &Path) -> bool {
    let user_namespace = |process: &Path| fs::read_link(process.join("ns/user")).ok();
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    has_admin_capability(&status)
        && user_namespace(process).is_some_and(|it| user_namespace(Path::new("/proc/self")) == Some(it))
}

fn has_admin_capability(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> CAP_SYS_ADMIN & 1 == 1)
}

#[cfg(test)]
mod tests;
