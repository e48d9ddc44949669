//! The cluster's DNS, answered in the process of every node on the cluster's address for it.
//!
//! [`zone`] has the names, [`message`] the format, [`corefile`] what users configure, all pure; [`plan`] is
//! that at work, [`upstream`] asks other name servers, and [`server`] has the ports. Names come from
//! informers, so a node answers while the API server is away. The address is put on the loopback interface,
//! as every kernel has that (dummy interfaces are a module): packets to it are local on each node, need no
//! translation and no entry of the service proxy. It is noted before it is set, for uninstalling.
//!
//! The ConfigMaps `coredns` and `coredns-custom` of `kube-system` say which other names are answered how, as
//! k3s' users know it. One that cannot be used changes nothing and is named in an event.

mod config;
mod corefile;
pub(crate) mod fuzzing;
mod message;
mod metrics;
mod plan;
mod server;
mod silence;
mod upstream;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::events::{EventType, Recorder};
use client::{Change, Informers};
use http::StatusCode;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use supervisor::{OnExit, Stage};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use crate::address_changes;
use crate::config::Config;
use crate::error::{NetworkError, chain};
use crate::host::Host;
use crate::proxy::health::{Answer, plain, serve};
use corefile::Maps;
use metrics::Metrics;
use plan::Plan;
use server::{Completeness, Server};
use zone::{ServiceFacts, ServiceName, SliceFacts, Zone};

/// What the cluster's DNS is told.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// The addresses that pods are told.
    pub addresses: Vec<IpAddr>,
    pub domain: String,
}

const PORT: u16 = 53;
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// The addresses are looked at this often, should the kernel's word of a change be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

fn service_facts(service: &Service) -> Option<ServiceFacts> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
        Some((port.name.clone().unwrap_or_default(), protocol, u16::try_from(port.port).ok()?))
    });
    let mut facts = ServiceFacts { ports: ports.collect(), ..ServiceFacts::default() };
    if spec.type_.as_deref() == Some("ExternalName") {
        facts.external_name = Some(spec.external_name.clone()?);
        return Some(facts);
    }
    let first = spec.cluster_ip.as_deref().unwrap_or_default();
    if first == "None" {
        return Some(facts);
    }
    // One without an address yet has no name yet.
    facts.cluster_ips.push(first.parse().ok()?);
    let others = spec.cluster_ips.iter().flatten().filter_map(|address| address.parse::<IpAddr>().ok());
    facts.cluster_ips.extend(others);
    facts.cluster_ips.dedup();
    Some(facts)
}

fn slice_facts(slice: &EndpointSlice) -> Option<(ServiceName, SliceFacts)> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?.clone();
    if !["IPv4", "IPv6"].contains(&slice.address_type.as_str()) {
        return None;
    }
    let ports = slice.ports.iter().flatten().filter_map(|port| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
        Some((port.name.clone().unwrap_or_default(), protocol, u16::try_from(port.port?).ok()?))
    });
    // Where addresses that are not ready are to be published, the slice says that they are.
    let ready = slice
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|it| it.ready).unwrap_or(true));
    let endpoints = ready.flat_map(|endpoint| {
        let named = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
        named.map(|address| (address, endpoint.hostname.clone()))
    });
    let facts = SliceFacts { ports: ports.collect(), endpoints: endpoints.collect() };
    Some(((slice.metadata.namespace.clone().unwrap_or_default(), service), facts))
}

fn take_service(zone: &RwLock<Zone>, change: &Change<Service>) {
    let old = change.old.as_deref().and_then(service_facts);
    let new = change.new.as_deref().and_then(service_facts);
    if old != new {
        let meta = &change.latest().metadata;
        let name = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        zone.write().set_service(name, new);
    }
}

fn take_slice(zone: &RwLock<Zone>, change: &Change<EndpointSlice>) {
    let slice = change.latest().metadata.name.clone().unwrap_or_default();
    let old = change.old.as_deref().and_then(slice_facts);
    let new = change.new.as_deref().and_then(slice_facts);
    if old == new {
        return;
    }
    let mut zone = zone.write();
    if let Some((service, _)) = old {
        zone.set_slice(service, slice.clone(), None);
    }
    if let Some((service, facts)) = new {
        zone.set_slice(service, slice, Some(facts));
    }
}

/// Starts the loops.
pub(crate) fn start(
    host: &Arc<dyn Host>,
    config: &Config,
    dns: &DnsConfig,
    informers: &Informers,
    stage: &Stage,
) {
    let Some(zone) = Zone::new(&dns.domain) else {
        tracing::warn!(domain = dns.domain, "no cluster DNS: the domain is no name");
        return;
    };
    let plan = match Plan::of(&Maps::default(), &dns.addresses) {
        Ok(plan) => Arc::new(plan),
        Err(error) => {
            tracing::warn!(error = chain(&error), "no cluster DNS: its own Corefile cannot be used");
            return;
        }
    };
    let server = Arc::new(Server {
        zone: RwLock::new(zone),
        plan: RwLock::new(plan),
        metrics: Metrics::default(),
        completeness: Completeness::from_now(),
    });
    config::follow(&server, &config.node_name, dns.addresses.clone(), informers, stage);
    let (services, slices) = (informers.of::<Service>(), informers.of::<EndpointSlice>());
    let (for_services, for_slices) = (server.clone(), server.clone());
    services.on_change(move |change| take_service(&for_services.zone, change));
    slices.on_change(move |change| take_slice(&for_slices.zone, change));
    let ready = server.clone();
    stage.spawn_cancellable("network: names of the cluster", OnExit::Done, async move {
        services.synced().await;
        slices.synced().await;
        ready.completeness.complete();
    });
    let recorder = Recorder::new(informers.api().clone(), stage, "minik8s", Some(&config.node_name));
    let changes = address_changes(stage).inspect_err(|error| {
        tracing::warn!(error = chain(error), "changes of the machine's addresses are seen late");
    });
    let changes = changes.unwrap_or_else(|_| watch::channel(0).1);
    let (kernel, table, addresses) = (host.clone(), config.table.clone(), dns.addresses.clone());
    stage.spawn_cancellable("network: silence of DNS", OnExit::Done, async move {
        if let Err(error) = silence::keep(&*kernel, &table, &addresses).await {
            let error = chain(&error);
            tracing::warn!(error, "questions about names fail at once while this process restarts");
        }
    });
    for address in dns.addresses.clone() {
        let (host, server, state_dir) = (host.clone(), server.clone(), config.state_dir.clone());
        let (inner, changes) = (stage.clone(), changes.clone());
        let (recorder, node) = (recorder.clone(), node_reference(&config.node_name));
        stage.spawn_cancellable("network: cluster DNS", OnExit::Stop, async move {
            let (udp, tcp) = open(&*host, &state_dir, address).await;
            tracing::info!(%address, "the cluster's DNS answers");
            serve_health(address, &server, &inner);
            let tell = |message: String| {
                tracing::warn!("{message}");
                recorder.event(&node, EventType::Warning, "ClusterDNSAddressRestored", message);
            };
            tokio::join!(
                server.clone().serve_udp(udp, inner.clone()),
                server.serve_tcp(tcp, inner),
                keep_address(&*host, address, changes, tell),
            );
        });
    }
}

/// CoreDNS' ports for metrics and readiness. Its port for health, 8080, is left to others: a program that
/// wants it on all addresses would not get it.
const METRICS: u16 = 9153;
const READY: u16 = 8181;

/// Opens them on the name service's address.
fn serve_health(address: IpAddr, server: &Arc<Server>, stage: &Stage) {
    let metrics = server.clone();
    let metrics: Answer = Arc::new(move |path| match path {
        "/metrics" => plain(StatusCode::OK, metrics.metrics.text(&metrics.plan.read().clone())),
        _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
    });
    let ready = server.clone();
    let ready: Answer = Arc::new(move |path| match (path, ready.completeness.is_complete()) {
        ("/ready", true) => plain(StatusCode::OK, "OK"),
        ("/health", _) => plain(StatusCode::OK, "OK"),
        ("/ready", false) => plain(StatusCode::SERVICE_UNAVAILABLE, "kubernetes"),
        _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
    });
    for (port, answer, what) in [(METRICS, metrics, "metrics of DNS"), (READY, ready, "readiness of DNS")] {
        let task = serve(SocketAddr::new(address, port), answer, what, stage.clone(), stage.stopping());
        stage.spawn_cancellable(what, OnExit::Stop, task);
    }
}

/// Opens the ports on an address, as soon as that can be done.
async fn open(host: &dyn Host, state_dir: &Path, address: IpAddr) -> (UdpSocket, TcpListener) {
    let mut delay = FIRST_RETRY;
    loop {
        let error = match try_open(host, state_dir, address).await {
            Ok(opened) => return opened,
            Err(error) => error,
        };
        tracing::warn!(%address, error = chain(&error), retry = ?delay, "the cluster's DNS does not answer yet");
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_RETRY);
    }
}

async fn try_open(
    host: &dyn Host,
    state_dir: &Path,
    address: IpAddr,
) -> Result<(UdpSocket, TcpListener), NetworkError> {
    note(state_dir, address)?;
    host.add_local_address(address).await?;
    let place = SocketAddr::new(address, PORT);
    let failed = |source| NetworkError::Run { program: format!("DNS on {place}"), source };
    Ok((UdpSocket::bind(place).await.map_err(failed)?, TcpListener::bind(place).await.map_err(failed)?))
}

/// What events of a node are about.
fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_string()),
        kind: Some("Node".to_string()),
        name: Some(name.to_string()),
        uid: Some(name.to_string()),
        ..ObjectReference::default()
    }
}

/// Puts the address back whenever it is gone. The sockets on it live on without it, and answer again with it.
async fn keep_address(
    host: &dyn Host,
    address: IpAddr,
    mut changes: watch::Receiver<u64>,
    tell: impl Fn(String),
) {
    loop {
        match restored(host, address).await {
            Ok(false) => {}
            Ok(true) => tell(format!(
                "the address {address} of the cluster's DNS was removed from this machine and is put back"
            )),
            Err(error) => {
                tracing::warn!(%address, error = chain(&error), "the address of the cluster's DNS is not kept");
            }
        }
        let changed = async {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let _ = tokio::time::timeout(LOOK_AGAIN, changed).await;
    }
}

/// Whether the address was gone and had to be set again.
async fn restored(host: &dyn Host, address: IpAddr) -> Result<bool, NetworkError> {
    if host.addresses().await?.contains(&address) {
        return Ok(false);
    }
    host.add_local_address(address).await?;
    Ok(true)
}

/// Of the addresses that were noted, those that a process answers on now. To be asked when this instance's
/// own does not run.
pub(crate) async fn served_by_others(state_dir: &Path) -> Vec<IpAddr> {
    let mut served = Vec::new();
    for address in noted(state_dir) {
        let bound = UdpSocket::bind(SocketAddr::new(address, PORT)).await;
        if bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
            served.push(address);
        }
    }
    served
}

fn note_file(state_dir: &Path) -> PathBuf {
    state_dir.join("dns-addresses")
}

fn noted(state_dir: &Path) -> Vec<IpAddr> {
    let text = std::fs::read_to_string(note_file(state_dir)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Notes an address that is about to be set.
fn note(state_dir: &Path, address: IpAddr) -> Result<(), NetworkError> {
    let mut all = noted(state_dir);
    if all.contains(&address) {
        return Ok(());
    }
    all.push(address);
    let text: String = all.iter().map(|address| format!("{address}\n")).collect();
    let path = note_file(state_dir);
    let fresh = path.with_extension("new");
    let written = std::fs::create_dir_all(state_dir)
        .and_then(|()| std::fs::write(&fresh, text))
        .and_then(|()| std::fs::rename(&fresh, &path));
    written.map_err(|source| NetworkError::File { path, source })
}

/// Takes the addresses away that were set by this instance, but those that are to stay; if none is, also what
/// keeps them silent.
pub(crate) async fn remove(
    host: &dyn Host,
    table: &str,
    state_dir: &Path,
    keep: &[IpAddr],
) -> Result<(), NetworkError> {
    if keep.is_empty() {
        silence::remove(host, table).await?;
    }
    let all = noted(state_dir);
    for address in all.iter().filter(|address| !keep.contains(address)) {
        host.remove_local_address(*address).await?;
    }
    if !all.is_empty() && all.iter().all(|address| !keep.contains(address)) {
        let path = note_file(state_dir);
        std::fs::remove_file(&path).map_err(|source| NetworkError::File { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
