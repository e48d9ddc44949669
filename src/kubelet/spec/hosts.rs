//! The `/etc/hosts` that a pod's containers share, and the pod's host name.

use std::fmt::Write;

use k8s_openapi::api::core::v1::Pod;

use super::PodExt;

/// A pod's host name and, where it has a subdomain, its domain.
pub(crate) fn hostname(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod.spec_ref();
    let name = match spec
        .hostname_override
        .as_deref()
        .or(spec.hostname.as_deref())
        .filter(|name| !name.is_empty())
    {
        Some(name) => name.to_string(),
        None => {
            let name: String = pod.name().chars().take(63).collect();
            name.trim_end_matches(['-', '.']).to_string()
        }
    };
    let domain =
        match spec.subdomain.as_deref().filter(|one| !one.is_empty() && spec.hostname_override.is_none()) {
            Some(subdomain) => format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace()),
            None => String::new(),
        };
    (name, domain)
}

/// The host name the kernel is given: the full one if the pod asks for it.
pub(crate) fn kernel_hostname(pod: &Pod, cluster_domain: &str) -> String {
    let (name, domain) = hostname(pod, cluster_domain);
    if pod.spec_ref().set_hostname_as_fqdn == Some(true) && !domain.is_empty() {
        return format!("{name}.{domain}");
    }
    name
}

/// The hosts file; `node` is the content of the node's own, for pods in its network.
pub(crate) fn hosts_file(pod: &Pod, ips: &[String], cluster_domain: &str, node: &str) -> String {
    let mut text = String::new();
    if pod.host_network() {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(node);
    } else {
        text.push_str("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n");
        text.push_str(
            "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n",
        );
        text.push_str("fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        let (name, domain) = hostname(pod, cluster_domain);
        for ip in ips {
            // Writing to a string cannot fail.
            let _ = if domain.is_empty() {
                writeln!(text, "{ip}\t{name}")
            } else {
                writeln!(text, "{ip}\t{name}.{domain}\t{name}")
            };
        }
    }
    let aliases = pod.spec_ref().host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            let _ = writeln!(text, "{}\t{names}", alias.ip);
        }
    }
    text
}
