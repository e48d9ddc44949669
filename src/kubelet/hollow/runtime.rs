//! A runtime without processes: containers are notes of what a real one would say. It is as long as the trait
//! that it implements.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use client::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Probe;
use parking_lot::Mutex;
use supervisor::{OnExit, Stage};
use tokio::sync::broadcast;
use tonic::Status;

use super::{EXIT_AFTER, EXIT_CODE, READY_AFTER, Script};
use crate::cgroups::Driver;
use crate::images::archive::Bundle;
use crate::images::content::ImportError;
use crate::probes::prober::{Finding, Prober, Target};
use crate::runtime::events::ContainerEvent;
use crate::runtime::{Runtime, RuntimeCall, RuntimeError, StreamRequest};

/// Events that a slow reader may have before it; beyond, it looks at everything.
const EVENTS: usize = 256;
/// Addresses of pods of one node.
const ADDRESSES: u32 = 256;

/// Clones are the same runtime.
#[derive(Clone)]
pub(crate) struct HollowRuntime {
    number: u32,
    script: Script,
    stage: Stage,
    events: broadcast::Sender<ContainerEvent>,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    made: u64,
    sandboxes: BTreeMap<String, HollowSandbox>,
    containers: BTreeMap<String, HollowContainer>,
}

struct HollowSandbox {
    metadata: cri::PodSandboxMetadata,
    labels: HashMap<String, String>,
    created_at: i64,
    is_ready: bool,
    ip: Option<Ipv4Addr>,
    script: PodScript,
}

struct HollowContainer {
    sandbox: String,
    metadata: cri::ContainerMetadata,
    labels: HashMap<String, String>,
    annotations: HashMap<String, String>,
    image: String,
    image_ref: String,
    created_at: i64,
    started_at: i64,
    finished_at: i64,
    exit_code: i32,
}

/// What the containers of one pod do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PodScript {
    ready_after: Duration,
    exit_after: Option<Duration>,
    exit_code: i32,
}

impl PodScript {
    /// The node's script with what the pod's annotations say otherwise. What cannot be read is as if it were
    /// not there.
    fn of(node: Script, annotations: &HashMap<String, String>) -> Self {
        let duration = |key: &str| -> Option<Duration> {
            let given: SignedDuration = annotations.get(key)?.parse().ok()?;
            Duration::try_from(given).ok()
        };
        PodScript {
            ready_after: duration(READY_AFTER).unwrap_or(node.ready_after),
            exit_after: duration(EXIT_AFTER),
            exit_code: annotations.get(EXIT_CODE).and_then(|code| code.parse().ok()).unwrap_or(0),
        }
    }
}

impl HollowContainer {
    fn state(&self) -> cri::ContainerState {
        match (self.started_at, self.finished_at) {
            (0, _) => cri::ContainerState::ContainerCreated,
            (_, 0) => cri::ContainerState::ContainerRunning,
            _ => cri::ContainerState::ContainerExited,
        }
    }
}

fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn carries(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn missing(what: &str, id: &str) -> RuntimeError {
    Status::not_found(format!("no {what} {id}")).into()
}

fn done<'a, T: Send + 'a>(answer: Result<T, RuntimeError>) -> RuntimeCall<'a, T> {
    Box::pin(std::future::ready(answer))
}

impl HollowRuntime {
    pub(crate) fn new(number: u32, script: Script, stage: Stage) -> Self {
        let (events, _) = broadcast::channel(EVENTS);
        HollowRuntime { number, script, stage, events, held: Arc::default() }
    }

    fn new_id(&self, held: &mut Held) -> String {
        held.made += 1;
        format!("hollow{:06x}{:012x}", self.number, held.made)
    }

    fn address(&self, made: u64) -> Ipv4Addr {
        let start = u32::from(Ipv4Addr::new(100, 64, 0, 0));
        let own = u32::try_from(made % u64::from(ADDRESSES)).unwrap_or(0);
        // 100.64.0.0/10 holds the addresses of 16,384 nodes.
        Ipv4Addr::from(start + self.number % 16_384 * ADDRESSES + own)
    }

    /// Ends a container, if it runs.
    pub(crate) fn end(&self, id: &str, exit_code: i32) {
        let ended = {
            let mut held = self.held.lock();
            let running = held.containers.get_mut(id);
            running.filter(|one| one.state() == cri::ContainerState::ContainerRunning).is_some_and(|one| {
                (one.finished_at, one.exit_code) = (now(), exit_code);
                true
            })
        };
        if ended {
            // Nobody may be listening yet; whoever begins looks at everything.
            let _ = self.events.send(ContainerEvent::Exited { container: id.to_string() });
        }
    }

    async fn begin(&self, id: &str) -> Result<(), RuntimeError> {
        let script = {
            let held = self.held.lock();
            let container = held.containers.get(id).ok_or_else(|| missing("container", id))?;
            held.sandboxes.get(&container.sandbox).map(|sandbox| sandbox.script)
        };
        let script = script.ok_or_else(|| missing("sandbox of container", id))?;
        tokio::time::sleep(script.ready_after).await;
        match self.held.lock().containers.get_mut(id) {
            Some(container) => container.started_at = now(),
            None => return Err(missing("container", id)),
        }
        let _ = self.events.send(ContainerEvent::Started { container: id.to_string() });
        if let Some(after) = script.exit_after {
            let (runtime, id) = (self.clone(), id.to_string());
            self.stage.spawn_cancellable("end of a hollow container", OnExit::Done, async move {
                tokio::time::sleep(after).await;
                runtime.end(&id, script.exit_code);
            });
        }
        Ok(())
    }

    fn stop_all(&self, sandbox: &str) {
        let ids: Vec<String> = {
            let held = self.held.lock();
            let mine = held.containers.iter().filter(|(_, one)| one.sandbox == sandbox);
            mine.map(|(id, _)| id.clone()).collect()
        };
        for id in ids {
            self.end(&id, 137);
        }
    }

    async fn deliver_all(&self, deliver: &(dyn Fn(ContainerEvent) + Send + Sync)) {
        let mut events = self.events.subscribe();
        deliver(ContainerEvent::Resumed);
        loop {
            match events.recv().await {
                Ok(event) => deliver(event),
                Err(broadcast::error::RecvError::Lagged(_)) => deliver(ContainerEvent::Resumed),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

fn image_of(name: &str) -> cri::Image {
    cri::Image { id: format!("hollow/{name}"), repo_tags: vec![name.to_string()], ..Default::default() }
}

impl Runtime for HollowRuntime {
    fn version(&self) -> RuntimeCall<'_, cri::VersionResponse> {
        done(Ok(cri::VersionResponse {
            runtime_name: "hollow".to_string(),
            runtime_version: env!("CARGO_PKG_VERSION").to_string(),
            ..Default::default()
        }))
    }

    fn status(&self) -> RuntimeCall<'_, Vec<cri::RuntimeCondition>> {
        let well = |kind: &str| cri::RuntimeCondition {
            r#type: kind.to_string(),
            status: true,
            ..Default::default()
        };
        done(Ok(vec![well("RuntimeReady"), well("NetworkReady")]))
    }

    fn cgroup_driver(&self) -> RuntimeCall<'_, Driver> {
        done(Ok(Driver::Cgroupfs))
    }

    fn run_sandbox(&self, config: cri::PodSandboxConfig, _handler: String) -> RuntimeCall<'_, String> {
        let mut held = self.held.lock();
        let id = self.new_id(&mut held);
        let options = config.linux.and_then(|linux| linux.security_context);
        let options = options.and_then(|context| context.namespace_options);
        let on_host = options.is_some_and(|options| options.network == cri::NamespaceMode::Node as i32);
        let sandbox = HollowSandbox {
            metadata: config.metadata.unwrap_or_default(),
            labels: config.labels,
            created_at: now(),
            is_ready: true,
            ip: (!on_host).then(|| self.address(held.made)),
            script: PodScript::of(self.script, &config.annotations),
        };
        held.sandboxes.insert(id.clone(), sandbox);
        done(Ok(id))
    }

    fn stop_sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        self.stop_all(id);
        if let Some(sandbox) = self.held.lock().sandboxes.get_mut(id) {
            (sandbox.is_ready, sandbox.ip) = (false, None);
        }
        done(Ok(()))
    }

    fn remove_sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        let mut held = self.held.lock();
        held.sandboxes.remove(id);
        held.containers.retain(|_, one| one.sandbox != id);
        done(Ok(()))
    }

    fn sandboxes(&self, labels: HashMap<String, String>) -> RuntimeCall<'_, Vec<cri::PodSandbox>> {
        let held = self.held.lock();
        let found = held.sandboxes.iter().filter(|(_, one)| carries(&one.labels, &labels));
        let listed = found.map(|(id, one)| cri::PodSandbox {
            id: id.clone(),
            metadata: Some(one.metadata.clone()),
            state: sandbox_state(one) as i32,
            created_at: one.created_at,
            labels: one.labels.clone(),
            ..Default::default()
        });
        done(Ok(listed.collect()))
    }

    fn sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, cri::PodSandboxStatus> {
        let held = self.held.lock();
        let found = held.sandboxes.get(id).ok_or_else(|| missing("sandbox", id));
        done(found.map(|one| {
            let network = if one.ip.is_none() { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod };
            let options = cri::NamespaceOption { network: network as i32, ..Default::default() };
            let ip = one.ip.map(|ip| ip.to_string()).unwrap_or_default();
            cri::PodSandboxStatus {
                id: id.to_string(),
                metadata: Some(one.metadata.clone()),
                state: sandbox_state(one) as i32,
                created_at: one.created_at,
                network: Some(cri::PodSandboxNetworkStatus { ip, ..Default::default() }),
                linux: Some(cri::LinuxPodSandboxStatus {
                    namespaces: Some(cri::Namespace { options: Some(options) }),
                }),
                ..Default::default()
            }
        }))
    }

    fn create_container<'a>(
        &'a self,
        sandbox: &'a str,
        config: cri::ContainerConfig,
        _sandbox_config: cri::PodSandboxConfig,
    ) -> RuntimeCall<'a, String> {
        let mut held = self.held.lock();
        if !held.sandboxes.get(sandbox).is_some_and(|one| one.is_ready) {
            return done(Err(missing("ready sandbox", sandbox)));
        }
        let id = self.new_id(&mut held);
        let image = config.image.unwrap_or_default();
        let container = HollowContainer {
            sandbox: sandbox.to_string(),
            metadata: config.metadata.unwrap_or_default(),
            labels: config.labels,
            annotations: config.annotations,
            image: image.user_specified_image,
            image_ref: image.image,
            created_at: now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
        };
        held.containers.insert(id.clone(), container);
        done(Ok(id))
    }

    fn start_container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        Box::pin(self.begin(id))
    }

    fn stop_container<'a>(&'a self, id: &'a str, _grace: Duration) -> RuntimeCall<'a, ()> {
        self.end(id, 0);
        done(Ok(()))
    }

    fn remove_container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        self.held.lock().containers.remove(id);
        done(Ok(()))
    }

    fn update_container<'a>(
        &'a self,
        _id: &'a str,
        _resources: cri::LinuxContainerResources,
    ) -> RuntimeCall<'a, ()> {
        done(Ok(()))
    }

    fn containers(&self, labels: HashMap<String, String>) -> RuntimeCall<'_, Vec<cri::Container>> {
        let held = self.held.lock();
        let found = held.containers.iter().filter(|(_, one)| carries(&one.labels, &labels));
        let listed = found.map(|(id, one)| cri::Container {
            id: id.clone(),
            pod_sandbox_id: one.sandbox.clone(),
            metadata: Some(one.metadata.clone()),
            image_ref: one.image_ref.clone(),
            state: one.state() as i32,
            created_at: one.created_at,
            labels: one.labels.clone(),
            ..Default::default()
        });
        done(Ok(listed.collect()))
    }

    fn container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, cri::ContainerStatus> {
        let held = self.held.lock();
        let found = held.containers.get(id).ok_or_else(|| missing("container", id));
        done(found.map(|one| cri::ContainerStatus {
            id: id.to_string(),
            metadata: Some(one.metadata.clone()),
            state: one.state() as i32,
            created_at: one.created_at,
            started_at: one.started_at,
            finished_at: one.finished_at,
            exit_code: one.exit_code,
            image: Some(cri::ImageSpec { image: one.image.clone(), ..Default::default() }),
            image_ref: one.image_ref.clone(),
            annotations: one.annotations.clone(),
            ..Default::default()
        }))
    }

    fn container_stats(&self, _labels: HashMap<String, String>) -> RuntimeCall<'_, Vec<cri::ContainerStats>> {
        done(Ok(Vec::new()))
    }

    fn reopen_log<'a>(&'a self, _id: &'a str) -> RuntimeCall<'a, ()> {
        done(Ok(()))
    }

    fn exec<'a>(
        &'a self,
        _id: &'a str,
        _command: &'a [String],
        _timeout: Duration,
    ) -> RuntimeCall<'a, cri::ExecSyncResponse> {
        done(Ok(cri::ExecSyncResponse::default()))
    }

    fn stream(&self, _request: StreamRequest) -> RuntimeCall<'_, String> {
        done(Err(Status::unimplemented("a hollow node has no processes to stream from").into()))
    }

    fn images(&self) -> RuntimeCall<'_, Vec<cri::Image>> {
        done(Ok(Vec::new()))
    }

    fn image<'a>(&'a self, name: &'a str) -> RuntimeCall<'a, Option<cri::Image>> {
        done(Ok(Some(image_of(name))))
    }

    fn image_file_systems(&self) -> RuntimeCall<'_, Vec<String>> {
        done(Ok(Vec::new()))
    }

    fn pull_image<'a>(
        &'a self,
        name: &'a str,
        _auth: Option<cri::AuthConfig>,
        _sandbox_config: Option<cri::PodSandboxConfig>,
    ) -> RuntimeCall<'a, String> {
        done(Ok(image_of(name).id))
    }

    fn remove_image<'a>(&'a self, _name: &'a str) -> RuntimeCall<'a, ()> {
        done(Ok(()))
    }

    fn import<'a>(&'a self, _bundle: &'a Bundle) -> BoxFuture<'a, Result<(), ImportError>> {
        Box::pin(async { Ok(()) })
    }

    fn follow<'a>(&'a self, deliver: &'a (dyn Fn(ContainerEvent) + Send + Sync)) -> RuntimeCall<'a, ()> {
        Box::pin(async move {
            self.deliver_all(deliver).await;
            Ok(())
        })
    }
}

fn sandbox_state(sandbox: &HollowSandbox) -> cri::PodSandboxState {
    if sandbox.is_ready { cri::PodSandboxState::SandboxReady } else { cri::PodSandboxState::SandboxNotready }
}

/// Every probe of a hollow container succeeds: it is only asked once the container has started, and that is
/// scripted.
pub(crate) struct HollowProber;

impl Prober for HollowProber {
    fn probe<'a>(
        &'a self,
        _probe: &'a Probe,
        _target: &'a Target,
        _timeout: Duration,
    ) -> BoxFuture<'a, Finding> {
        Box::pin(async { Finding::Success })
    }
}
