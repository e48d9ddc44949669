//! Security contexts: the container's own settings over the pod's, as the runtime takes them.

use std::path::Path;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};

use super::PodExt;

const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Who an image runs as if nothing else is said.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageUser {
    pub(crate) uid: Option<i64>,
    pub(crate) name: String,
}

/// Which namespaces a pod shares with the node or among its containers.
pub(crate) fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    let spec = pod.spec_ref();
    let node_or_pod = |host: Option<bool>| {
        if host == Some(true) { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod }
    };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => cri::NamespaceMode::Node,
        (_, Some(true)) => cri::NamespaceMode::Pod,
        _ => cri::NamespaceMode::Container,
    };
    cri::NamespaceOption {
        network: node_or_pod(spec.host_network) as i32,
        ipc: node_or_pod(spec.host_ipc) as i32,
        pid: pid as i32,
        ..Default::default()
    }
}

fn groups(pod: &Pod) -> Vec<i64> {
    let Some(context) = &pod.spec_ref().security_context else { return Vec::new() };
    let mut groups: Vec<i64> = context.supplemental_groups.iter().flatten().copied().collect();
    groups.extend(context.fs_group);
    groups
}

fn seccomp(profile: Option<&SeccompProfile>, directory: &Path) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let (kind, localhost_ref) = match profile.map(|one| one.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let file = profile.and_then(|one| one.localhost_profile.as_deref()).unwrap_or("");
            (ProfileType::Localhost, directory.join(file).to_string_lossy().into_owned())
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    cri::SecurityProfile { profile_type: kind as i32, localhost_ref }
}

pub(crate) fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|context| context.privileged).unwrap_or(false)
}

pub(crate) fn of_sandbox(pod: &Pod) -> cri::LinuxSandboxSecurityContext {
    let context = pod.spec_ref().security_context.clone().unwrap_or_default();
    let privileged = pod.containers().iter().chain(pod.init_containers()).any(is_privileged);
    cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: context.run_as_user.map(|value| cri::Int64Value { value }),
        // The runtime refuses a group without a user.
        run_as_group: context
            .run_as_group
            .filter(|_| context.run_as_user.is_some())
            .map(|value| cri::Int64Value { value }),
        supplemental_groups: groups(pod),
        privileged,
        seccomp: Some(cri::SecurityProfile::default()),
        ..Default::default()
    }
}

/// A container's context. `seccomp_dir` holds the profiles that `Localhost` names.
pub(crate) fn of_container(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    seccomp_dir: &Path,
) -> cri::LinuxContainerSecurityContext {
    let of_pod = pod.spec_ref().security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let user = own.run_as_user.or(of_pod.run_as_user);
    let group = own.run_as_group.or(of_pod.run_as_group);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked") || privileged;
    let paths = |paths: &[&str]| {
        if unmasked { Vec::new() } else { paths.iter().map(ToString::to_string).collect() }
    };
    let capabilities = own.capabilities.map(|one| cri::Capability {
        add_capabilities: one.add.unwrap_or_default(),
        drop_capabilities: one.drop.unwrap_or_default(),
        ..Default::default()
    });
    let named_user = user.is_none() && image.uid.is_none() && !image.name.is_empty();
    cri::LinuxContainerSecurityContext {
        capabilities: Some(capabilities.unwrap_or_default()),
        privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: if named_user {
            None
        } else {
            user.or(image.uid).map(|value| cri::Int64Value { value })
        },
        run_as_username: if named_user { image.name.clone() } else { String::new() },
        run_as_group: group.map(|value| cri::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: match of_pod.supplemental_groups_policy.as_deref() {
            Some("Strict") => cri::SupplementalGroupsPolicy::Strict as i32,
            _ => cri::SupplementalGroupsPolicy::Merge as i32,
        },
        no_new_privs: own.allow_privilege_escalation.is_some_and(|allowed| !allowed),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(if privileged {
            seccomp(None, seccomp_dir)
        } else {
            seccomp(own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()), seccomp_dir)
        }),
        ..Default::default()
    }
}

/// `runAsNonRoot`: why the container may not start, if it may not.
pub(crate) fn refuse_root(pod: &Pod, container: &Container, image: &ImageUser) -> Option<String> {
    let of_pod = pod.spec_ref().security_context.as_ref();
    let own = container.security_context.as_ref();
    let non_root = own.and_then(|one| one.run_as_non_root).or(of_pod.and_then(|one| one.run_as_non_root));
    if non_root != Some(true) {
        return None;
    }
    let place = format!("(pod: {:?}, container: {})", pod.described(), container.name);
    match own.and_then(|one| one.run_as_user).or(of_pod.and_then(|one| one.run_as_user)) {
        Some(0) => Some(format!("container's runAsUser breaks non-root policy {place}")),
        Some(_) => None,
        None if image.uid == Some(0) => {
            Some(format!("container has runAsNonRoot and image will run as root {place}"))
        }
        None if image.uid.is_none() && !image.name.is_empty() => Some(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {place}",
            image.name
        )),
        None if image.uid.is_none() => {
            Some(format!("container has runAsNonRoot and image will run as root {place}"))
        }
        None => None,
    }
}
