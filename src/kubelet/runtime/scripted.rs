//! The runtime of tests: keeps containers as a hollow node's does, writes down every call that changes
//! something, and fails where the script says so.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use client::BoxFuture;
use k8s_cri::v1 as cri;
use parking_lot::Mutex;
use supervisor::Stage;
use tonic::{Code, Status};

use super::events::ContainerEvent;
use super::{Runtime, RuntimeCall, RuntimeError, StreamRequest};
use crate::cgroups::Driver;
use crate::hollow::Script;
use crate::hollow::runtime::HollowRuntime;
use crate::images::archive::Bundle;
use crate::images::content::ImportError;
use crate::testing::Journal;

pub(crate) struct ScriptedRuntime {
    kept: HollowRuntime,
    journal: Journal,
    failures: Mutex<HashMap<&'static str, VecDeque<Status>>>,
    /// Images that are not there, and are not pulled by being asked for.
    absent: Mutex<HashSet<String>>,
    /// All images that it has, as far as somebody asks for all.
    listed: Mutex<Vec<cri::Image>>,
    /// Names of containers and sandboxes by id.
    names: Mutex<HashMap<String, String>>,
    /// Where streams are served.
    streaming: Mutex<String>,
    /// Processor time and working set of containers, by name.
    pub(crate) used: Mutex<HashMap<String, (u64, u64)>>,
}

impl ScriptedRuntime {
    pub(crate) fn new(journal: Journal, stage: Stage) -> Self {
        let kept = HollowRuntime::new(0, Script::default(), stage);
        let (failures, absent, names) = (Mutex::default(), Mutex::default(), Mutex::default());
        ScriptedRuntime {
            kept,
            journal,
            failures,
            absent,
            listed: Mutex::default(),
            names,
            streaming: Mutex::default(),
            used: Mutex::default(),
        }
    }

    /// Streams are served there from now on.
    pub(crate) fn serve_streams_at(&self, url: String) {
        *self.streaming.lock() = url;
    }

    /// The next call of this method fails so.
    pub(crate) fn fail(&self, call: &'static str, code: Code, message: &str) {
        self.failures.lock().entry(call).or_default().push_back(Status::new(code, message));
    }

    pub(crate) fn without_image(&self, name: &str) {
        self.absent.lock().insert(name.to_string());
    }

    pub(crate) fn list_images(&self, images: Vec<cri::Image>) {
        *self.listed.lock() = images;
    }

    /// Ends a container as if it had ended by itself.
    pub(crate) fn exit(&self, name: &str, code: i32) {
        let names = self.names.lock();
        for (id, _) in names.iter().filter(|(_, one)| *one == name) {
            self.kept.end(id, code);
        }
    }

    fn failure(&self, call: &str) -> Result<(), RuntimeError> {
        let next = self.failures.lock().get_mut(call).and_then(VecDeque::pop_front);
        next.map_or(Ok(()), |status| Err(status.into()))
    }

    fn name(&self, id: &str) -> String {
        self.names.lock().get(id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// Writes a call down, and makes it unless it is to fail.
    fn call<'a, T: Send + 'a>(
        &'a self,
        method: &'static str,
        about: String,
        made: impl FnOnce() -> RuntimeCall<'a, T> + Send + 'a,
    ) -> RuntimeCall<'a, T> {
        Box::pin(async move {
            self.journal.note(format!("{method} {about}").trim_end());
            self.failure(method)?;
            made().await
        })
    }

    /// A call that changes nothing is not written down.
    fn look<'a, T: Send + 'a>(
        &'a self,
        method: &'static str,
        made: impl FnOnce() -> RuntimeCall<'a, T> + Send + 'a,
    ) -> RuntimeCall<'a, T> {
        Box::pin(async move {
            self.failure(method)?;
            made().await
        })
    }
}

impl Runtime for ScriptedRuntime {
    fn version(&self) -> RuntimeCall<'_, cri::VersionResponse> {
        self.look("version", || self.kept.version())
    }

    fn status(&self) -> RuntimeCall<'_, Vec<cri::RuntimeCondition>> {
        self.look("status", || self.kept.status())
    }

    fn cgroup_driver(&self) -> RuntimeCall<'_, Driver> {
        self.look("cgroup_driver", || self.kept.cgroup_driver())
    }

    fn run_sandbox(&self, config: cri::PodSandboxConfig, handler: String) -> RuntimeCall<'_, String> {
        let attempt = config.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
        self.call("run_sandbox", format!("{attempt} {handler}"), move || {
            Box::pin(async move {
                let id = self.kept.run_sandbox(config, handler).await?;
                self.names.lock().insert(id.clone(), format!("sandbox {attempt}"));
                Ok(id)
            })
        })
    }

    fn stop_sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        self.call("stop_sandbox", String::new(), move || self.kept.stop_sandbox(id))
    }

    fn remove_sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        self.call("remove_sandbox", String::new(), move || self.kept.remove_sandbox(id))
    }

    fn sandboxes(&self, labels: HashMap<String, String>) -> RuntimeCall<'_, Vec<cri::PodSandbox>> {
        self.look("sandboxes", || self.kept.sandboxes(labels))
    }

    fn sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, cri::PodSandboxStatus> {
        self.look("sandbox", move || self.kept.sandbox(id))
    }

    fn create_container<'a>(
        &'a self,
        sandbox: &'a str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> RuntimeCall<'a, String> {
        let name = config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        self.call("create_container", name.clone(), move || {
            Box::pin(async move {
                let id = self.kept.create_container(sandbox, config, sandbox_config).await?;
                self.names.lock().insert(id.clone(), name);
                Ok(id)
            })
        })
    }

    fn start_container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        self.call("start_container", self.name(id), move || self.kept.start_container(id))
    }

    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> RuntimeCall<'a, ()> {
        let about = format!("{} {}s", self.name(id), grace.as_secs_f64().round());
        self.call("stop_container", about, move || self.kept.stop_container(id, grace))
    }

    fn remove_container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        self.call("remove_container", self.name(id), move || self.kept.remove_container(id))
    }

    fn update_container<'a>(
        &'a self,
        id: &'a str,
        resources: cri::LinuxContainerResources,
    ) -> RuntimeCall<'a, ()> {
        let about = format!(
            "{} shares={} quota={} memory={}",
            self.name(id),
            resources.cpu_shares,
            resources.cpu_quota,
            resources.memory_limit_in_bytes
        );
        self.call("update_container", about, move || self.kept.update_container(id, resources))
    }

    fn containers(&self, labels: HashMap<String, String>) -> RuntimeCall<'_, Vec<cri::Container>> {
        self.look("containers", || self.kept.containers(labels))
    }

    fn container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, cri::ContainerStatus> {
        self.look("container", move || self.kept.container(id))
    }

    fn container_stats(&self, labels: HashMap<String, String>) -> RuntimeCall<'_, Vec<cri::ContainerStats>> {
        self.look("container_stats", move || {
            Box::pin(async move {
                let containers = self.kept.containers(labels).await?;
                let used = self.used.lock();
                let stats = containers.into_iter().map(|one| {
                    let name =
                        one.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
                    let (cpu, memory) = used.get(&name).copied().unwrap_or_default();
                    let value = |value| Some(cri::UInt64Value { value });
                    cri::ContainerStats {
                        attributes: Some(cri::ContainerAttributes { id: one.id, ..Default::default() }),
                        cpu: Some(cri::CpuUsage {
                            usage_core_nano_seconds: value(cpu),
                            ..Default::default()
                        }),
                        memory: Some(cri::MemoryUsage {
                            working_set_bytes: value(memory),
                            ..Default::default()
                        }),
                        ..Default::default()
                    }
                });
                Ok(stats.collect())
            })
        })
    }

    fn reopen_log<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        self.call("reopen_log", self.name(id), move || self.kept.reopen_log(id))
    }

    fn exec<'a>(
        &'a self,
        id: &'a str,
        command: &'a [String],
        timeout: Duration,
    ) -> RuntimeCall<'a, cri::ExecSyncResponse> {
        let about = format!("{} {}", self.name(id), command.join(" "));
        self.call("exec", about, move || self.kept.exec(id, command, timeout))
    }

    fn stream(&self, request: StreamRequest) -> RuntimeCall<'_, String> {
        let about = match &request {
            StreamRequest::Exec(cri::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr }) => {
                let streams = [(*stdin, "stdin"), (*stdout, "stdout"), (*stderr, "stderr"), (*tty, "tty")];
                let streams: Vec<&str> =
                    streams.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
                format!("exec {} [{}] {}", self.name(container_id), streams.join(" "), cmd.join(" "))
            }
            StreamRequest::Attach(request) => {
                format!("attach {} tty={}", self.name(&request.container_id), request.tty)
            }
            StreamRequest::PortForward(request) => {
                format!("port_forward {} {:?}", self.name(&request.pod_sandbox_id), request.port)
            }
        };
        self.call("stream", about, move || Box::pin(async { Ok(self.streaming.lock().clone()) }))
    }

    fn images(&self) -> RuntimeCall<'_, Vec<cri::Image>> {
        let listed = self.listed.lock().clone();
        self.look("images", || Box::pin(async move { Ok(listed) }))
    }

    fn image<'a>(&'a self, name: &'a str) -> RuntimeCall<'a, Option<cri::Image>> {
        self.look("image", move || {
            let is_absent = self.absent.lock().contains(name);
            if is_absent { Box::pin(async { Ok(None) }) } else { self.kept.image(name) }
        })
    }

    fn image_file_systems(&self) -> RuntimeCall<'_, Vec<String>> {
        self.look("image_file_systems", || self.kept.image_file_systems())
    }

    fn pull_image<'a>(
        &'a self,
        name: &'a str,
        auth: Option<cri::AuthConfig>,
        sandbox_config: Option<cri::PodSandboxConfig>,
    ) -> RuntimeCall<'a, String> {
        self.call("pull_image", name.to_string(), move || {
            self.absent.lock().remove(name);
            self.kept.pull_image(name, auth, sandbox_config)
        })
    }

    fn remove_image<'a>(&'a self, name: &'a str) -> RuntimeCall<'a, ()> {
        self.call("remove_image", name.to_string(), move || self.kept.remove_image(name))
    }

    fn import<'a>(&'a self, bundle: &'a Bundle) -> BoxFuture<'a, Result<(), ImportError>> {
        self.kept.import(bundle)
    }

    fn follow<'a>(&'a self, deliver: &'a (dyn Fn(ContainerEvent) + Send + Sync)) -> RuntimeCall<'a, ()> {
        self.kept.follow(deliver)
    }
}
