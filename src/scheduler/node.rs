//! A node and what its pods, bound or about to be, take of it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use api::resources::amounts;
use k8s_openapi::api::core::v1::{Node, Taint};

use crate::pod::{HostPort, Key, Labels, PodInfo};
use crate::resources::Resources;

pub struct NodeInfo {
    pub name: String,
    /// Its place in the cache.
    pub(crate) index: u32,
    /// None for a node that pods are bound to but that is not (or no longer) there.
    pub node: Option<Arc<Node>>,
    pub labels: Labels,
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Resources,
    pub(crate) requested: Resources,
    /// CPU and memory with defaults for pods that request nothing.
    pub(crate) nonzero: (i64, i64),
    /// Host ports of its pods.
    pub(crate) ports: Vec<HostPort>,
    /// Ports that the node itself answers on: none for pods.
    pub(crate) own_ports: Vec<HostPort>,
    pub(crate) pods: HashMap<Key, Arc<PodInfo>>,
    /// Sizes of images by each of their names.
    pub(crate) images: BTreeMap<String, i64>,
    /// Rises with every change of what a pod's requirements are compared with.
    pub(crate) version: u64,
}

impl NodeInfo {
    pub(crate) fn new(name: &str) -> Self {
        NodeInfo {
            name: name.to_string(),
            index: 0,
            node: None,
            labels: Labels::new(),
            taints: Vec::new(),
            unschedulable: false,
            allocatable: Resources::default(),
            requested: Resources::default(),
            nonzero: (0, 0),
            ports: Vec::new(),
            own_ports: Vec::new(),
            pods: HashMap::new(),
            images: BTreeMap::new(),
            version: 0,
        }
    }

    /// Takes the object over. The answer says what changed.
    pub(crate) fn set_node(&mut self, node: Arc<Node>) -> NodeChange {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        let allocatable = Resources::of(&amounts(status.and_then(|status| status.allocatable.as_ref())));
        let mut images = BTreeMap::new();
        for image in status.iter().flat_map(|status| status.images.iter().flatten()) {
            for name in image.names.iter().flatten() {
                images.insert(name.clone(), image.size_bytes.unwrap_or(0));
            }
        }
        let own_ports = own_ports(&node);
        let change = NodeChange {
            new: self.node.is_none(),
            labels: self.labels != labels,
            taints: self.taints != taints || self.unschedulable != unschedulable,
            allocatable: self.allocatable != allocatable,
            images: self.images != images,
        };
        if change.labels || change.taints || change.images || change.new || self.own_ports != own_ports {
            self.version += 1;
        }
        self.own_ports = own_ports;
        (self.labels, self.taints, self.unschedulable) = (labels, taints, unschedulable);
        (self.allocatable, self.images, self.node) = (allocatable, images, Some(node));
        change
    }

    pub(crate) fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.nonzero.0 += pod.nonzero.0;
        self.nonzero.1 += pod.nonzero.1;
        self.ports.extend(pod.ports.iter().cloned());
        self.pods.insert(pod.key.clone(), pod);
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(key)?;
        self.requested.remove(&pod.requests);
        self.nonzero.0 -= pod.nonzero.0;
        self.nonzero.1 -= pod.nonzero.1;
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|own| own == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(pod)
    }
}

/// On a node: the ports it answers on itself, as `PROTOCOL/ADDRESS:PORT` with commas between. The kubelet
/// writes it, and refuses pods that want one of them all the same.
const OWN_PORTS: &str = "node.minik8s.io/ports";

fn own_ports(node: &Node) -> Vec<HostPort> {
    let text = node.metadata.annotations.as_ref().and_then(|all| all.get(OWN_PORTS));
    let port = |word: &str| {
        let (protocol, address) = word.split_once('/')?;
        let address: SocketAddr = address.parse().ok()?;
        let ip = if address.ip().is_unspecified() { "0.0.0.0".to_string() } else { address.ip().to_string() };
        Some(HostPort { ip, protocol: protocol.to_string(), port: i32::from(address.port()) })
    };
    text.iter().flat_map(|text| text.split(',')).filter_map(port).collect()
}

/// What changed of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeChange {
    pub(crate) new: bool,
    pub(crate) labels: bool,
    pub(crate) taints: bool,
    pub(crate) allocatable: bool,
    pub(crate) images: bool,
}

impl NodeChange {
    /// Something that a pod may have waited for.
    pub(crate) fn matters(self) -> bool {
        self.new || self.labels || self.taints || self.allocatable
    }
}
