//! The node agent: runs the pods that are bound to its node, through a CRI runtime, and tells the API how
//! they are.
//!
//! Everything goes through [`client::ObjectApi`]; one serial worker per pod compares what is wanted with
//! what runs (a pure plan) and acts. Container events wake workers, so nothing on the way from a new pod to
//! a running one waits for a poll. Its HTTPS endpoint serves streams, logs and measurements, to the API
//! server and to who has a token for it.

mod cgroups;
mod config;
mod dirwatch;
mod error;
mod events;
mod eviction;
mod files;
pub mod hollow;
mod host;
mod http;
mod images;
mod logs;
mod node;
mod pods;
mod probes;
mod runtime;
mod shutdown;
mod sources;
mod spec;
mod stats;
mod status;
#[cfg(test)]
mod testing;
mod volumes;
mod wake;

use std::net::SocketAddr;
use std::sync::Arc;

use client::events::Recorder;
use client::{Informers, ObjectApi};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use parking_lot::Mutex;
use supervisor::{Latch, OnExit, Stage};
use tokio::io::DuplexStream;
use tokio::sync::watch;

use cgroups::Cgroups;
use events::PodEvents;
use eviction::{Evictor, LastSeen};
use host::{Host, Linux};
use http::access::Access;
use images::{ImageManager, PullRecords};
use node::NodeAgent;
use pods::admit::Admission;
use pods::admit::pressure::Pressure;
use pods::execute::{LaunchSettings, Launcher};
use pods::inputs::Inputs;
use pods::kill::Killer;
use pods::manager::{PodManager, StaticSettings};
use pods::statics::{NodePods, Statics};
use pods::worker::WorkerDeps;
use probes::prober::Prober;
use probes::{NodeProber, ProbeManager};
use runtime::{Cri, Runtime, RuntimeHealth};
use shutdown::NodeShutdown;
use sources::Sources;
use stats::{Stats, StatsSettings};
use status::sender::StatusSender;
use volumes::Volumes;
use wake::{Owners, Wakers};

pub use config::{Config, Endpoint, KubeletTuning, LogLimits, NetworkGate, NetworkPending};
pub use error::StartError;
pub use images::import::ImportFailure;
pub use images::own::{ImageError, Images, OwnImage};
pub use pods::admit::NodePort;
pub use pods::admit::sysctls::{SysctlAllowlist, SysctlPatternError};
pub use runtime::known::{NoRecords, known_containers};
pub use shutdown::ShutdownGrace;

/// A running kubelet.
#[derive(Clone)]
pub struct KubeletHandle {
    /// Port of the HTTPS endpoint; 0 if there is none.
    pub port: u16,
    /// Opens when the node's status has been Ready once.
    pub ready: Latch,
    /// The node's images, for commands on its machine.
    pub images: Images,
    service: http::Service,
}

impl KubeletHandle {
    /// A connection to the HTTP service through memory. Whoever holds the handle is trusted as the API server
    /// is.
    pub fn connect(&self) -> DuplexStream {
        self.service.connect()
    }
}

/// Starts a node's kubelet as tasks of `stage`. Returns once its port is open; [`KubeletHandle::ready`] tells
/// of the rest.
pub async fn start(
    config: Config,
    api: Arc<dyn ObjectApi>,
    stage: &Stage,
) -> Result<KubeletHandle, StartError> {
    for directory in [&config.data_dir, &config.data_dir.join("pods"), &config.log_dir] {
        std::fs::create_dir_all(directory)
            .map_err(|source| StartError::Directory { path: directory.clone(), source })?;
    }
    let cri =
        Cri::new(&config.cri_socket).ok_or_else(|| StartError::Socket { path: config.cri_socket.clone() })?;
    let runtime: Arc<dyn Runtime> = Arc::new(cri);
    let ground = Ground {
        prober: Arc::new(NodeProber(runtime.clone())),
        runtime: runtime.clone(),
        host: Arc::new(Linux::new()),
    };
    let (handle, node) = start_on(ground, config, api, stage).await?;
    let run = |name: &str, task| stage.spawn_cancellable(name, OnExit::Stop, task);
    let sandbox_image = node.sandbox_image.clone();
    run("images", boxed(bring_images(node.importer, node.config.sandbox_image.clone(), sandbox_image)));
    run("eviction", boxed(eviction::run(node.evictor)));
    run("image collector", boxed(images::collect::run(node.collector)));
    let (log_dir, label) = (node.config.log_dir.clone(), node.config.instance_label());
    let limits = node.config.tuning.logs;
    run("log rotation", boxed(logs::rotate::run(runtime, log_dir, label, limits)));
    Ok(handle)
}

/// What a kubelet stands on: a real machine with a real runtime, or neither.
struct Ground {
    runtime: Arc<dyn Runtime>,
    host: Arc<dyn Host>,
    prober: Arc<dyn Prober>,
}

/// What only a node with a disk and images of its own goes on with.
struct RealNode {
    config: Arc<Config>,
    importer: images::import::Importer,
    collector: Arc<images::collect::Collector>,
    evictor: Evictor,
    sandbox_image: Latch,
}

/// Starts everything that a kubelet is on any ground.
async fn start_on(
    ground: Ground,
    config: Config,
    api: Arc<dyn ObjectApi>,
    stage: &Stage,
) -> Result<(KubeletHandle, RealNode), StartError> {
    let Ground { runtime, host, prober } = ground;
    let config = Arc::new(config);
    let ready = Latch::new("kubelet");
    let informers = Informers::new(api.clone(), stage.clone());
    let informer = pods::manager::pods_of(&informers, &config.node_name);
    let pods = NodePods { informer, statics: Statics::default() };
    let recorder = Recorder::new(api.clone(), stage, "kubelet", Some(&config.node_name));
    let (machine_host, data_dir) = (host.clone(), config.data_dir.clone());
    let (machine, apparmor) =
        files::blocking(move || (machine_host.machine(&data_dir), machine_host.enforces_apparmor())).await;
    let agent = NodeAgent {
        config: config.clone(),
        api: api.clone(),
        stage: stage.clone(),
        runtime: runtime.clone(),
        host: host.clone(),
        recorder: recorder.clone(),
        wakers: Wakers::default(),
        allocatable: machine.allocatable(config.tuning.max_pods),
        machine: Arc::new(machine),
        node: watch::Sender::new(None),
        health: watch::Sender::new(RuntimeHealth::Unknown),
        pressure: watch::Sender::new(Pressure::default()),
        is_going_down: watch::Sender::new(false),
    };
    let deps = Arc::new(worker_deps(
        &agent,
        prober,
        apparmor,
        &informers,
        PodEvents::new(recorder.clone()),
        pods.clone(),
    ));
    let images = deps.launcher.images.clone();
    let events = PodEvents::new(recorder.clone());
    let importer = images::import::Importer {
        runtime: runtime.clone(),
        images: images.clone(),
        wakers: agent.wakers.clone(),
        recorder: recorder.clone(),
        node_name: config.node_name.clone(),
        images_dir: config.images_dir.clone(),
        data_dir: config.data_dir.clone(),
    };
    let collector = Arc::new(images::collect::Collector {
        runtime: runtime.clone(),
        host: host.clone(),
        images,
        data_dir: config.data_dir.clone(),
        sandbox_image: config.sandbox_image.clone(),
    });
    let service = service_of(&agent, &deps, pods.clone());
    let evictor = Evictor {
        host,
        stats: service.stats.clone(),
        wakers: agent.wakers.clone(),
        events,
        recorder,
        collector: Some(collector.clone()),
        pressure: agent.pressure.clone(),
        last: LastSeen::default(),
    };
    let port = match &config.endpoint {
        Some(endpoint) => Some(service.listen(endpoint).await?),
        None => None,
    };
    let sandbox_image = Latch::new("sandbox image");
    let static_pods = config
        .static_pods_dir
        .clone()
        .map(|directory| StaticSettings { directory, recorder: agent.recorder.clone() });
    let manager =
        PodManager { deps, stage: stage.clone(), sandbox_image: sandbox_image.clone(), pods, static_pods };
    let run = |name: &str, task| stage.spawn_cancellable(name, OnExit::Stop, task);
    let remover = volumes::local_path::Remover {
        roots: volumes::local_path::Roots::of(&config, &api),
        api,
        host: agent.host.clone(),
        node_name: config.node_name.clone(),
        node: agent.node.subscribe(),
        pods: config.data_dir.join("pods"),
    };
    run("removal of local volumes", boxed(volumes::local_path::run(remover)));
    let shutdown = NodeShutdown {
        grace: config.tuning.shutdown,
        wakers: agent.wakers.clone(),
        recorder: agent.recorder.clone(),
        node_name: config.node_name.clone(),
        is_going: agent.is_going_down.clone(),
    };
    shutdown::start(shutdown, stage);
    run("node status", boxed(node::run(agent, port, ready.clone())));
    run("pods", boxed(pods::manager::run(manager)));
    let handle = KubeletHandle { port: port.unwrap_or(0), ready, images: Images(importer.clone()), service };
    Ok((handle, RealNode { config, importer, collector, evictor, sandbox_image }))
}

/// The HTTP service of a node.
fn service_of(agent: &NodeAgent, deps: &WorkerDeps, pods: NodePods) -> http::Service {
    let NodeAgent { config, api, stage, runtime, host, .. } = agent;
    let settings = StatsSettings {
        node_name: config.node_name.clone(),
        instance_label: config.instance_label(),
        data_dir: config.data_dir.clone(),
        log_dir: config.log_dir.clone(),
        started: Timestamp::now(),
    };
    let stats = Stats {
        runtime: runtime.clone(),
        host: host.clone(),
        cgroups: deps.launcher.cgroups.clone(),
        pods: pods.clone(),
        settings: Arc::new(settings),
        rates: Arc::default(),
    };
    http::Service {
        stage: stage.clone(),
        runtime: runtime.clone(),
        status: deps.status.clone(),
        pods,
        probes: deps.probes.clone(),
        stats,
        access: Access::new(api.clone(), &config.node_name),
        configuration: Arc::new(http::measured::configuration(config)),
        more_metrics: config.more_metrics.clone(),
    }
}

fn boxed<'a>(task: impl Future<Output = ()> + Send + 'a) -> client::BoxFuture<'a, ()> {
    Box::pin(task)
}

/// What the node's pod workers share.
fn worker_deps(
    agent: &NodeAgent,
    prober: Arc<dyn Prober>,
    apparmor: bool,
    informers: &Informers,
    events: PodEvents,
    pods: NodePods,
) -> WorkerDeps {
    let NodeAgent { config, api, stage, runtime, host, wakers, .. } = agent;
    let sources = Sources::new(api.clone(), stage.clone(), wakers.clone());
    let pods_dir = config.data_dir.join("pods");
    let allocatable = agent.allocatable.clone();
    let inputs = Inputs {
        host: host.clone(),
        sources: sources.clone(),
        services: informers.of::<Service>(),
        allocatable: allocatable.clone(),
        pods_dir: pods_dir.clone(),
        cluster_domain: config.cluster_domain.clone(),
        node_ip: config.node_ip.clone(),
    };
    let settings = LaunchSettings {
        instance_label: config.instance_label(),
        log_dir: config.log_dir.clone(),
        seccomp_dir: config.data_dir.join("seccomp"),
        seccomp_default: config.seccomp_default,
        cluster_dns: config.cluster_dns.clone(),
        cluster_domain: config.cluster_domain.clone(),
        node_memory: agent.machine.memory,
    };
    let launcher = Launcher {
        api: api.clone(),
        runtime: runtime.clone(),
        health: agent.health.subscribe(),
        host: host.clone(),
        events: events.clone(),
        killer: Killer::new(runtime.clone(), events.clone()),
        images: ImageManager::new(
            runtime.clone(),
            stage.clone(),
            events.clone(),
            sources.clone(),
            PullRecords::new(runtime.clone(), host.clone(), &config.data_dir),
            config.registries_dir.clone(),
        ),
        cgroups: Arc::new(Cgroups::new(host.clone(), &config.cgroup_parent)),
        inputs,
        restarts: Mutex::default(),
        owners: Owners::default(),
        resized: Mutex::default(),
        network_gate: config.network_gate.clone(),
        settings,
    };
    let admission = Admission {
        node: agent.node.subscribe(),
        allocatable,
        sysctls: config.sysctls.clone(),
        apparmor,
        node_ports: node_ports(config),
        pressure: agent.pressure.subscribe(),
        is_going_down: agent.is_going_down.subscribe(),
        wakers: wakers.clone(),
    };
    WorkerDeps {
        api: api.clone(),
        runtime: runtime.clone(),
        host: host.clone(),
        wakers: wakers.clone(),
        admission,
        status: StatusSender::new(api.clone(), Some(pods)),
        probes: ProbeManager::new(prober, stage.clone(), wakers.clone(), events.clone()),
        volumes: Volumes::new(
            pods_dir,
            host.clone(),
            api.clone(),
            agent.node.subscribe(),
            sources.clone(),
            volumes::local_path::Roots::of(config, api),
        ),
        events,
        sources,
        launcher,
        turns: pods::turns::Turns::of_this_machine(),
    }
}

/// The node's own ports, the kubelet's among them unless the kernel is to pick it.
fn node_ports(config: &Config) -> Vec<NodePort> {
    let own = config.endpoint.as_ref().filter(|endpoint| endpoint.port != 0).map(|endpoint| NodePort {
        protocol: "TCP",
        address: SocketAddr::new(endpoint.bind_address, endpoint.port),
        owner: "kubelet",
    });
    config.node_ports.iter().cloned().chain(own).collect()
}

/// The sandbox image first, for nothing runs without it; then the archives.
async fn bring_images(importer: images::import::Importer, name: String, there: Latch) {
    images::import::sandbox_image(&*importer.runtime, &name).await;
    there.open();
    images::import::run(importer).await;
}

/// Image archives of a node that could not be imported, with the reasons; the directories are those of its
/// [`Config`].
pub fn failed_imports(data_dir: &std::path::Path, images_dir: &std::path::Path) -> Vec<(String, String)> {
    images::import::failed(data_dir, images_dir)
}

/// Files about registries of a node that cannot be used, with what is wrong and where; the directory is that
/// of its [`Config`].
pub fn registry_faults(registries_dir: &std::path::Path) -> Vec<(std::path::PathBuf, String)> {
    let faults = images::registries::faults(registries_dir);
    faults.into_iter().map(|fault| (fault.path, fault.why)).collect()
}

/// Removes a directory with everything in it. What is still mounted in it is left, and is an error.
pub fn remove_tree(path: &std::path::Path) -> std::io::Result<()> {
    files::tree::remove(path)
}

/// Removes everything in a directory that is itself a mount point; the same holds for what is mounted further
/// down.
pub fn empty_tree(path: &std::path::Path) -> std::io::Result<()> {
    files::tree::empty(path)
}

/// The systemd slice that all pods' cgroups of a [`Config::cgroup_parent`] are in where systemd makes them.
pub fn pods_slice(cgroup_parent: &str) -> String {
    cgroups::slice_of(cgroup_parent)
}
