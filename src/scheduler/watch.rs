//! From informers' changes to the scheduler's state: what is queued, what is placed, and who is woken.

use std::sync::Arc;

use api::LabelSelector;
use client::{Change, Informer};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use tokio::time::Instant;

use crate::Shared;
use crate::filter::{Plugin, Plugins, node_resources_fit};
use crate::pod::{Key, PodInfo};
use crate::profile;

/// Where the selectors of a pod's siblings come from.
pub(crate) struct Siblings {
    pub(crate) services: Informer<Service>,
    pub(crate) replica_sets: Informer<ReplicaSet>,
}

impl Siblings {
    /// All services' and the replica set's requirements together; none if the pod belongs to neither.
    fn selector(&self, pod: &Pod) -> Option<LabelSelector> {
        let namespace = pod.metadata.namespace.as_deref();
        let mut selector = LabelSelector::everything();
        let labels = pod.metadata.labels.as_ref()?;
        for service in self.services.list(namespace) {
            let wanted = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
                let wanted = LabelSelector::from_map(wanted);
                if wanted.matches(labels) {
                    selector.requirements.extend(wanted.requirements);
                }
            }
        }
        let owner = api::owner::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet");
        let set = owner.and_then(|owner| self.replica_sets.get(namespace, &owner.name));
        if let Some(spec) = set.as_ref().and_then(|set| set.spec.as_ref()) {
            selector.requirements.extend(LabelSelector::from_meta(Some(&spec.selector)).requirements);
        }
        (!selector.is_everything()).then_some(selector)
    }
}

fn key_of(pod: &Pod) -> Key {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

fn is_ours(pod: &Pod) -> bool {
    let name =
        pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref()).filter(|name| !name.is_empty());
    name.unwrap_or(api::pod::DEFAULT_SCHEDULER) == api::pod::DEFAULT_SCHEDULER
}

impl Shared {
    pub(crate) fn node_changed(&self, change: &Change<Node>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(node) = &change.new else {
            state.cache.remove_node(change.latest().metadata.name.as_deref().unwrap_or(""));
            // The emptiest domain may have gone.
            state.queue.wake(Plugins::of(&[Plugin::PodTopologySpread]), now, |_| true);
            self.wake.notify_one();
            return;
        };
        let name = node.metadata.name.clone().unwrap_or_default();
        let change = state.cache.set_node(node.clone());
        if !change.matters() {
            return;
        }
        let mut plugins = Plugins::of(&[Plugin::PodTopologySpread, Plugin::InterPodAffinity]);
        for (happened, plugin) in [
            (change.new || change.labels, Plugin::NodeAffinity),
            (change.new || change.taints, Plugin::TaintToleration),
            (change.new || change.taints, Plugin::NodeUnschedulable),
            (change.new, Plugin::NodeName),
            (change.new, Plugin::NodePorts),
            (change.new || change.allocatable, Plugin::NodeResourcesFit),
        ] {
            if happened {
                plugins = plugins.with(plugin);
            }
        }
        let Some(index) = state.cache.index(&name) else { return };
        let node = &state.cache.nodes[index as usize];
        let helps = |pod: &PodInfo| {
            // A change of labels may also move domains, which helps on other nodes.
            change.labels
                || (profile::reject(node, &pod.wishes).is_none()
                    && node_resources_fit::fits(&pod.requests, &node.requested, &node.allocatable))
        };
        state.queue.wake(plugins, now, helps);
        self.wake.notify_one();
    }

    pub(crate) fn pod_changed(&self, siblings: &Siblings, change: &Change<Pod>) {
        let Some(pod) = &change.new else {
            self.pod_gone(&key_of(change.latest()));
            return;
        };
        if change.old.as_ref().is_some_and(|old| old.metadata.uid != pod.metadata.uid) {
            self.pod_gone(&key_of(pod));
        }
        if api::pod::is_terminal(pod) {
            self.pod_gone(&key_of(pod));
        } else if api::pod::node_name(pod).is_some() {
            self.pod_bound(pod, change.old.as_deref());
        } else if is_ours(pod) && !api::pod::is_terminating(pod) {
            let info = Arc::new(PodInfo::new(pod.clone(), siblings.selector(pod)));
            let mut state = self.state.lock();
            // An assumed pod's own status changes must not queue it again.
            if !state.cache.is_placed(&info.key) {
                // Known to us before, or told by a scheduler that ran before us.
                let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
                if let Some(node) = nominated.filter(|node| !node.is_empty() && change.old.is_none()) {
                    state.cache.nominate(&info, node);
                }
                state.queue.put(info, Instant::now());
                drop(state);
                self.wake.notify_one();
            }
        } else {
            self.pod_gone(&key_of(pod));
        }
    }

    fn pod_bound(&self, pod: &Arc<Pod>, old: Option<&Pod>) {
        let news = old.is_none_or(|old| {
            api::pod::node_name(old).is_none() || old.metadata.labels != pod.metadata.labels
        });
        let terminating =
            api::pod::is_terminating(pod) && old.is_some_and(|old| !api::pod::is_terminating(old));
        if !self.state.lock().cache.confirm(pod, old) {
            let info = Arc::new(PodInfo::new(pod.clone(), None));
            self.state.lock().cache.bound(info);
        }
        let mut state = self.state.lock();
        state.queue.remove(&key_of(pod));
        let mut plugins = Plugins::NONE;
        if news {
            plugins = plugins.with(Plugin::InterPodAffinity).with(Plugin::PodTopologySpread);
        }
        if terminating {
            plugins = plugins.with(Plugin::PodTopologySpread);
        }
        if !plugins.is_empty() {
            state.queue.wake(plugins, Instant::now(), |_| true);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// A pod does not take anything any more (or not yet).
    fn pod_gone(&self, key: &Key) {
        let mut state = self.state.lock();
        state.queue.remove(key);
        let promised = state.cache.end_nomination(key);
        let Some(gone) = state.cache.remove(key) else {
            if promised {
                // Room that was promised is free again.
                state.queue.wake(Plugins::of(&[Plugin::NodeResourcesFit]), Instant::now(), |_| true);
                drop(state);
                self.wake.notify_one();
            }
            return;
        };
        let mut plugins =
            Plugins::of(&[Plugin::NodeResourcesFit, Plugin::PodTopologySpread, Plugin::InterPodAffinity]);
        if !gone.ports.is_empty() {
            plugins = plugins.with(Plugin::NodePorts);
        }
        state.queue.wake(plugins, Instant::now(), |_| true);
        drop(state);
        self.wake.notify_one();
    }
}
