//! What the runtime is asked for as a pod's sandbox.

use std::collections::HashMap;
use std::path::Path;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Pod;

use super::{PodExt, hosts, security};
use crate::pods::admit::sysctls;
use crate::runtime::labels;

/// What is not in the pod itself.
pub(crate) struct SandboxInput<'a> {
    pub(crate) instance: &'a str,
    pub(crate) log_directory: &'a Path,
    pub(crate) cgroup_parent: &'a str,
    pub(crate) dns: cri::DnsConfig,
    pub(crate) cluster_domain: &'a str,
    pub(crate) attempt: u32,
}

pub(crate) fn pod_labels(pod: &Pod, instance: &str) -> HashMap<String, String> {
    let mut all: HashMap<String, String> = HashMap::new();
    all.insert(labels::POD_NAME.into(), pod.name().into());
    all.insert(labels::POD_NAMESPACE.into(), pod.namespace().into());
    all.insert(labels::POD_UID.into(), pod.uid().into());
    all.insert(labels::INSTANCE.into(), instance.into());
    all
}

pub(crate) fn config(pod: &Pod, input: SandboxInput<'_>) -> cri::PodSandboxConfig {
    let mut all_labels: HashMap<String, String> =
        pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    all_labels.extend(pod_labels(pod, input.instance));
    let mut annotations: HashMap<String, String> =
        pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect();
    // What `kubectl apply` keeps there is large and no business of the runtime's.
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    let hostname =
        if pod.host_network() { String::new() } else { hosts::kernel_hostname(pod, input.cluster_domain) };
    let wanted = pod.spec_ref().security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod.name().to_string(),
            namespace: pod.namespace().to_string(),
            uid: pod.uid().to_string(),
            attempt: input.attempt,
        }),
        hostname,
        log_directory: input.log_directory.to_string_lossy().into_owned(),
        dns_config: Some(input.dns),
        port_mappings: port_mappings(pod),
        labels: all_labels,
        annotations,
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: input.cgroup_parent.to_string(),
            security_context: Some(security::of_sandbox(pod)),
            sysctls: wanted
                .into_iter()
                .flatten()
                .map(|one| (sysctls::normalized(&one.name), one.value.clone()))
                .collect(),
            ..Default::default()
        }),
        windows: None,
    }
}

fn port_mappings(pod: &Pod) -> Vec<cri::PortMapping> {
    if pod.host_network() {
        return Vec::new();
    }
    let sidecars = pod.init_containers().iter().filter(|one| super::is_sidecar(one));
    let ports = pod.containers().iter().chain(sidecars).flat_map(|one| one.ports.iter().flatten());
    ports
        .map(|port| cri::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp as i32,
                Some("SCTP") => cri::Protocol::Sctp as i32,
                _ => cri::Protocol::Tcp as i32,
            },
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}
