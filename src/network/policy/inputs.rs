//! What the informers and the kubelet have told, and what the loop has not looked at yet.
//!
//! A pod that is about to start is told of by the kubelet, which waits until the rules know it: its address
//! is not in its status yet. Once its status has addresses, they count.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use client::Change;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::facts::{Labels, ObjectName, PodFacts, PolicyFacts};
use super::planner::{Changes, Ranges};

pub(crate) struct Inputs {
    node: String,
    state: Mutex<State>,
    notify: Notify,
    /// Number of the last change that is in the kernel.
    done: watch::Sender<u64>,
    /// All policies are known.
    synced: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    policies: HashMap<ObjectName, Arc<PolicyFacts>>,
    ranges: Ranges,
    /// Pods whose status says nothing of their addresses yet, with their uids.
    starting: HashMap<ObjectName, (Option<String>, Arc<PodFacts>)>,
    waiting: Waiting,
    /// Number of the last change.
    last: u64,
}

#[derive(Default)]
struct Waiting {
    policies: BTreeMap<ObjectName, Option<Arc<PolicyFacts>>>,
    namespaces: BTreeMap<String, Option<Labels>>,
    /// Of all nodes, if one has another.
    ranges: Option<Ranges>,
    pods: BTreeMap<ObjectName, Option<Arc<PodFacts>>>,
    lost: bool,
}

/// What the loop is to look at.
pub(crate) struct Work {
    pub(crate) changes: Changes,
    /// The tables are not what they were left as.
    pub(crate) lost: bool,
    /// To be told once it is done.
    pub(crate) number: u64,
}

fn name_of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> ObjectName {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

impl Inputs {
    pub(crate) fn new(node: &str) -> Self {
        Inputs {
            node: node.to_string(),
            state: Mutex::default(),
            notify: Notify::new(),
            done: watch::Sender::new(0),
            synced: watch::Sender::new(false),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) -> u64 {
        let mut state = self.state.lock();
        change(&mut state);
        state.last += 1;
        let number = state.last;
        drop(state);
        self.notify.notify_one();
        number
    }

    pub(crate) fn take_policy(&self, change: &Change<NetworkPolicy>) {
        let name = name_of(&change.latest().metadata);
        let facts = change.new.as_deref().and_then(PolicyFacts::of).map(Arc::new);
        if self.state.lock().policies.get(&name) == facts.as_ref() {
            return;
        }
        self.change(|state| {
            match &facts {
                Some(facts) => state.policies.insert(name.clone(), facts.clone()),
                None => state.policies.remove(&name),
            };
            state.waiting.policies.insert(name, facts);
        });
    }

    /// Where addresses of pods of each node can be.
    pub(crate) fn take_ranges(&self, ranges: Ranges) {
        self.change(|state| {
            state.ranges = ranges.clone();
            state.waiting.ranges = Some(ranges);
        });
    }

    pub(crate) fn take_namespace(&self, change: &Change<Namespace>) {
        if change.old.is_none() && change.new.is_none() {
            return;
        }
        let labels = |namespace: &Namespace| namespace.metadata.labels.clone().unwrap_or_default();
        let (old, new) = (change.old.as_deref().map(labels), change.new.as_deref().map(labels));
        if old != new {
            let name = change.latest().metadata.name.clone().unwrap_or_default();
            self.change(|state| {
                state.waiting.namespaces.insert(name, new);
            });
        }
    }

    pub(crate) fn take_pod(&self, change: &Change<Pod>) {
        if change.old.is_none() && change.new.is_none() {
            return;
        }
        let facts = |pod: &Pod| PodFacts::of(pod, &self.node);
        let name = name_of(&change.latest().metadata);
        let (old, new) = (change.old.as_deref().and_then(facts), change.new.as_deref().and_then(facts));
        let mut state = self.state.lock();
        if let Some((uid, starting)) = state.starting.get(&name).cloned() {
            let pod = change.new.as_deref();
            let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
            let ended = matches!(phase, Some("Succeeded" | "Failed"));
            let is_same = pod.is_some_and(|pod| pod.metadata.uid == uid);
            if new.is_none() && is_same && !ended {
                let labels = pod.and_then(|pod| pod.metadata.labels.clone()).unwrap_or_default();
                if labels == starting.labels {
                    return;
                }
                let facts = Arc::new(PodFacts { labels, ..PodFacts::clone(&starting) });
                state.starting.insert(name.clone(), (uid, facts.clone()));
                drop(state);
                self.change(|state| {
                    state.waiting.pods.insert(name, Some(facts));
                });
                return;
            }
            state.starting.remove(&name);
        } else if old == new {
            return;
        }
        drop(state);
        self.change(|state| {
            state.waiting.pods.insert(name, new.map(Arc::new));
        });
    }

    /// A pod of this node is about to start; the number of the change, if a policy selects it.
    pub(crate) fn take_starting(&self, pod: &Pod, addresses: &[String]) -> Option<u64> {
        let facts = PodFacts::with_addresses(pod, &self.node, addresses.iter().map(String::as_str))?;
        let name = name_of(&pod.metadata);
        let state = self.state.lock();
        let mut own = state.policies.iter().filter(|(policy, _)| policy.0 == name.0);
        if !own.any(|(_, policy)| policy.pods.matches(&facts.labels)) {
            return None;
        }
        drop(state);
        let facts = Arc::new(PodFacts { is_local: true, ..facts });
        Some(self.change(|state| {
            state.starting.insert(name.clone(), (pod.metadata.uid.clone(), facts.clone()));
            state.waiting.pods.insert(name, Some(facts));
        }))
    }

    /// The tables are to be made anew.
    pub(crate) fn tell_lost(&self) {
        self.change(|state| state.waiting.lost = true);
    }

    pub(crate) fn has_policies(&self) -> bool {
        !self.state.lock().policies.is_empty()
    }

    /// Forgets what waits; all policies and nodes' ranges wait then, and pods that are about to start.
    pub(crate) fn begin(&self) {
        let mut state = self.state.lock();
        let policies = state.policies.iter().map(|(name, facts)| (name.clone(), Some(facts.clone())));
        let pods = state.starting.iter().map(|(name, (_, facts))| (name.clone(), Some(facts.clone())));
        let waiting = Waiting {
            policies: policies.collect(),
            ranges: Some(state.ranges.clone()),
            pods: pods.collect(),
            ..Waiting::default()
        };
        state.waiting = waiting;
    }

    /// Nobody follows pods any more.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        if state.policies.is_empty() {
            state.starting.clear();
        }
    }

    pub(crate) fn take(&self) -> Work {
        let mut state = self.state.lock();
        let waiting = std::mem::take(&mut state.waiting);
        let changes = Changes {
            policies: waiting.policies.into_iter().collect(),
            namespaces: waiting.namespaces.into_iter().collect(),
            ranges: waiting.ranges,
            pods: waiting.pods.into_iter().collect(),
        };
        Work { changes, lost: waiting.lost, number: state.last }
    }

    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }

    pub(crate) fn tell_done(&self, number: u64) {
        self.done.send_replace(number);
    }

    pub(crate) fn tell_synced(&self) {
        self.synced.send_replace(true);
    }

    pub(crate) async fn until_done(&self, number: u64) {
        let _ = self.done.subscribe().wait_for(|done| *done >= number).await;
    }

    pub(crate) async fn until_synced(&self) {
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }
}
