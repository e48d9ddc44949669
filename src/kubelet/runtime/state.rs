//! What the runtime holds of one pod: its sandboxes and containers, newest first. Everything that plans and
//! statuses are made from is in here, so that both are pure functions.

use std::collections::HashMap;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::ResourceRequirements;

use super::{Runtime, RuntimeError, labels};
use crate::files;

#[derive(Clone, Debug, Default)]
pub(crate) struct PodRuntime {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<ContainerRecord>,
}

#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) ready: bool,
    pub(crate) attempt: u32,
    pub(crate) created_at: i64,
    /// Empty for pods in the node's network, and for sandboxes that are not ready.
    pub(crate) ips: Vec<String>,
    pub(crate) host_network: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerPhase {
    Created,
    Running,
    Exited,
    /// The runtime lost track of it, as after a crash of the machine.
    Unknown,
}

/// One container instance.
#[derive(Clone, Debug)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    pub(crate) sandbox: String,
    pub(crate) name: String,
    pub(crate) phase: ContainerPhase,
    pub(crate) created_at: i64,
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) image: String,
    pub(crate) image_ref: String,
    pub(crate) restart_count: i32,
    pub(crate) hash: String,
    pub(crate) log_path: String,
    pub(crate) grace: Option<i64>,
    pub(crate) termination_policy: String,
    /// Host file that holds the termination message.
    pub(crate) termination_file: Option<String>,
    pub(crate) user: Option<(i64, i64, Vec<i64>)>,
    /// The CPU and memory that it has.
    pub(crate) resources: Option<ResourceRequirements>,
}

impl PodRuntime {
    /// The newest instance of a container.
    pub(crate) fn latest(&self, name: &str) -> Option<&ContainerRecord> {
        self.containers.iter().find(|one| one.name == name)
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &ContainerRecord> {
        self.containers.iter().filter(|one| one.phase == ContainerPhase::Running)
    }

    pub(crate) fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }

    /// Reads a pod's state.
    pub(crate) async fn read(runtime: &dyn Runtime, uid: &str) -> Result<PodRuntime, RuntimeError> {
        let selector: HashMap<String, String> = [(labels::POD_UID.to_string(), uid.to_string())].into();
        let (sandboxes, containers) =
            futures::future::try_join(runtime.sandboxes(selector.clone()), runtime.containers(selector))
                .await?;
        let statuses = try_join_all(containers.iter().map(|one| status_of(runtime, &one.id)));
        let newest = sandboxes
            .iter()
            .max_by_key(|one| {
                newest_key(one.metadata.as_ref().map_or(0, |metadata| metadata.attempt), one.created_at)
            })
            .map(|one| one.id.clone());
        let sandboxes = try_join_all(sandboxes.into_iter().map(|one| {
            let newest = newest.as_deref() == Some(one.id.as_str());
            read_sandbox(runtime, one, newest)
        }));
        let (statuses, mut sandboxes) = futures::future::try_join(statuses, sandboxes).await?;
        sandboxes.sort_by_key(|one| std::cmp::Reverse(newest_key(one.attempt, one.created_at)));
        let mut records: Vec<ContainerRecord> = containers
            .into_iter()
            .zip(statuses)
            .filter_map(|(listed, status)| Some(record(&listed.pod_sandbox_id, status?)))
            .collect();
        if records.iter().any(|one| one.phase == ContainerPhase::Exited) {
            records = files::blocking(move || {
                records.iter_mut().for_each(ContainerRecord::read_termination);
                records
            })
            .await;
        }
        records.sort_by_key(|one| std::cmp::Reverse(newest_key(one.restart_count, one.created_at)));
        Ok(PodRuntime { sandboxes, containers: records })
    }
}

/// Orders what was made one after the other. The count comes first: the clock may have been set back in
/// between.
fn newest_key<N: Ord>(count: N, created_at: i64) -> (N, i64) {
    (count, created_at)
}

/// Bytes of a termination message, and of a log that stands in for one.
const MOST_MESSAGE: u64 = 4096;
const MOST_LOG: u64 = 2048;

impl ContainerRecord {
    /// A record of which only the name and the phase matter.
    #[cfg(test)]
    pub(crate) fn for_tests(name: &str, phase: ContainerPhase) -> Self {
        let created = cri::ContainerState::ContainerCreated as i32;
        let status = cri::ContainerStatus { id: name.to_string(), state: created, ..Default::default() };
        ContainerRecord { name: name.to_string(), phase, ..record("s", status) }
    }

    /// Fills in what the container left as its last words. Blocks. The file may be one of the container's own
    /// volumes, so it may be anything; one that is no regular file says nothing.
    fn read_termination(&mut self) {
        if self.phase != ContainerPhase::Exited {
            return;
        }
        let file = self.termination_file.as_deref().map(std::path::Path::new);
        let bytes = file.and_then(|file| files::read_end(file, MOST_MESSAGE).ok()).unwrap_or_default();
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if text.is_empty() && self.exit_code != 0 && self.termination_policy == "FallbackToLogsOnError" {
            text = crate::logs::last_lines(std::path::Path::new(&self.log_path), 80, MOST_LOG);
        }
        if !text.is_empty() {
            let between = if self.message.is_empty() { "" } else { ": " };
            self.message = format!("{}{between}{text}", self.message);
        }
    }
}

/// `None` for a container that was removed since it was listed.
async fn status_of(runtime: &dyn Runtime, id: &str) -> Result<Option<cri::ContainerStatus>, RuntimeError> {
    match runtime.container(id).await {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read_sandbox(
    runtime: &dyn Runtime,
    listed: cri::PodSandbox,
    newest: bool,
) -> Result<Sandbox, RuntimeError> {
    let mut sandbox = Sandbox {
        id: listed.id,
        ready: listed.state == cri::PodSandboxState::SandboxReady as i32,
        attempt: listed.metadata.unwrap_or_default().attempt,
        created_at: listed.created_at,
        ips: Vec::new(),
        host_network: false,
    };
    if newest && sandbox.ready {
        match runtime.sandbox(&sandbox.id).await {
            Ok(status) => fill_network(&mut sandbox, status),
            Err(error) if error.is_not_found() => sandbox.ready = false,
            Err(error) => return Err(error),
        }
    }
    Ok(sandbox)
}

fn fill_network(sandbox: &mut Sandbox, status: cri::PodSandboxStatus) {
    sandbox.ready = status.state == cri::PodSandboxState::SandboxReady as i32;
    let network = status.network.unwrap_or_default();
    sandbox.ips = std::iter::once(network.ip)
        .chain(network.additional_ips.into_iter().map(|one| one.ip))
        .filter(|ip| !ip.is_empty())
        .collect();
    let options = status.linux.and_then(|linux| linux.namespaces).and_then(|namespaces| namespaces.options);
    sandbox.host_network = options.is_some_and(|options| options.network == cri::NamespaceMode::Node as i32);
}

fn record(sandbox: &str, status: cri::ContainerStatus) -> ContainerRecord {
    let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let path = annotation(labels::TERMINATION_PATH);
    let termination_file = status
        .mounts
        .iter()
        .find(|mount| !path.is_empty() && mount.container_path == path)
        .map(|mount| mount.host_path.clone());
    let phase = match cri::ContainerState::try_from(status.state) {
        Ok(cri::ContainerState::ContainerCreated) => ContainerPhase::Created,
        Ok(cri::ContainerState::ContainerRunning) => ContainerPhase::Running,
        Ok(cri::ContainerState::ContainerExited) => ContainerPhase::Exited,
        _ => ContainerPhase::Unknown,
    };
    let user = status.user.as_ref().and_then(|user| user.linux.as_ref());
    ContainerRecord {
        sandbox: sandbox.to_string(),
        name: status.metadata.clone().unwrap_or_default().name,
        phase,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        restart_count: annotation(labels::RESTART_COUNT).parse().unwrap_or(0),
        hash: annotation(labels::HASH),
        grace: annotation(labels::POD_GRACE).parse().ok(),
        termination_policy: annotation(labels::TERMINATION_POLICY),
        termination_file,
        resources: serde_json::from_str(&annotation(labels::RESOURCES)).ok(),
        user: user.map(|user| (user.uid, user.gid, user.supplemental_groups.clone())),
        image: status.image.unwrap_or_default().image,
        image_ref: status.image_ref,
        reason: status.reason,
        message: status.message,
        log_path: status.log_path,
        id: status.id,
    }
}

/// The runtime's nanoseconds as a time; its zero means never.
pub(crate) fn time(nanoseconds: i64) -> Option<Timestamp> {
    if nanoseconds <= 0 { None } else { Timestamp::from_nanosecond(i128::from(nanoseconds)).ok() }
}
