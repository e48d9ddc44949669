//! What a kubelet is told by the process it runs in. Everything that a node leaves in the kernel or on disk
//! is named here, so that several nodes (each in its own network namespace) can share a machine and be
//! cleaned up apart.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use client::BoxFuture;
use k8s_openapi::api::core::v1::{Pod, Taint};
use supervisor::ConnectionLimits;
use tokio::sync::watch;

use crate::{NodePort, ShutdownGrace, SysctlAllowlist};

/// Settings of one node's kubelet.
#[derive(Clone)]
pub struct Config {
    pub node_name: String,
    /// Published as the node's `InternalIP`, and `hostIP` of its pods. May change while the kubelet runs.
    pub node_ip: watch::Receiver<IpAddr>,
    /// Labels to register with, beside `kubernetes.io/hostname`, `kubernetes.io/arch` and `kubernetes.io/os`;
    /// roles are labels such as `node-role.kubernetes.io/control-plane`.
    pub labels: BTreeMap<String, String>,
    /// Taints to register with; they are not put back once removed.
    pub taints: Vec<Taint>,
    /// `spec.providerID`.
    pub provider_id: Option<String>,
    /// Suffix of everything this node leaves in the kernel, such as its cgroup. Empty for the only node of a
    /// machine.
    pub instance: String,
    /// Where pods' volumes, hosts files and termination messages live.
    pub data_dir: PathBuf,
    /// Where container logs live, below it `NAMESPACE_NAME_UID/CONTAINER/N.log`.
    pub log_dir: PathBuf,
    /// Image archives in this directory are imported; it need not exist.
    pub images_dir: PathBuf,
    /// Where the runtime finds `HOST/hosts.toml` for mirrors and private registries.
    pub registries_dir: PathBuf,
    /// Where volumes of the built-in provisioner are made; the node says so in an annotation.
    pub storage_dir: PathBuf,
    /// Manifests in this directory are run as static pods; none for a hollow node.
    pub static_pods_dir: Option<PathBuf>,
    /// CRI and containerd socket.
    pub cri_socket: PathBuf,
    /// Cgroup below which the pods' cgroups are made, such as `/kubepods` or `/kubepods-test1`. Its own
    /// parent exists.
    pub cgroup_parent: String,
    pub tuning: KubeletTuning,
    /// Ports of the node that are none for pods, beside the kubelet's.
    pub node_ports: Vec<NodePort>,
    /// Name servers of pods with `dnsPolicy: ClusterFirst`; empty means such pods get the node's.
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Sysctls that pods may set.
    pub sysctls: SysctlAllowlist,
    /// Containers without a seccomp profile get the runtime's default one instead of none.
    pub seccomp_default: bool,
    /// Name of the sandbox image as containerd's configuration has it. The kubelet makes and imports it.
    pub sandbox_image: String,
    /// Asked before a pod's containers start; none if nothing is to be waited for.
    pub network_gate: Option<Arc<dyn NetworkGate>>,
    /// Metrics of what else runs on the node, for the page `/metrics`.
    pub more_metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// Where the kubelet's own HTTPS endpoint is; a hollow node has none.
    pub endpoint: Option<Endpoint>,
    /// `kubeletVersion`, such as `v1.36.2+minik8s1`.
    pub version: String,
}

/// What is often set to fit a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubeletTuning {
    pub max_pods: u32,
    pub logs: LogLimits,
    /// How long a shutdown of the machine is held back.
    pub shutdown: ShutdownGrace,
}

impl Default for KubeletTuning {
    fn default() -> Self {
        KubeletTuning { max_pods: 110, logs: LogLimits::default(), shutdown: ShutdownGrace::default() }
    }
}

/// What is kept of a container's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes from which a new file is begun.
    pub largest: u64,
    /// The present one and older ones.
    pub files: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits { largest: 10 << 20, files: 5 }
    }
}

/// Why a pod may not send packets yet.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NetworkPending(pub Box<dyn std::error::Error + Send + Sync>);

/// Says when a pod may send packets.
pub trait NetworkGate: Send + Sync {
    /// Returns once rules for the pod with these addresses are in place, or with why they are not.
    fn ready<'a>(
        &'a self,
        pod: &'a Pod,
        addresses: &'a [String],
    ) -> BoxFuture<'a, Result<(), NetworkPending>>;
}

/// A kubelet's HTTPS endpoint.
#[derive(Clone)]
pub struct Endpoint {
    /// Must offer to take a client certificate, and verify it: whoever shows one is the API server.
    pub tls: Arc<rustls::ServerConfig>,
    pub bind_address: IpAddr,
    /// 0 picks one; the choice is in [`crate::KubeletHandle::port`] and in the node's status.
    pub port: u16,
    /// Bounds on the port's connections.
    pub connections: ConnectionLimits,
}

impl Config {
    /// Value of the label that marks what this node made in the runtime.
    pub(crate) fn instance_label(&self) -> String {
        format!("{}.{}", self.instance, self.node_name).trim_matches('.').to_string()
    }
}
