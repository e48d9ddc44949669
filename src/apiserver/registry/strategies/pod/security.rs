//! Validation of security contexts: what a pod or container may ask of the kernel. Whether a node can give it
//! (AppArmor, sysctls that are not safe) is for its kubelet to say. What Windows has is in `os`.

use api::FieldError;
use api::validation::{Faults, Path};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Sysctl,
};

use super::os;
use super::volumes::local_path;

const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const PROC_MOUNTS: [&str; 2] = ["Default", "Unmasked"];
const GROUP_CHANGES: [&str; 2] = ["Always", "OnRootMismatch"];
const SUPPLEMENTAL: [&str; 2] = ["Merge", "Strict"];
const SELINUX_CHANGES: [&str; 2] = ["MountOption", "Recursive"];
/// Longest name of an AppArmor profile, a path's.
const PROFILE_MAX: usize = 4095;
const SYSCTL_MAX: usize = 253;
const SYSCTL_PATTERN: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
/// Parameters of the IPC namespace; all others that are known are below `net.` and `fs.mqueue.`.
const IPC_SYSCTLS: [&str; 10] = [
    "kernel.sem",
    "kernel.shm",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.msg",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
];

/// Faults of a pod's own security context.
pub(super) fn validate_pod(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    let Some(context) = &spec.security_context else { return };
    let at = at.child("securityContext");
    for (field, id) in [
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
        ("fsGroup", context.fs_group),
    ] {
        user_id(faults, &at.child(field), id);
    }
    let list = at.child("supplementalGroups");
    for (index, id) in context.supplemental_groups.iter().flatten().enumerate() {
        user_id(faults, &list.index(index), Some(*id));
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let message = "ShareProcessNamespace and HostPID cannot both be enabled";
        faults.push(FieldError::invalid(at.child("shareProcessNamespace"), true, message));
    }
    sysctls(spec, context.sysctls.as_deref().unwrap_or(&[]), &at.child("sysctls"), faults);
    seccomp(context.seccomp_profile.as_ref(), &at.child("seccompProfile"), faults);
    app_armor(context.app_armor_profile.as_ref(), &at.child("appArmorProfile"), faults);
    policies(context, &at, faults);
    os::windows_options(context.windows_options.as_ref(), &at.child("windowsOptions"), faults);
}

fn policies(context: &PodSecurityContext, at: &Path<'_>, faults: &mut Faults) {
    for (field, value, supported) in [
        ("fsGroupChangePolicy", &context.fs_group_change_policy, &GROUP_CHANGES),
        ("supplementalGroupsPolicy", &context.supplemental_groups_policy, &SUPPLEMENTAL),
        ("seLinuxChangePolicy", &context.se_linux_change_policy, &SELINUX_CHANGES),
    ] {
        if let Some(value) = value.as_deref().filter(|value| !supported.contains(value)) {
            faults.push(FieldError::not_supported(at.child(field), value, supported));
        }
    }
}

/// Faults of a container's security context. `host_users`: the pod has no user namespace of its own.
pub(super) fn validate_container(
    context: &SecurityContext,
    host_users: bool,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    user_id(faults, &at.child("runAsUser"), context.run_as_user);
    user_id(faults, &at.child("runAsGroup"), context.run_as_group);
    if let Some(mount) = context.proc_mount.as_deref() {
        let at = at.child("procMount");
        if !PROC_MOUNTS.contains(&mount) {
            faults.push(FieldError::not_supported(at, mount, &PROC_MOUNTS));
        }
        if host_users && mount == "Unmasked" {
            faults.push(FieldError::invalid(at, mount, "`hostUsers` must be false to use `Unmasked`"));
        }
    }
    seccomp(context.seccomp_profile.as_ref(), &at.child("seccompProfile"), faults);
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            faults.push(FieldError::invalid(at, context, message));
        }
        let added = context.capabilities.as_ref().and_then(|one| one.add.as_ref());
        if added.is_some_and(|list| list.iter().any(|one| one == "CAP_SYS_ADMIN")) {
            let message =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            faults.push(FieldError::invalid(at, context, message));
        }
    }
    os::windows_options(context.windows_options.as_ref(), &at.child("windowsOptions"), faults);
    app_armor(context.app_armor_profile.as_ref(), &at.child("appArmorProfile"), faults);
}

fn user_id(faults: &mut Faults, at: &Path<'_>, id: Option<i64>) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        faults.push(FieldError::invalid(at, id, "must be between 0 and 2147483647, inclusive"));
    }
}

fn seccomp(profile: Option<&SeccompProfile>, at: &Path<'_>, faults: &mut Faults) {
    let Some(profile) = profile else { return };
    profile_type(&profile.type_, "seccompProfile", at, faults);
    let at = at.child("localhostProfile");
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None) => {
            faults.push(FieldError::required(at, "must be set when seccomp type is Localhost"));
        }
        // The kubelet reads a file of this name below its own directory.
        ("Localhost", Some(path)) => local_path(path, &at, faults),
        (_, Some(_)) => {
            let message = "can only be set when seccomp type is Localhost";
            faults.push(FieldError::invalid(at, profile, message));
        }
        (_, None) => {}
    }
}

pub(super) fn app_armor(profile: Option<&AppArmorProfile>, at: &Path<'_>, faults: &mut Faults) {
    let Some(profile) = profile else { return };
    profile_type(&profile.type_, "appArmorProfile", at, faults);
    let at = at.child("localhostProfile");
    let missing = "must be set when AppArmor type is Localhost";
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None) => faults.push(FieldError::required(at, missing)),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                faults.push(FieldError::invalid(at, name, "must not be padded with whitespace"));
            } else if name.is_empty() {
                faults.push(FieldError::required(at, missing));
            }
            if name.len() > PROFILE_MAX {
                faults.push(FieldError::too_long(at, PROFILE_MAX));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            let message = "can only be set when AppArmor type is Localhost";
            faults.push(FieldError::invalid(at, name, message));
        }
        _ => {}
    }
}

fn profile_type(given: &str, field: &str, at: &Path<'_>, faults: &mut Faults) {
    let at = at.child("type");
    if given.is_empty() {
        faults.push(FieldError::required(at, format!("type is required when {field} is set")));
    } else if !PROFILE_TYPES.contains(&given) {
        faults.push(FieldError::not_supported(at, given, &PROFILE_TYPES));
    }
}

fn sysctls(spec: &PodSpec, list: &[Sysctl], at: &Path<'_>, faults: &mut Faults) {
    let mut seen = std::collections::HashSet::new();
    for (index, sysctl) in list.iter().enumerate() {
        let at = at.index(index);
        let (at, name) = (at.child("name"), sysctl.name.as_str());
        if name.is_empty() {
            faults.push(FieldError::required(at, ""));
        } else if !is_sysctl(name) {
            let message =
                format!("must have at most {SYSCTL_MAX} characters and match regex {SYSCTL_PATTERN}");
            faults.push(FieldError::invalid(at, name, message));
        } else if !seen.insert(name) {
            faults.push(FieldError::duplicate(at, name));
        }
        let shared = match namespace(&normal(name)) {
            Some(Namespace::Net) if spec.host_network == Some(true) => "hostNetwork",
            Some(Namespace::Ipc) if spec.host_ipc == Some(true) => "hostIPC",
            _ => continue,
        };
        let message = format!("may not be specified when '{shared}' is true");
        faults.push(FieldError::invalid(at, name, message));
    }
}

/// Segments of lower-case letters, digits, dashes and underscores, between dots or slashes.
fn is_sysctl(name: &str) -> bool {
    let edge =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let inner = |byte: &u8| edge(Some(byte)) || matches!(byte, b'-' | b'_');
    let segment = |segment: &str| {
        let bytes = segment.as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
    };
    name.len() <= SYSCTL_MAX && name.split(['.', '/']).all(segment)
}

/// The form with dots: in `net/ipv4/conf/eth0.1/forwarding` dots and slashes change places.
fn normal(name: &str) -> String {
    if name.find(['.', '/']).is_none_or(|first| name.as_bytes().get(first) == Some(&b'.')) {
        return name.to_string();
    }
    let swap = |one| match one {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

fn namespace(name: &str) -> Option<Namespace> {
    match name {
        _ if name.starts_with("net.") => Some(Namespace::Net),
        _ if name.starts_with("fs.mqueue.") || IPC_SYSCTLS.contains(&name) => Some(Namespace::Ipc),
        _ => None,
    }
}
