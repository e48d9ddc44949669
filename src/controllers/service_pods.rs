//! What pods are to services, for both Endpoints and EndpointSlices: which count, at which ports, and which
//! services a change of a pod concerns.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::{LabelMatcher, resources};
use client::{Change, Informer, WorkQueue};
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::context::{Key, key_of, text};
use crate::selecting::{object_key, selecting};

pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Whether the service has a selector: without one somebody else makes its endpoints.
pub(crate) fn selects(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.selector.is_some())
}

/// The pods of a namespace that a service selects.
pub(crate) fn selected(pods: &Informer<Pod>, namespace: &str, selector: &LabelMatcher) -> Vec<Arc<Pod>> {
    let pods = pods.objects(Some(namespace));
    let selected = pods.iter().filter(|object| selector.matches(object.labels()));
    selected.filter_map(|object| object.typed().ok()).collect()
}

/// Has no cluster IP.
pub(crate) fn is_headless(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or("");
    ip.is_empty() || ip == "None"
}

pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

pub(crate) fn ports_of(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

/// The pod can be an endpoint: it has an address and has not ended.
pub(crate) fn counts(pod: &Pod, with_terminating: bool) -> bool {
    !api::pod::is_terminal(pod)
        && (with_terminating || !api::pod::is_terminating(pod))
        && addresses(pod).next().is_some()
}

/// The pod's addresses, the main one first.
pub(crate) fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let many = status.and_then(|status| status.pod_ips.as_ref()).filter(|ips| !ips.is_empty());
    let one =
        status.and_then(|status| status.pod_ip.as_deref()).filter(|ip| !ip.is_empty() && many.is_none());
    one.into_iter().chain(many.into_iter().flatten().map(|ip| ip.ip.as_str()))
}

/// The number of a service's port on a pod: named ones are the container's.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => return Some(port.port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars =
        spec.init_containers.iter().flatten().filter(|container| resources::is_restartable_init(container));
    let mut ports =
        spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let protocol = protocol(&port.protocol);
    let found =
        ports.find(|own| own.name.as_ref() == Some(name) && self::protocol(&own.protocol) == protocol);
    found.map(|port| port.container_port)
}

pub(crate) fn protocol(protocol: &Option<String>) -> &str {
    protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP")
}

/// The name by which the pod is known in the service's domain, if it has one there.
pub(crate) fn hostname<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    let here =
        spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.as_deref().filter(|hostname| here && !hostname.is_empty())
}

/// Queues the services that a change of a service or of a pod concerns.
pub(crate) fn watch(services: &Informer<Service>, pods: &Informer<Pod>, queue: &WorkQueue<Key>) {
    let keys = queue.clone();
    services.on_change(move |change| keys.add(key_of(&change.latest().metadata)));
    let (keys, services) = (queue.clone(), services.clone());
    pods.on_change(move |change| {
        if !concerns_services(change) {
            return;
        }
        let none = BTreeMap::new();
        let versions = [&change.old, &change.new].into_iter().flatten();
        let labels: Vec<_> = versions.map(|pod| pod.metadata.labels.as_ref().unwrap_or(&none)).collect();
        let concerned = selecting(&services, change.latest().metadata.namespace.as_deref(), &labels);
        concerned.iter().for_each(|service| keys.add(object_key(service)));
    });
}

/// Most changes of a pod do not matter to services.
fn concerns_services(change: &Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let view = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        (
            (pod.metadata.labels.clone(), pod.metadata.uid.clone()),
            (api::pod::is_ready(pod), api::pod::is_terminating(pod), api::pod::is_terminal(pod)),
            addresses(pod).map(str::to_string).collect::<Vec<_>>(),
            spec.map(|spec| (spec.node_name.clone(), spec.hostname.clone(), spec.subdomain.clone())),
        )
    };
    view(old) != view(new)
}

/// Remembers what changed since a service's endpoints were last written, for the annotation by which the
/// delay from a change to the network is measured.
#[derive(Default)]
pub(crate) struct Triggers(Mutex<HashMap<Key, Seen>>);

#[derive(Default)]
struct Seen {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

impl Triggers {
    /// The earliest change not seen before, if there is one.
    pub(crate) fn observe(&self, key: &Key, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let mut all = self.0.lock();
        let first = !all.contains_key(key);
        let seen = all.entry(key.clone()).or_default();
        let mut changes: Vec<Timestamp> = Vec::new();
        let mut now = HashMap::new();
        for pod in pods {
            let Some(changed) = api::pod::condition(pod, api::pod::READY)
                .and_then(|ready| ready.last_transition_time.as_ref())
                .map(|time| time.0)
            else {
                continue;
            };
            let name = text(&pod.metadata.name).to_string();
            if !first && seen.pods.get(&name).is_none_or(|before| changed > *before) {
                changes.push(changed);
            }
            now.insert(name, changed);
        }
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        if seen.service != created {
            changes.extend(created);
        }
        *seen = Seen { service: created, pods: now };
        changes.into_iter().min()
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests;
