//! `resolv.conf` of pods: from the node's, the cluster's name server and the pod's `dnsPolicy` and
//! `dnsConfig`.

use std::net::IpAddr;

use k8s_cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::Pod;

use super::PodExt;

const MOST_SERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;

/// Parses the node's `resolv.conf`.
pub(crate) fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_string)),
            // The last line of its kind counts.
            Some("search") => config.searches = words.map(|one| one.to_string()).collect(),
            Some("options") => config.options = words.map(str::to_string).collect(),
            _ => {}
        }
    }
    config
}

/// A pod's configuration.
pub(crate) fn of_pod(pod: &Pod, node: &DnsConfig, cluster: &[IpAddr], domain: &str) -> DnsConfig {
    let spec = pod.spec_ref();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let through_cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod.host_network(),
        _ => false,
    };
    let mut config = match policy {
        "None" => DnsConfig::default(),
        _ if through_cluster && !cluster.is_empty() => of_cluster(pod, node, cluster, domain),
        _ => node.clone(),
    };
    if let Some(own) = &spec.dns_config {
        extend(&mut config.servers, own.nameservers.iter().flatten());
        extend(&mut config.searches, own.searches.iter().flatten());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let text = option.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}"));
            config.options.retain(|one| one.split(':').next() != Some(name));
            config.options.push(text);
        }
    }
    config.servers.truncate(MOST_SERVERS);
    config.searches.truncate(MOST_SEARCHES);
    config
}

fn of_cluster(pod: &Pod, node: &DnsConfig, cluster: &[IpAddr], domain: &str) -> DnsConfig {
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches =
            vec![format!("{}.svc.{domain}", pod.namespace()), format!("svc.{domain}"), domain.to_string()];
    }
    extend(&mut searches, node.searches.iter());
    DnsConfig {
        servers: cluster.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_string()],
    }
}

fn extend<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for one in more {
        if !list.contains(one) {
            list.push(one.clone());
        }
    }
}

#[cfg(test)]
mod tests;
