//! The node agent: runs the pods that are bound to its node, through a CRI runtime, and tells the API how they are.
//!
//! Everything goes through [`client::ObjectApi`]; one serial worker per pod compares what is wanted with what runs (a pure
//! plan) and acts. Container events wake workers, so nothing on the way from a new pod to a running one waits for
//! a poll. Its HTTPS endpoint serves logs and the list of pods to the API server alone.

mod cgroups;
mod config;
mod context;
mod dirwatch;
mod files;
mod http;
mod images;
mod node;
mod pods;
mod probes;
mod runtime;
mod sources;
mod spec;
mod status;
mod volumes;

use std::sync::Arc;

use client::events::Recorder;
use client::{Informers, ObjectApi};
use k8s_openapi::api::core::v1::Service;
use parking_lot::Mutex;
use supervisor::{Latch, OnExit, Stage};
use tokio::io::DuplexStream;
use tokio::sync::watch;

use cgroups::Cgroups;
use context::{Context, RuntimeHealth, Wakers};
use images::ImageManager;
use node::machine::Machine;
use probes::ProbeManager;
use runtime::Cri;
use sources::Sources;
use status::sender::StatusSender;
use volumes::Volumes;

pub use config::Config;
pub use pods::admit::sysctls::{SysctlAllowlist, SysctlPatternError};

/// Why a kubelet cannot start. What can heal later (runtime down, API unreachable) is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("kubelet cannot listen on {address}")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("kubelet cannot create {path}")]
    Directory {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a usable runtime socket path")]
    Socket { path: std::path::PathBuf },
}

/// A running kubelet.
#[derive(Clone)]
pub struct KubeletHandle {
    /// Port of the HTTPS endpoint.
    pub port: u16,
    /// Opens when the node's status has been Ready once.
    pub ready: Latch,
    service: http::Service,
}

impl KubeletHandle {
    /// A connection to the HTTP service through memory. Whoever holds the handle is trusted as the API server is.
    pub fn connect(&self) -> DuplexStream {
        self.service.connect()
    }
}

/// Starts a node's kubelet as tasks of `stage`. Returns once its port is open; [`KubeletHandle::ready`] tells of the rest.
pub async fn start(
    config: Config,
    api: Arc<dyn ObjectApi>,
    stage: &Stage,
) -> Result<KubeletHandle, StartError> {
    let ready = Latch::new("kubelet");
    for directory in [&config.data_dir, &config.data_dir.join("pods"), &config.log_dir] {
        std::fs::create_dir_all(directory)
            .map_err(|source| StartError::Directory { path: directory.clone(), source })?;
    }
    let cri =
        Cri::new(&config.cri_socket).ok_or_else(|| StartError::Socket { path: config.cri_socket.clone() })?;
    let informers = Informers::new(api.clone(), stage.clone());
    let pods = pods::manager::pods_of(&informers, &config.node_name);
    let context = Arc::new(context(config, api, stage, cri, &informers));
    let service = http::Service::new(context.clone(), pods.clone());
    let port = service.listen(&context.config).await?;
    let run = |name: &str, task| stage.spawn_cancellable(name, OnExit::Stop, task);
    run("node status", boxed(node::run(context.clone(), port, ready.clone())));
    run("pods", boxed(pods::manager::run(context.clone(), pods)));
    run("images", boxed(bring_images(context.clone())));
    run("image collector", boxed(images::collect::run(context.clone())));
    run("log rotation", boxed(http::rotate::run(context)));
    Ok(KubeletHandle { port, ready, service })
}

fn boxed<'a>(task: impl Future<Output = ()> + Send + 'a) -> client::BoxFuture<'a, ()> {
    Box::pin(task)
}

fn context(
    config: Config,
    api: Arc<dyn ObjectApi>,
    stage: &Stage,
    cri: Cri,
    informers: &Informers,
) -> Context {
    let wakers = Wakers::default();
    let recorder = Recorder::new(api.clone(), stage, "kubelet", Some(&config.node_name));
    let sources = Sources::new(api.clone(), stage.clone(), wakers.clone());
    let machine = Machine::read(&config.data_dir);
    Context {
        stage: stage.clone(),
        status: StatusSender::new(api.clone()),
        probes: ProbeManager::new(cri.clone(), stage.clone(), wakers.clone(), recorder.clone()),
        volumes: Volumes::new(config.data_dir.join("pods"), api.clone(), sources.clone()),
        images: ImageManager::default(),
        services: informers.of::<Service>(),
        cgroups: Cgroups::new(&config.cgroup_parent),
        allocatable: machine.allocatable(config.max_pods),
        machine,
        apparmor: pods::admit::apparmor::is_enabled(),
        node: watch::Sender::new(None),
        sandbox_image: Latch::new("sandbox image"),
        runtime: watch::Sender::new(RuntimeHealth::Unknown),
        restarts: Mutex::default(),
        turns: pods::turns::Turns::of_this_machine(),
        owners: Mutex::default(),
        config,
        api,
        cri,
        recorder,
        wakers,
        sources,
    }
}

/// The sandbox image first, for nothing runs without it; then the archives.
async fn bring_images(context: Arc<Context>) {
    images::import::sandbox_image(&context.cri, &context.config.sandbox_image).await;
    context.sandbox_image.open();
    images::import::run(context).await;
}

/// Unmounts the volumes of all pods below a kubelet's data directory: what has to happen before it can be removed.
pub fn unmount_volumes(data_dir: &std::path::Path) -> std::io::Result<()> {
    volumes::unmount_all(&data_dir.join("pods"))
}

/// Removes a directory with everything in it. What is still mounted in it is left, and is an error.
pub fn remove_tree(path: &std::path::Path) -> std::io::Result<()> {
    files::tree::remove(path)
}

/// Removes everything in a directory that is itself a mount point; the same holds for what is mounted further down.
pub fn empty_tree(path: &std::path::Path) -> std::io::Result<()> {
    files::tree::empty(path)
}

/// The systemd slice that all pods' cgroups of a [`Config::cgroup_parent`] are in where systemd makes them.
pub fn pods_slice(cgroup_parent: &str) -> String {
    cgroups::slice_of(cgroup_parent)
}
