//! What the runtime is asked for as a container.

use std::collections::{BTreeMap, HashMap};

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::json;

use super::security::{ImageUser, SeccompRules, SecurityError};
use super::{PodExt, env, resources, sandbox, security};
use crate::runtime::labels;

/// What is not in the container's specification.
pub(crate) struct ContainerInput<'a> {
    pub(crate) instance: &'a str,
    /// The image as the runtime knows it.
    pub(crate) image_ref: &'a str,
    pub(crate) image_user: &'a ImageUser,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) mounts: Vec<cri::Mount>,
    pub(crate) restart_count: i32,
    /// The container whose process namespace this one joins.
    pub(crate) target: Option<&'a str>,
    pub(crate) node_memory: i64,
    pub(crate) no_swap: bool,
    pub(crate) seccomp: SeccompRules<'a>,
}

pub(crate) const DEFAULT_TERMINATION_PATH: &str = "/dev/termination-log";

/// Tells whether a container must be made anew because its definition changed: name and image, the only parts
/// of a container that can change in a pod.
pub(crate) fn hash(container: &Container) -> String {
    let picked = json!({"name": container.name, "image": container.image});
    let mut hash: u32 = 0x811c_9dc5;
    for byte in picked.to_string().bytes() {
        hash = hash.wrapping_mul(0x0100_0193) ^ u32::from(byte);
    }
    format!("{hash:x}")
}

pub(crate) fn termination_path(container: &Container) -> &str {
    container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or(DEFAULT_TERMINATION_PATH)
}

/// Log file of a container below the pod's log directory.
pub(crate) fn log_path(container: &str, restart_count: i32) -> String {
    format!("{container}/{restart_count}.log")
}

pub(crate) fn config(
    pod: &Pod,
    container: &Container,
    input: ContainerInput<'_>,
) -> Result<cri::ContainerConfig, SecurityError> {
    let expand = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| env::expand(word, &[&input.env])).collect()
    };
    let (command, args) = (expand(&container.command), expand(&container.args));
    let attempt = u32::try_from(input.restart_count).unwrap_or(0);
    let mut security_context = security::of_container(pod, container, input.image_user, input.seccomp)?;
    if let (Some(target), Some(options)) = (input.target, security_context.namespace_options.as_mut()) {
        security::join(options, target);
    }
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: container.name.clone(), attempt }),
        image: Some(cri::ImageSpec {
            image: input.image_ref.to_string(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: input.mounts,
        labels: container_labels(pod, container, input.instance),
        annotations: annotations(pod, container, input.restart_count),
        log_path: log_path(&container.name, input.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources::of_container(pod, container, input.node_memory, input.no_swap)),
            security_context: Some(security_context),
        }),
        envs: input.env.into_iter().map(|(key, value)| cri::KeyValue { key, value }).collect(),
        ..Default::default()
    })
}

fn container_labels(pod: &Pod, container: &Container, instance: &str) -> HashMap<String, String> {
    let mut all = sandbox::pod_labels(pod, instance);
    all.insert(labels::CONTAINER_NAME.into(), container.name.clone());
    all
}

fn annotations(pod: &Pod, container: &Container, restart_count: i32) -> HashMap<String, String> {
    let mut all: HashMap<String, String> = HashMap::new();
    all.insert(labels::HASH.into(), hash(container));
    all.insert(labels::RESTART_COUNT.into(), restart_count.to_string());
    all.insert(labels::TERMINATION_PATH.into(), termination_path(container).into());
    if let Ok(resources) = serde_json::to_string(&container.resources.clone().unwrap_or_default()) {
        all.insert(labels::RESOURCES.into(), resources);
    }
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    all.insert(labels::TERMINATION_POLICY.into(), policy.into());
    let grace =
        pod.metadata.deletion_grace_period_seconds.or(pod.spec_ref().termination_grace_period_seconds);
    if let Some(grace) = grace {
        all.insert(labels::POD_GRACE.into(), grace.to_string());
    }
    if let Some(ports) = container.ports.as_ref().and_then(|ports| serde_json::to_string(ports).ok()) {
        all.insert(labels::PORTS.into(), ports);
    }
    all
}
