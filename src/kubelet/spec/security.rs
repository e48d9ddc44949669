//! Security contexts: the container's own settings over the pod's, as the runtime takes them.

use std::path::{Component, Path};

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, SELinuxOptions, SeccompProfile};

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

/// Joins the processes of another container, unless the pod's share a namespace anyway.
pub(crate) fn join(options: &mut cri::NamespaceOption, target: &str) {
    if options.pid == cri::NamespaceMode::Container as i32 {
        options.pid = cri::NamespaceMode::Target as i32;
        options.target_id = target.to_string();
    }
}

fn groups(pod: &Pod) -> Vec<i64> {
    let Some(context) = &pod.spec_ref().security_context else { return Vec::new() };
    let mut groups: Vec<i64> = context.supplemental_groups.iter().flatten().copied().collect();
    groups.extend(context.fs_group);
    groups
}

/// A security context that the runtime cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecurityError {
    #[error("localhostProfile must be set if seccompProfile type is Localhost.")]
    NoSeccompProfile,
    #[error("localhostProfile {0:?} must be a relative path without '..'")]
    SeccompProfilePath(String),
    #[error("missing localhost apparmor profile name")]
    NoApparmorProfile,
    #[error("unknown apparmor profile type: {0:?}")]
    ApparmorType(String),
}

/// The node's part in choosing a container's seccomp profile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeccompRules<'a> {
    /// Where the profiles are that `Localhost` names.
    pub(crate) directory: &'a Path,
    /// Without a profile the runtime's default one is used.
    pub(crate) is_default: bool,
}

fn seccomp(
    profile: Option<&SeccompProfile>,
    rules: SeccompRules<'_>,
) -> Result<cri::SecurityProfile, SecurityError> {
    use cri::security_profile::ProfileType;
    let (kind, localhost_ref) = match profile.map(|one| one.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        None if rules.is_default => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let file = profile.and_then(|one| one.localhost_profile.as_deref()).unwrap_or("");
            (ProfileType::Localhost, profile_file(rules.directory, file)?)
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    Ok(cri::SecurityProfile { profile_type: kind as i32, localhost_ref })
}

/// The API server refuses such paths too; whoever writes past it must not get further here.
fn profile_file(directory: &Path, file: &str) -> Result<String, SecurityError> {
    if file.is_empty() {
        return Err(SecurityError::NoSeccompProfile);
    }
    if !Path::new(file).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(SecurityError::SeccompProfilePath(file.to_string()));
    }
    Ok(directory.join(file).to_string_lossy().into_owned())
}

/// Prefix of the annotations that named profiles before there were fields; a container's name follows.
pub(crate) const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// A container's AppArmor profile: its own, that of an annotation, or the pod's.
pub(crate) fn apparmor_profile(pod: &Pod, container: &Container) -> Option<AppArmorProfile> {
    let own = container.security_context.as_ref().and_then(|context| context.app_armor_profile.clone());
    let of_pod = || pod.spec_ref().security_context.as_ref().and_then(|one| one.app_armor_profile.clone());
    own.or_else(|| annotated_profile(pod, &container.name)).or_else(of_pod)
}

fn annotated_profile(pod: &Pod, container: &str) -> Option<AppArmorProfile> {
    let annotations = pod.metadata.annotations.as_ref()?;
    let value = annotations.get(&format!("{APPARMOR_ANNOTATION}{container}"))?;
    let (kind, name) = match (value.as_str(), value.strip_prefix("localhost/")) {
        ("runtime/default", _) => ("RuntimeDefault", None),
        ("unconfined", _) => ("Unconfined", None),
        (_, Some(name)) => ("Localhost", Some(name.to_string())),
        _ => return None,
    };
    Some(AppArmorProfile { type_: kind.to_string(), localhost_profile: name })
}

fn apparmor(pod: &Pod, container: &Container) -> Result<Option<cri::SecurityProfile>, SecurityError> {
    use cri::security_profile::ProfileType;
    let Some(profile) = apparmor_profile(pod, container) else { return Ok(None) };
    let kind = match profile.type_.as_str() {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Unconfined" => ProfileType::Unconfined,
        "Localhost" => ProfileType::Localhost,
        _ => return Err(SecurityError::ApparmorType(profile.type_)),
    };
    let localhost_ref = match kind {
        ProfileType::Localhost => profile.localhost_profile.ok_or(SecurityError::NoApparmorProfile)?,
        _ => String::new(),
    };
    Ok(Some(cri::SecurityProfile { profile_type: kind as i32, localhost_ref }))
}

fn selinux(options: Option<&SELinuxOptions>) -> Option<cri::SeLinuxOption> {
    let options = options?;
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    Some(cri::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    })
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
        selinux_options: selinux(context.se_linux_options.as_ref()),
        seccomp: Some(cri::SecurityProfile::default()),
        ..Default::default()
    }
}

/// A container's context.
pub(crate) fn of_container(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    seccomp_rules: SeccompRules<'_>,
) -> Result<cri::LinuxContainerSecurityContext, SecurityError> {
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
    let profile = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    Ok(cri::LinuxContainerSecurityContext {
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
        // The runtime confines no privileged container, whatever is asked for.
        seccomp: Some(seccomp(profile.filter(|_| !privileged), seccomp_rules)?),
        apparmor: apparmor(pod, container)?,
        selinux_options: selinux(own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref())),
        ..Default::default()
    })
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

#[cfg(test)]
mod tests;
