//! The container runtime as the kubelet sees it: the calls it can make ([`Runtime`]), what is there of one
//! pod ([`state`]) and what happens to its containers ([`events`]).
//!
//! [`Cri`] is the runtime of real nodes; a hollow node's ([`crate::hollow`]) and the scripted one of tests
//! are others. The vocabulary is CRI's, because its messages are plain data and every runtime speaks them.

mod cri;
pub(crate) mod events;
pub(crate) mod known;
#[cfg(test)]
pub(crate) mod scripted;
pub(crate) mod state;

use std::collections::HashMap;
use std::time::Duration;

use client::BoxFuture;
use k8s_cri::v1::{
    AttachRequest, AuthConfig, Container, ContainerConfig, ContainerStats, ContainerStatus, ExecRequest,
    ExecSyncResponse, Image, LinuxContainerResources, PodSandbox, PodSandboxConfig, PodSandboxStatus,
    PortForwardRequest, RuntimeCondition, VersionResponse,
};

pub(crate) use cri::{Cri, RuntimeError};

use crate::cgroups::Driver;
use crate::images::archive::Bundle;
use crate::images::content::ImportError;
use events::ContainerEvent;

/// The answer to a call of the runtime, while it is being made.
pub(crate) type RuntimeCall<'a, T> = BoxFuture<'a, Result<T, RuntimeError>>;

/// A connection into a pod, which the runtime serves itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StreamRequest {
    Exec(ExecRequest),
    Attach(AttachRequest),
    PortForward(PortForwardRequest),
}

/// What a kubelet asks of a container runtime. Calls are idempotent as CRI's are: stopping what is stopped is
/// no error.
pub(crate) trait Runtime: Send + Sync {
    fn version(&self) -> RuntimeCall<'_, VersionResponse>;
    fn status(&self) -> RuntimeCall<'_, Vec<RuntimeCondition>>;
    /// Who makes cgroups, as the runtime is configured.
    fn cgroup_driver(&self) -> RuntimeCall<'_, Driver>;

    /// Makes a pod's sandbox with its network, by the runtime of this name (the default one if it is empty);
    /// answers with its id.
    fn run_sandbox(&self, config: PodSandboxConfig, handler: String) -> RuntimeCall<'_, String>;
    fn stop_sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()>;
    fn remove_sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()>;
    /// Those that carry the labels.
    fn sandboxes(&self, labels: HashMap<String, String>) -> RuntimeCall<'_, Vec<PodSandbox>>;
    fn sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, PodSandboxStatus>;

    fn create_container<'a>(
        &'a self,
        sandbox: &'a str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> RuntimeCall<'a, String>;
    fn start_container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()>;
    /// Sends the stop signal, kills after `grace`, returns when the container has ended.
    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> RuntimeCall<'a, ()>;
    fn remove_container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()>;
    /// Gives a running container other resources; what is zero stays as it is.
    fn update_container<'a>(&'a self, id: &'a str, resources: LinuxContainerResources)
    -> RuntimeCall<'a, ()>;
    fn containers(&self, labels: HashMap<String, String>) -> RuntimeCall<'_, Vec<Container>>;
    fn container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ContainerStatus>;
    /// What running containers that carry the labels use.
    fn container_stats(&self, labels: HashMap<String, String>) -> RuntimeCall<'_, Vec<ContainerStats>>;
    fn reopen_log<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()>;
    fn exec<'a>(
        &'a self,
        id: &'a str,
        command: &'a [String],
        timeout: Duration,
    ) -> RuntimeCall<'a, ExecSyncResponse>;
    /// Where the runtime serves a stream: a URL that is good for one connection, soon.
    fn stream(&self, request: StreamRequest) -> RuntimeCall<'_, String>;

    fn images(&self) -> RuntimeCall<'_, Vec<Image>>;
    fn image<'a>(&'a self, name: &'a str) -> RuntimeCall<'a, Option<Image>>;
    /// Directories of the file systems that images are unpacked to.
    fn image_file_systems(&self) -> RuntimeCall<'_, Vec<String>>;
    /// Without a time limit: large images on slow lines take long, and the runtime has its own progress
    /// limit.
    fn pull_image<'a>(
        &'a self,
        name: &'a str,
        auth: Option<AuthConfig>,
        sandbox_config: Option<PodSandboxConfig>,
    ) -> RuntimeCall<'a, String>;
    fn remove_image<'a>(&'a self, name: &'a str) -> RuntimeCall<'a, ()>;
    /// Stores an image that is at hand, and names it.
    fn import<'a>(&'a self, bundle: &'a Bundle) -> BoxFuture<'a, Result<(), ImportError>>;

    /// Delivers what happens to containers until the stream ends.
    fn follow<'a>(&'a self, deliver: &'a (dyn Fn(ContainerEvent) + Send + Sync)) -> RuntimeCall<'a, ()>;
}

/// How the container runtime is, by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuntimeHealth {
    /// It has not answered yet.
    Unknown,
    Down(String),
    NetworkNotReady(String),
    Ready,
}

/// Labels and annotations on sandboxes and containers; the names are upstream's, so that tools that read them
/// (`crictl`, log shippers) work.
pub(crate) mod labels {
    pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
    pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
    pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    /// Ours: which node made it, for runtimes that several nodes share.
    pub(crate) const INSTANCE: &str = "io.minik8s.instance";

    pub(crate) const HASH: &str = "io.kubernetes.container.hash";
    pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub(crate) const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub(crate) const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    /// Ours: the CPU and memory that it was made with.
    pub(crate) const RESOURCES: &str = "io.minik8s.container.resources";
    pub(crate) const POD_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
    pub(crate) const PORTS: &str = "io.kubernetes.container.ports";
}
