//! Validation of what a pod asks of its operating system: `os`, what only one of the systems has, and the
//! options for Windows. There are no nodes with Windows here; the objects are those of any cluster.

use api::FieldError;
use api::validation::{Faults, Path, dns1123_subdomain, invalid_each};
use k8s_openapi::api::core::v1::{PodSpec, SecurityContext, WindowsSecurityContextOptions};
use serde_json::Value;

const SYSTEMS: [&str; 2] = ["linux", "windows"];
const MAX_CREDENTIAL_SPEC: usize = 64 * 1024;
/// The domain of a user is shorter than this.
const DOMAIN_BOUND: usize = 256;
const MAX_USER: usize = 104;
const MAX_NETBIOS: usize = 15;

/// Faults of `os` and of what the system that it names does not have.
pub(super) fn validate(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    let Some(os) = &spec.os else { return };
    let field = at.child("os");
    match os.name.as_str() {
        "" => faults.push(FieldError::required(field.child("name"), "")),
        "linux" => linux(spec, at, faults),
        "windows" => windows(spec, at, faults),
        other => faults.push(FieldError::not_supported(field, other, &SYSTEMS)),
    }
}

/// The security contexts of all containers, with the place of each.
fn each_context(spec: &PodSpec, at: &Path<'_>, mut visit: impl FnMut(Option<&SecurityContext>, &Path<'_>)) {
    let lists = [
        ("initContainers", spec.init_containers.as_deref().unwrap_or(&[])),
        ("containers", spec.containers.as_slice()),
    ];
    for (name, list) in lists {
        let list_at = at.child(name);
        for (index, one) in list.iter().enumerate() {
            visit(one.security_context.as_ref(), &list_at.index(index).child("securityContext"));
        }
    }
    let list_at = at.child("ephemeralContainers");
    for (index, one) in spec.ephemeral_containers.iter().flatten().enumerate() {
        visit(one.security_context.as_ref(), &list_at.index(index).child("securityContext"));
    }
}

fn linux(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    let mut refuse = |options: Option<&WindowsSecurityContextOptions>, at: &Path<'_>| {
        if options.is_some() {
            let message = "windows options cannot be set for a linux pod";
            faults.push(FieldError::forbidden(at.child("windowsOptions"), message));
        }
    };
    let own = spec.security_context.as_ref().and_then(|context| context.windows_options.as_ref());
    refuse(own, &at.child("securityContext"));
    each_context(spec, at, |context, at| {
        refuse(context.and_then(|context| context.windows_options.as_ref()), at);
    });
}

/// What a pod has for Linux only, in upstream's order. All but [`BESIDE`] are in its security context.
const POD_ONLY: [&str; 15] = [
    "appArmorProfile",
    "seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "shareProcessNamespace",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const BESIDE: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
/// The same of a container's security context.
const CONTAINER_ONLY: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

fn windows(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    let message = "cannot be set for a windows pod";
    if spec.resources.is_some() {
        faults.push(FieldError::forbidden(at.child("resources"), "may not be set for a windows pod"));
    }
    let context = serde_json::to_value(&spec.security_context).unwrap_or_default();
    let context_at = at.child("securityContext");
    for field in POD_ONLY {
        let is_given = match field {
            "hostUsers" => spec.host_users.is_some(),
            "hostPID" => spec.host_pid == Some(true),
            "hostIPC" => spec.host_ipc == Some(true),
            "shareProcessNamespace" => spec.share_process_namespace.is_some(),
            other => is_set(&context[other]),
        };
        if is_given {
            let parent = if BESIDE.contains(&field) { at } else { &context_at };
            faults.push(FieldError::forbidden(parent.child(field), message));
        }
    }
    each_context(spec, at, |context, at| {
        let context = serde_json::to_value(context).unwrap_or_default();
        for field in CONTAINER_ONLY.into_iter().filter(|field| is_set(&context[*field])) {
            faults.push(FieldError::forbidden(at.child(field), message));
        }
    });
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        // An empty list of system controls is none.
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}

/// Host processes go with the network of the host, and all containers or none are such.
pub(super) fn host_process(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    let wanted = |options: Option<&WindowsSecurityContextOptions>| options.and_then(|one| one.host_process);
    let own = wanted(spec.security_context.as_ref().and_then(|context| context.windows_options.as_ref()));
    let (mut all, mut count) = (0, 0);
    each_context(spec, at, |context, at| {
        all += 1;
        let given = wanted(context.and_then(|context| context.windows_options.as_ref()));
        if let (Some(own), Some(given)) = (own, given)
            && own != given
        {
            let message = format!("pod hostProcess value must be identical if both are specified, was {own}");
            let at = at.child("windowsOptions");
            faults.push(FieldError::invalid(at.child("hostProcess"), given, message));
        }
        count += usize::from(given.or(own) == Some(true));
    });
    if count == 0 {
        return;
    }
    if count != all {
        let message =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        faults.push(FieldError::invalid(at, "", message));
    }
    if spec.host_network != Some(true) {
        let message = "hostNetwork must be true if pod contains any hostProcess containers";
        faults.push(FieldError::invalid(at.child("hostNetwork"), false, message));
    }
}

/// Faults of the options for Windows of a pod or of a container.
pub(super) fn windows_options(
    options: Option<&WindowsSecurityContextOptions>,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    let Some(options) = options else { return };
    if let Some(name) = &options.gmsa_credential_spec_name {
        invalid_each(faults, &at.child("gmsaCredentialSpecName"), name, dns1123_subdomain(name));
    }
    if let Some(spec) = &options.gmsa_credential_spec {
        let message = match spec.len() {
            0 => Some("gmsaCredentialSpec cannot be an empty string"),
            length if length > MAX_CREDENTIAL_SPEC => Some("gmsaCredentialSpec size must be under 64 KiB"),
            _ => None,
        };
        if let Some(message) = message {
            faults.push(FieldError::invalid(at.child("gmsaCredentialSpec"), spec, message));
        }
    }
    if let Some(name) = &options.run_as_user_name {
        for message in user_faults(name) {
            faults.push(FieldError::invalid(at.child("runAsUserName"), name, message));
        }
    }
}

/// What is wrong with `USER` or `DOMAIN\USER`.
fn user_faults(name: &str) -> Vec<String> {
    let fault = |what: &str| format!("runAsUserName {what}");
    if name.is_empty() {
        return vec![fault("cannot be an empty string")];
    }
    if name.chars().any(|one| one.is_ascii_control()) {
        return vec![fault("cannot contain control characters")];
    }
    let (domain, user) = match name.split('\\').collect::<Vec<_>>()[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec![fault("cannot contain more than one backslash")],
    };
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("runAsUserName's {what}"));
    if domain.is_some_and(|domain| domain.len() >= DOMAIN_BOUND) {
        fault(format!("Domain length must be under {DOMAIN_BOUND} characters"));
    }
    if domain.is_some_and(|domain| !is_netbios(domain) && !is_domain(domain)) {
        fault("Domain doesn't match the NetBios nor the DNS format".to_string());
    }
    if user.is_empty() {
        fault("User cannot be empty".to_string());
    } else if user.len() > MAX_USER {
        fault(format!("User length must not be longer than {MAX_USER} characters"));
    }
    if !user.is_empty() && user.chars().all(|one| matches!(one, '.' | ' ')) {
        fault("User cannot contain only periods or spaces".to_string());
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        fault("User cannot contain the following characters: \"/\\:;|=,+*?<>@[]".to_string());
    }
    faults
}

fn is_netbios(domain: &str) -> bool {
    let is_long = !(1..=MAX_NETBIOS).contains(&domain.chars().count());
    !is_long && !domain.starts_with('.') && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

fn is_domain(domain: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    domain.split('.').map(str::as_bytes).all(|label| {
        label.len() <= 63
            && edge(label.first())
            && edge(label.last())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    })
}
