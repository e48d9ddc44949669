//! Which sysctls a pod may set: those that the kernel keeps apart for each pod and that cannot harm others
//! (upstream's safe ones), and what the node's administrator allows besides. Names, reasons and messages are
//! upstream's.

use k8s_openapi::api::core::v1::Pod;

use super::Refusal;
use crate::spec::PodExt;

/// Safe ones, with the first kernel that keeps them apart.
const SAFE: [(&str, (u32, u32)); 12] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];

const MOST_BYTES: usize = 253;
/// As upstream's message shows it.
const PATTERN: &str = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]";

/// The kernel namespace that a sysctl belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

/// Patterns of sysctls that cannot be allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SysctlPatternError {
    #[error("sysctl {0:?} must have at most {MOST_BYTES} characters and match regex {PATTERN}")]
    Form(String),
    #[error("the sysctls {0:?} are not known to be namespaced")]
    NotNamespaced(String),
}

/// Why a pod may not set a sysctl.
#[derive(Debug, thiserror::Error)]
enum Forbidden {
    #[error("{0:?} not allowlisted")]
    NotListed(String),
    #[error("{name:?} not allowed with host {namespace} enabled")]
    Shared { name: String, namespace: &'static str },
}

/// The sysctls that pods may set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SysctlAllowlist {
    names: Vec<(String, Namespace)>,
    prefixes: Vec<(String, Namespace)>,
}

impl SysctlAllowlist {
    /// The safe sysctls of a kernel (its release, such as `6.1.0-18-amd64`) and those that match the
    /// patterns, which may end with `*`.
    pub fn new(patterns: &[String], kernel: &str) -> Result<Self, SysctlPatternError> {
        let mut list = SysctlAllowlist::default();
        let kernel = version(kernel);
        let safe = SAFE.iter().filter(|(_, since)| kernel >= *since);
        list.names.extend(safe.filter_map(|(name, _)| Some((name.to_string(), namespace_of(name)?))));
        for pattern in patterns {
            if !is_pattern(pattern) {
                return Err(SysctlPatternError::Form(pattern.clone()));
            }
            let name = normalized(pattern);
            let (stem, is_prefix) = match name.split_once('*') {
                Some((stem, _)) => (stem.to_string(), true),
                None => (name, false),
            };
            let Some(namespace) = namespace_of(&stem) else {
                return Err(SysctlPatternError::NotNamespaced(stem));
            };
            if is_prefix { &mut list.prefixes } else { &mut list.names }.push((stem, namespace));
        }
        Ok(list)
    }

    pub(super) fn admit(&self, pod: &Pod) -> Result<(), Refusal> {
        let context = pod.spec_ref().security_context.as_ref();
        for sysctl in context.iter().flat_map(|context| context.sysctls.iter().flatten()) {
            self.check(&normalized(&sysctl.name), pod)
                .map_err(|why| ("SysctlForbidden".to_string(), format!("forbidden sysctl: {why}")))?;
        }
        Ok(())
    }

    fn check(&self, name: &str, pod: &Pod) -> Result<(), Forbidden> {
        let listed = self.names.iter().find(|(one, _)| one == name);
        let found = listed.or_else(|| self.prefixes.iter().find(|(prefix, _)| name.starts_with(prefix)));
        let Some((_, namespace)) = found else { return Err(Forbidden::NotListed(name.to_string())) };
        let (is_shared, shown) = match namespace {
            Namespace::Ipc => (pod.spec_ref().host_ipc == Some(true), "IPC"),
            Namespace::Net => (pod.host_network(), "Net"),
        };
        if is_shared { Err(Forbidden::Shared { name: name.to_string(), namespace: shown }) } else { Ok(()) }
    }
}

/// With dots between the parts. A name whose first separator is a slash has the two the other way round.
pub(crate) fn normalized(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_string(),
    }
}

fn namespace_of(name: &str) -> Option<Namespace> {
    const IPC: [&str; 10] = [
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.shm",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.msg",
    ];
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return Some(Namespace::Ipc);
    }
    name.starts_with("net.").then_some(Namespace::Net)
}

fn is_pattern(pattern: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut parts: Vec<&[u8]> = pattern.as_bytes().split(|byte| b"./".contains(byte)).collect();
    let last = parts.pop().unwrap_or_default();
    let is_segment = |part: &&[u8]| {
        part.first().is_some_and(is_end)
            && part.last().is_some_and(is_end)
            && part.iter().all(|byte| is_inner(*byte))
    };
    // The star may also stand alone, for all that is below.
    let is_last = match last.split_last() {
        Some((b'*', [])) => true,
        Some((b'*', stem)) => is_end(&stem[0]) && stem.iter().all(|byte| is_inner(*byte)),
        _ => is_segment(&last),
    };
    pattern.len() <= MOST_BYTES && is_last && parts.iter().all(is_segment)
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
