//! The settings of one node's network.

use std::path::PathBuf;

/// What the network of one node is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// Name of the CNI network; addresses and cached results of the plugins are kept under it.
    pub network_name: String,
    /// At most 15 bytes, as the kernel demands.
    pub bridge: String,
    /// Name of the nftables table (family `ip`).
    pub table: String,
    /// Addresses of all pods: what leaves this range is masqueraded.
    pub cluster_cidr: String,
    /// Where the container runtime looks for its CNI configuration.
    pub cni_conf_dir: PathBuf,
    /// Where `host-local` keeps the addresses it has given out, and this crate the routes it has made.
    pub state_dir: PathBuf,
}
