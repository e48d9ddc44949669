//! The cluster as the scheduler sees it: nodes, the pods on them (bound, or assumed to be soon) and the
//! counts of pods by topology. Fed by informers' changes; nothing here is recomputed per pod.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::counters::Counters;
use crate::equivalence::Equivalence;
use crate::node::{NodeChange, NodeInfo};
use crate::pod::{Key, PodInfo};

/// NodeRequirements whose comparison with all nodes is kept.
const EQUIVALENCES: usize = 512;

#[derive(Default)]
pub(crate) struct Cache {
    /// By index; a freed index is used again.
    pub(crate) nodes: Vec<NodeInfo>,
    free: Vec<u32>,
    by_name: HashMap<String, u32>,
    /// Indices of nodes that are there, in the order they came.
    pub(crate) live: Vec<u32>,
    pub(crate) counters: Counters,
    equivalences: HashMap<String, Equivalence>,
    placed: HashMap<Key, Placed>,
    /// How many placed pods use a claim, by its namespace and name.
    claims: HashMap<Key, usize>,
    /// How many nodes have an image, by its name.
    images: HashMap<String, u32>,
    /// How many placed pods have a priority: tells at once that preemption cannot help.
    priorities: BTreeMap<i32, usize>,
    /// Pods that others were evicted for, and where.
    nominations: HashMap<Key, Nomination>,
    clock: u64,
}

struct Nomination {
    node: String,
    pod: Arc<PodInfo>,
}

struct Placed {
    node: u32,
    pod: Arc<PodInfo>,
    /// Not yet seen as bound.
    assumed: bool,
}

impl Cache {
    pub(crate) fn index(&self, node: &str) -> Option<u32> {
        self.by_name.get(node).copied()
    }

    pub(crate) fn set_node(&mut self, node: Arc<Node>) -> NodeChange {
        let name = node.metadata.name.clone().unwrap_or_default();
        let index = self.index_for(&name);
        let info = &mut self.nodes[index as usize];
        let before: Vec<String> = info.images.keys().cloned().collect();
        let change = info.set_node(node);
        if change.new {
            self.live.push(index);
        }
        if change.images {
            self.count_images(index, &before);
        }
        if change.new || change.labels || change.taints {
            self.counters.node_changed(index, &self.nodes[index as usize]);
        }
        change
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        let Some(index) = self.index(name) else { return };
        let info = &mut self.nodes[index as usize];
        info.node = None;
        info.version += 1;
        let before: Vec<String> = std::mem::take(&mut info.images).into_keys().collect();
        self.live.retain(|live| *live != index);
        self.count_images(index, &before);
        self.counters.node_changed(index, &self.nodes[index as usize]);
        self.free_if_empty(index);
    }

    fn count_images(&mut self, index: u32, before: &[String]) {
        for image in before {
            if let Some(count) = self.images.get_mut(image) {
                *count -= 1;
                if *count == 0 {
                    self.images.remove(image);
                }
            }
        }
        for image in self.nodes[index as usize].images.keys() {
            *self.images.entry(image.clone()).or_insert(0) += 1;
        }
    }

    /// The share of nodes that have an image.
    pub(crate) fn image_share(&self, image: &str) -> f64 {
        let nodes = self.live.len().max(1) as f64;
        self.images.get(image).map_or(0.0, |count| f64::from(*count) / nodes)
    }

    fn index_for(&mut self, name: &str) -> u32 {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let fresh = NodeInfo::new(name);
        let index = match self.free.pop() {
            Some(index) => {
                let old = std::mem::replace(&mut self.nodes[index as usize], fresh);
                // Versions go on, so that no row computed for the former node is taken for this one's.
                self.nodes[index as usize].version = old.version + 1;
                index
            }
            None => {
                self.nodes.push(fresh);
                self.nodes.len() as u32 - 1
            }
        };
        self.nodes[index as usize].index = index;
        for equivalence in self.equivalences.values_mut() {
            equivalence.forget(index);
        }
        self.by_name.insert(name.to_string(), index);
        index
    }

    fn free_if_empty(&mut self, index: u32) {
        let info = &self.nodes[index as usize];
        if info.node.is_none() && info.pods.is_empty() {
            self.by_name.remove(&info.name);
            self.free.push(index);
        }
    }

    /// The pod takes its place on a node before the API knows.
    pub(crate) fn assume(&mut self, pod: Arc<PodInfo>, node: u32) {
        self.remove(&pod.key);
        self.put(pod, node, true);
    }

    /// Whether a bound pod is known as it is, so that nothing is to be counted anew. Most changes of bound
    /// pods are such: the binding that was assumed, and the kubelet's status.
    pub(crate) fn confirm(&mut self, pod: &Pod, old: Option<&Pod>) -> bool {
        let key = (
            pod.metadata.namespace.clone().unwrap_or_default(),
            pod.metadata.name.clone().unwrap_or_default(),
        );
        let Some(placed) = self.placed.get_mut(&key) else { return false };
        let known = &placed.pod;
        let same = api::pod::node_name(pod) == Some(self.nodes[placed.node as usize].name.as_str())
            && pod.metadata.uid.as_deref() == Some(known.uid.as_str())
            && api::pod::is_terminating(pod) == known.terminating
            && pod.metadata.labels.iter().flatten().eq(&known.labels);
        // A resize changes what the pod holds, by its spec or by its status.
        let held = |pod: &Pod| {
            let status = pod.status.as_ref();
            let given = status.and_then(|status| status.container_statuses.as_ref()).map(|statuses| {
                statuses
                    .iter()
                    .map(|one| (one.resources.clone(), one.allocated_resources.clone()))
                    .collect::<Vec<_>>()
            });
            (pod.metadata.generation, given)
        };
        let resized = !placed.assumed && old.is_none_or(|old| held(old) != held(pod));
        if same && !resized {
            placed.assumed = false;
        }
        same && !resized
    }

    /// The pod is bound to a node (or still is, changed). Tells whether it takes less of something than
    /// before.
    pub(crate) fn bound(&mut self, pod: Arc<PodInfo>) -> bool {
        let Some(name) = pod.node.clone() else { return false };
        let index = self.index(&name);
        let same = self.placed.get(&pod.key).is_some_and(|placed| {
            let old = &placed.pod;
            Some(placed.node) == index
                && old.uid == pod.uid
                && old.terminating == pod.terminating
                && old.labels == pod.labels
                && old.requests == pod.requests
        });
        if same {
            if let Some(placed) = self.placed.get_mut(&pod.key) {
                placed.assumed = false;
            }
            return false;
        }
        // First off its old node: that may be the last thing that kept the node's place.
        let old = self.remove(&pod.key);
        let smaller = old.is_some_and(|old| old.uid == pod.uid && pod.requests.less_than(&old.requests));
        let index = self.index_for(&name);
        self.put(pod, index, false);
        smaller
    }

    /// How many placed pods use a claim.
    pub(crate) fn uses_of(&self, namespace: &str, claim: &str) -> usize {
        self.claims.get(&(namespace.to_string(), claim.to_string())).copied().unwrap_or(0)
    }

    fn count_claims(&mut self, pod: &PodInfo, is_there: bool) {
        for claim in &pod.claims {
            let key = (pod.key.0.clone(), claim.clone());
            if is_there {
                *self.claims.entry(key).or_insert(0) += 1;
            } else if let Some(count) = self.claims.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.claims.remove(&key);
                }
            }
        }
    }

    fn book(&mut self, pod: Arc<PodInfo>, node: u32) {
        self.count_claims(&pod, true);
        self.counters.count(&self.nodes, node, &pod, 1);
        self.nodes[node as usize].add(pod);
    }

    fn put(&mut self, pod: Arc<PodInfo>, node: u32, assumed: bool) {
        self.book(pod.clone(), node);
        *self.priorities.entry(pod.priority).or_insert(0) += 1;
        self.nominations.remove(&pod.key);
        self.placed.insert(pod.key.clone(), Placed { node, pod, assumed });
    }

    /// The pod is gone from its node. The answer is what it was.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<PodInfo>> {
        let placed = self.placed.remove(key)?;
        self.nodes[placed.node as usize].remove(key);
        self.count_claims(&placed.pod, false);
        self.counters.count(&self.nodes, placed.node, &placed.pod, -1);
        if let Some(count) = self.priorities.get_mut(&placed.pod.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&placed.pod.priority);
            }
        }
        self.free_if_empty(placed.node);
        Some(placed.pod)
    }

    /// An assumed pod could not be bound. Tells whether it was still assumed.
    pub(crate) fn forget(&mut self, key: &Key, uid: &str) -> bool {
        let assumed = self.placed.get(key).is_some_and(|placed| placed.assumed && placed.pod.uid == uid);
        if assumed {
            self.remove(key);
        }
        assumed
    }

    /// Some placed pod has a lower priority.
    pub(crate) fn has_lower_priority(&self, priority: i32) -> bool {
        self.priorities.first_key_value().is_some_and(|(lowest, _)| *lowest < priority)
    }

    /// Pods of a node that could be evicted for a pod of this priority: known to be bound there, of lower
    /// priority.
    pub(crate) fn evictable(&self, index: u32, priority: i32) -> Vec<Arc<PodInfo>> {
        let pods = self.nodes[index as usize].pods.values();
        let settled = |pod: &&Arc<PodInfo>| self.placed.get(&pod.key).is_some_and(|placed| !placed.assumed);
        pods.filter(|pod| pod.priority < priority).filter(settled).cloned().collect()
    }

    /// Puts a pod back that was taken off to see what would be.
    pub(crate) fn restore(&mut self, pod: Arc<PodInfo>, index: u32) {
        self.put(pod, index, false);
    }

    pub(crate) fn nominate(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.nominations.insert(pod.key.clone(), Nomination { node: node.to_string(), pod: pod.clone() });
    }

    /// Ends a nomination; the answer is the pod, if there was one.
    pub(crate) fn end_nomination(&mut self, key: &Key) -> Option<Arc<PodInfo>> {
        self.nominations.remove(key).map(|nomination| nomination.pod)
    }

    pub(crate) fn nominated_node(&self, key: &Key) -> Option<u32> {
        self.index(&self.nominations.get(key)?.node)
    }

    /// Pods of at least this pod's priority that the node is promised to.
    pub(crate) fn promised(&self, index: u32, pod: &PodInfo) -> Vec<Arc<PodInfo>> {
        if self.nominations.is_empty() {
            return Vec::new();
        }
        let node = &self.nodes[index as usize];
        let theirs = self.nominations.values().filter(|nomination| {
            nomination.node == node.name
                && nomination.pod.priority >= pod.priority
                && nomination.pod.key != pod.key
        });
        theirs.map(|nomination| nomination.pod.clone()).collect()
    }

    /// Counts pods as if they were on the node, until [`Cache::take_back`].
    pub(crate) fn lend(&mut self, index: u32, pods: &[Arc<PodInfo>]) {
        for pod in pods {
            self.book(pod.clone(), index);
        }
    }

    pub(crate) fn take_back(&mut self, index: u32, pods: &[Arc<PodInfo>]) {
        for pod in pods {
            self.nodes[index as usize].remove(&pod.key);
            self.count_claims(pod, false);
            self.counters.count(&self.nodes, index, pod, -1);
        }
    }

    pub(crate) fn is_placed(&self, key: &Key) -> bool {
        self.placed.contains_key(key)
    }

    /// Takes out what is kept of a pod's requirements, to be put back with [`Cache::keep_equivalence`].
    pub(crate) fn take_equivalence(&mut self, words: &str) -> Equivalence {
        self.equivalences.remove(words).unwrap_or_default()
    }

    pub(crate) fn keep_equivalence(&mut self, words: &str, mut equivalence: Equivalence) {
        self.clock += 1;
        equivalence.used = self.clock;
        if self.equivalences.len() >= EQUIVALENCES {
            let mut ages: Vec<u64> = self.equivalences.values().map(|equivalence| equivalence.used).collect();
            let middle = ages.len() / 2;
            let median = *ages.select_nth_unstable(middle).1;
            self.equivalences.retain(|_, equivalence| equivalence.used > median);
        }
        self.equivalences.insert(words.to_string(), equivalence);
    }
}
