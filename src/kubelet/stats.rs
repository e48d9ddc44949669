//! What the node, its pods and their containers use, measured when somebody asks.
//!
//! The node and pods are read from their cgroups, containers are asked of the runtime in one call.
//! Processor time is a sum, and a rate needs two measurements: the last one is kept, and where there is
//! none that is recent, two are made a second apart. Nothing is measured while nobody asks. Absent:
//! accelerators, user-defined metrics, and the runtime's own processes.

pub(crate) mod cadvisor;
mod interfaces;
pub(crate) mod resource;
pub(crate) mod summary;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cgroups::Cgroups;
use crate::cgroups::usage::CgroupUsage;
use crate::files;
use crate::files::tree::TreeUsage;
use crate::host::Host;
use crate::node::machine::{self, Disk};
use crate::pods::statics::NodePods;
use crate::runtime::{Runtime, RuntimeError, labels};
use crate::spec::PodExt;
use interfaces::Interface;

/// A measurement is good for a rate for so long.
const RECENT: Duration = Duration::from_secs(60);
/// Measurements closer together make no new rate.
const APART: Duration = Duration::from_secs(1);

/// Where measurements come from. Clones share what was measured last.
#[derive(Clone)]
pub(crate) struct Stats {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) cgroups: Arc<Cgroups>,
    pub(crate) pods: NodePods,
    pub(crate) settings: Arc<StatsSettings>,
    pub(crate) rates: Arc<Mutex<Rates>>,
}

/// What does not change while the node runs.
pub(crate) struct StatsSettings {
    pub(crate) node_name: String,
    pub(crate) instance_label: String,
    pub(crate) data_dir: std::path::PathBuf,
    pub(crate) log_dir: std::path::PathBuf,
    pub(crate) started: Timestamp,
}

/// Processor time of something, and how fast it grew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// Nanoseconds since it began.
    pub(crate) used: u64,
    /// Nanoseconds a second.
    pub(crate) rate: Option<u64>,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) used: u64,
    pub(crate) working_set: u64,
    pub(crate) rss: u64,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
    pub(crate) limit: Option<u64>,
}

impl From<CgroupUsage> for Memory {
    fn from(usage: CgroupUsage) -> Self {
        Memory {
            used: usage.memory,
            working_set: usage.working_set,
            rss: usage.rss,
            page_faults: usage.page_faults,
            major_page_faults: usage.major_page_faults,
            limit: usage.memory_limit,
        }
    }
}

/// One measurement of everything.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) at: Timestamp,
    pub(crate) node: NodeMeasured,
    pub(crate) pods: Vec<PodMeasured>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct NodeMeasured {
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    pub(crate) available_memory: u64,
    pub(crate) all_pods: Option<(Cpu, Memory)>,
    pub(crate) disk: Option<Disk>,
    /// Processes that exist and that may exist.
    pub(crate) processes: Option<(u64, u64)>,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) default_interface: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct PodMeasured {
    pub(crate) pod: Arc<Pod>,
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    pub(crate) processes: u64,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) containers: Vec<ContainerMeasured>,
    /// What logs and volumes on the node's disk take, with the containers' own layers.
    pub(crate) storage: Storage,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Storage {
    pub(crate) logs: TreeUsage,
    /// By name of the volume; those that are the node's own to give.
    pub(crate) volumes: BTreeMap<String, TreeUsage>,
}

#[derive(Clone, Debug)]
pub(crate) struct ContainerMeasured {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) image: String,
    pub(crate) started: Option<Timestamp>,
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    pub(crate) layer: TreeUsage,
    pub(crate) logs: TreeUsage,
}

impl PodMeasured {
    /// All of the node's disk that the pod takes.
    pub(crate) fn disk(&self) -> TreeUsage {
        let mut total = self.storage.logs;
        self.containers.iter().for_each(|one| total += one.layer);
        self.storage.volumes.values().for_each(|one| total += *one);
        total
    }
}

/// The last measurement of each processor time.
#[derive(Default)]
pub(crate) struct Rates {
    known: HashMap<String, Known>,
}

struct Known {
    at: Instant,
    used: u64,
    rate: Option<u64>,
}

impl Rates {
    /// Adds a measurement; the rate since the one before, if they are far enough apart.
    fn add(&mut self, key: &str, used: u64, at: Instant) -> Cpu {
        let Some(known) = self.known.get_mut(key) else {
            self.known.insert(key.to_string(), Known { at, used, rate: None });
            return Cpu { used, rate: None };
        };
        let elapsed = at.duration_since(known.at);
        if elapsed >= APART {
            let grown = u128::from(used.saturating_sub(known.used));
            let rate = grown * 1_000_000_000 / elapsed.as_nanos().max(1);
            *known = Known { at, used, rate: u64::try_from(rate).ok() };
        }
        Cpu { used, rate: known.rate }
    }

    fn is_recent(&self, key: &str, at: Instant) -> bool {
        self.known.get(key).is_some_and(|known| {
            let age = at.duration_since(known.at);
            known.rate.is_some() && age < RECENT || (APART..RECENT).contains(&age)
        })
    }

    /// Forgets what was not measured since.
    fn forget_before(&mut self, at: Instant) {
        self.known.retain(|_, known| at.duration_since(known.at) < RECENT);
    }
}

const NODE: &str = "node";

/// Of which pods the disk is measured: that walks all that they have written.
pub(crate) type Which = fn(&Pod) -> bool;

pub(crate) fn everybody(_pod: &Pod) -> bool {
    true
}

pub(crate) fn nobody(_pod: &Pod) -> bool {
    false
}

impl Stats {
    /// Measures everything, with rates; of the disk what these pods take.
    pub(crate) async fn measure(&self, with_disk: Which) -> Result<Measured, RuntimeError> {
        if !self.rates.lock().is_recent(NODE, Instant::now()) {
            self.measure_once(nobody).await?;
            tokio::time::sleep(APART).await;
        }
        self.measure_once(with_disk).await
    }

    /// The same without waiting for rates.
    pub(crate) async fn measure_once(&self, with_disk: Which) -> Result<Measured, RuntimeError> {
        let label = self.settings.instance_label.clone();
        let mine: HashMap<String, String> = [(labels::INSTANCE.to_string(), label)].into();
        let (stats, listed, sandboxes) = futures::future::try_join3(
            self.runtime.container_stats(mine.clone()),
            self.runtime.containers(mine.clone()),
            self.runtime.sandboxes(mine),
        )
        .await?;
        let mut by_pod: HashMap<String, Vec<(cri::Container, Option<cri::ContainerStats>)>> = HashMap::new();
        let mut stats: HashMap<String, cri::ContainerStats> =
            stats.into_iter().filter_map(|one| Some((one.attributes.as_ref()?.id.clone(), one))).collect();
        let running = cri::ContainerState::ContainerRunning as i32;
        for container in listed.into_iter().filter(|one| one.state == running) {
            let found = stats.remove(&container.id);
            let uid = container.labels.get(labels::POD_UID).cloned().unwrap_or_default();
            by_pod.entry(uid).or_default().push((container, found));
        }
        let ready = cri::PodSandboxState::SandboxReady as i32;
        let sandboxes: HashMap<String, String> = sandboxes
            .into_iter()
            .filter(|one| one.state == ready)
            .filter_map(|one| Some((one.labels.get(labels::POD_UID)?.clone(), one.id)))
            .collect();
        let shared = self.clone();
        let measured = files::blocking(move || shared.read(by_pod, &sandboxes, with_disk)).await;
        self.rates.lock().forget_before(Instant::now());
        Ok(measured)
    }

    /// What is read from files. Blocks.
    fn read(
        &self,
        mut by_pod: HashMap<String, Vec<(cri::Container, Option<cri::ContainerStats>)>>,
        sandboxes: &HashMap<String, String>,
        with_disk: Which,
    ) -> Measured {
        let node = self.read_node();
        let mut pods = Vec::new();
        for pod in self.pods.list() {
            let Some(sandbox) = sandboxes.get(pod.uid()) else { continue };
            let containers = by_pod.remove(pod.uid()).unwrap_or_default();
            let with_disk = with_disk(&pod);
            pods.push(self.read_pod(pod, sandbox, containers, with_disk));
        }
        Measured { at: Timestamp::now(), node, pods }
    }

    fn read_node(&self) -> NodeMeasured {
        let host = &*self.host;
        let used = host.cgroup_usage("").unwrap_or_default();
        let facts = host.read_text("/proc/meminfo");
        let of = |name| machine::meminfo(&facts, name);
        let available_memory = host.available_memory();
        let pods = self.cgroups.path_of_pods();
        let all_pods = host.cgroup_usage(&pods).map(|usage| (self.rate(&pods, usage.cpu), usage.into()));
        NodeMeasured {
            cpu: self.rate(NODE, used.cpu),
            memory: Memory {
                used: of("MemTotal").saturating_sub(of("MemFree")),
                working_set: of("MemTotal").saturating_sub(available_memory),
                rss: of("AnonPages"),
                limit: None,
                ..used.into()
            },
            available_memory,
            all_pods,
            disk: host.disk(&self.settings.data_dir),
            processes: host.processes(),
            interfaces: interfaces::parse(&host.read_text("/proc/net/dev")),
            default_interface: interfaces::default_of(&host.read_text("/proc/net/route")),
        }
    }

    fn rate(&self, key: &str, used: u64) -> Cpu {
        self.rates.lock().add(key, used, Instant::now())
    }

    fn read_pod(
        &self,
        pod: Arc<Pod>,
        sandbox: &str,
        containers: Vec<(cri::Container, Option<cri::ContainerStats>)>,
        with_disk: bool,
    ) -> PodMeasured {
        let host = &*self.host;
        let cgroup = self.cgroups.path_of(&pod);
        let used = host.cgroup_usage(&cgroup).unwrap_or_default();
        let interfaces = if pod.host_network() {
            Vec::new()
        } else {
            interfaces::parse(&host.cgroup_network(&self.cgroups.path_of_container(&pod, sandbox)))
        };
        let name = format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid());
        let logs = self.settings.log_dir.join(name);
        let storage = if with_disk { self.storage(&pod, &logs) } else { Storage::default() };
        let containers = containers
            .into_iter()
            .map(|(container, stats)| {
                let cgroup = self.cgroups.path_of_container(&pod, &container.id);
                let mut measured = self.read_container(container, stats, &cgroup);
                if with_disk {
                    measured.logs = host.tree_usage(&logs.join(&measured.name));
                }
                measured
            })
            .collect();
        PodMeasured {
            cpu: self.rate(&cgroup, used.cpu),
            memory: used.into(),
            processes: used.processes,
            interfaces,
            containers,
            storage,
            pod,
        }
    }

    fn storage(&self, pod: &Pod, logs: &std::path::Path) -> Storage {
        let volumes = self.settings.data_dir.join("pods").join(pod.uid()).join("volumes");
        let local = pod.spec_ref().volumes.iter().flatten().filter_map(|volume| {
            let plugin = match (&volume.empty_dir, &volume.config_map, &volume.downward_api) {
                // Memory is counted as such.
                (Some(empty), _, _) if empty.medium.as_deref() == Some("Memory") => return None,
                (Some(_), _, _) => "kubernetes.io~empty-dir",
                (_, Some(_), _) => "kubernetes.io~configmap",
                (_, _, Some(_)) => "kubernetes.io~downward-api",
                _ => return None,
            };
            Some((volume.name.clone(), self.host.tree_usage(&volumes.join(plugin).join(&volume.name))))
        });
        Storage { logs: self.host.tree_usage(logs), volumes: local.collect() }
    }

    fn read_container(
        &self,
        container: cri::Container,
        stats: Option<cri::ContainerStats>,
        cgroup: &str,
    ) -> ContainerMeasured {
        let stats = stats.unwrap_or_default();
        let value = |one: Option<cri::UInt64Value>| one.map(|one| one.value);
        let (cpu, memory) = (stats.cpu.unwrap_or_default(), stats.memory.unwrap_or_default());
        let layer = stats.writable_layer.unwrap_or_default();
        // The runtime's word first: containers of a virtual machine are in no cgroup of ours.
        let own = self.host.cgroup_usage(cgroup).unwrap_or_default();
        let used = value(cpu.usage_core_nano_seconds).unwrap_or(own.cpu);
        ContainerMeasured {
            cpu: self.rate(&container.id, used),
            memory: Memory {
                used: value(memory.usage_bytes).filter(|used| *used > 0).unwrap_or(own.memory),
                working_set: value(memory.working_set_bytes).unwrap_or(own.working_set),
                rss: value(memory.rss_bytes).filter(|rss| *rss > 0).unwrap_or(own.rss),
                ..own.into()
            },
            layer: TreeUsage {
                bytes: value(layer.used_bytes).unwrap_or(0),
                inodes: value(layer.inodes_used).unwrap_or(0),
            },
            logs: TreeUsage::default(),
            started: crate::runtime::state::time(container.created_at),
            image: container.image.map(|image| image.user_specified_image).unwrap_or_default(),
            name: container.metadata.unwrap_or_default().name,
            id: container.id,
        }
    }
}

#[cfg(test)]
mod tests;
