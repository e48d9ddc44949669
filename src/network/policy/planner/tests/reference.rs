//! What policies allow, read off the objects in the plainest way: the words of the API, with nothing kept.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::LabelSelector;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::super::super::facts::{Labels, PodFacts, PolicyFacts};
use super::super::Changes;
use crate::proxy::facts::{Cidr, Protocol};

/// The objects of a cluster whose node is called `one`.
#[derive(Debug, Default)]
pub(super) struct World {
    policies: BTreeMap<u8, NetworkPolicy>,
    namespaces: BTreeMap<String, Labels>,
    pods: BTreeMap<u8, Pod>,
}

fn name(at: u8, namespace: Option<&String>) -> (String, String) {
    (namespace.cloned().unwrap_or_default(), format!("n{at}"))
}

impl World {
    pub(super) fn set_policy(&mut self, at: u8, policy: Option<Value>) -> Changes {
        let old = self.policies.remove(&at);
        let mut changes = Changes::default();
        changes.policies.extend(old.map(|old| (name(at, old.metadata.namespace.as_ref()), None)));
        if let Some(policy) = policy {
            let policy: NetworkPolicy = serde_json::from_value(policy).unwrap();
            let facts = PolicyFacts::of(&policy).map(Arc::new);
            changes.policies.push((name(at, policy.metadata.namespace.as_ref()), facts));
            self.policies.insert(at, policy);
        }
        changes
    }

    pub(super) fn set_namespace(&mut self, at: u8, labels: Option<Value>) -> Changes {
        let name = ["a", "b"][usize::from(at)];
        let labels: Option<Labels> = labels.map(|labels| serde_json::from_value(labels).unwrap());
        match labels.clone() {
            Some(labels) => self.namespaces.insert(name.to_string(), labels),
            None => self.namespaces.remove(name),
        };
        Changes { namespaces: vec![(name.to_string(), labels)], ..Changes::default() }
    }

    pub(super) fn set_named_namespace(&mut self, name: &str, labels: Value) -> Changes {
        let labels: Labels = serde_json::from_value(labels).unwrap();
        self.namespaces.insert(name.to_string(), labels.clone());
        Changes { namespaces: vec![(name.to_string(), Some(labels))], ..Changes::default() }
    }

    /// A pod without a status; its number makes its addresses.
    pub(super) fn set_pod(&mut self, at: u8, pod: Option<Value>) -> Changes {
        let old = self.pods.remove(&at);
        let mut changes = Changes::default();
        changes.pods.extend(old.map(|old| (name(at, old.metadata.namespace.as_ref()), None)));
        if let Some(mut pod) = pod {
            let addresses = [format!("10.42.0.{}", at + 1), format!("fd00::{}", at + 1)];
            let of = addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>();
            pod["status"] = json!({"podIP": addresses[0], "podIPs": of});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let facts = PodFacts::of(&pod, "one").map(Arc::new);
            changes.pods.push((name(at, pod.metadata.namespace.as_ref()), facts));
            self.pods.insert(at, pod);
        }
        changes
    }

    pub(super) fn everything(&self) -> Changes {
        let policies = self.policies.iter().map(|(at, policy)| {
            (name(*at, policy.metadata.namespace.as_ref()), PolicyFacts::of(policy).map(Arc::new))
        });
        let pods = self.pods.iter().map(|(at, pod)| {
            (name(*at, pod.metadata.namespace.as_ref()), PodFacts::of(pod, "one").map(Arc::new))
        });
        let namespaces = self.namespaces.iter().map(|(name, labels)| (name.clone(), Some(labels.clone())));
        Changes {
            policies: policies.collect(),
            pods: pods.collect(),
            namespaces: namespaces.collect(),
            ranges: None,
        }
    }

    pub(super) fn nothing(&self) -> Changes {
        let Changes { mut policies, mut pods, mut namespaces, .. } = self.everything();
        policies.iter_mut().for_each(|it| it.1 = None);
        pods.iter_mut().for_each(|it| it.1 = None);
        namespaces.iter_mut().for_each(|it| it.1 = None);
        Changes { policies, pods, namespaces, ranges: None }
    }

    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.pods.values().flat_map(addresses_of).collect()
    }

    fn pod_at(&self, address: IpAddr) -> Option<&Pod> {
        self.pods.values().find(|pod| addresses_of(pod).contains(&address))
    }

    /// Whether this node lets a flow through. Pods of others are not its matter.
    pub(super) fn allows(&self, client: IpAddr, server: IpAddr, protocol: Protocol, port: u16) -> bool {
        let of_client = self.pod_at(client).filter(|pod| is_local(pod));
        let of_server = self.pod_at(server).filter(|pod| is_local(pod));
        if client == server && of_client.is_some() {
            return true;
        }
        let out = of_client.is_none_or(|pod| {
            let selecting = self.selecting(pod, "Egress");
            selecting.is_empty()
                || selecting.iter().any(|policy| {
                    let rules = policy.spec.as_ref().and_then(|spec| spec.egress.as_ref());
                    rules.into_iter().flatten().any(|rule| {
                        self.peers(policy, rule.to.as_deref(), server)
                            && self.ports(rule.ports.as_deref(), server, protocol, port)
                    })
                })
        });
        let into = of_server.is_none_or(|pod| {
            let selecting = self.selecting(pod, "Ingress");
            selecting.is_empty()
                || selecting.iter().any(|policy| {
                    let rules = policy.spec.as_ref().and_then(|spec| spec.ingress.as_ref());
                    rules.into_iter().flatten().any(|rule| {
                        self.peers(policy, rule.from.as_deref(), client)
                            && self.ports(rule.ports.as_deref(), server, protocol, port)
                    })
                })
        });
        out && into
    }

    fn selecting(&self, pod: &Pod, direction: &str) -> Vec<&NetworkPolicy> {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let selects = |policy: &&NetworkPolicy| {
            let spec = policy.spec.as_ref().unwrap();
            policy.metadata.namespace == pod.metadata.namespace
                && LabelSelector::from_meta(spec.pod_selector.as_ref()).matches(&labels)
                && spec.policy_types.as_ref().is_none_or(|types| types.iter().any(|it| it == direction))
        };
        self.policies.values().filter(selects).collect()
    }

    fn peers(&self, policy: &NetworkPolicy, peers: Option<&[NetworkPolicyPeer]>, other: IpAddr) -> bool {
        let peers = peers.unwrap_or_default();
        peers.is_empty() || peers.iter().any(|peer| self.peer(policy, peer, other))
    }

    fn peer(&self, policy: &NetworkPolicy, peer: &NetworkPolicyPeer, other: IpAddr) -> bool {
        if let Some(block) = &peer.ip_block {
            let within = |text: &String| Cidr::parse(text).unwrap().contains(other);
            return within(&block.cidr) && !block.except.iter().flatten().any(within);
        }
        let Some(pod) = self.pod_at(other) else { return false };
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let in_namespace = match &peer.namespace_selector {
            None => pod.metadata.namespace == policy.metadata.namespace,
            selector => {
                let labels = self.namespaces.get(&namespace);
                labels.is_some_and(|labels| LabelSelector::from_meta(selector.as_ref()).matches(labels))
            }
        };
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        in_namespace
            && (peer.pod_selector.is_none()
                || LabelSelector::from_meta(peer.pod_selector.as_ref()).matches(&labels))
    }

    fn ports(
        &self,
        ports: Option<&[NetworkPolicyPort]>,
        server: IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> bool {
        let ports = ports.unwrap_or_default();
        ports.is_empty()
            || ports.iter().any(|wanted| {
                let of_protocol = |text: Option<&str>| Protocol::parse(text) == Some(protocol);
                of_protocol(wanted.protocol.as_deref())
                    && match &wanted.port {
                        None => true,
                        Some(IntOrString::Int(first)) => {
                            (*first..=wanted.end_port.unwrap_or(*first)).contains(&i32::from(port))
                        }
                        Some(IntOrString::String(name)) => self.pod_at(server).is_some_and(|pod| {
                            let containers = &pod.spec.as_ref().unwrap().containers;
                            containers.iter().flat_map(|it| it.ports.iter().flatten()).any(|it| {
                                it.name.as_ref() == Some(name)
                                    && of_protocol(it.protocol.as_deref())
                                    && it.container_port == i32::from(port)
                            })
                        }),
                    }
            })
    }
}

fn is_local(pod: &Pod) -> bool {
    pod.spec.as_ref().unwrap().node_name.as_deref() == Some("one")
}

fn addresses_of(pod: &Pod) -> Vec<IpAddr> {
    let ips = pod.status.as_ref().unwrap().pod_ips.iter().flatten();
    ips.map(|it| it.ip.parse().unwrap()).collect()
}
