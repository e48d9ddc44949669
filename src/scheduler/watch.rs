//! From informers' changes to the scheduler's state: what is queued, what is placed, and who is woken.

use std::sync::Arc;

use api::LabelSelector;
use client::{BoxFuture, Change, Informer, Informers};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::storage::v1::StorageClass;
use tokio::time::Instant;

use crate::Shared;
use crate::framework::{Actions, ObservedEvent, StorageChange};
use crate::node::{NodeChange, NodeInfo};
use crate::plugins::{node_resources_fit, node_unschedulable};
use crate::pod::{Key, PodInfo, scheduler_name};
use crate::weight::{self, Budget};

/// Where the selectors of a pod's siblings come from.
pub(crate) struct Siblings {
    pub(crate) services: Informer<Service>,
    pub(crate) replica_sets: Informer<ReplicaSet>,
}

impl Siblings {
    /// All services' and the replica set's requirements together; none if the pod belongs to neither, or if
    /// they are more than the scheduler compares: then it is spread like any other pod.
    fn selector(&self, pod: &Pod) -> Option<LabelSelector> {
        let namespace = pod.metadata.namespace.as_deref();
        let labels = pod.metadata.labels.as_ref()?;
        let mut selector = LabelSelector::everything();
        let mut budget = Budget::new();
        for service in self.services.objects(namespace) {
            let is_sibling =
                service.selector().is_some_and(|own| !own.is_everything() && own.matches(labels));
            let typed = service.typed::<Service>().ok().filter(|_| is_sibling);
            let wanted = typed.as_ref().and_then(|service| service.spec.as_ref()?.selector.as_ref());
            if let Some(wanted) = wanted.filter(|wanted| budget.take(0, wanted.len())) {
                selector.requirements.extend(LabelSelector::from_map(wanted).requirements);
            }
        }
        let owner = api::owner::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet");
        let set = owner.and_then(|owner| self.replica_sets.get(namespace, &owner.name));
        let own = set.as_ref().and_then(|set| set.spec.as_ref()).map(|spec| &spec.selector);
        if let Some(own) = own.filter(|own| budget.take(0, weight::of_selector(Some(own)))) {
            selector.requirements.extend(LabelSelector::from_meta(Some(own)).requirements);
        }
        (!budget.exceeded && !selector.is_everything()).then_some(selector)
    }
}

fn key_of(pod: &Pod) -> Key {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

impl NodeChange {
    fn actions(self) -> Actions {
        if self.new {
            return Actions::ADD;
        }
        Actions::UPDATE_NODE_LABEL.when(self.labels)
            | Actions::UPDATE_NODE_TAINT.when(self.taints)
            | Actions::UPDATE_NODE_ALLOCATABLE.when(self.allocatable)
    }
}

/// The node alone would take the pod: looked at before hints, because a rejected pod may wait for several
/// things at once.
fn would_take(node: &NodeInfo, pod: &PodInfo) -> bool {
    let requirements = &pod.requirements;
    let effects = [api::taints::NO_SCHEDULE, api::taints::NO_EXECUTE];
    node_unschedulable::borne(&requirements.tolerations, node)
        && requirements.node_name.as_ref().is_none_or(|name| *name == node.name)
        && requirements.required.matches(&node.name, &node.labels)
        && api::taints::first_untolerated(&node.taints, &requirements.tolerations, &effects).is_none()
        && node_resources_fit::fits(&pod.requests, &node.requested, &node.allocatable)
}

impl Shared {
    /// Keeps claims, volumes and classes current, and wakes pods that wait for them. What is returned is over
    /// once those that are there now are known.
    pub(crate) fn follow_storage(self: &Arc<Self>, informers: &Informers) -> BoxFuture<'static, ()> {
        let claims: Informer<PersistentVolumeClaim> = informers.of();
        let volumes: Informer<PersistentVolume> = informers.of();
        let classes: Informer<StorageClass> = informers.of();
        let this = self.clone();
        claims.on_change(move |change| {
            this.storage.claim_changed(change);
            if let Some(new) = &change.new {
                this.storage_came(change.old.is_none(), StorageChange::Claim { new });
            }
        });
        let this = self.clone();
        volumes.on_change(move |change| {
            this.storage.volume_changed(change);
            if let Some(new) = &change.new {
                let old = change.old.as_deref();
                this.storage_came(old.is_none(), StorageChange::Volume { old, new });
            }
        });
        let this = self.clone();
        classes.on_change(move |change| {
            this.storage.class_changed(change);
            if let Some(new) = &change.new {
                let old = change.old.as_deref();
                this.storage_came(old.is_none(), StorageChange::Class { old, new });
            }
        });
        Box::pin(async move {
            claims.synced().await;
            volumes.synced().await;
            classes.synced().await;
        })
    }

    fn storage_came(&self, is_new: bool, change: StorageChange<'_>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let happening = ObservedEvent::to_storage(&state.cache, is_new, change);
        state.queue.wake(&happening, Instant::now(), |_| true);
        self.wake.notify_one();
    }

    pub(crate) fn node_changed(&self, change: &Change<Node>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let state = &mut *state;
        let old = change.old.as_deref();
        let Some(node) = &change.new else {
            state.cache.remove_node(change.latest().metadata.name.as_deref().unwrap_or(""));
            // The emptiest domain may have gone.
            let happening = ObservedEvent::to_nodes(&state.cache, Actions::DELETE, old, None);
            state.queue.wake(&happening, now, |_| true);
            self.wake.notify_one();
            return;
        };
        let name = node.metadata.name.clone().unwrap_or_default();
        let change = state.cache.set_node(node.clone());
        if !change.matters() {
            return;
        }
        let Some(index) = state.cache.index(&name) else { return };
        let node = &state.cache.nodes[index as usize];
        // A change of labels may also move domains, which helps on other nodes.
        let helps = |pod: &PodInfo| change.labels || would_take(node, pod);
        let happening = ObservedEvent::to_nodes(&state.cache, change.actions(), old, Some(node));
        state.queue.wake(&happening, now, helps);
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
        } else if let Some(profile) =
            self.profiles.get(scheduler_name(pod)).filter(|_| !api::pod::is_terminating(pod))
        {
            let info = Arc::new(PodInfo::new(pod.clone(), siblings.selector(pod)));
            let mut state = self.state.lock();
            // An assumed pod's own status changes must not queue it again.
            if !state.cache.is_placed(&info.key) {
                // Known to us before, or told by a scheduler that ran before us.
                let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
                if let Some(node) = nominated.filter(|node| !node.is_empty() && change.old.is_none()) {
                    state.cache.nominate(&info, node);
                }
                state.queue.put(info, profile, Instant::now());
                drop(state);
                self.wake.notify_one();
            }
        } else {
            self.pod_gone(&key_of(pod));
        }
    }

    fn pod_bound(&self, pod: &Arc<Pod>, old: Option<&Pod>) {
        let was_bound = old.filter(|old| api::pod::node_name(old).is_some());
        let terminating =
            api::pod::is_terminating(pod) && old.is_some_and(|old| !api::pod::is_terminating(old));
        let mut actions = Actions::UPDATE_POD_TERMINATING.when(terminating);
        match was_bound {
            None => actions = actions | Actions::ADD,
            Some(old) => {
                let labels = old.metadata.labels != pod.metadata.labels;
                actions = actions | Actions::UPDATE_POD_LABEL.when(labels);
            }
        }
        if !self.state.lock().cache.confirm(pod, old) {
            let info = Arc::new(PodInfo::new(pod.clone(), None));
            let smaller = self.state.lock().cache.bound(info);
            actions = actions | Actions::UPDATE_POD_SCALE_DOWN.when(smaller && was_bound.is_some());
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        state.queue.remove(&key_of(pod));
        if !actions.is_empty() {
            let happening = ObservedEvent::to_pods(&state.cache, actions, was_bound, Some(pod));
            state.queue.wake(&happening, Instant::now(), |_| true);
            self.wake.notify_one();
        }
    }

    /// A pod does not take anything any more (or not yet).
    fn pod_gone(&self, key: &Key) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.queue.remove(key);
        let promised = state.cache.end_nomination(key);
        // Room that was promised is free again as well.
        let Some(gone) = state.cache.remove(key).or(promised) else { return };
        if let Some(waiting) = self.waiting.get(&gone.uid) {
            waiting.reject("", "removed");
        }
        self.storage.pod_gone(&gone.uid);
        let happening = ObservedEvent::to_pods(&state.cache, Actions::DELETE, Some(&gone.pod), None);
        state.queue.wake(&happening, Instant::now(), |_| true);
        self.wake.notify_one();
    }
}
