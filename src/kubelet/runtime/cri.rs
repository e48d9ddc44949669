//! CRI v1 over the runtime's socket: thin, typed calls with one error type whose text is what events show.
//!
//! The channel connects when first used and again after the runtime restarts. The file is as long as CRI has
//! calls: a short method for each.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use client::BoxFuture;
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};

use super::events::{self, ContainerEvent};
use super::{Runtime, RuntimeCall, StreamRequest};
use crate::cgroups::Driver;
use crate::images::archive::Bundle;
use crate::images::content::{self, ImportError};

/// Upstream's bound on a reply.
const LARGEST_REPLY: usize = 16 * 1024 * 1024;
/// Upstream's `runtimeRequestTimeout`.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Sandbox set-up runs CNI plugins; upstream doubles the timeout for it.
const SANDBOX_TIMEOUT: Duration = Duration::from_secs(240);

/// A failed runtime call; prints as Go's gRPC does, because users search for that.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) struct RuntimeError(Status);

impl RuntimeError {
    pub(crate) fn is_not_found(&self) -> bool {
        self.0.code() == Code::NotFound
    }

    pub(crate) fn is_unimplemented(&self) -> bool {
        self.0.code() == Code::Unimplemented
    }

    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self.0.code(), Code::DeadlineExceeded | Code::Cancelled)
    }

    pub(crate) fn message(&self) -> &str {
        self.0.message()
    }
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {:?} desc = {}", self.0.code(), self.0.message())
    }
}

impl From<Status> for RuntimeError {
    fn from(status: Status) -> Self {
        RuntimeError(status)
    }
}

type CriResult<T> = Result<T, RuntimeError>;
type Labels = HashMap<String, String>;

/// Clones share the connection.
#[derive(Clone)]
pub(crate) struct Cri {
    channel: Channel,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

fn timed<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

fn call<T>(message: T) -> Request<T> {
    timed(message, TIMEOUT)
}

/// The driver in containerd's description of its CRI configuration.
fn driver_in(config: &str) -> Driver {
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    let containerd = &config["containerd"];
    let name = containerd["defaultRuntimeName"].as_str().unwrap_or("runc");
    match containerd["runtimes"][name]["options"]["SystemdCgroup"].as_bool() {
        Some(true) => Driver::Systemd,
        _ => Driver::Cgroupfs,
    }
}

impl Cri {
    /// Does not connect yet. Must be called within a tokio runtime.
    pub(crate) fn new(socket: &Path) -> Option<Self> {
        let path = socket.to_path_buf();
        // The URI is never used: the connector goes to the socket.
        let endpoint = Endpoint::try_from("http://runtime.sock").ok()?;
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        }));
        let runtime = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_REPLY);
        let images = ImageServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_REPLY);
        Some(Cri { channel, runtime, images })
    }

    /// For containerd's own services on the same socket.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    async fn version(&self) -> CriResult<cri::VersionResponse> {
        let request = timed(cri::VersionRequest { version: String::new() }, Duration::from_secs(10));
        Ok(self.runtime.clone().version(request).await?.into_inner())
    }

    async fn status(&self) -> CriResult<Vec<cri::RuntimeCondition>> {
        let request = timed(cri::StatusRequest { verbose: false }, Duration::from_secs(10));
        let reply = self.runtime.clone().status(request).await?.into_inner();
        Ok(reply.status.unwrap_or_default().conditions)
    }

    /// Whether the runtime or systemd makes cgroups, as the runtime is configured. Newer runtimes have a call
    /// for it; older ones show it in their verbose status.
    async fn cgroup_driver(&self) -> CriResult<Driver> {
        let request = timed(cri::RuntimeConfigRequest {}, Duration::from_secs(10));
        match self.runtime.clone().runtime_config(request).await {
            Ok(reply) => {
                let linux = reply.into_inner().linux.unwrap_or_default();
                let is_systemd = linux.cgroup_driver() == cri::CgroupDriver::Systemd;
                return Ok(if is_systemd { Driver::Systemd } else { Driver::Cgroupfs });
            }
            Err(status) if status.code() == Code::Unimplemented => {}
            Err(status) => return Err(status.into()),
        }
        let request = timed(cri::StatusRequest { verbose: true }, Duration::from_secs(10));
        let info = self.runtime.clone().status(request).await?.into_inner().info;
        Ok(info.get("config").map_or(Driver::Cgroupfs, |config| driver_in(config)))
    }

    async fn run_sandbox(&self, config: cri::PodSandboxConfig, handler: String) -> CriResult<String> {
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: handler };
        Ok(self
            .runtime
            .clone()
            .run_pod_sandbox(timed(request, SANDBOX_TIMEOUT))
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    async fn stop_sandbox(&self, id: &str) -> CriResult<()> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_string() };
        self.runtime.clone().stop_pod_sandbox(call(request)).await?;
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> CriResult<()> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_string() };
        self.runtime.clone().remove_pod_sandbox(call(request)).await?;
        Ok(())
    }

    async fn sandboxes(&self, labels: Labels) -> CriResult<Vec<cri::PodSandbox>> {
        let filter = cri::PodSandboxFilter { label_selector: labels, ..Default::default() };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_pod_sandbox(call(request)).await?.into_inner().items)
    }

    async fn sandbox(&self, id: &str) -> CriResult<cri::PodSandboxStatus> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_string(), verbose: false };
        let reply = self.runtime.clone().pod_sandbox_status(call(request)).await?.into_inner();
        reply.status.ok_or_else(|| RuntimeError(Status::internal("the runtime sent no sandbox status")))
    }

    async fn containers(&self, labels: Labels) -> CriResult<Vec<cri::Container>> {
        let filter = cri::ContainerFilter { label_selector: labels, ..Default::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_containers(call(request)).await?.into_inner().containers)
    }

    async fn container(&self, id: &str) -> CriResult<cri::ContainerStatus> {
        let request = cri::ContainerStatusRequest { container_id: id.to_string(), verbose: false };
        let reply = self.runtime.clone().container_status(call(request)).await?.into_inner();
        reply.status.ok_or_else(|| RuntimeError(Status::internal("the runtime sent no container status")))
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> CriResult<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_string(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(self.runtime.clone().create_container(call(request)).await?.into_inner().container_id)
    }

    async fn start_container(&self, id: &str) -> CriResult<()> {
        let request = cri::StartContainerRequest { container_id: id.to_string() };
        self.runtime.clone().start_container(call(request)).await?;
        Ok(())
    }

    /// Sends the stop signal, kills after `grace`, returns when the container has ended.
    async fn stop_container(&self, id: &str, grace: Duration) -> CriResult<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = cri::StopContainerRequest { container_id: id.to_string(), timeout };
        self.runtime.clone().stop_container(timed(request, TIMEOUT.saturating_add(grace))).await?;
        Ok(())
    }

    async fn update_container(&self, id: &str, resources: cri::LinuxContainerResources) -> CriResult<()> {
        let request = cri::UpdateContainerResourcesRequest {
            container_id: id.to_string(),
            linux: Some(resources),
            ..Default::default()
        };
        self.runtime.clone().update_container_resources(call(request)).await?;
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> CriResult<()> {
        let request = cri::RemoveContainerRequest { container_id: id.to_string() };
        self.runtime.clone().remove_container(call(request)).await?;
        Ok(())
    }

    async fn container_stats(&self, labels: Labels) -> CriResult<Vec<cri::ContainerStats>> {
        let filter = cri::ContainerStatsFilter { label_selector: labels, ..Default::default() };
        let request = cri::ListContainerStatsRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_container_stats(call(request)).await?.into_inner().stats)
    }

    async fn reopen_log(&self, id: &str) -> CriResult<()> {
        let request = cri::ReopenContainerLogRequest { container_id: id.to_string() };
        self.runtime.clone().reopen_container_log(call(request)).await?;
        Ok(())
    }

    async fn exec(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> CriResult<cri::ExecSyncResponse> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let request =
            cri::ExecSyncRequest { container_id: id.to_string(), cmd: command.to_vec(), timeout: seconds };
        // The runtime's own deadline must come first, so that it can kill what it ran.
        let limit = if timeout.is_zero() { Duration::from_secs(365 * 24 * 3600) } else { TIMEOUT + timeout };
        Ok(self.runtime.clone().exec_sync(timed(request, limit)).await?.into_inner())
    }

    async fn stream(&self, request: StreamRequest) -> CriResult<String> {
        let mut runtime = self.runtime.clone();
        Ok(match request {
            StreamRequest::Exec(request) => runtime.exec(call(request)).await?.into_inner().url,
            StreamRequest::Attach(request) => runtime.attach(call(request)).await?.into_inner().url,
            StreamRequest::PortForward(request) => {
                runtime.port_forward(call(request)).await?.into_inner().url
            }
        })
    }

    pub(crate) async fn container_events(&self) -> CriResult<tonic::Streaming<cri::ContainerEventResponse>> {
        Ok(self
            .runtime
            .clone()
            .get_container_events(Request::new(cri::GetEventsRequest {}))
            .await?
            .into_inner())
    }

    async fn images(&self) -> CriResult<Vec<cri::Image>> {
        let request = cri::ListImagesRequest { filter: None };
        Ok(self.images.clone().list_images(call(request)).await?.into_inner().images)
    }

    async fn image(&self, name: &str) -> CriResult<Option<cri::Image>> {
        let spec = cri::ImageSpec { image: name.to_string(), ..Default::default() };
        let request = cri::ImageStatusRequest { image: Some(spec), verbose: false };
        Ok(self.images.clone().image_status(call(request)).await?.into_inner().image)
    }

    /// Directories of the file systems that images are unpacked to.
    async fn image_file_systems(&self) -> CriResult<Vec<String>> {
        let reply = self.images.clone().image_fs_info(call(cri::ImageFsInfoRequest {})).await?.into_inner();
        let places = reply.image_filesystems.into_iter().filter_map(|one| one.fs_id);
        Ok(places.map(|id| id.mountpoint).collect())
    }

    /// Pulls without a time limit: large images on slow lines take long, and the runtime has its own progress
    /// limit.
    async fn pull_image(
        &self,
        name: &str,
        auth: Option<cri::AuthConfig>,
        sandbox_config: Option<cri::PodSandboxConfig>,
    ) -> CriResult<String> {
        let spec = cri::ImageSpec { image: name.to_string(), ..Default::default() };
        let request = cri::PullImageRequest { image: Some(spec), auth, sandbox_config };
        Ok(self.images.clone().pull_image(Request::new(request)).await?.into_inner().image_ref)
    }

    async fn remove_image(&self, name: &str) -> CriResult<()> {
        let spec = cri::ImageSpec { image: name.to_string(), ..Default::default() };
        self.images.clone().remove_image(call(cri::RemoveImageRequest { image: Some(spec) })).await?;
        Ok(())
    }
}

impl Runtime for Cri {
    fn version(&self) -> RuntimeCall<'_, cri::VersionResponse> {
        Box::pin(Cri::version(self))
    }

    fn status(&self) -> RuntimeCall<'_, Vec<cri::RuntimeCondition>> {
        Box::pin(Cri::status(self))
    }

    fn cgroup_driver(&self) -> RuntimeCall<'_, Driver> {
        Box::pin(Cri::cgroup_driver(self))
    }

    fn run_sandbox(&self, config: cri::PodSandboxConfig, handler: String) -> RuntimeCall<'_, String> {
        Box::pin(Cri::run_sandbox(self, config, handler))
    }

    fn stop_sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        Box::pin(Cri::stop_sandbox(self, id))
    }

    fn remove_sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        Box::pin(Cri::remove_sandbox(self, id))
    }

    fn sandboxes(&self, labels: Labels) -> RuntimeCall<'_, Vec<cri::PodSandbox>> {
        Box::pin(Cri::sandboxes(self, labels))
    }

    fn sandbox<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, cri::PodSandboxStatus> {
        Box::pin(Cri::sandbox(self, id))
    }

    fn create_container<'a>(
        &'a self,
        sandbox: &'a str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> RuntimeCall<'a, String> {
        Box::pin(Cri::create_container(self, sandbox, config, sandbox_config))
    }

    fn start_container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        Box::pin(Cri::start_container(self, id))
    }

    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> RuntimeCall<'a, ()> {
        Box::pin(Cri::stop_container(self, id, grace))
    }

    fn remove_container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        Box::pin(Cri::remove_container(self, id))
    }

    fn update_container<'a>(
        &'a self,
        id: &'a str,
        resources: cri::LinuxContainerResources,
    ) -> RuntimeCall<'a, ()> {
        Box::pin(Cri::update_container(self, id, resources))
    }

    fn containers(&self, labels: Labels) -> RuntimeCall<'_, Vec<cri::Container>> {
        Box::pin(Cri::containers(self, labels))
    }

    fn container<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, cri::ContainerStatus> {
        Box::pin(Cri::container(self, id))
    }

    fn container_stats(&self, labels: Labels) -> RuntimeCall<'_, Vec<cri::ContainerStats>> {
        Box::pin(Cri::container_stats(self, labels))
    }

    fn reopen_log<'a>(&'a self, id: &'a str) -> RuntimeCall<'a, ()> {
        Box::pin(Cri::reopen_log(self, id))
    }

    fn exec<'a>(
        &'a self,
        id: &'a str,
        command: &'a [String],
        timeout: Duration,
    ) -> RuntimeCall<'a, cri::ExecSyncResponse> {
        Box::pin(Cri::exec(self, id, command, timeout))
    }

    fn stream(&self, request: StreamRequest) -> RuntimeCall<'_, String> {
        Box::pin(Cri::stream(self, request))
    }

    fn images(&self) -> RuntimeCall<'_, Vec<cri::Image>> {
        Box::pin(Cri::images(self))
    }

    fn image<'a>(&'a self, name: &'a str) -> RuntimeCall<'a, Option<cri::Image>> {
        Box::pin(Cri::image(self, name))
    }

    fn image_file_systems(&self) -> RuntimeCall<'_, Vec<String>> {
        Box::pin(Cri::image_file_systems(self))
    }

    fn pull_image<'a>(
        &'a self,
        name: &'a str,
        auth: Option<cri::AuthConfig>,
        sandbox_config: Option<cri::PodSandboxConfig>,
    ) -> RuntimeCall<'a, String> {
        Box::pin(Cri::pull_image(self, name, auth, sandbox_config))
    }

    fn remove_image<'a>(&'a self, name: &'a str) -> RuntimeCall<'a, ()> {
        Box::pin(Cri::remove_image(self, name))
    }

    fn import<'a>(&'a self, bundle: &'a Bundle) -> BoxFuture<'a, Result<(), ImportError>> {
        Box::pin(content::store(self, bundle))
    }

    fn follow<'a>(&'a self, deliver: &'a (dyn Fn(ContainerEvent) + Send + Sync)) -> RuntimeCall<'a, ()> {
        Box::pin(events::stream(self, deliver))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_containerd_tells_its_driver_in_its_configuration() {
        let config = r#"{"containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":{"options":{"SystemdCgroup":true}},
            "other":{"options":{"SystemdCgroup":false}}}}}"#;
        assert_eq!(driver_in(config), Driver::Systemd);
        assert_eq!(
            driver_in(&config.replace("\"defaultRuntimeName\":\"runc\"", "\"defaultRuntimeName\":\"other\"")),
            Driver::Cgroupfs
        );
        assert_eq!(driver_in("{}"), Driver::Cgroupfs);
    }
}
