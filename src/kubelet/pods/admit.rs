//! May this pod run here? Sysctls, node affinity, room for its requests, number of pods, free ports of the
//! node, AppArmor: what the scheduler saw may have changed, pods can name a node themselves, and some things
//! only the node knows. Reasons and messages are upstream's.

pub(crate) mod apparmor;
pub(crate) mod pressure;
pub(crate) mod sysctls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::affinity::RequiredNodes;
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use tokio::sync::watch;

use self::pressure::Pressure;
use self::sysctls::SysctlAllowlist;
use crate::spec::PodExt;
use crate::spec::amount::{self, Resources};
use crate::spec::resources::requested;
use crate::wake::{Mail, Wakers};

/// Reason and message of a refusal; the pod becomes Failed.
pub(crate) type Refusal = (String, String);

/// Who is let in on this node.
pub(crate) struct Admission {
    /// The node's own object; nobody is refused before it is known.
    pub(crate) node: watch::Receiver<Option<Arc<Node>>>,
    pub(crate) allocatable: Resources,
    pub(crate) sysctls: SysctlAllowlist,
    pub(crate) apparmor: bool,
    /// Ports that the node itself answers on.
    pub(crate) node_ports: Vec<NodePort>,
    /// What the node is short of.
    pub(crate) pressure: watch::Receiver<Pressure>,
    /// The machine is about to be shut down.
    pub(crate) is_going_down: watch::Receiver<bool>,
    /// Those who are in.
    pub(crate) wakers: Wakers,
}

impl Admission {
    /// Judges a pod by what is here now.
    pub(crate) fn judge(&self, pod: &Pod) -> Result<(), Refusal> {
        if *self.is_going_down.borrow() {
            let message = "Pod was rejected as the node is shutting down.";
            return Err(("NodeShutdown".to_string(), message.to_string()));
        }
        if let Some(message) = pressure::refuse(pod, *self.pressure.borrow()) {
            return Err(("Evicted".to_string(), message));
        }
        let Some(node) = self.node.borrow().clone() else { return Ok(()) };
        let mails = self.mails();
        let others = others(&mails, pod, |other| came_before(other, pod));
        let rules = Rules {
            allocatable: &self.allocatable,
            sysctls: &self.sysctls,
            apparmor: self.apparmor,
            node_ports: &self.node_ports,
        };
        admit(pod, &node, &rules, &others)
    }
}

impl Admission {
    /// Judges whether there is room for what a pod that runs here asks for now; tells what there is too
    /// little of.
    pub(crate) fn judge_resize(&self, pod: &Pod) -> Result<(), Refusal> {
        let Some(node) = self.node.borrow().clone() else { return Ok(()) };
        let mails = self.mails();
        let others = others(&mails, pod, |_| true);
        fits(pod, &node, &self.allocatable, &others)
    }

    fn mails(&self) -> Vec<Mail> {
        self.wakers.all().iter().map(|mailbox| mailbox.read()).collect()
    }
}

/// The pods that hold some of the node, with what they were granted.
fn others<'a>(mails: &'a [Mail], pod: &Pod, counts: impl Fn(&Pod) -> bool) -> Vec<&'a Pod> {
    let present = mails.iter().filter_map(|mail| Some((mail.pod.as_deref()?, mail)));
    let present =
        present.filter(|(other, _)| other.uid() != pod.uid() && !other.is_finished() && counts(other));
    present.map(|(other, mail)| mail.granted.as_deref().unwrap_or(other)).collect()
}

/// Order in which pods claim the node's room: older first.
fn came_before(other: &Pod, pod: &Pod) -> bool {
    let running = other.status.as_ref().is_some_and(|status| status.container_statuses.is_some());
    let key =
        |pod: &Pod| (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.uid().to_string());
    running || key(other) < key(pod)
}

/// What a node lets in, beside what its object says.
pub(crate) struct Rules<'a> {
    pub(crate) allocatable: &'a Resources,
    pub(crate) sysctls: &'a SysctlAllowlist,
    /// The kernel enforces AppArmor profiles.
    pub(crate) apparmor: bool,
    /// Ports that the node itself answers on.
    pub(crate) node_ports: &'a [NodePort],
}

/// `others` are the pods that run here already, without this one.
pub(crate) fn admit(pod: &Pod, node: &Node, rules: &Rules<'_>, others: &[&Pod]) -> Result<(), Refusal> {
    rules.sysctls.admit(pod)?;
    fits(pod, node, rules.allocatable, others)?;
    leaves_node_ports(pod, rules.node_ports)?;
    apparmor::admit(pod, rules.apparmor)
}

fn fits(pod: &Pod, node: &Node, allocatable: &Resources, others: &[&Pod]) -> Result<(), Refusal> {
    if !matches_node(pod, node) {
        let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return Err(("NodeAffinity".to_string(), message.to_string()));
    }
    let (cpu, memory) = requested(pod);
    let (used_cpu, used_memory) = others.iter().fold((0i64, 0i64), |(cpu, memory), other| {
        let (other_cpu, other_memory) = requested(other);
        (cpu.saturating_add(other_cpu), memory.saturating_add(other_memory))
    });
    let most_pods = allocatable.get("pods").map_or(i64::MAX, api::resources::units);
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count >= most_pods {
        return Err(lack("pods", 1, count, most_pods));
    }
    let most_cpu = amount::milli_cpu(Some(allocatable)).unwrap_or(i64::MAX);
    if cpu > 0 && cpu.saturating_add(used_cpu) > most_cpu {
        return Err(lack("cpu", cpu, used_cpu, most_cpu));
    }
    let most_memory = amount::memory(Some(allocatable)).unwrap_or(i64::MAX);
    if memory > 0 && memory.saturating_add(used_memory) > most_memory {
        return Err(lack("memory", memory, used_memory, most_memory));
    }
    let taken: Vec<HostPort<'_>> = others.iter().flat_map(|other| host_ports(other)).collect();
    if host_ports(pod).iter().any(|port| taken.iter().any(|other| port.collides(other))) {
        return Err(("NodePorts".to_string(), NO_FREE_PORTS.to_string()));
    }
    Ok(())
}

const NO_FREE_PORTS: &str =
    "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";

/// What comes to a pod's host port is led into the pod before anything on the node sees it: the node's own
/// ports are none for pods. Pods on the host's network take no port from anybody: they get it, or do not.
fn leaves_node_ports(pod: &Pod, node_ports: &[NodePort]) -> Result<(), Refusal> {
    if pod.spec_ref().host_network == Some(true) {
        return Ok(());
    }
    for port in host_ports(pod) {
        if let Some(own) = node_ports.iter().find(|own| own.is_taken_by(&port)) {
            let NodePort { owner, protocol, .. } = own;
            let message =
                format!("{NO_FREE_PORTS}: {protocol} port {} is that of the node's {owner}", port.port);
            return Err(("NodePorts".to_string(), message));
        }
    }
    Ok(())
}

/// A port that the node itself answers on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePort {
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// Where it is answered; an unspecified address is all of them.
    pub address: SocketAddr,
    /// Who answers, for messages.
    pub owner: &'static str,
}

impl NodePort {
    fn is_taken_by(&self, port: &HostPort<'_>) -> bool {
        let own = self.address.ip();
        // What comes to loopback from elsewhere goes nowhere, but the node's own clients are led astray.
        let overlap = port
            .address
            .and_then(|address| address.parse::<IpAddr>().ok())
            .is_none_or(|address| own.is_unspecified() || address == own);
        overlap && i32::from(self.address.port()) == port.port && self.protocol == port.protocol
    }
}

/// A port of the node that a pod takes.
struct HostPort<'a> {
    protocol: &'a str,
    /// None for all addresses.
    address: Option<&'a str>,
    port: i32,
}

impl HostPort<'_> {
    fn collides(&self, other: &HostPort<'_>) -> bool {
        let overlap = match (self.address, other.address) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        };
        overlap && self.port == other.port && self.protocol == other.protocol
    }
}

/// Those of containers that run for as long as the pod does.
fn host_ports(pod: &Pod) -> Vec<HostPort<'_>> {
    let spec = pod.spec_ref();
    let is_sidecar = |one: &&Container| one.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        Some(HostPort {
            protocol: port.protocol.as_deref().unwrap_or("TCP"),
            address: port.host_ip.as_deref().filter(|address| !matches!(*address, "" | "0.0.0.0" | "::")),
            port: port.host_port.filter(|port| *port > 0)?,
        })
    });
    taken.collect()
}

fn lack(resource: &str, requested: i64, used: i64, capacity: i64) -> Refusal {
    let message = format!(
        "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
    );
    (format!("OutOf{resource}"), message)
}

fn matches_node(pod: &Pod, node: &Node) -> bool {
    let none = std::collections::BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let name = node.metadata.name.as_deref().unwrap_or("");
    RequiredNodes::of(pod.spec_ref()).matches(name, labels)
}

#[cfg(test)]
mod tests;
