//! The pod network of one node: its CNI configuration, masquerading, and routes to the pods of other nodes.
//!
//! Pods sit on a bridge made by the standard CNI plugins, with addresses of the node's `spec.podCIDR`. Other nodes' pods are
//! reached by plain routes through their `InternalIP`, which needs one network between the nodes. What the kernel
//! keeps is named after the instance, so that clean-up touches nothing else. Overlays, the service proxy, DNS and network
//! policy are absent so far.

mod addresses;
mod boot;
mod cni;
mod command;
mod forward;
mod masquerade;
mod routes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::Informers;
use k8s_openapi::api::core::v1::Node;
use supervisor::{OnExit, Stage};
use tokio::sync::Notify;

pub use addresses::address_changes;
pub use boot::forget_last_boot;
pub use cni::PluginDirectory;

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

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("cannot write {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot run {program}")]
    Run {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} failed: {message}")]
    Failed { program: String, message: String },
    #[error("cannot set the route to {destination} via {gateway}")]
    Route {
        destination: String,
        gateway: String,
        #[source]
        source: Box<rtnetlink::Error>,
    },
    #[error("{0:?} is not an IPv4 range")]
    Range(String),
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Keeps the node's network as its Node object, and those of the others, say. `informers` must be allowed to read all nodes
/// (upstream's `system:kube-proxy` may).
pub fn start(config: Config, informers: &Informers, stage: &Stage) {
    let nodes = informers.of::<Node>();
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    nodes.on_change(move |change| {
        let network_of = |node: &Option<Arc<Node>>| node.as_deref().and_then(routes::Peer::of);
        if network_of(&change.old) != network_of(&change.new) {
            wake.notify_one();
        }
    });
    let task_stage = stage.clone();
    stage.spawn_cancellable("network", OnExit::Stop, async move {
        nodes.synced().await;
        let mut state = State { config, applied_cidr: None, routes: None };
        let mut delay = FIRST_RETRY;
        loop {
            let peers: Vec<_> = nodes.list(None).iter().filter_map(|node| routes::Peer::of(node)).collect();
            match state.reconcile(&peers, &task_stage).await {
                Ok(()) => {
                    delay = FIRST_RETRY;
                    // Nobody tells when another program changes the machine's iptables.
                    let _ = tokio::time::timeout(LOOK_AGAIN, changed.notified()).await;
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), retry = ?delay, "the pod network is not set up");
                    tokio::select! {
                        () = changed.notified() => {}
                        () = tokio::time::sleep(delay) => {}
                    }
                    delay = (delay * 2).min(LONGEST_RETRY);
                }
            }
        }
    });
}

/// Removes what [`start`] left in the kernel, and nothing that does not carry the instance's name. Answers with a sentence
/// for each thing that could not be removed.
pub async fn clean_up(config: &Config) -> Vec<String> {
    let mut left = routes::remove_recorded(&config.state_dir).await;
    left.extend(masquerade::remove(&config.table).await.err().map(|error| chain(&error)));
    left.extend(forward::remove(&config.table).await.err().map(|error| chain(&error)));
    left.extend(cni::remove_port_mappings(&config.network_name).await.err().map(|error| chain(&error)));
    left.extend(masquerade::remove_empty_nat(&config.state_dir).await.err().map(|error| chain(&error)));
    left.extend(
        cni::remove_cached_results(&config.network_name, &config.state_dir).err().map(|error| chain(&error)),
    );
    left.extend(routes::remove_link(&config.bridge).await.err().map(|error| chain(&error)));
    left
}

struct State {
    config: Config,
    /// The pod range that the CNI configuration and the table were last written for.
    applied_cidr: Option<String>,
    routes: Option<routes::Routes>,
}

impl State {
    async fn reconcile(&mut self, peers: &[routes::Peer], stage: &Stage) -> Result<(), NetworkError> {
        let own = peers.iter().find(|peer| peer.name == self.config.node_name);
        if let Some(cidr) = own.and_then(|own| own.pod_cidr.clone())
            && self.applied_cidr.as_ref() != Some(&cidr)
        {
            enable_forwarding(&self.config.state_dir)?;
            masquerade::apply(&self.config, &cidr).await?;
            cni::write(&self.config, &cidr)?;
            tracing::info!(%cidr, bridge = self.config.bridge, "pod network is configured");
            self.applied_cidr = Some(cidr);
        }
        if self.applied_cidr.is_some() {
            forward::apply(&self.config).await?;
        }
        if self.routes.is_none() {
            self.routes = Some(routes::Routes::open(&self.config.state_dir, stage)?);
        }
        let Some(routes) = &mut self.routes else { return Ok(()) };
        let (wanted, refused) = routes::wanted(peers, &self.config.node_name, &self.config.cluster_cidr)?;
        routes.tell_refused(refused);
        routes.reconcile(&wanted).await
    }
}

/// Where the kernel keeps whether it forwards between interfaces.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Pods reach other machines only if the kernel forwards. What was there before is noted for [`clean_up`]'s caller.
fn enable_forwarding(state_dir: &std::path::Path) -> Result<(), NetworkError> {
    let failed = |path: PathBuf| move |source| NetworkError::File { path, source };
    let before = std::fs::read_to_string(FORWARDING).map_err(failed(FORWARDING.into()))?;
    if before.trim() == "1" {
        return Ok(());
    }
    std::fs::create_dir_all(state_dir).map_err(failed(state_dir.into()))?;
    let note = state_dir.join("forwarding-was-off");
    std::fs::write(&note, before).map_err(failed(note))?;
    std::fs::write(FORWARDING, "1").map_err(failed(FORWARDING.into()))
}

/// Switches forwarding off again if this node switched it on.
pub fn restore_forwarding(config: &Config) {
    if config.state_dir.join("forwarding-was-off").exists()
        && let Err(error) = std::fs::write(FORWARDING, "0")
    {
        tracing::warn!(%error, "forwarding stays on");
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
