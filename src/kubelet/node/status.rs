//! The node's status: sent when something in it changes, and every 5 minutes. Conditions carry upstream's
//! reasons, messages and events. The runtime's health is asked for with each lease period, and quickly while
//! it is not well.

use std::sync::Arc;
use std::time::Duration;

use api::Patch;
use client::events::{EventType, Recorder};
use client::{Api, ObjectApi};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
    NodeSwapStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};
use supervisor::{Latch, OnExit, Stage};
use tokio::sync::{Notify, watch};

use super::machine::Machine;
use super::{lease, register};
use crate::Config;
use crate::host::Host;
use crate::images::import::node_reference;
use crate::pods::admit::pressure::Pressure;
use crate::runtime::{Runtime, RuntimeHealth};
use crate::spec::amount::Resources;
use crate::wake::{WakeReason, Wakers};

/// A full report at least this often.
const REPORT: Duration = Duration::from_secs(300);
/// Upstream's `nodeStatusMaxImages`.
const MOST_IMAGES: usize = 50;

/// What a node is told with.
#[derive(Clone)]
pub(crate) struct NodeAgent {
    pub(crate) config: Arc<Config>,
    pub(crate) api: Arc<dyn ObjectApi>,
    pub(crate) stage: Stage,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) recorder: Recorder,
    pub(crate) wakers: Wakers,
    pub(crate) machine: Arc<Machine>,
    pub(crate) allocatable: Resources,
    /// The node's own object, once it is known.
    pub(crate) node: watch::Sender<Option<Arc<Node>>>,
    pub(crate) health: watch::Sender<RuntimeHealth>,
    /// What the node is short of.
    pub(crate) pressure: watch::Sender<Pressure>,
    /// The machine is about to be shut down.
    pub(crate) is_going_down: watch::Sender<bool>,
}

/// Registers the node and keeps its status, its lease and what is known of it current. `port` is the
/// kubelet's, if it has one.
pub(crate) async fn run(agent: NodeAgent, port: Option<u16>, ready: Latch) {
    let name = &agent.config.node_name;
    agent.recorder.event(&node_reference(name), EventType::Normal, "Starting", "Starting kubelet.");
    watch_health(&agent).await;
    let mut reporter = Reporter { agent: agent.clone(), port, last: NodeStatus::default(), sent: None };
    let first = reporter.status().await;
    let node = register::register(&agent.api, &agent.config, &first).await;
    // Pods must not be judged by a node that is not known yet.
    agent.node.send_replace(Some(node.clone()));
    reporter.last = node.status.clone().unwrap_or_default();
    tell_reboot(&agent, &reporter.last);
    let gone = follow_node(&agent);
    let lease =
        lease::run(agent.api.clone(), node.metadata.name.clone().unwrap_or_default(), agent.node.subscribe());
    agent.stage.spawn_cancellable("node lease", OnExit::Stop, lease);
    let mut health = agent.health.subscribe();
    let mut address = agent.config.node_ip.clone();
    let mut pressure = agent.pressure.subscribe();
    let mut is_going_down = agent.is_going_down.subscribe();
    loop {
        address.mark_unchanged();
        pressure.mark_unchanged();
        is_going_down.mark_unchanged();
        let well = *health.borrow_and_update() == RuntimeHealth::Ready;
        match reporter.report().await {
            Ok(()) if well => ready.open(),
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "node status was not sent, will retry");
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        }
        tokio::select! {
            _ = health.changed() => {}
            _ = pressure.changed() => {}
            _ = is_going_down.changed() => {}
            Ok(()) = address.changed() => {
                let now = *address.borrow_and_update();
                tracing::info!(address = %now, "the node has another address");
                // Pods on the host's network have its address in their status.
                agent.wakers.wake_all(WakeReason::Address);
            }
            () = gone.notified() => {
                tracing::warn!(node = %agent.config.node_name, "the node's object is gone: it registers again");
                reporter.register_again().await;
            }
            () = tokio::time::sleep(lease::RENEW) => {}
        }
    }
}

/// The node is known from before, but the machine has been started anew since.
fn tell_reboot(agent: &NodeAgent, known: &NodeStatus) {
    let before = known.node_info.as_ref().map_or("", |info| info.boot_id.as_str());
    let now = &agent.machine.boot_id;
    if !before.is_empty() && before != now {
        let name = &agent.config.node_name;
        let message = format!("Node {name} has been rebooted, boot id: {now}");
        agent.recorder.event(&node_reference(name), EventType::Warning, "Rebooted", message);
    }
}

/// Keeps the node's own object current, and tells when it is gone: somebody has deleted it, or the cluster
/// was restored from a time when it was not there yet.
fn follow_node(agent: &NodeAgent) -> Arc<Notify> {
    let fields = api::FieldSelector::equals("metadata.name", &agent.config.node_name);
    let informers = client::Informers::new(agent.api.clone(), agent.stage.clone());
    let nodes = informers.selected::<Node>(None, api::LabelSelector::everything(), fields);
    let known = agent.node.clone();
    let gone = Arc::new(Notify::new());
    let tell = gone.clone();
    nodes.on_change(move |change| match &change.new {
        Some(node) => {
            known.send_replace(Some(node.clone()));
        }
        None => tell.notify_one(),
    });
    gone
}

/// Asks the runtime how it is: first at once, then every lease period, quickly while it is not ready.
async fn watch_health(agent: &NodeAgent) {
    let first = health(&*agent.runtime).await;
    agent.health.send_replace(first);
    let shared = agent.clone();
    agent.stage.spawn_cancellable("runtime health", OnExit::Stop, async move {
        let mut delay = Duration::from_millis(20);
        loop {
            let is_ready = *shared.health.borrow() == RuntimeHealth::Ready;
            if is_ready {
                delay = Duration::from_millis(20);
                tokio::time::sleep(lease::RENEW).await;
            } else {
                tokio::time::sleep(delay).await;
                delay = (delay * 3 / 2).min(Duration::from_secs(2));
            }
            let now = health(&*shared.runtime).await;
            let became_ready = now == RuntimeHealth::Ready && !is_ready;
            shared.health.send_if_modified(|health| std::mem::replace(health, now.clone()) != now);
            if became_ready {
                shared.wakers.wake_all(WakeReason::Runtime);
            }
        }
    });
}

async fn health(runtime: &dyn Runtime) -> RuntimeHealth {
    let conditions = match runtime.status().await {
        Ok(conditions) => conditions,
        Err(_) => return RuntimeHealth::Down("container runtime is down".to_string()),
    };
    let failing = |kind: &str| {
        let one = conditions.iter().find(|one| one.r#type == kind);
        match one {
            Some(one) if one.status => None,
            Some(one) => Some(format!("{kind}={} reason:{} message:{}", one.status, one.reason, one.message)),
            None => Some(format!("{kind}=false reason: message:the runtime does not tell")),
        }
    };
    if let Some(why) = failing("RuntimeReady") {
        return RuntimeHealth::Down(format!("container runtime not ready: {why}"));
    }
    match failing("NetworkReady") {
        Some(why) => RuntimeHealth::NetworkNotReady(format!("container runtime network not ready: {why}")),
        None => RuntimeHealth::Ready,
    }
}

struct Reporter {
    agent: NodeAgent,
    port: Option<u16>,
    /// As the API has it.
    last: NodeStatus,
    sent: Option<tokio::time::Instant>,
}

impl Reporter {
    async fn report(&mut self) -> Result<(), api::ApiError> {
        let mut status = self.status().await;
        let due = self.sent.is_none_or(|at| at.elapsed() >= REPORT);
        if !due {
            keep_heartbeats(&mut status, &self.last);
        }
        let patch = difference(&self.last, &status);
        let Some(patch) = patch else { return Ok(()) };
        let nodes: Api<Node> = Api::all(self.agent.api.clone());
        let name = &self.agent.config.node_name;
        match nodes.patch_status(name, Patch::strategic(json!({"status": patch}))).await {
            Ok(node) => {
                self.tell(&status);
                self.last = node.status.clone().unwrap_or_default();
                self.sent = Some(tokio::time::Instant::now());
                Ok(())
            }
            Err(error) if error.is_not_found() => {
                self.register_again().await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The node comes back while it runs, as upstream's does after a restart.
    async fn register_again(&mut self) {
        let status = self.status().await;
        let node = register::register(&self.agent.api, &self.agent.config, &status).await;
        self.last = node.status.clone().unwrap_or_default();
        self.agent.node.send_replace(Some(node));
    }

    /// Events for conditions that changed.
    fn tell(&self, status: &NodeStatus) {
        let reference = node_reference(&self.agent.config.node_name);
        let name = &self.agent.config.node_name;
        for condition in status.conditions.iter().flatten() {
            let old = self.last.conditions.iter().flatten().find(|one| one.type_ == condition.type_);
            if self.sent.is_some() && old.is_some_and(|old| old.status == condition.status) {
                continue;
            }
            let event = match (condition.type_.as_str(), condition.status.as_str()) {
                ("Ready", "True") => "NodeReady",
                ("Ready", _) => "NodeNotReady",
                ("MemoryPressure", "True") => "NodeHasInsufficientMemory",
                ("MemoryPressure", _) => "NodeHasSufficientMemory",
                ("DiskPressure", "True") => "NodeHasDiskPressure",
                ("DiskPressure", _) => "NodeHasNoDiskPressure",
                ("PIDPressure", "True") => "NodeHasInsufficientPID",
                ("PIDPressure", _) => "NodeHasSufficientPID",
                _ => continue,
            };
            let message = format!("Node {name} status is now: {event}");
            self.agent.recorder.event(&reference, EventType::Normal, event, message);
        }
    }

    async fn status(&self) -> NodeStatus {
        let agent = &self.agent;
        let config = &agent.config;
        let own = config.node_ip.borrow().to_string();
        let address = |kind: &str, address: String| NodeAddress { type_: kind.to_string(), address };
        NodeStatus {
            capacity: Some(agent.machine.capacity(config.tuning.max_pods)),
            allocatable: Some(agent.allocatable.clone()),
            conditions: Some(self.conditions()),
            addresses: Some(vec![address("InternalIP", own), address("Hostname", config.node_name.clone())]),
            daemon_endpoints: self.port.map(|port| NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(port) }),
            }),
            node_info: Some(self.info().await),
            images: Some(images(&*agent.runtime).await),
            ..NodeStatus::default()
        }
    }

    async fn info(&self) -> NodeSystemInfo {
        let machine = &self.agent.machine;
        // While the runtime is down, the version it had is the best answer.
        let runtime = match self.agent.runtime.version().await {
            Ok(version) => format!("{}://{}", version.runtime_name, version.runtime_version),
            Err(_) => {
                let last = self.last.node_info.as_ref().map(|info| info.container_runtime_version.clone());
                last.filter(|text| !text.is_empty()).unwrap_or_else(|| "containerd://Unknown".to_string())
            }
        };
        NodeSystemInfo {
            architecture: Machine::architecture().to_string(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: runtime,
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: self.agent.config.version.clone(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_string(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            swap: (machine.swap > 0)
                .then(|| NodeSwapStatus { capacity: Some(i64::try_from(machine.swap).unwrap_or(i64::MAX)) }),
        }
    }

    fn conditions(&self) -> Vec<NodeCondition> {
        let short_of = *self.agent.pressure.borrow();
        let is_going_down = *self.agent.is_going_down.borrow();
        let (ready, why) = match &*self.agent.health.borrow() {
            RuntimeHealth::Ready if is_going_down => (false, "node is shutting down".to_string()),
            RuntimeHealth::Ready => (true, "kubelet is posting ready status".to_string()),
            RuntimeHealth::Unknown => {
                (false, "container runtime status check may not have completed yet".to_string())
            }
            RuntimeHealth::Down(why) | RuntimeHealth::NetworkNotReady(why) => (false, why.clone()),
        };
        let pressure = |kind: &str, has: bool, yes: [&str; 2], no: [&str; 2]| {
            let [reason, message] = if has { yes } else { no };
            self.condition(kind, has, reason, message)
        };
        vec![
            pressure(
                "MemoryPressure",
                short_of.memory,
                ["KubeletHasInsufficientMemory", "kubelet has insufficient memory available"],
                ["KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
            ),
            pressure(
                "DiskPressure",
                short_of.disk,
                ["KubeletHasDiskPressure", "kubelet has disk pressure"],
                ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
            ),
            pressure(
                "PIDPressure",
                short_of.pids,
                ["KubeletHasInsufficientPID", "kubelet has insufficient PID available"],
                ["KubeletHasSufficientPID", "kubelet has sufficient PID available"],
            ),
            self.condition("Ready", ready, if ready { "KubeletReady" } else { "KubeletNotReady" }, &why),
        ]
    }

    fn condition(&self, kind: &str, status: bool, reason: &str, message: &str) -> NodeCondition {
        let now = Time(Timestamp::now());
        let status = if status { "True" } else { "False" };
        let old = self.last.conditions.iter().flatten().find(|one| one.type_ == kind && one.status == status);
        NodeCondition {
            type_: kind.to_string(),
            status: status.to_string(),
            reason: Some(reason.to_string()),
            message: Some(message.to_string()),
            last_transition_time: old.and_then(|one| one.last_transition_time.clone()).or(Some(now.clone())),
            last_heartbeat_time: Some(now),
        }
    }
}

/// Largest first, as upstream lists them.
async fn images(runtime: &dyn Runtime) -> Vec<ContainerImage> {
    let mut images = runtime.images().await.unwrap_or_default();
    images.sort_by(|one, other| other.size.cmp(&one.size).then_with(|| one.id.cmp(&other.id)));
    images.truncate(MOST_IMAGES);
    let names = |image: k8s_cri::v1::Image| {
        let mut names = image.repo_digests;
        names.extend(image.repo_tags);
        names.truncate(5);
        ContainerImage { names: Some(names), size_bytes: i64::try_from(image.size).ok() }
    };
    images
        .into_iter()
        .map(names)
        .filter(|one| one.names.as_ref().is_some_and(|names| !names.is_empty()))
        .collect()
}

/// Between full reports a heartbeat alone is no change.
fn keep_heartbeats(status: &mut NodeStatus, last: &NodeStatus) {
    for condition in status.conditions.iter_mut().flatten() {
        let same = |old: &&NodeCondition| {
            old.type_ == condition.type_
                && old.status == condition.status
                && old.reason == condition.reason
                && old.message == condition.message
        };
        if let Some(old) = last.conditions.iter().flatten().find(same) {
            condition.last_heartbeat_time = old.last_heartbeat_time.clone();
        }
    }
}

/// A strategic merge patch with what changed; conditions and addresses of others stay.
fn difference(old: &NodeStatus, new: &NodeStatus) -> Option<Value> {
    let tree = |status: &NodeStatus| match serde_json::to_value(status) {
        Ok(Value::Object(tree)) => tree,
        _ => Map::new(),
    };
    let (old, new) = (tree(old), tree(new));
    let mut patch = Map::new();
    for (key, value) in new {
        let had = old.get(&key);
        if had == Some(&value) {
            continue;
        }
        if let ("conditions" | "addresses", Some(Value::Array(had)), Value::Array(now)) =
            (key.as_str(), had, &value)
        {
            let changed: Vec<Value> = now.iter().filter(|one| !had.contains(one)).cloned().collect();
            if !changed.is_empty() {
                patch.insert(key, Value::Array(changed));
            }
            continue;
        }
        patch.insert(key, value);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}
