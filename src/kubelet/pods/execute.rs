//! Carrying out a plan: sandbox, then containers in order. What fails is told in an event and kept as the
//! reason for which the container waits. What changes containers that are there is in [`changing`].

mod changing;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::events::EventType;
use client::{Api, ObjectApi};
use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, ResourceRequirements};
use k8s_openapi::api::node::v1::RuntimeClass;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::backoff::{Backoff, go_duration};
use super::hooks;
use super::inputs::{InputError, Inputs};
use super::kill::{self, Killer};
use super::plan::PodActions;
use super::turns::Turn;
use crate::cgroups::Cgroups;
use crate::config::{NetworkGate, NetworkPending};
use crate::events::PodEvents;
use crate::files;
use crate::host::Host;
use crate::images::ImageManager;
use crate::probes::ProbeKind;
use crate::runtime::state::{ContainerPhase, ContainerRecord, PodRuntime, time};
use crate::runtime::{Runtime, RuntimeHealth};
use crate::spec::container::ContainerInput;
use crate::spec::sandbox::SandboxInput;
use crate::spec::security::SeccompRules;
use crate::spec::{PodExt, Slot, container, dns, sandbox, security};
use crate::status::input::Reasons;
use crate::volumes::Mounted;
use crate::wake::Owners;

/// What came of carrying out a plan.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The runtime's state is not what it was: look again.
    pub(crate) changed: bool,
    /// Something failed or waits: try again then.
    pub(crate) retry: Option<Timestamp>,
    /// Why the pod could not be given what it was granted.
    pub(crate) resize_error: Option<String>,
}

impl Done {
    fn retry_at(&mut self, at: Timestamp) {
        self.retry = Some(self.retry.map_or(at, |other| other.min(at)));
    }
}

/// What starting containers takes, for all pods of a node.
pub(crate) struct Launcher {
    pub(crate) api: Arc<dyn ObjectApi>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) health: watch::Receiver<RuntimeHealth>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) events: PodEvents,
    pub(crate) killer: Killer,
    pub(crate) images: ImageManager,
    pub(crate) cgroups: Arc<Cgroups>,
    pub(crate) inputs: Inputs,
    pub(crate) restarts: Mutex<Backoff>,
    pub(crate) owners: Owners,
    /// Resources that containers were brought to after they had been made, by id.
    pub(crate) resized: Mutex<HashMap<String, ResourceRequirements>>,
    /// Asked before the first container of a pod starts.
    pub(crate) network_gate: Option<Arc<dyn NetworkGate>>,
    pub(crate) settings: LaunchSettings,
}

/// The node's settings that sandboxes and containers are made with.
pub(crate) struct LaunchSettings {
    /// Value of the label that marks what this node made in the runtime.
    pub(crate) instance_label: String,
    pub(crate) log_dir: PathBuf,
    pub(crate) seccomp_dir: PathBuf,
    pub(crate) seccomp_default: bool,
    pub(crate) cluster_dns: Vec<IpAddr>,
    pub(crate) cluster_domain: String,
    /// Bytes.
    pub(crate) node_memory: u64,
}

impl LaunchSettings {
    pub(crate) fn log_directory(&self, pod: &Pod) -> PathBuf {
        self.log_dir.join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
    }
}

/// One pod's run through a plan.
pub(crate) struct Execution<'a> {
    pub(crate) launcher: &'a Launcher,
    pub(crate) pod: &'a Pod,
    pub(crate) status: &'a PodStatus,
    pub(crate) runtime: &'a PodRuntime,
    pub(crate) mounted: &'a Mounted,
    pub(crate) reasons: &'a mut Reasons,
    pub(crate) ending: supervisor::CancellationToken,
    /// How often making the sandbox has failed in a row.
    pub(crate) sandbox_failures: &'a mut u32,
    /// The turn to start; only a plan that starts something has one.
    pub(crate) turn: Option<&'a Turn>,
}

struct Failure {
    reason: &'static str,
    message: String,
    retry: Option<Timestamp>,
}

impl Failure {
    fn soon(reason: &'static str, message: String) -> Self {
        Failure { reason, message, retry: Some(Timestamp::now() + SignedDuration::from_secs(10)) }
    }
}

impl Execution<'_> {
    pub(crate) async fn run(mut self, plan: PodActions) -> Done {
        let mut done = Done::default();
        if plan.kill_pod && !self.runtime.is_empty() {
            if plan.create_sandbox && plan.attempt > 0 {
                let message = "Pod sandbox changed, it will be killed and re-created.";
                self.launcher.events.pod(self.pod, EventType::Normal, "SandboxChanged", message);
            }
            if let Err(error) = self.kill_pod(&mut done).await {
                self.launcher.events.pod(
                    self.pod,
                    EventType::Warning,
                    "FailedKillPod",
                    format!("error killing pod: {error}"),
                );
                done.retry_at(Timestamp::now() + SignedDuration::from_secs(2));
                return done;
            }
        }
        for kill in &plan.kill {
            self.kill_one(kill, &mut done).await;
        }
        if let Some(slot) = plan.reset {
            self.reset(slot, &mut done).await;
            return done;
        }
        if plan.sandbox.is_some() && !plan.kill_pod {
            self.resize(&plan, &mut done).await;
        }
        if !plan.starts_something() {
            return done;
        }
        let config = self.sandbox_config(plan.attempt).await;
        let (id, ips) = match plan.sandbox {
            Some(id) => (id, self.runtime.sandboxes.first().map(|one| one.ips.clone()).unwrap_or_default()),
            None if plan.create_sandbox => match self.create_sandbox(&config).await {
                Ok(created) => {
                    done.changed = true;
                    *self.sandbox_failures = 0;
                    created
                }
                Err((reason, message)) => {
                    *self.sandbox_failures += 1;
                    self.launcher.events.pod(self.pod, EventType::Warning, reason, message);
                    let wait = (1i64 << (*self.sandbox_failures).min(4)).min(10);
                    done.retry_at(Timestamp::now() + SignedDuration::from_secs(wait));
                    return done;
                }
            },
            None => return done,
        };
        if let Err(why) = self.pass_network_gate(&ips).await {
            let message = format!("network is not ready: {why}");
            self.launcher.events.pod(self.pod, EventType::Warning, "NetworkNotReady", message);
            done.retry_at(Timestamp::now() + SignedDuration::from_secs(2));
            return done;
        }
        let ips = if self.pod.host_network() { self.launcher.inputs.host_ips() } else { ips };
        for slot in plan.start {
            if self.ending.is_cancelled() {
                break;
            }
            self.start(slot, &id, &ips, &config, &mut done).await;
        }
        done
    }

    /// Waits for rules that must be there before the pod's first packet.
    async fn pass_network_gate(&self, ips: &[String]) -> Result<(), NetworkPending> {
        match &self.launcher.network_gate {
            Some(gate) if !self.pod.host_network() => tokio::select! {
                passed = gate.ready(self.pod, ips) => passed,
                () = self.ending.cancelled() => Err(NetworkPending("the pod is being deleted".into())),
            },
            _ => Ok(()),
        }
    }

    async fn kill_pod(&self, done: &mut Done) -> Result<(), crate::runtime::RuntimeError> {
        let alive = self.runtime.running().next().is_some();
        let killer = &self.launcher.killer;
        killer.containers(Some(self.pod), self.runtime, kill::grace_of(Some(self.pod), None)).await?;
        if alive || self.runtime.sandboxes.iter().any(|one| one.ready) {
            done.changed = true;
        }
        killer.sandboxes(self.runtime).await
    }

    async fn kill_one(&self, kill: &super::plan::Kill, done: &mut Done) {
        let Some(record) = self.runtime.containers.iter().find(|one| one.id == kill.id) else { return };
        let definition = self.pod.find_container(&kill.name);
        let probe = definition.and_then(|one| match kill.probe {
            Some(ProbeKind::Liveness) => one.liveness_probe.as_ref(),
            Some(ProbeKind::Startup) => one.startup_probe.as_ref(),
            _ => None,
        });
        let grace = probe
            .and_then(|probe| probe.termination_grace_period_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or_else(|| kill::grace_of(Some(self.pod), None), Duration::from_secs);
        done.changed = true;
        let killer = &self.launcher.killer;
        let outcome = killer.container(Some(self.pod), self.runtime, record, &kill.message, grace).await;
        if let Err(error) = outcome {
            tracing::warn!(pod = %self.pod.described(), container = %kill.name, %error, "container not stopped");
        }
    }

    async fn sandbox_config(&self, attempt: u32) -> cri::PodSandboxConfig {
        let settings = &self.launcher.settings;
        let host = self.launcher.host.clone();
        let node_dns = dns::parse(&files::blocking(move || node_resolv_conf(&*host)).await);
        let directory = settings.log_directory(self.pod);
        let input = SandboxInput {
            instance: &settings.instance_label,
            log_directory: &directory,
            cgroup_parent: &self.launcher.cgroups.of_pod(self.pod),
            dns: dns::of_pod(self.pod, &node_dns, &settings.cluster_dns, &settings.cluster_domain),
            cluster_domain: &settings.cluster_domain,
            attempt,
        };
        sandbox::config(self.pod, input)
    }

    /// The name that the runtime has for what the pod's class wants; empty for the default.
    async fn runtime_handler(&self) -> Result<String, (&'static str, String)> {
        let class = self.pod.spec_ref().runtime_class_name.as_deref().filter(|name| !name.is_empty());
        let Some(name) = class else { return Ok(String::new()) };
        let classes: Api<RuntimeClass> = Api::all(self.launcher.api.clone());
        let found = classes.get(name).await.map_err(|error| {
            let message = error.message();
            (
                "FailedCreatePodSandBox",
                format!("Failed to create pod sandbox: failed to get sandbox runtime: {message}"),
            )
        })?;
        Ok(found.handler.clone())
    }

    /// The sandbox's id and addresses; or the reason and message of the event that tells why there is none.
    async fn create_sandbox(
        &self,
        config: &cri::PodSandboxConfig,
    ) -> Result<(String, Vec<String>), (&'static str, String)> {
        if let RuntimeHealth::NetworkNotReady(why) = &*self.launcher.health.borrow()
            && !self.pod.host_network()
        {
            return Err(("NetworkNotReady", format!("network is not ready: {why}")));
        }
        if self.pod.spec_ref().host_users == Some(false) {
            let message = "Failed to create pod sandbox: user namespaces are not supported by this node";
            return Err(("FailedCreatePodSandBox", message.to_string()));
        }
        self.launcher.cgroups.create_pod(self.pod).await.map_err(|error| {
            ("FailedCreatePodContainer", format!("unable to ensure pod container exists: {error}"))
        })?;
        self.make_directory(PathBuf::from(&config.log_directory)).await.map_err(|error| {
            ("FailedCreatePodSandBox", format!("Failed to create pod log directory: {error}"))
        })?;
        let failed = |error: crate::runtime::RuntimeError| {
            ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"))
        };
        let handler = self.runtime_handler().await?;
        let id = self.launcher.runtime.run_sandbox(config.clone(), handler).await.map_err(failed)?;
        self.launcher.owners.note(&id, self.pod.uid());
        if self.pod.host_network() {
            return Ok((id, Vec::new()));
        }
        let status = self.launcher.runtime.sandbox(&id).await.map_err(failed)?;
        let network = status.network.unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|one| one.ip);
        Ok((id, std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect()))
    }

    async fn start(
        &mut self,
        slot: Slot,
        sandbox: &str,
        ips: &[String],
        config: &cri::PodSandboxConfig,
        done: &mut Done,
    ) {
        let Some(definition) = slot.of(self.pod) else { return };
        match self.try_start(slot, &definition, sandbox, ips, config).await {
            Ok(()) => {
                self.reasons.remove(&definition.name);
                done.changed = true;
            }
            Err(failure) => {
                if let Some(retry) = failure.retry {
                    done.retry_at(retry);
                }
                let crash = failure.reason == "CrashLoopBackOff";
                let text = match failure.reason {
                    "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
                        failure.reason
                    }
                    _ => &failure.message,
                };
                if !crash {
                    self.launcher.events.slot(
                        self.pod,
                        slot,
                        EventType::Warning,
                        "Failed",
                        format!("Error: {text}"),
                    );
                }
                let reason = (failure.reason.to_string(), failure.message);
                if self.reasons.insert(definition.name.clone(), reason.clone()) != Some(reason) {
                    done.changed = true;
                }
            }
        }
    }

    async fn try_start(
        &self,
        slot: Slot,
        definition: &Container,
        sandbox: &str,
        ips: &[String],
        config: &cri::PodSandboxConfig,
    ) -> Result<(), Failure> {
        self.check_backoff(slot, definition)?;
        let launcher = self.launcher;
        let pulled = tokio::select! {
            pulled = launcher.images.ensure(self.pod, definition, config, self.turn) => pulled,
            () = self.ending.cancelled() => return Err(Failure::soon("ErrImagePull", "the pod is being deleted".into())),
        };
        let pulled = pulled.map_err(|error| Failure {
            reason: error.reason,
            message: error.message,
            retry: error.retry,
        })?;
        let restart_count = self.restart_count(definition);
        if let Some(refusal) = security::refuse_root(self.pod, definition, &pulled.user) {
            return Err(Failure::soon("CreateContainerConfigError", refusal));
        }
        let config_error = |message: String| Failure::soon("CreateContainerConfigError", message);
        let target = match slot.target(self.pod) {
            Some(name) => {
                let found = self.runtime.latest(name).map(|record| record.id.as_str());
                Some(found.ok_or_else(|| config_error(format!("unable to find target container {name}")))?)
            }
            None => None,
        };
        let input_error = |error: InputError| config_error(error.to_string());
        let environment = launcher
            .inputs
            .environment(self.pod, self.mounted, definition, ips)
            .await
            .map_err(input_error)?;
        let inputs = &launcher.inputs;
        let mounts =
            inputs.mounts(self.pod, self.mounted, definition, ips, &environment, restart_count).await;
        let mounts = mounts.map_err(input_error)?;
        let input = ContainerInput {
            instance: &launcher.settings.instance_label,
            image_ref: &pulled.reference,
            image_user: &pulled.user,
            env: environment,
            mounts,
            restart_count,
            target,
            node_memory: i64::try_from(launcher.settings.node_memory).unwrap_or(i64::MAX),
            no_swap: launcher.cgroups.is_v2(),
            seccomp: SeccompRules {
                directory: &launcher.settings.seccomp_dir,
                is_default: launcher.settings.seccomp_default,
            },
        };
        let wanted = container::config(self.pod, definition, input);
        let wanted = wanted.map_err(|error| config_error(error.to_string()))?;
        let _ = self.make_directory(Path::new(&config.log_directory).join(&definition.name)).await;
        let id = launcher
            .runtime
            .create_container(sandbox, wanted, config.clone())
            .await
            .map_err(|error| Failure::soon("CreateContainerError", error.message().to_string()))?;
        launcher.images.used(&pulled.reference);
        launcher.owners.note(&id, self.pod.uid());
        launcher.events.slot(self.pod, slot, EventType::Normal, "Created", "Container created");
        launcher
            .runtime
            .start_container(&id)
            .await
            .map_err(|error| Failure::soon("RunContainerError", error.message().to_string()))?;
        launcher.events.slot(self.pod, slot, EventType::Normal, "Started", "Container started");
        self.post_start(slot, definition, &id, ips).await
    }

    async fn make_directory(&self, path: PathBuf) -> std::io::Result<()> {
        let host = self.launcher.host.clone();
        files::blocking(move || host.make_directory(&path, 0o755)).await
    }

    fn check_backoff(&self, slot: Slot, definition: &Container) -> Result<(), Failure> {
        // The newest that has ended: one that was killed just now counts from the next look on.
        let ended =
            |one: &&ContainerRecord| one.name == definition.name && one.phase == ContainerPhase::Exited;
        let last = self.runtime.containers.iter().find(ended);
        let Some(ended) = last.and_then(|one| time(one.finished_at)) else { return Ok(()) };
        let key = format!("{}_{}_{}", self.pod.uid(), definition.name, container::hash(definition));
        let now = Timestamp::now();
        let mut restarts = self.launcher.restarts.lock();
        if let Some(left) = restarts.remaining(&key, ended, now) {
            let delay = go_duration(restarts.delay(&key));
            let (pod, name) = (self.pod.described(), &definition.name);
            let event = format!("Back-off restarting failed container {name} in pod {pod}");
            self.launcher.events.slot(self.pod, slot, EventType::Warning, "BackOff", event);
            let message = format!("back-off {delay} restarting failed container={name} pod={pod}");
            return Err(Failure { reason: "CrashLoopBackOff", message, retry: Some(now + left) });
        }
        restarts.next(&key, ended);
        Ok(())
    }

    fn restart_count(&self, definition: &Container) -> i32 {
        if let Some(last) = self.runtime.latest(&definition.name) {
            return last.restart_count + 1;
        }
        // The runtime has forgotten it, as after a reboot: the API remembers.
        let lists = [&self.status.init_container_statuses, &self.status.container_statuses];
        let old =
            lists.into_iter().flat_map(|list| list.iter().flatten()).find(|one| one.name == definition.name);
        let Some(old) = old else { return 0 };
        let ran =
            old.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some());
        old.restart_count + i32::from(ran)
    }

    async fn post_start(
        &self,
        slot: Slot,
        definition: &Container,
        id: &str,
        ips: &[String],
    ) -> Result<(), Failure> {
        let hook = definition.lifecycle.as_ref().and_then(|one| one.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let ip = ips.first().and_then(|ip| ip.parse().ok()).filter(|_| !self.pod.host_network());
        let ran = tokio::select! {
            ran = hooks::run(&*self.launcher.runtime, hook, definition, id, ip, None) => ran,
            () = self.ending.cancelled() => return Ok(()),
        };
        let Err(error) = ran else { return Ok(()) };
        let message = format!("PostStartHook failed: {error}");
        self.launcher.events.slot(self.pod, slot, EventType::Warning, "FailedPostStartHook", message.clone());
        if let Ok(state) = PodRuntime::read(&*self.launcher.runtime, self.pod.uid()).await
            && let Some(record) = state.containers.iter().find(|one| one.id == id)
        {
            let (pod, grace) = (Some(self.pod), kill::grace_of(Some(self.pod), None));
            let killer = &self.launcher.killer;
            // What is not stopped is found and stopped at the next look.
            let _ = killer.container(pod, &state, record, "FailedPostStartHook", grace).await;
        }
        Err(Failure::soon("PostStartHookError", message))
    }
}

/// The node's `resolv.conf`; where systemd-resolved puts a stub there, the file behind it. Blocks.
fn node_resolv_conf(host: &dyn Host) -> String {
    let text = host.read_text("/etc/resolv.conf");
    if text.lines().any(|line| line.trim() == "nameserver 127.0.0.53") {
        let real = host.read_text("/run/systemd/resolve/resolv.conf");
        return if real.is_empty() { text } else { real };
    }
    text
}

#[cfg(test)]
mod tests;
