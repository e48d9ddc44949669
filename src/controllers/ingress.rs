//! What a cluster has of the built-in ingress besides the nodes that serve it: its class, and the addresses
//! in the status of ingresses.
//!
//! An ingress is served by every node that load balancers are served by, at the same addresses, but for nodes
//! where a service of the type `LoadBalancer` has one of the ports.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::ingress::Classes;
use api::kinds::INGRESS_CLASS;
use api::{ApiError, Cidr, CreateOptions};
use client::{Api, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::networking::v1::{
    Ingress, IngressClass, IngressLoadBalancerIngress, IngressLoadBalancerStatus, IngressStatus,
};
use k8s_openapi::jiff::Timestamp;

use crate::context::{ControllerContext, ReconcileResult};
use crate::load_balancer::{cluster_ips, has_addresses, is_balanced, served_nodes};
use crate::status_write;

const ACCOUNT: &str = "ingress-controller";
const CLASS: &str = include_str!("../../manifests/ingress-class.yaml");

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// The class is to be there.
    Class,
    /// The statuses are to be right.
    Statuses,
}

struct Controller {
    api: Arc<dyn ObjectApi>,
    ingresses: Informer<Ingress>,
    classes: Informer<IngressClass>,
    services: Informer<Service>,
    nodes: Informer<Node>,
    /// Addresses of pods and services, which are no node's.
    ranges: [Cidr; 2],
    ports: [u16; 2],
}

pub(crate) fn start(context: &ControllerContext, ports: [u16; 2]) {
    let queue = WorkQueue::new("ingress");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        ingresses: context.informers.of(),
        classes: context.informers.of(),
        services: context.informers.of(),
        nodes: context.informers.of(),
        ranges: [context.config.cluster_cidr, context.config.service_cidr],
        ports,
    });
    queue.add(Work::Class);
    queue.add(Work::Statuses);
    let wake = queue.clone();
    controller.ingresses.on_object_change(move |_| wake.add(Work::Statuses));
    let wake = queue.clone();
    controller.classes.on_object_change(move |_| wake.add(Work::Statuses));
    let wake = queue.clone();
    controller.services.on_change(move |change| {
        if change.old.iter().chain(&change.new).any(|service| is_balanced(service)) {
            wake.add(Work::Statuses);
        }
    });
    let wake = queue.clone();
    controller.nodes.on_change(move |change| {
        let facts = |node: &Option<Arc<Node>>| node.as_deref().map(crate::load_balancer::NodeFacts::of);
        if facts(&change.old) != facts(&change.new) {
            wake.add(Work::Statuses);
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.ingresses.synced().await;
        synced.classes.synced().await;
        synced.services.synced().await;
        synced.nodes.synced().await;
    };
    context.run(&queue, 1, ready, move |work| {
        let controller = controller.clone();
        async move { controller.reconcile(&work).await }
    });
}

/// When the oldest ingress that is served was made: from then on its ports are taken.
pub(crate) fn oldest(ingresses: &[Arc<Ingress>], classes: &[Arc<IngressClass>]) -> Option<Timestamp> {
    let classes = Classes::of(classes.iter().map(|class| &**class));
    let ours = ingresses.iter().filter(|ingress| classes.have(ingress));
    ours.filter_map(|ingress| ingress.metadata.creation_timestamp.as_ref()).map(|time| time.0).min()
}

impl Controller {
    async fn reconcile(&self, work: &Work) -> ReconcileResult {
        match work {
            Work::Class => self.ensure_class().await.map(|()| None),
            Work::Statuses => self.write_statuses().await,
        }
    }

    /// What is there is left as it is: an administrator may want another default.
    async fn ensure_class(&self) -> Result<(), ApiError> {
        let class = serde_yaml::from_str(CLASS)
            .map_err(|error| ApiError::internal(format!("the class of ingresses is no YAML: {error}")))?;
        match self.api.create(&INGRESS_CLASS, None, class, &CreateOptions::default()).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }

    async fn write_statuses(&self) -> ReconcileResult {
        let classes = self.classes.list(None);
        let classes = Classes::of(classes.iter().map(|class| &**class));
        let ours: Vec<Arc<Ingress>> =
            self.ingresses.list(None).into_iter().filter(|ingress| classes.have(ingress)).collect();
        if ours.is_empty() {
            return Ok(None);
        }
        let wanted = self.addresses();
        let mut first_error = None;
        for ingress in ours.iter().filter(|ingress| ingress.metadata.deletion_timestamp.is_none()) {
            first_error = first_error.or(self.write(ingress, &wanted).await.err());
        }
        first_error.map_or(Ok(None), Err)
    }

    /// Where ingresses are reached, in order.
    fn addresses(&self) -> Vec<String> {
        let services = self.services.list(None);
        let nodes = served_nodes(&self.nodes.list(None), &self.ranges, &cluster_ips(&services));
        let taken = taken(&services, self.ports);
        let all: BTreeSet<IpAddr> = nodes.into_iter().flatten().filter(|it| !taken.contains(it)).collect();
        all.iter().map(IpAddr::to_string).collect()
    }

    async fn write(&self, ingress: &Arc<Ingress>, addresses: &[String]) -> Result<(), ApiError> {
        let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
        let api = Api::<Ingress>::namespaced(self.api.clone(), namespace);
        let at = |address: &String| IngressLoadBalancerIngress {
            ip: Some(address.clone()),
            ..IngressLoadBalancerIngress::default()
        };
        let wanted: Vec<IngressLoadBalancerIngress> = addresses.iter().map(at).collect();
        status_write::write(&api, ingress, |ingress| {
            let mut told = ingress.clone();
            let status = told.status.get_or_insert_with(IngressStatus::default);
            let balancer = status.load_balancer.get_or_insert_with(IngressLoadBalancerStatus::default);
            if balancer.ingress.as_deref().unwrap_or_default() == wanted.as_slice() {
                return ingress.clone();
            }
            balancer.ingress = (!wanted.is_empty()).then(|| wanted.clone());
            told
        })
        .await
    }
}

/// Addresses where a service has one of the ports: packets to them do not reach the node's own.
fn taken(services: &[Arc<Service>], ports: [u16; 2]) -> BTreeSet<IpAddr> {
    let has_port = |service: &&Arc<Service>| {
        let all = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let mut tcp = all.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
        tcp.any(|port| ports.iter().any(|own| i32::from(*own) == port.port))
    };
    let having = services.iter().filter(|service| is_balanced(service) && has_addresses(service));
    let statuses =
        having.filter(has_port).filter_map(|service| service.status.as_ref()?.load_balancer.as_ref());
    let addresses = statuses.flat_map(|balancer| balancer.ingress.iter().flatten());
    addresses.filter_map(|one| one.ip.as_ref()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
