//! CRI v1 over the runtime's socket: thin, typed calls with one error type whose text is what events show.
//!
//! The channel connects when first used and again after the runtime restarts.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};

use crate::cgroups::Driver;

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

pub(crate) type Outcome<T> = Result<T, RuntimeError>;
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

    pub(crate) async fn version(&self) -> Outcome<cri::VersionResponse> {
        let request = timed(cri::VersionRequest { version: String::new() }, Duration::from_secs(10));
        Ok(self.runtime.clone().version(request).await?.into_inner())
    }

    pub(crate) async fn status(&self) -> Outcome<Vec<cri::RuntimeCondition>> {
        let request = timed(cri::StatusRequest { verbose: false }, Duration::from_secs(10));
        let reply = self.runtime.clone().status(request).await?.into_inner();
        Ok(reply.status.unwrap_or_default().conditions)
    }

    /// Who makes cgroups, as the runtime is configured. What newer runtimes are asked for, older ones tell in passing.
    pub(crate) async fn cgroup_driver(&self) -> Outcome<Driver> {
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

    pub(crate) async fn run_sandbox(&self, config: cri::PodSandboxConfig) -> Outcome<String> {
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        Ok(self
            .runtime
            .clone()
            .run_pod_sandbox(timed(request, SANDBOX_TIMEOUT))
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    pub(crate) async fn stop_sandbox(&self, id: &str) -> Outcome<()> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_string() };
        self.runtime.clone().stop_pod_sandbox(call(request)).await?;
        Ok(())
    }

    pub(crate) async fn remove_sandbox(&self, id: &str) -> Outcome<()> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_string() };
        self.runtime.clone().remove_pod_sandbox(call(request)).await?;
        Ok(())
    }

    pub(crate) async fn sandboxes(&self, labels: Labels) -> Outcome<Vec<cri::PodSandbox>> {
        let filter = cri::PodSandboxFilter { label_selector: labels, ..Default::default() };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_pod_sandbox(call(request)).await?.into_inner().items)
    }

    pub(crate) async fn sandbox(&self, id: &str) -> Outcome<cri::PodSandboxStatus> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_string(), verbose: false };
        let reply = self.runtime.clone().pod_sandbox_status(call(request)).await?.into_inner();
        reply.status.ok_or_else(|| RuntimeError(Status::internal("the runtime sent no sandbox status")))
    }

    pub(crate) async fn containers(&self, labels: Labels) -> Outcome<Vec<cri::Container>> {
        let filter = cri::ContainerFilter { label_selector: labels, ..Default::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_containers(call(request)).await?.into_inner().containers)
    }

    pub(crate) async fn container(&self, id: &str) -> Outcome<cri::ContainerStatus> {
        let request = cri::ContainerStatusRequest { container_id: id.to_string(), verbose: false };
        let reply = self.runtime.clone().container_status(call(request)).await?.into_inner();
        reply.status.ok_or_else(|| RuntimeError(Status::internal("the runtime sent no container status")))
    }

    pub(crate) async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Outcome<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_string(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(self.runtime.clone().create_container(call(request)).await?.into_inner().container_id)
    }

    pub(crate) async fn start_container(&self, id: &str) -> Outcome<()> {
        let request = cri::StartContainerRequest { container_id: id.to_string() };
        self.runtime.clone().start_container(call(request)).await?;
        Ok(())
    }

    /// Sends the stop signal, kills after `grace`, returns when the container has ended.
    pub(crate) async fn stop_container(&self, id: &str, grace: Duration) -> Outcome<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = cri::StopContainerRequest { container_id: id.to_string(), timeout };
        self.runtime.clone().stop_container(timed(request, TIMEOUT.saturating_add(grace))).await?;
        Ok(())
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Outcome<()> {
        let request = cri::RemoveContainerRequest { container_id: id.to_string() };
        self.runtime.clone().remove_container(call(request)).await?;
        Ok(())
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Outcome<()> {
        let request = cri::ReopenContainerLogRequest { container_id: id.to_string() };
        self.runtime.clone().reopen_container_log(call(request)).await?;
        Ok(())
    }

    pub(crate) async fn exec(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Outcome<cri::ExecSyncResponse> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let request =
            cri::ExecSyncRequest { container_id: id.to_string(), cmd: command.to_vec(), timeout: seconds };
        // The runtime's own deadline must come first, so that it can kill what it ran.
        let limit = if timeout.is_zero() { Duration::from_secs(365 * 24 * 3600) } else { TIMEOUT + timeout };
        Ok(self.runtime.clone().exec_sync(timed(request, limit)).await?.into_inner())
    }

    pub(crate) async fn container_events(&self) -> Outcome<tonic::Streaming<cri::ContainerEventResponse>> {
        Ok(self
            .runtime
            .clone()
            .get_container_events(Request::new(cri::GetEventsRequest {}))
            .await?
            .into_inner())
    }

    pub(crate) async fn images(&self) -> Outcome<Vec<cri::Image>> {
        let request = cri::ListImagesRequest { filter: None };
        Ok(self.images.clone().list_images(call(request)).await?.into_inner().images)
    }

    pub(crate) async fn image(&self, name: &str) -> Outcome<Option<cri::Image>> {
        let spec = cri::ImageSpec { image: name.to_string(), ..Default::default() };
        let request = cri::ImageStatusRequest { image: Some(spec), verbose: false };
        Ok(self.images.clone().image_status(call(request)).await?.into_inner().image)
    }

    /// Directories of the file systems that images are unpacked to.
    pub(crate) async fn image_file_systems(&self) -> Outcome<Vec<String>> {
        let reply = self.images.clone().image_fs_info(call(cri::ImageFsInfoRequest {})).await?.into_inner();
        let places = reply.image_filesystems.into_iter().filter_map(|one| one.fs_id);
        Ok(places.map(|id| id.mountpoint).collect())
    }

    /// Pulls without a time limit: large images on slow lines take long, and the runtime has its own progress limit.
    pub(crate) async fn pull_image(
        &self,
        name: &str,
        auth: Option<cri::AuthConfig>,
        sandbox_config: Option<cri::PodSandboxConfig>,
    ) -> Outcome<String> {
        let spec = cri::ImageSpec { image: name.to_string(), ..Default::default() };
        let request = cri::PullImageRequest { image: Some(spec), auth, sandbox_config };
        Ok(self.images.clone().pull_image(Request::new(request)).await?.into_inner().image_ref)
    }

    pub(crate) async fn remove_image(&self, name: &str) -> Outcome<()> {
        let spec = cri::ImageSpec { image: name.to_string(), ..Default::default() };
        self.images.clone().remove_image(call(cri::RemoveImageRequest { image: Some(spec) })).await?;
        Ok(())
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
