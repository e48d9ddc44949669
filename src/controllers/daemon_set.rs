//! Runs one pod of a daemon set on each node that suits.
//!
//! `pods` says which nodes suit and what a pod looks like, `plan` what to make and delete, `revisions` keeps
//! the history of templates.

use std::collections::HashSet;
use std::sync::Arc;

use api::{ApiError, Kinded, LabelMatcher};
use client::events::{EventType, reference_to};
use client::{Api, Change, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::adoption::{claim_all, may_adopt};
use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text};
use crate::expectations::Expectations;
use crate::owned::Owned;
use crate::pod_control::{PodControl, slow_start_each, together};
use crate::selecting::{adopting, object_key, with_selector};
use crate::{availability, status_write};
use backoff::Backoff;
use plan::{DaemonSetSteps, DaemonSetView, Why};
use pods::Eligibility;

mod backoff;
mod plan;
mod pods;
mod revisions;

const ACCOUNT: &str = "daemon-set-controller";
const COMPONENT: &str = "daemonset-controller";
const WORKERS: usize = 2;
/// The most pods that are made or deleted in one pass.
const BURST: usize = 250;

/// A node of a daemon set at one of its generations.
type OnNode = (String, i64, String);

struct Controller {
    pods: PodControl,
    api: Arc<dyn ObjectApi>,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    pod_informer: Informer<Pod>,
    revisions: Informer<ControllerRevision>,
    pods_by_owner: Owned<Pod>,
    revisions_by_owner: Owned<ControllerRevision>,
    expectations: Expectations,
    failed: Mutex<Backoff<OnNode>>,
    queue: WorkQueue<Key>,
}

pub(crate) fn start(context: &ControllerContext) {
    let api = context.act_as(ACCOUNT);
    let revisions: Informer<ControllerRevision> = context.informers.of();
    let queue = WorkQueue::new("daemonset");
    let controller = Arc::new(Controller {
        pods: PodControl { api: api.clone(), recorder: context.recorder(ACCOUNT, COMPONENT) },
        api,
        sets: context.informers.of(),
        nodes: context.informers.of(),
        pods_by_owner: context.pods_by_owner.clone(),
        revisions_by_owner: Owned::follow(&revisions),
        pod_informer: context.informers.of(),
        revisions,
        expectations: Expectations::default(),
        failed: Mutex::default(),
        queue: queue.clone(),
    });
    controller.watch();
    let synced = controller.clone();
    let ready = async move {
        synced.sets.synced().await;
        synced.nodes.synced().await;
        synced.pod_informer.synced().await;
        synced.revisions.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn min_ready_seconds(set: &DaemonSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

impl Controller {
    fn watch(self: &Arc<Self>) {
        let this = self.clone();
        self.sets.on_change(move |change| this.queue.add(key_of(&change.latest().metadata)));
        let this = self.clone();
        self.pod_informer.on_change(move |change| this.pod_changed(change));
        let this = self.clone();
        self.nodes.on_change(move |change| this.node_changed(change));
        let this = self.clone();
        self.revisions.on_change(move |change| this.revision_changed(change));
    }

    fn revision_changed(&self, change: &Change<ControllerRevision>) {
        for set in revisions::that_matter(change).filter_map(|revision| self.owner_of(&revision.metadata)) {
            self.queue.add(key_of(&set.metadata));
        }
        if let Some(orphan) = revisions::orphan(change) {
            let labels = orphan.metadata.labels.as_ref();
            let sets = adopting(&self.sets, orphan.metadata.namespace.as_deref(), labels);
            sets.iter().for_each(|set| self.queue.add(object_key(set)));
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let old_owner = change.old.as_ref().and_then(|pod| self.owner_of(&pod.metadata));
        let pod = change.latest();
        let owner = self.owner_of(&pod.metadata);
        for set in old_owner.iter().chain(&owner) {
            self.queue.add(key_of(&set.metadata));
        }
        if let Some(owner) = &owner {
            let key = key_of(&owner.metadata);
            if change.new.is_none() || api::pod::is_terminating(pod) {
                // Its end counts as soon as it is marked: that is what the deletion was expected to do.
                self.expectations.deletion_observed(&key, &key_of(&pod.metadata));
            } else if change.old.is_none() {
                self.expectations.creation_observed(&key);
            }
        }
        if change.new.is_some() && api::owner::controller_of(&pod.metadata).is_none() {
            let labels = pod.metadata.labels.as_ref();
            let sets = adopting(&self.sets, pod.metadata.namespace.as_deref(), labels);
            sets.iter().for_each(|set| self.queue.add(object_key(set)));
        }
    }

    /// Wakes the sets to which the node is something else than before.
    fn node_changed(&self, change: &Change<Node>) {
        let facts = |node: &Arc<Node>| {
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
            (node.metadata.labels.clone().unwrap_or_default(), taints)
        };
        let (old, new) = (change.old.as_ref(), change.new.as_ref());
        if old.map(facts) == new.map(facts) {
            return;
        }
        for set in self.sets.list(None) {
            let eligibility = Eligibility::of(&set);
            let suits = |node: Option<&Arc<Node>>| node.map(|node| eligibility.suits(node));
            if suits(old) != suits(new) {
                self.queue.add(key_of(&set.metadata));
            }
        }
    }

    fn owner_of(&self, metadata: &ObjectMeta) -> Option<Arc<DaemonSet>> {
        let owner =
            api::owner::controller_of(metadata).filter(|owner| owner.kind == DaemonSet::row().kind)?;
        let set = self.sets.get(metadata.namespace.as_deref(), &owner.name)?;
        (text(&set.metadata.uid) == owner.uid).then_some(set)
    }

    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let Some((set, selector)) = with_selector(&self.sets, key) else {
            self.expectations.forget(key);
            return Ok(None);
        };
        if selector.is_everything() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.tell(&set, EventType::Warning, "SelectingAll", message);
            return Ok(None);
        }
        if set.metadata.deletion_timestamp.is_some() {
            // Its history may be gone already, so nothing true can be said about it.
            return Ok(None);
        }
        // Asked before pods are looked at: what is seen in between can only be more.
        let satisfied = self.expectations.satisfied(key);
        let pods = self.claim_pods(&set, &selector).await?;
        let history = self.history(&set, &selector, &pods).await?;
        let nodes = self.nodes.list(None);
        let now = Timestamp::now();
        let view = DaemonSetView::new(&set, &history.hash, &nodes, &pods, now);
        if !satisfied {
            self.write_status(&set, &plan::status(&view, false)).await?;
            return Ok(None);
        }
        let steps = plan::manage(&view, |node| self.failed.lock().left(&on_node(&set, node), Instant::now()));
        let again = steps.again;
        let outcome = self.update(key, &set, &view, steps).await;
        // The pods as they are now: what was made is not in the view.
        let pods = self.pods_by_owner.by(text(&set.metadata.uid));
        let seen = DaemonSetView::new(&set, &history.hash, &nodes, &pods, now);
        let told = self.write_status(&set, &plan::status(&seen, true)).await;
        outcome?;
        told?;
        self.clean_up(&set, &history, &pods).await?;
        let available = availability::next(pods.iter(), min_ready_seconds(&set), now);
        Ok([again, available].into_iter().flatten().min())
    }

    async fn update(
        &self,
        key: &Key,
        set: &DaemonSet,
        view: &DaemonSetView<'_>,
        steps: DaemonSetSteps,
    ) -> Result<(), ApiError> {
        let nothing = steps.create.is_empty() && steps.delete.is_empty();
        self.carry_out(key, set, view, steps).await?;
        // Pods are replaced only when all is as it should be otherwise.
        if nothing && plan::is_rolling(set) {
            self.carry_out(key, set, view, plan::roll(view)).await?;
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        key: &Key,
        set: &DaemonSet,
        view: &DaemonSetView<'_>,
        mut steps: DaemonSetSteps,
    ) -> Result<(), ApiError> {
        for (pod, why) in &steps.delete {
            self.tell_ended(set, pod, *why);
        }
        steps.create.truncate(BURST);
        steps.delete.truncate(BURST);
        if steps.create.is_empty() && steps.delete.is_empty() {
            return Ok(());
        }
        let names: HashSet<Key> = steps.delete.iter().map(|(pod, _)| key_of(&pod.metadata)).collect();
        self.expectations.expect(key, steps.create.len(), names);
        let reference = reference_to(set);
        let create = |node: &String| {
            let pod = pods::new_pod(set, view.hash, node);
            let reference = &reference;
            async move { self.pods.create(reference, &pod).await }
        };
        let (done, created) = slow_start_each(&steps.create, create).await;
        for _ in done..steps.create.len() {
            self.expectations.creation_observed(key);
        }
        let calls = steps.delete.iter().map(|(pod, _)| self.pods.delete(&reference, pod));
        let outcomes = together(calls.collect()).await;
        let mut failure = match created {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            created => created,
        };
        for ((pod, _), outcome) in steps.delete.iter().zip(outcomes) {
            if let Err(error) = outcome {
                self.expectations.deletion_observed(key, &key_of(&pod.metadata));
                if !error.is_not_found() && failure.is_ok() {
                    failure = Err(error);
                }
            }
        }
        failure
    }

    fn tell_ended(&self, set: &DaemonSet, pod: &Pod, why: Why) {
        let node = pods::target_node(pod).unwrap_or("");
        let place = format!("{}/{} on node {node}", text(&pod.metadata.namespace), text(&pod.metadata.name));
        match why {
            Why::Failed => {
                self.failed.lock().lengthen(on_node(set, node), Instant::now());
                let message = format!("Found failed daemon pod {place}, will try to kill it");
                self.tell(set, EventType::Warning, "FailedDaemonPod", &message);
            }
            Why::Succeeded => {
                let message = format!("Found succeeded daemon pod {place}, will try to delete it");
                self.tell(set, EventType::Normal, "SucceededDaemonPod", &message);
            }
            Why::Other => {}
        }
    }

    fn tell(&self, set: &DaemonSet, kind: EventType, reason: &str, message: &str) {
        self.pods.recorder.event(&reference_to(set), kind, reason, message);
    }

    async fn claim_pods(&self, set: &DaemonSet, selector: &LabelMatcher) -> Result<Vec<Arc<Pod>>, ApiError> {
        let mut candidates = self.pods_by_owner.by(text(&set.metadata.uid));
        candidates.extend(self.pods_by_owner.orphans(text(&set.metadata.namespace)));
        self.claim(set, selector, candidates).await
    }

    async fn claim<K: Kinded>(
        &self,
        set: &DaemonSet,
        selector: &LabelMatcher,
        candidates: Vec<Arc<K>>,
    ) -> Result<Vec<Arc<K>>, ApiError> {
        let owner = api::owner::controller_reference(set);
        let lives = || async {
            let sets = Api::<DaemonSet>::namespaced(self.api.clone(), text(&set.metadata.namespace));
            let live = sets.find(text(&set.metadata.name)).await?;
            may_adopt("DaemonSet", live.as_ref().map(|live| &live.metadata), &set.metadata)
        };
        claim_all(&*self.api, candidates, &owner, selector, false, lives).await
    }

    async fn write_status(&self, set: &Arc<DaemonSet>, status: &DaemonSetStatus) -> Result<(), ApiError> {
        let api = Api::<DaemonSet>::namespaced(self.api.clone(), text(&set.metadata.namespace));
        status_write::write(&api, set, |set| DaemonSet { status: Some(status.clone()), ..set.clone() }).await
    }
}

fn on_node(set: &DaemonSet, node: &str) -> OnNode {
    let observed = set.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
    (text(&set.metadata.uid).to_string(), observed, node.to_string())
}
