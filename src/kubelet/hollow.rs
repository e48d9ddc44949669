//! Nodes that are not there: the real kubelet over a runtime ([`runtime`]) and a machine ([`machine`]) that
//! only pretend.
//!
//! A hollow node registers, holds its lease, reads the config maps, secrets and tokens of its pods and tells
//! their statuses as any node does, through the same code and the same API. No process is started and nothing
//! is written to a disk, so thousands of them fit in one process. What its pods do is a script: [`Script`]
//! for all of a node's, annotations of a pod for its own. Absent: an endpoint (logs are refused), images, and
//! traffic.

mod machine;
pub(crate) mod runtime;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::ObjectApi;
use k8s_openapi::api::core::v1::Taint;
use supervisor::{Latch, Stage};
use tokio::sync::watch;

use crate::{Config, Ground, KubeletTuning, StartError, SysctlAllowlist};
use machine::HollowMachine;
use runtime::{HollowProber, HollowRuntime};

/// How long the containers of a pod take to start, in place of the node's own script. A duration such as
/// `1500ms` or `2m`.
pub(crate) const READY_AFTER: &str = "simulate.minik8s.io/ready-after";
/// How long after its start each container of a pod ends by itself; without it, it runs until it is stopped.
pub(crate) const EXIT_AFTER: &str = "simulate.minik8s.io/exit-after";
/// The code that it ends with; 0 unless said otherwise.
pub(crate) const EXIT_CODE: &str = "simulate.minik8s.io/exit-code";

/// What the pods of a node do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// How long a container takes to start. Pods are Ready once all have, as their probes always succeed.
    pub ready_after: Duration,
}

/// Settings of a hollow node.
#[derive(Clone, Debug)]
pub struct HollowConfig {
    pub node_name: String,
    /// Tells it from others in addresses of pods: node N has the N-th 256 addresses of 100.64.0.0/10.
    pub number: u32,
    /// Published as the node's `InternalIP`.
    pub node_ip: watch::Receiver<IpAddr>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// What the node claims to have.
    pub cpus: u64,
    /// Bytes.
    pub memory: u64,
    pub max_pods: u32,
    /// `kubeletVersion`.
    pub version: String,
    pub script: Script,
}

/// Starts a hollow node as tasks of `stage`; the latch opens once its status has been Ready.
pub async fn start(
    config: HollowConfig,
    api: Arc<dyn ObjectApi>,
    stage: &Stage,
) -> Result<Latch, StartError> {
    let runtime = Arc::new(HollowRuntime::new(config.number, config.script, stage.clone()));
    let machine = HollowMachine { cpus: config.cpus, memory: config.memory, number: config.number };
    let ground = Ground { prober: Arc::new(HollowProber), runtime: runtime.clone(), host: Arc::new(machine) };
    let (handle, node) = crate::start_on(ground, kubelet_config(config), api, stage).await?;
    // There is nothing to bring: every image is there already.
    node.sandbox_image.open();
    Ok(handle.ready)
}

fn kubelet_config(config: HollowConfig) -> Config {
    let nowhere = PathBuf::from("/hollow").join(&config.node_name);
    Config {
        provider_id: Some(format!("minik8s://{}", config.node_name)),
        node_name: config.node_name,
        node_ip: config.node_ip,
        labels: config.labels,
        taints: config.taints,
        instance: String::new(),
        data_dir: nowhere.join("kubelet"),
        log_dir: nowhere.join("logs"),
        images_dir: nowhere.join("images"),
        registries_dir: nowhere.join("registries"),
        storage_dir: nowhere.join("storage"),
        static_pods_dir: None,
        cri_socket: nowhere.join("containerd.sock"),
        cgroup_parent: "/kubepods".to_string(),
        tuning: KubeletTuning { max_pods: config.max_pods, ..KubeletTuning::default() },
        node_ports: Vec::new(),
        cluster_dns: Vec::new(),
        cluster_domain: "cluster.local".to_string(),
        sysctls: SysctlAllowlist::default(),
        seccomp_default: false,
        sandbox_image: "minik8s.local/pause:1".to_string(),
        network_gate: None,
        more_metrics: None,
        endpoint: None,
        version: config.version,
    }
}

#[cfg(test)]
mod tests;
