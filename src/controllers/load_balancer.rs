//! Services of the type `LoadBalancer` get the addresses of nodes, without pods: each node's service proxy
//! serves them.
//!
//! The rules are those of k3s' `servicelb`: nodes that are Ready serve, with their external addresses or else
//! their internal ones. Where a node has the label `svccontroller.k3s.cattle.io/enablelb=true`, only nodes
//! with it do, and a service and a node may name the same pool (`svccontroller.k3s.cattle.io/lbpool`). With
//! `externalTrafficPolicy: Local` only nodes with a ready endpoint serve, and see the client's address. A
//! port that is taken on a node is not served there; if it is taken everywhere, the service stays pending and
//! an event says by whom.
//!
//! A node says itself which addresses it has: those of the cluster's ranges are not used, and of an address
//! that two nodes say they have the older one's claim counts ([`plan::trust`]).
//!
//! Services with another `loadBalancerClass` than [`plan::CLASS`] are others' matter. Absent: ports that
//! programs on a node have taken beside pods and the cluster's own components; `loadBalancerIP`.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::Cidr;
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Change, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Node, Pod, Service, ServiceStatus,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::context::{ControllerContext, Key, ReconcileResult, key_of};
use crate::ingress;
use crate::service_slices::SERVICE_NAME;
use crate::status_write;
use plan::{Given, HostPort, host_ports, is_ours};
pub(crate) use plan::{NodeFacts, is_balanced, served_nodes};

mod plan;

const ACCOUNT: &str = "service-controller";

struct Controller {
    api: Arc<dyn ObjectApi>,
    recorder: Recorder,
    services: Informer<Service>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    slices: Informer<EndpointSlice>,
    /// What events have said of services without an address.
    told: Mutex<HashMap<Key, String>>,
    /// Addresses of pods and services, which are no node's.
    ranges: [Cidr; 2],
    reserved_ports: Vec<u16>,
    /// What nodes serve ingresses of, and where, if they do.
    ingresses: Option<Ingresses>,
}

struct Ingresses {
    ingresses: Informer<Ingress>,
    classes: Informer<IngressClass>,
    ports: [u16; 2],
}

pub(crate) fn start(context: &ControllerContext) {
    // Services take ports from each other: all are looked at together.
    let queue: WorkQueue<()> = WorkQueue::new("service-lb");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, ACCOUNT),
        services: context.informers.of(),
        nodes: context.informers.of(),
        pods: context.informers.of(),
        slices: context.informers.of(),
        told: Mutex::default(),
        ranges: [context.config.cluster_cidr, context.config.service_cidr],
        reserved_ports: context.config.load_balancer_reserved_ports.clone(),
        ingresses: context.config.ingress_ports.map(|ports| Ingresses {
            ingresses: context.informers.of(),
            classes: context.informers.of(),
            ports,
        }),
    });
    if let Some(own) = &controller.ingresses {
        let wake = queue.clone();
        own.ingresses.on_object_change(move |_| wake.add(()));
        let wake = queue.clone();
        own.classes.on_object_change(move |_| wake.add(()));
    }
    let wake = queue.clone();
    controller.services.on_change(move |change| {
        let concerns = |service: &Arc<Service>| is_balanced(service) || has_addresses(service);
        if change.old.iter().chain(&change.new).any(concerns) {
            wake.add(());
        }
    });
    let wake = queue.clone();
    controller.nodes.on_change(move |change| {
        if differs(change, NodeFacts::of) {
            wake.add(());
        }
    });
    let wake = queue.clone();
    controller.pods.on_change(move |change| {
        if takes_ports(change) {
            wake.add(());
        }
    });
    let (wake, services) = (queue.clone(), controller.services.clone());
    controller.slices.on_object_change(move |change| {
        let slice = change.latest();
        let service = slice.labels().get(SERVICE_NAME).and_then(|name| services.get(slice.namespace(), name));
        if service.is_some_and(|service| is_balanced(&service) && plan::is_local(&service)) {
            wake.add(());
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.services.synced().await;
        synced.nodes.synced().await;
        synced.pods.synced().await;
        synced.slices.synced().await;
        if let Some(own) = &synced.ingresses {
            own.ingresses.synced().await;
            own.classes.synced().await;
        }
    };
    context.run(&queue, 1, ready, move |()| {
        let controller = controller.clone();
        async move { controller.reconcile().await }
    });
}

fn differs<K, F: PartialEq>(change: &Change<K>, facts: impl Fn(&K) -> F) -> bool {
    change.old.as_deref().map(&facts) != change.new.as_deref().map(&facts)
}

/// Whether ports of nodes have been taken or given back. Pods that have none come and go without notice.
fn takes_ports(change: &Change<Pod>) -> bool {
    let ports = |pod: &Option<Arc<Pod>>| pod.as_deref().map(host_ports).unwrap_or_default();
    ports(&change.old) != ports(&change.new)
}

pub(crate) fn has_addresses(service: &Service) -> bool {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.is_some_and(|balancer| balancer.ingress.as_ref().is_some_and(|all| !all.is_empty()))
}

pub(crate) fn cluster_ips(services: &[Arc<Service>]) -> HashSet<IpAddr> {
    let of = |service: &Arc<Service>| -> Vec<IpAddr> {
        let all = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
        all.filter_map(|address| address.parse().ok()).collect()
    };
    services.iter().flat_map(of).collect()
}

impl Controller {
    async fn reconcile(&self) -> ReconcileResult {
        let services = self.services.list(None);
        let ours: Vec<Arc<Service>> = services.iter().filter(|service| is_ours(service)).cloned().collect();
        let lost = |service: &&Arc<Service>| !is_balanced(service) && has_addresses(service);
        if ours.is_empty() && !services.iter().any(|service| lost(&service)) {
            self.told.lock().clear();
            return Ok(None);
        }
        let mut nodes: Vec<NodeFacts> =
            self.nodes.list(None).iter().map(|node| NodeFacts::of(node)).collect();
        let cluster_ips = cluster_ips(&services);
        plan::trust(&mut nodes, |address| {
            self.ranges.iter().any(|range| range.contains(address)) || cluster_ips.contains(&address)
        });
        let pods = self.pods.list(None);
        let mut taken: Vec<HostPort> = pods.iter().flat_map(|pod| host_ports(pod)).collect();
        taken.extend(self.api_servers(&nodes));
        taken.extend(self.reserved(&nodes));
        let with_endpoint = |service: &Service| self.nodes_with_endpoints(service);
        let later = if ours.is_empty() { Vec::new() } else { self.ports_of_ingresses(&nodes) };
        let planned = plan::plan(&ours, &services, &nodes, &taken, &later, with_endpoint);
        let mut first_error = None;
        self.told
            .lock()
            .retain(|key, _| planned.iter().any(|(service, _)| key_of(&service.metadata) == *key));
        for (service, given) in planned {
            first_error = first_error.or(self.write(&service, &given.addresses).await.err());
            self.tell(&service, &given);
        }
        // What was of the type once has no address any more.
        for service in services.iter().filter(lost) {
            first_error = first_error.or(self.write(service, &[]).await.err());
        }
        first_error.map_or(Ok(None), Err)
    }

    fn nodes_with_endpoints(&self, service: &Service) -> Vec<String> {
        let (namespace, name) = key_of(&service.metadata);
        let slices = self.slices.objects(Some(&namespace));
        let own = slices.iter().filter(|slice| slice.labels().get(SERVICE_NAME) == Some(&name));
        let typed = own.filter_map(|slice| slice.typed::<EndpointSlice>().ok());
        let endpoints: Vec<_> = typed.flat_map(|slice| slice.endpoints.clone().unwrap_or_default()).collect();
        let ready = |conditions: Option<bool>| conditions.unwrap_or(true);
        endpoints
            .into_iter()
            .filter(|endpoint| ready(endpoint.conditions.as_ref().and_then(|it| it.ready)))
            .filter_map(|endpoint| endpoint.node_name)
            .collect()
    }

    /// The port of API servers on the nodes that they run on.
    fn api_servers(&self, nodes: &[NodeFacts]) -> Vec<HostPort> {
        let slices = self.slices.list(Some("default"));
        let is_own = |slice: &&Arc<EndpointSlice>| {
            let labels = slice.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(SERVICE_NAME)).is_some_and(|name| name == "kubernetes")
        };
        let mut found = Vec::new();
        for slice in slices.iter().filter(is_own) {
            let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
            let ports: Vec<u16> = ports.collect();
            let addresses = slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
            for address in addresses.filter_map(|address| address.parse().ok()) {
                for node in nodes.iter().filter(|node| node.claims.contains(&address)) {
                    found.extend(ports.iter().map(|port| HostPort {
                        node: node.name.clone(),
                        port: ("TCP".to_string(), *port),
                        address: None,
                        holder: "the API server".to_string(),
                    }));
                }
            }
        }
        found
    }

    /// What ingresses take on every node since the first of them was made.
    fn ports_of_ingresses(&self, nodes: &[NodeFacts]) -> Vec<(Timestamp, HostPort)> {
        let Some(own) = &self.ingresses else { return Vec::new() };
        let Some(since) = ingress::oldest(&own.ingresses.list(None), &own.classes.list(None)) else {
            return Vec::new();
        };
        let of_node = |node: &NodeFacts| {
            let node = node.name.clone();
            own.ports.into_iter().filter(|port| *port != 0).map(move |port| {
                let port = ("TCP".to_string(), port);
                let holder = "ingresses (--disable ingress, --ingress-http-port)".to_string();
                (since, HostPort { node: node.clone(), port, address: None, holder })
            })
        };
        nodes.iter().flat_map(of_node).collect()
    }

    /// Ports that are kept free on every node.
    fn reserved(&self, nodes: &[NodeFacts]) -> Vec<HostPort> {
        let of_node = |node: &NodeFacts| {
            let node = node.name.clone();
            self.reserved_ports.iter().map(move |port| HostPort {
                node: node.clone(),
                port: ("TCP".to_string(), *port),
                address: None,
                holder: "the machine (--servicelb-reserved-ports)".to_string(),
            })
        };
        nodes.iter().flat_map(of_node).collect()
    }

    async fn write(&self, service: &Arc<Service>, addresses: &[String]) -> Result<(), api::ApiError> {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let api = Api::<Service>::namespaced(self.api.clone(), namespace);
        let ingress = |address: &String| LoadBalancerIngress {
            ip: Some(address.clone()),
            ip_mode: Some("VIP".to_string()),
            ..LoadBalancerIngress::default()
        };
        let wanted: Vec<LoadBalancerIngress> = addresses.iter().map(ingress).collect();
        status_write::write(&api, service, |service| {
            let mut told = service.clone();
            let status = told.status.get_or_insert_with(ServiceStatus::default);
            let balancer = status.load_balancer.get_or_insert_with(LoadBalancerStatus::default);
            if balancer.ingress.as_deref().unwrap_or_default() != wanted.as_slice() {
                balancer.ingress = (!wanted.is_empty()).then(|| wanted.clone());
                return told;
            }
            service.clone()
        })
        .await
    }

    /// Says once what keeps a service from having an address, and that it has one again.
    fn tell(&self, service: &Arc<Service>, given: &Given) {
        let key = key_of(&service.metadata);
        let before = match &given.why_none {
            Some(why) => self.told.lock().insert(key, why.clone()),
            None => self.told.lock().remove(&key),
        };
        let reference = reference_to(&**service);
        match &given.why_none {
            Some(why) if before.as_ref() != Some(why) => {
                let message = format!("Error syncing load balancer: {why}");
                self.recorder.event(&reference, EventType::Warning, "SyncLoadBalancerFailed", message);
            }
            None if before.is_some() || (!has_addresses(service) && !given.addresses.is_empty()) => {
                let message = "Ensured load balancer";
                self.recorder.event(&reference, EventType::Normal, "EnsuredLoadBalancer", message);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
