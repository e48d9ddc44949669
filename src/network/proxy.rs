//! The service proxy: packets to a service's address go to one of its endpoints, by rules of nftables.
//!
//! [`facts`] takes out of the objects what counts, [`endpoints`] and [`frontends`] plan one service,
//! [`planner`] all of them, [`rules`] turns the plan into text for `nft`: pure, all of it. Here is the loop
//! of one family (`ip`, `ip6`), which fails alone: it brings each round of changes to the kernel in one
//! transaction, and begins anew with the whole table after a failure, at the start, and when somebody has
//! flushed it, which the kernel tells. [`health`] has the ports of kube-proxy.
//!
//! Absent: an end to the affinity of IPv6 clients (they keep their endpoint as long as the endpoints stay the
//! same), node ports on loopback addresses, IPVS and iptables modes, a configuration file of kube-proxy's.

mod elements;
mod endpoints;
pub(crate) mod facts;
mod frontends;
pub(crate) mod health;
mod inputs;
mod planner;
pub(crate) mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Informer, Informers};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use supervisor::{OnExit, Stage};
use tokio::sync::watch;

use crate::addresses::address_changes;
use crate::config::Config;
use crate::error::{NetworkError, chain};
use crate::host::{Host, HostCall};
use crate::nfnetlink::elements::MOST_AT_ONCE;
use crate::nfnetlink::{Batch, Flows, Loss, Tables, follow_table};
use facts::{Backend, Cidr, Family, FrontKey, NodeFacts};
use health::Telemetry;
use inputs::Inputs;
use planner::Planner;
use rules::{Chain, Element, Table};

/// What the proxy is told.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Follows the machine's.
    pub node_ip: watch::Receiver<IpAddr>,
    pub node_ports: NodePortAddresses,
    /// Where kube-proxy's health and metrics are served; none for nowhere.
    pub health_address: Option<std::net::SocketAddr>,
    pub metrics_address: Option<std::net::SocketAddr>,
}

/// The addresses on which node ports are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The address of the Node object.
    #[default]
    Primary,
    /// The machine's addresses that lie in one of these ranges, loopback excepted.
    Within(Vec<AddressRange>),
}

/// A range of addresses, such as `192.0.2.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange(Cidr);

impl std::str::FromStr for AddressRange {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        Cidr::parse(text).map(AddressRange).ok_or_else(|| NetworkError::Range(text.to_string()))
    }
}

/// Name of the tables, in the families `ip` and `ip6`.
fn table_name(table: &str) -> String {
    format!("{table}_proxy")
}

/// Chains that are always there; one that is emptied by somebody else means that the table is to be made
/// anew.
const KEPT_CHAINS: &[&str] = &[
    "refuse",
    "services",
    "nat-prerouting",
    "nat-output",
    "nat-postrouting",
    "guard",
    "guard-prerouting",
    "guard-output",
    "filter-input",
    "filter-forward",
    "remember",
    "remember-prerouting",
    "remember-output",
];

/// How long a change may wait before a try that failed is repeated.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Chains that no element leads to any more stay until there are so many of them.
const SPARE_CHAINS: usize = 256;

/// One family of the proxy.
pub(crate) struct Proxy {
    host: Arc<dyn Host>,
    table: Table,
    inputs: Arc<Inputs>,
    planner: Planner,
    /// The chains that the table has. None: it is to be made anew.
    made: Option<BTreeSet<Chain>>,
    /// The table was made once: it may not be left out because nothing is in it.
    ever_made: bool,
    telemetry: Arc<Telemetry>,
}

/// What a pass has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) removed: usize,
    pub(crate) added: usize,
    pub(crate) anew: bool,
}

impl Proxy {
    pub(crate) fn new(
        host: Arc<dyn Host>,
        table: &str,
        pods: Option<Cidr>,
        family: Family,
        inputs: Arc<Inputs>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Proxy {
            host,
            table: Table { family, name: table_name(table), pods },
            inputs,
            planner: Planner::new(family, NodeFacts::default()),
            made: None,
            ever_made: false,
            telemetry,
        }
    }

    /// Brings to the kernel what has changed since the last pass. After a failure the next one makes the
    /// table anew.
    pub(crate) async fn pass(&mut self) -> Result<Pass, NetworkError> {
        let began = Instant::now();
        let family = self.table.family;
        let mut work = self.inputs.take(family);
        if work.lost {
            self.made = None;
        }
        if let Some(node) = work.node {
            self.planner.set_node(node);
            let mut all: BTreeMap<_, _> = self.inputs.known(self.planner.names()).into_iter().collect();
            all.extend(work.services);
            work.services = all.into_iter().collect();
        }
        let round = self.planner.update(work.services);
        let chains = round.chains();
        let pass = match self.made.take() {
            Some(made) if made.len() <= chains.len() + SPARE_CHAINS => {
                if !round.is_empty() {
                    let fresh: BTreeSet<Chain> = chains.difference(&made).copied().collect();
                    self.change(&fresh, &round.remove, &round.add).await?;
                }
                self.made = Some(made.union(&chains).copied().collect());
                self.forget_stale(round.flows).await;
                Pass { removed: round.remove.len(), added: round.add.len(), anew: false }
            }
            _ => {
                let elements = self.planner.elements();
                // A kernel without the family's rules is no trouble to who has no such services.
                if elements.is_empty() && family == Family::V6 && !self.ever_made {
                    return Ok(Pass::default());
                }
                self.nft(&self.table.anew(elements.iter())).await?;
                self.made = Some(elements.iter().filter_map(|element| element.value.chain()).collect());
                self.ever_made = true;
                self.forget_stale(self.planner.flows()).await;
                Pass { removed: 0, added: elements.len(), anew: true }
            }
        };
        self.telemetry.synced(family, began.elapsed(), pass.anew, self.planner.without_local());
        self.telemetry.set_health_checks(family, self.planner.health_checks());
        Ok(pass)
    }

    /// One transaction: over netlink if it is about elements alone, by `nft` if chains are to be made.
    async fn change(
        &self,
        chains: &BTreeSet<Chain>,
        remove: &[Element],
        add: &[Element],
    ) -> Result<(), NetworkError> {
        if chains.is_empty() && remove.len() + add.len() <= MOST_AT_ONCE {
            let batch = elements::batch(&self.table, remove, add);
            let text = || self.table.change(chains, remove, add);
            match self.host.change_elements(batch, &text).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(
                        error = chain(&error),
                        "elements are not changed over netlink; nft is to try"
                    );
                }
            }
        }
        self.nft(&self.table.change(chains, remove, add)).await
    }

    async fn nft(&self, script: &str) -> Result<(), NetworkError> {
        self.host.run("nft", &["-f", "-"], script).await.map(|_| ())
    }

    /// Ends UDP flows to endpoints that are gone. Rules are in place already: what fails here costs old flows
    /// only.
    async fn forget_stale(&self, flows: BTreeMap<FrontKey, BTreeSet<Backend>>) {
        if flows.is_empty() {
            return;
        }
        let flows: Flows =
            flows.into_iter().map(|(key, endpoints)| ((key.address, key.port), endpoints)).collect();
        match self.host.forget_stale_flows(self.table.family == Family::V4, flows).await {
            Ok(count) => self.telemetry.forgot(count),
            Err(error) => {
                tracing::warn!(error = chain(&error), "UDP flows to endpoints that are gone are not ended");
            }
        }
    }

    /// Works for ever.
    async fn keep(mut self) {
        let mut delay = FIRST_RETRY;
        loop {
            let family = self.table.family;
            match self.pass().await {
                Ok(pass) => {
                    delay = FIRST_RETRY;
                    if pass.anew {
                        tracing::info!(
                            family = family.keyword(),
                            elements = pass.added,
                            "service rules are in place"
                        );
                    }
                    self.inputs.notify(family).notified().await;
                }
                Err(error) => {
                    self.telemetry.failed();
                    let family = family.keyword();
                    tracing::warn!(%family, error = chain(&error), retry = ?delay, "services: rules are not set");
                    // Changes that come meanwhile wait with the rest: the table is made anew then.
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LONGEST_RETRY);
                }
            }
        }
    }
}

/// Starts the proxy's loops. `local_dns` is the address that this node's own DNS answers on.
pub(crate) fn start(
    host: &Arc<dyn Host>,
    config: &Config,
    proxy: &ProxyConfig,
    local_dns: Vec<IpAddr>,
    informers: &Informers,
    stage: &Stage,
) {
    let inputs = Arc::new(Inputs::default());
    let telemetry = Arc::new(Telemetry::new(inputs.clone()));
    let (services, slices) = (informers.of::<Service>(), informers.of::<EndpointSlice>());
    let nodes = informers.of::<Node>();
    let (into_services, into_slices) = (inputs.clone(), inputs.clone());
    services.on_change(move |change| into_services.take_service(change));
    slices.on_change(move |change| into_slices.take_slice(change));
    let pods = Cidr::parse(&config.cluster_cidr);
    follow_node(host, config, proxy, local_dns, nodes.clone(), &inputs, &telemetry, stage);
    follow_news(config, &inputs, stage);
    for family in [Family::V4, Family::V6] {
        let pods = pods.filter(|pods| Family::of(pods.address) == family);
        let proxy = Proxy::new(host.clone(), &config.table, pods, family, inputs.clone(), telemetry.clone());
        let (services, slices, nodes) = (services.clone(), slices.clone(), nodes.clone());
        let (host, bridged) = (host.clone(), family == Family::V4);
        let name = format!("network: service proxy ({})", family.keyword());
        stage.spawn_cancellable(&name, OnExit::Stop, async move {
            if bridged {
                filter_bridged(&*host).await;
            }
            // Rules of an earlier run stay until everything is known.
            services.synced().await;
            slices.synced().await;
            nodes.synced().await;
            proxy.keep().await;
        });
    }
    health::start(proxy, telemetry, stage);
}

/// Whether packets between ports of a bridge pass the rules too.
const BRIDGED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Answers of an endpoint on the same bridge as its client would reach it past the rules, with an address it
/// does not expect.
pub(crate) async fn filter_bridged(host: &dyn Host) {
    if host.sysctl(BRIDGED).is_err() {
        // Built in, or not to be had: what counts is whether the switch is there then.
        let _ = host.run("modprobe", &["br_netfilter"], "").await;
    }
    let outcome = match host.sysctl(BRIDGED).as_deref() {
        Ok("1") => Ok(()),
        Ok(_) => host.set_sysctl(BRIDGED, "1"),
        Err(_) => host.set_sysctl(BRIDGED, "1"),
    };
    if let Err(error) = outcome {
        let error = chain(&error);
        tracing::warn!(%error, "br_netfilter cannot be used: packets between pods of this node pass no rules");
    }
}

/// Keeps the facts of the own node, as its object and the machine's addresses say.
#[expect(clippy::too_many_arguments, reason = "it is a part of `start`")]
fn follow_node(
    host: &Arc<dyn Host>,
    config: &Config,
    proxy: &ProxyConfig,
    local_dns: Vec<IpAddr>,
    nodes: Informer<Node>,
    inputs: &Arc<Inputs>,
    telemetry: &Arc<Telemetry>,
    stage: &Stage,
) {
    let (changed, mut changes) = watch::channel(());
    let own = config.node_name.clone();
    nodes.on_change(move |change| {
        if change.latest().metadata.name.as_deref() == Some(own.as_str()) {
            changed.send_replace(());
        }
    });
    let machine = match &proxy.node_ports {
        NodePortAddresses::Primary => None,
        NodePortAddresses::Within(_) => address_changes(stage)
            .inspect_err(|error| {
                tracing::warn!(error = chain(error), "addresses of node ports are not followed");
            })
            .ok(),
    };
    let (host, own, proxy) = (host.clone(), config.node_name.clone(), proxy.clone());
    let (inputs, telemetry) = (inputs.clone(), telemetry.clone());
    stage.spawn_cancellable("network: node of the service proxy", OnExit::Stop, async move {
        let (mut address, mut machine) = (proxy.node_ip.clone(), machine);
        let mut told: Option<[NodeFacts; 2]> = None;
        loop {
            let node = nodes.get(None, &own);
            telemetry.set_eligible(node.as_deref());
            let node_ip = *address.borrow_and_update();
            let on_machine = match &proxy.node_ports {
                NodePortAddresses::Primary => vec![node_ip],
                NodePortAddresses::Within(ranges) => within(&*host, ranges, node_ip).await,
            };
            let facts = [Family::V4, Family::V6].map(|family| NodeFacts {
                name: own.clone(),
                zone: node.as_ref().and_then(|node| zone_of(node)),
                address: Some(node_ip).filter(|it| Family::of(*it) == family),
                node_port_addresses: on_machine
                    .iter()
                    .copied()
                    .filter(|it| Family::of(*it) == family)
                    .collect(),
                local_dns: local_dns.iter().copied().find(|it| Family::of(*it) == family),
            });
            if told.as_ref() != Some(&facts) {
                inputs.set_node(Family::V4, facts[0].clone());
                inputs.set_node(Family::V6, facts[1].clone());
                told = Some(facts);
            }
            tokio::select! {
                _ = changes.changed() => {}
                Ok(()) = address.changed() => {}
                () = next(&mut machine) => {}
            }
        }
    });
}

async fn next(changes: &mut Option<watch::Receiver<u64>>) {
    let changed = match changes {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending().await
    }
}

async fn within(host: &dyn Host, ranges: &[AddressRange], node_ip: IpAddr) -> Vec<IpAddr> {
    let all = host.addresses().await.unwrap_or_else(|error| {
        tracing::warn!(error = chain(&error), "node ports are served on the node's own address only");
        vec![node_ip]
    });
    let mut kept: Vec<IpAddr> = all
        .into_iter()
        .filter(|address| !address.is_loopback() && ranges.iter().any(|range| range.0.contains(*address)))
        .collect();
    kept.sort();
    kept.dedup();
    kept
}

fn zone_of(node: &Node) -> Option<String> {
    node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned()
}

/// Has the table made anew when somebody else has removed or emptied it.
fn follow_news(config: &Config, inputs: &Arc<Inputs>, stage: &Stage) {
    let (table, inputs) = (table_name(&config.table), inputs.clone());
    stage.spawn_cancellable("network: news of the service rules", OnExit::Stop, async move {
        follow_table(table, KEPT_CHAINS, |loss| tell_loss(loss, &inputs)).await;
    });
}

fn tell_loss(loss: &Loss, inputs: &Inputs) {
    let families = match loss {
        Loss::Of(family) if i32::from(*family) == nix::libc::AF_INET => &[Family::V4][..],
        Loss::Of(family) if i32::from(*family) == nix::libc::AF_INET6 => &[Family::V6][..],
        Loss::Of(_) => return,
        Loss::Unknown => &[Family::V4, Family::V6][..],
    };
    for family in families {
        if matches!(loss, Loss::Of(_)) {
            let family = family.keyword();
            tracing::warn!(%family, "somebody has removed or emptied the table of services: it is made anew");
        }
        inputs.tell_lost(*family);
    }
}

/// Removes the tables; that there are none is fine.
pub(crate) async fn remove(host: &dyn Host, table: &str) -> Result<(), NetworkError> {
    let mut first_error = None;
    // Each alone: a kernel may know one family only.
    for family in [Family::V4, Family::V6] {
        let listed = host.run("nft", &["list", "tables", family.keyword()], "").await.unwrap_or_default();
        let name = table_name(table);
        if listed.lines().any(|line| line.trim() == format!("table {} {name}", family.keyword())) {
            let removal = Table { family, name, pods: None }.removal();
            first_error = first_error.or(host.run("nft", &["-f", "-"], &removal).await.err());
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// The call behind [`Host::change_elements`] on a real machine.
pub(crate) fn change_elements(tables: Arc<Tables>, batch: Batch) -> HostCall<'static, ()> {
    Box::pin(async move {
        // The kernel makes one change of rules at a time: this may wait for another.
        let task = tokio::task::spawn_blocking(move || tables.change(batch));
        let outcome = task.await.map_err(std::io::Error::other).flatten();
        outcome.map_err(|source| NetworkError::Run { program: "nftables over netlink".to_string(), source })
    })
}

/// The call behind [`Host::forget_stale_flows`] on a real machine.
pub(crate) fn forget_stale_flows<'a>(is_v4: bool, flows: Flows) -> HostCall<'a, usize> {
    Box::pin(async move {
        let family = if is_v4 { nix::libc::AF_INET } else { nix::libc::AF_INET6 } as u8;
        let task = tokio::task::spawn_blocking(move || crate::nfnetlink::forget_stale_flows(family, &flows));
        let outcome = task.await.map_err(std::io::Error::other).flatten();
        outcome.map_err(|source| NetworkError::Run { program: "conntrack over netlink".to_string(), source })
    })
}

#[cfg(test)]
mod tests;
