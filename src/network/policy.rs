//! Network policies: what pods of this node may send and receive, by rules of nftables.
//!
//! [`facts`] takes out of the objects what counts, [`planner`] makes elements of sets of it ([`boxes`] for
//! ranges), [`rules`] text for `nft` and bytes for the kernel: pure, all of it. Here is the loop, which fails
//! alone: it brings each round of changes to the kernel in one transaction, and begins anew with whole tables
//! after a failure, at the start, and when somebody has flushed one. While there is no policy there are no
//! rules, and pods and namespaces are not followed.
//!
//! The kubelet tells of a pod before its first container starts, and waits for the rules ([`PolicyGate`]).
//! As upstream says: a pod's own node reaches it always, and it reaches its node; pods on the host's network
//! are the node; nobody is kept from itself. The node's DNS is a pod with the label `k8s-app: kube-dns` of
//! `kube-system` to policies. Absent: policies of the whole cluster (ClusterNetworkPolicy).

mod boxes;
mod facts;
mod inputs;
mod planner;
mod rules;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Kinded, Object};
use client::{Change, Informer, Informers, Subscription};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use parking_lot::Mutex;
use supervisor::{OnExit, Stage};

use crate::config::Config;
use crate::error::{NetworkError, chain};
use crate::host::Host;
use crate::nfnetlink::elements::MOST_AT_ONCE;
use crate::nfnetlink::{Loss, follow_table};
use crate::proxy::facts::{Cidr, Family, Protocol};
use crate::proxy::filter_bridged;
use crate::routes::{Peer, accepted};
use facts::{NamedPort, ObjectName, PodFacts};
use inputs::Inputs;
use planner::{Changes, Planner, Round};
use rules::{Element, KEPT_CHAINS, Profile, Table};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Annotation that says where a pod comes from.
const SOURCE: &str = "kubernetes.io/config.source";
/// How long a pod's start waits for its rules at a time.
const GATE: Duration = Duration::from_secs(10);
/// Profiles that a table has chains for at least.
const FEWEST_PROFILES: Profile = 16;

/// Name of the tables, in the families `ip` and `ip6`.
fn table_name(table: &str) -> String {
    format!("{table}_policy")
}

/// Whoever starts pods asks here first.
#[derive(Clone)]
pub struct PolicyGate {
    inputs: Arc<Inputs>,
}

impl PolicyGate {
    /// Returns once the rules for a pod with these addresses are in place. A pod that no policy selects waits
    /// for nothing.
    pub async fn ready(&self, pod: &Pod, addresses: &[String]) -> Result<(), NetworkError> {
        let source = pod.metadata.annotations.as_ref().and_then(|all| all.get(SOURCE));
        // A static pod may be what the API server needs.
        // Anybody may write the annotation on a pod of the API, but that has a resource version.
        let is_of_api = pod.metadata.resource_version.is_some();
        let is_static = !is_of_api && source.is_some_and(|source| source != "api");
        let waiting = async {
            if !is_static {
                self.inputs.until_synced().await;
            }
            if let Some(number) = self.inputs.take_starting(pod, addresses) {
                self.inputs.until_done(number).await;
            }
        };
        tokio::time::timeout(GATE, waiting).await.map_err(|_| NetworkError::PolicyPending)
    }
}

/// The rules of both families.
pub(crate) struct Policies {
    host: Arc<dyn Host>,
    tables: [Table; 2],
    inputs: Arc<Inputs>,
    planner: Planner,
    /// For how many profiles each table has chains. None: it is to be made anew.
    made: [Option<Profile>; 2],
    /// Addresses of this node's DNS.
    dns: Vec<IpAddr>,
}

impl Policies {
    pub(crate) fn new(host: Arc<dyn Host>, table: &str, dns: Vec<IpAddr>, inputs: Arc<Inputs>) -> Self {
        let tables = [Family::V4, Family::V6].map(|family| Table { family, name: table_name(table) });
        Policies { host, tables, inputs, planner: Planner::default(), made: [None; 2], dns }
    }

    /// Begins with nothing known.
    fn begin(&mut self) {
        self.inputs.begin();
        self.planner = Planner::default();
        self.made = [None; 2];
        if let Some((name, facts)) = dns_pod(&self.dns) {
            self.planner.set_on_node(name, facts);
        }
    }

    /// Brings to the kernel what has changed since the last pass. After a failure the next one makes the
    /// tables anew. How many elements have changed.
    pub(crate) async fn pass(&mut self) -> Result<usize, NetworkError> {
        let work = self.inputs.take();
        if work.lost {
            self.made = [None; 2];
        }
        let round = self.plan(work.changes).await;
        for what in round.too_large {
            tracing::warn!(what, "it comes to more rules than a node holds: it allows nothing");
        }
        let mut by_family: BTreeMap<Family, [Vec<Element>; 2]> = BTreeMap::new();
        for (at, all) in [round.remove, round.add].into_iter().enumerate() {
            for element in all {
                by_family.entry(element.key.family()).or_default()[at].push(element);
            }
        }
        let wanted = self.planner.profiles();
        let mut count = 0;
        for at in 0..self.tables.len() {
            let [remove, add] = by_family.remove(&self.tables[at].family).unwrap_or_default();
            match self.made[at].take() {
                Some(made) if made >= wanted => {
                    if !remove.is_empty() || !add.is_empty() {
                        self.change(at, &remove, &add).await?;
                    }
                    count += remove.len() + add.len();
                    self.made[at] = Some(made);
                }
                had => count += self.make_anew(at, had.is_some(), wanted).await?,
            }
        }
        self.inputs.tell_done(work.number);
        Ok(count)
    }

    /// Asks the planner, away from the threads that others wait on: changes may be large.
    async fn plan(&mut self, changes: Changes) -> Round {
        let mut planner = std::mem::take(&mut self.planner);
        let planning = tokio::task::spawn_blocking(move || {
            let round = planner.update(changes);
            (planner, round)
        });
        match planning.await {
            Ok((planner, round)) => {
                self.planner = planner;
                round
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The process ends.
            Err(_) => std::future::pending().await,
        }
    }

    async fn make_anew(&mut self, at: usize, had: bool, wanted: Profile) -> Result<usize, NetworkError> {
        let table = &self.tables[at];
        let own = || self.planner.elements().filter(|element| element.key.family() == table.family);
        let count = own().count();
        // A kernel without the family's rules is no trouble to who has no such pods.
        if count == 0 && table.family == Family::V6 && !had && !exists(&*self.host, table).await {
            return Ok(0);
        }
        let profiles = wanted.next_power_of_two().max(FEWEST_PROFILES);
        let script = table.anew(profiles, own());
        self.host.run("nft", &["-f", "-"], &script).await?;
        tracing::info!(family = table.family.keyword(), elements = count, "rules of policies are in place");
        self.made[at] = Some(profiles);
        Ok(count)
    }

    /// One transaction: over netlink, or by `nft` if it is large or netlink fails.
    async fn change(&self, at: usize, remove: &[Element], add: &[Element]) -> Result<(), NetworkError> {
        let table = &self.tables[at];
        let text = || table.change(remove, add);
        if remove.len() + add.len() <= MOST_AT_ONCE {
            match self.host.change_elements(table.batch(remove, add), &text).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let error = chain(&error);
                    tracing::debug!(error, "elements are not changed over netlink; nft is to try");
                }
            }
        }
        self.host.run("nft", &["-f", "-"], &text()).await.map(|_| ())
    }

    /// Keeps the rules until there is no policy any more.
    async fn work(&mut self) {
        let mut delay = FIRST_RETRY;
        while self.inputs.has_policies() {
            match self.pass().await {
                Ok(_) => {
                    delay = FIRST_RETRY;
                    self.inputs.changed().await;
                }
                Err(error) => {
                    self.made = [None; 2];
                    tracing::warn!(error = chain(&error), retry = ?delay, "policies: rules are not set");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// Works for ever, and follows pods and namespaces while there are policies.
    async fn keep(mut self, informers: Informers) {
        loop {
            if self.inputs.has_policies() {
                self.begin();
                filter_bridged(&*self.host).await;
                let _followed = follow(&informers, &self.inputs).await;
                let (table, inputs) = (self.tables[0].name.clone(), self.inputs.clone());
                let news = follow_table(table, KEPT_CHAINS, move |loss| {
                    if *loss != Loss::Unknown {
                        tracing::warn!(
                            "somebody has removed or emptied the table of policies: it is made anew"
                        );
                    }
                    inputs.tell_lost();
                });
                tokio::select! {
                    () = news => {}
                    () = self.work() => {}
                }
                self.inputs.end();
            }
            let name = self.tables[0].name.clone();
            if let Err(error) = remove_tables(&*self.host, &name).await {
                tracing::warn!(error = chain(&error), "rules of policies stay, though there are none");
            }
            while !self.inputs.has_policies() {
                self.inputs.changed().await;
            }
        }
    }
}

/// The node's DNS as policies see it.
fn dns_pod(addresses: &[IpAddr]) -> Option<(ObjectName, PodFacts)> {
    let port = |name: &str, protocol, port| NamedPort { name: name.to_string(), protocol, port };
    let facts = PodFacts {
        labels: [("k8s-app".to_string(), "kube-dns".to_string())].into(),
        addresses: addresses.to_vec(),
        node: String::new(),
        is_local: true,
        ports: vec![
            port("dns", Protocol::Udp, 53),
            port("dns-tcp", Protocol::Tcp, 53),
            port("metrics", Protocol::Tcp, 9153),
        ],
    };
    // No pod can have such a name.
    let name = ("kube-system".to_string(), "kube-dns/node".to_string());
    (!addresses.is_empty()).then_some((name, facts))
}

/// Follows pods and namespaces; returns once all of them are known.
async fn follow(informers: &Informers, inputs: &Arc<Inputs>) -> [Subscription; 2] {
    let (pods, namespaces) = (informers.of::<Pod>(), informers.of::<Namespace>());
    let (for_pods, for_namespaces) = (inputs.clone(), inputs.clone());
    let followed = [
        namespaces.subscribe(move |change| for_namespaces.take_namespace(&typed(change))),
        pods.subscribe(move |change| for_pods.take_pod(&typed(change))),
    ];
    namespaces.synced().await;
    pods.synced().await;
    followed
}

/// A change of decoded objects. One that cannot be decoded is as if it were not there.
fn typed<K: Kinded>(change: &Change<Object>) -> Change<K> {
    let decoded = |object: &Option<Arc<Object>>| object.as_ref().and_then(|object| object.typed().ok());
    Change { old: decoded(&change.old), new: decoded(&change.new) }
}

/// Starts the loop. `dns` are the addresses of this node's DNS.
pub(crate) fn start(
    host: &Arc<dyn Host>,
    config: &Config,
    dns: Vec<IpAddr>,
    informers: &Informers,
    stage: &Stage,
) -> PolicyGate {
    let inputs = Arc::new(Inputs::new(&config.node_name));
    let policies = informers.of::<NetworkPolicy>();
    let into = inputs.clone();
    policies.on_change(move |change| into.take_policy(change));
    let nodes = informers.of::<Node>();
    follow_ranges(config, &nodes, &inputs);
    let work = Policies::new(host.clone(), &config.table, dns, inputs.clone());
    let (informers, known) = (informers.clone(), inputs.clone());
    stage.spawn_cancellable("network: policies", OnExit::Stop, async move {
        // Rules of an earlier run stay until everything is known.
        policies.synced().await;
        known.tell_synced();
        nodes.synced().await;
        work.keep(informers).await;
    });
    PolicyGate { inputs }
}

/// Follows which addresses the pods of each node can have: a node may say of its pods what it likes.
fn follow_ranges(config: &Config, nodes: &Informer<Node>, inputs: &Arc<Inputs>) {
    let (known, inputs) = (Mutex::new(BTreeMap::<String, Peer>::new()), inputs.clone());
    let (own, cluster_cidr) = (config.node_name.clone(), config.cluster_cidr.clone());
    nodes.on_change(move |change| {
        let mut known = known.lock();
        let name = change.latest().metadata.name.clone().unwrap_or_default();
        let (old, new) = (known.get(&name), change.new.as_deref().and_then(Peer::of));
        let range = |peer: &Peer| (peer.pod_cidr.clone(), peer.created);
        if old.map(range) == new.as_ref().map(range) {
            return;
        }
        match new {
            Some(peer) => known.insert(name, peer),
            None => known.remove(&name),
        };
        let peers: Vec<Peer> = known.values().cloned().collect();
        let accepted = accepted(&peers, &own, &cluster_cidr).map(|(accepted, _)| accepted);
        let ranges = accepted.into_iter().flatten();
        let ranges = ranges.filter_map(|(peer, cidr)| Some((peer.name.clone(), vec![Cidr::parse(cidr)?])));
        inputs.take_ranges(ranges.collect());
    });
}

/// Removes the tables of an instance; that there are none is fine.
pub(crate) async fn remove(host: &dyn Host, table: &str) -> Result<(), NetworkError> {
    remove_tables(host, &table_name(table)).await
}

async fn exists(host: &dyn Host, table: &Table) -> bool {
    let ip = table.family.keyword();
    let listed = host.run("nft", &["list", "tables", ip], "").await.unwrap_or_default();
    listed.lines().any(|line| line.trim() == format!("table {ip} {}", table.name))
}

async fn remove_tables(host: &dyn Host, name: &str) -> Result<(), NetworkError> {
    let mut first_error = None;
    // Each alone: a kernel may know one family only.
    for family in [Family::V4, Family::V6] {
        let table = Table { family, name: name.to_string() };
        if exists(host, &table).await {
            first_error = first_error.or(host.run("nft", &["-f", "-"], &table.removal()).await.err());
        }
    }
    first_error.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
