//! The pod network of one node: its CNI configuration, masquerading, and routes to the pods of other nodes.
//!
//! Pods sit on a bridge made by the standard CNI plugins, with addresses of the node's `spec.podCIDR`. Other
//! nodes' pods are reached by plain routes through their `InternalIP`, which needs one network between the
//! nodes. What the kernel keeps is named after the instance, so that clean-up touches nothing else. Each part
//! ([`parts`]) is a loop of its own over one trait for the machine ([`host`]). Services are led to their
//! endpoints by [`proxy`]; [`dns`] answers about names; [`policy`] keeps packets from pods that policies do
//! not let through. Overlays are absent so far.

mod addresses;
mod boot;
mod cni;
mod command;
mod config;
mod dns;
mod error;
mod forward;
mod host;
mod masquerade;
mod netlink;
mod nfnetlink;
mod parts;
mod pod_network;
mod policy;
mod proxy;
mod range;
mod routes;
mod script;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use client::{Informer, Informers};
use k8s_openapi::api::core::v1::Node;
use supervisor::{OnExit, Stage};
use tokio::sync::Notify;

use error::chain;
use forward::Forwarding;
use host::{Host, Linux};
use parts::NetworkPart;
use pod_network::PodNetwork;
use routes::{Peer, Routes};

pub use addresses::address_changes;
pub use boot::forget_last_boot;
pub use cni::PluginDirectory;
pub use config::Config;
pub use dns::DnsConfig;
pub use error::NetworkError;

/// For the fuzz targets.
pub mod fuzzing {
    pub use crate::dns::fuzzing::dns;
}

pub use policy::PolicyGate;
pub use proxy::{AddressRange, NodePortAddresses, ProxyConfig};

/// Keeps the node's network as its Node object, and those of the others, say. `informers` must be allowed to
/// read all nodes (upstream's `system:kube-proxy` may). Without `proxy`, somebody else leads packets to
/// services, without `dns`, answers about names, and unless `enforces_policies`, keeps policies: what an
/// earlier run has left of any is removed. Whoever starts pods must ask the gate.
pub fn start(
    config: Config,
    proxy: Option<&ProxyConfig>,
    dns: Option<&DnsConfig>,
    enforces_policies: bool,
    informers: &Informers,
    stage: &Stage,
) -> Option<PolicyGate> {
    let host: Arc<dyn Host> = Arc::new(Linux::default());
    let nodes = informers.of::<Node>();
    let pod_network = PodNetwork { host: host.clone(), config: config.clone(), applied: None };
    keep_part(pod_network, &nodes, stage);
    keep_part(Forwarding { host: host.clone(), config: config.clone() }, &nodes, stage);
    keep_part(Routes::new(host.clone(), &config), &nodes, stage);
    let names = dns.map(|dns| dns.addresses.clone()).unwrap_or_default();
    if let Some(dns) = dns {
        dns::start(&host, &config, dns, informers, stage);
    }
    let (cleaner, table) = (host.clone(), config.table.clone());
    let (state_dir, kept) = (config.state_dir.clone(), names.clone());
    stage.spawn_cancellable("network: addresses of earlier DNS", OnExit::Done, async move {
        if let Err(error) = dns::remove(&*cleaner, &table, &state_dir, &kept).await {
            tracing::warn!(
                error = chain(&error),
                "an address of the cluster's DNS stays that is not used any more"
            );
        }
    });
    let gate = enforces_policies.then(|| policy::start(&host, &config, names.clone(), informers, stage));
    if gate.is_none() {
        let (cleaner, table) = (host.clone(), config.table.clone());
        stage.spawn_cancellable("network: no policies", OnExit::Done, async move {
            if let Err(error) = policy::remove(&*cleaner, &table).await {
                let error = chain(&error);
                tracing::warn!(error, "rules of policies stay, though they are switched off");
            }
        });
    }
    match proxy {
        Some(proxy) => proxy::start(&host, &config, proxy, names, informers, stage),
        None => {
            stage.spawn_cancellable("network: no service proxy", OnExit::Done, async move {
                if let Err(error) = proxy::remove(&*host, &config.table).await {
                    tracing::warn!(
                        error = chain(&error),
                        "rules of services stay, though the proxy is switched off"
                    );
                }
            });
        }
    }
    gate
}

/// Runs one part as a task of its own, which looks whenever a node's address or range has changed.
fn keep_part(part: impl NetworkPart, nodes: &Informer<Node>, stage: &Stage) {
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    nodes.on_change(move |change| {
        let network_of = |node: &Option<Arc<Node>>| node.as_deref().and_then(Peer::of);
        if network_of(&change.old) != network_of(&change.new) {
            wake.notify_one();
        }
    });
    let (name, nodes) = (format!("network: {}", part.name()), nodes.clone());
    stage.spawn_cancellable(&name, OnExit::Stop, async move {
        nodes.synced().await;
        let peers = || nodes.list(None).iter().filter_map(|node| Peer::of(node)).collect();
        parts::keep(part, peers, changed).await;
    });
}

/// Removes what [`start`] left in the kernel, and nothing that does not carry the instance's name. Answers
/// with a sentence for each thing that could not be removed. Beside another node (unless `alone`), an address
/// stays that somebody answers about names on: the other's DNS has the same.
pub async fn clean_up(config: &Config, alone: bool) -> Vec<String> {
    let host = &Linux::default();
    let said = |outcome: Result<(), NetworkError>| outcome.err().map(|error| chain(&error));
    let mut left = routes::remove_recorded(host, &config.state_dir).await;
    let kept = if alone { Vec::new() } else { dns::served_by_others(&config.state_dir).await };
    left.extend(said(dns::remove(host, &config.table, &config.state_dir, &kept).await));
    left.extend(said(policy::remove(host, &config.table).await));
    left.extend(said(proxy::remove(host, &config.table).await));
    left.extend(said(masquerade::remove(host, &config.table).await));
    left.extend(said(forward::remove(host, &config.table).await));
    left.extend(said(cni::remove_port_mappings(host, &config.network_name).await));
    left.extend(said(masquerade::remove_empty_nat(host, &config.state_dir).await));
    left.extend(said(cni::remove_cached_results(&config.network_name, &config.state_dir)));
    left.extend(said(host.remove_link(&config.bridge).await));
    left
}

/// Forgets a sandbox that ended without being torn down: its address, the ports that lead to it, and what the
/// plugins remember of it. Answers with a sentence for each thing that could not be removed.
pub async fn forget_sandbox(config: &Config, id: &str) -> Vec<String> {
    let host = &Linux::default();
    let said = |outcome: Result<(), NetworkError>| outcome.err().map(|error| chain(&error));
    let mut left: Vec<String> = said(cni::remove_port_mappings_of(host, id).await).into_iter().collect();
    left.extend(said(cni::forget_sandbox(config, id)));
    left
}

/// Switches forwarding off again if this node switched it on.
pub fn restore_forwarding(config: &Config) {
    if config.state_dir.join(pod_network::NOTE).exists()
        && let Err(error) = Linux::default().set_sysctl(pod_network::FORWARDING, "0")
    {
        tracing::warn!(%error, "forwarding stays on");
    }
}
