//! The claim on a network namespace: at most one node runs in it.
//!
//! A node's ports, the addresses of its pods and that of the cluster's DNS are the namespace's; a second node
//! would take them from the first. The claim is a socket with an abstract name: the kernel has one set of
//! such names for each network namespace, whatever else its processes share or not, and takes the name back
//! when the process ends. A second socket carries the claimant's data directory in its name, for messages.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::{Instance, Problem};

const CLAIM: &str = "minik8s.node";
/// The data directory follows.
const CLAIMANT: &str = "minik8s.node:";
/// A socket's name has no room for more.
const LONGEST_NAME: usize = 100;

/// Held while a node runs in this network namespace.
#[derive(Debug)]
pub struct NodeClaim {
    _claim: UnixDatagram,
    _claimant: Option<UnixDatagram>,
}

/// Another node has the namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Claimed {
    #[error("the node of {0} runs in this network namespace, which takes no second one")]
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
            Ok(claim) => claim,
            Err(_) => return Err(claimant().map_or(Claimed::BySomebody, Claimed::By)),
        };
        let mut name = format!("{CLAIMANT}{}", instance.data_dir().display());
        while name.len() > LONGEST_NAME {
            name.pop();
        }
        Ok(NodeClaim { _claim: claim, _claimant: bound(&name).ok() })
    }
}

/// The data directory of the node that has the namespace.
fn claimant() -> Option<String> {
    claimant_in(&fs::read_to_string("/proc/self/net/unix").ok()?)
}

/// The kernel shows the zero byte that abstract names begin with as `@`.
fn claimant_in(sockets: &str) -> Option<String> {
    let mark = format!(" @{CLAIMANT}");
    sockets.lines().find_map(|line| line.split_once(&mark)).map(|(_, data_dir)| data_dir.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn a_network_namespace_takes_one_node_and_says_which_it_has() {
        // On a thread of its own, which leaves this machine's namespace alone.
        let checking = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let one = Instance::of(Path::new("/var/lib/one")).unwrap();
            let two = Instance::of(Path::new("/var/lib/two")).unwrap();
            let claim = NodeClaim::try_take(&one).unwrap();
            assert!(NodeClaim::try_take(&two).is_err());
            drop(claim);
            let long = Instance::of(Path::new(&format!("/var/lib/{}", "x".repeat(200)))).unwrap();
            drop(NodeClaim::try_take(&long).unwrap());
            drop(NodeClaim::try_take(&two).unwrap());
        });
        checking.join().unwrap();
        let sockets = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                       0000000000000000: 00000002 00000000 00000000 0002 01 53091 @minik8s.node\n\
                       0000000000000000: 00000002 00000000 00000000 0002 01 53092 @minik8s.node:/srv/a b\n";
        assert_eq!(claimant_in(sockets).as_deref(), Some("/srv/a b"));
        assert_eq!(claimant_in("nothing"), None);
    }
}
