//! Keeps as many pods of a replica set running as it asks for, and of a replication controller, which is the
//! same under older names.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Kinded, LabelMatcher};
use client::{Api, Change, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    Pod, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as Selector, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::adoption::{claim_all, may_adopt};
use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text};
use crate::expectations::Expectations;
use crate::owned::Owned;
use crate::pod_control::{PodControl, pod_of, reference, slow_start, together};
use crate::rests::Rests;
use crate::selecting::{adopting, object_key, with_selector};
use crate::status_write;
use plan::{ReplicaSetStep, failure_condition, plan, status};

mod plan;
mod rank;

const WORKERS: usize = 5;

/// A replica set, or what can be seen as one.
trait Replicated: Kinded + Clone + PartialEq {
    /// The service account and component of its controller.
    const ACCOUNT: &'static str;

    fn as_set(&self) -> Cow<'_, ReplicaSet>;

    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicated for ReplicaSet {
    const ACCOUNT: &'static str = "replicaset-controller";

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        ReplicaSet { status: Some(status), ..self.clone() }
    }
}

impl Replicated for ReplicationController {
    const ACCOUNT: &'static str = "replication-controller";

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.as_ref().map(|spec| ReplicaSetSpec {
            replicas: spec.replicas,
            min_ready_seconds: spec.min_ready_seconds,
            selector: Selector { match_labels: spec.selector.clone(), match_expressions: None },
            template: spec.template.clone(),
        });
        let status = self.status.as_ref().map(set_status);
        Cow::Owned(ReplicaSet { metadata: self.metadata.clone(), spec, status })
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        ReplicationController { status: Some(controller_status(status)), ..self.clone() }
    }
}

fn set_status(status: &ReplicationControllerStatus) -> ReplicaSetStatus {
    let conditions = status.conditions.iter().flatten();
    let conditions: Vec<ReplicaSetCondition> = conditions
        .map(|condition| ReplicaSetCondition {
            type_: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            last_transition_time: condition.last_transition_time.clone(),
        })
        .collect();
    ReplicaSetStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        // A replication controller tells nothing of these: there is nothing to compare.
        terminating_replicas: None,
        observed_generation: status.observed_generation,
        conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
    }
}

fn controller_status(status: ReplicaSetStatus) -> ReplicationControllerStatus {
    let conditions = status.conditions.map(|conditions| {
        let same = |condition: ReplicaSetCondition| ReplicationControllerCondition {
            type_: condition.type_,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
            last_transition_time: condition.last_transition_time,
        };
        conditions.into_iter().map(same).collect()
    });
    ReplicationControllerStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        observed_generation: status.observed_generation,
        conditions,
    }
}

struct Controller<K> {
    pods: PodControl,
    api: Arc<dyn ObjectApi>,
    sets: Informer<K>,
    pod_informer: Informer<Pod>,
    sets_by_owner: Owned<K>,
    pods_by_owner: Owned<Pod>,
    expectations: Expectations,
    rests: Rests,
    queue: WorkQueue<Key>,
}

pub(crate) fn start(context: &ControllerContext) {
    start_for::<ReplicaSet>(context, "replicaset");
    start_for::<ReplicationController>(context, "replicationmanager");
}

fn start_for<K: Replicated + 'static>(context: &ControllerContext, name: &str) {
    let api = context.act_as(K::ACCOUNT);
    let sets: Informer<K> = context.informers.of();
    let queue = WorkQueue::new(name);
    let controller = Arc::new(Controller {
        pods: PodControl { api: api.clone(), recorder: context.recorder(K::ACCOUNT, K::ACCOUNT) },
        api,
        sets_by_owner: Owned::follow(&sets),
        pods_by_owner: context.pods_by_owner.clone(),
        sets,
        pod_informer: context.informers.of(),
        expectations: Expectations::default(),
        rests: Rests::default(),
        queue: queue.clone(),
    });
    controller.watch();
    let synced = controller.clone();
    let ready = async move {
        synced.sets.synced().await;
        synced.pod_informer.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// Whether nothing but what this controller writes itself has changed.
fn is_own_status<K: Replicated>(change: &Change<K>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return false };
    let (old, new) = (old.metadata(), new.metadata());
    old.uid == new.uid
        && old.generation == new.generation
        && old.deletion_timestamp == new.deletion_timestamp
        && old.labels == new.labels
}

fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

impl<K: Replicated + 'static> Controller<K> {
    fn watch(self: &Arc<Self>) {
        let this = self.clone();
        self.sets.on_change(move |change| {
            let key = key_of(change.latest().metadata());
            if is_own_status(change) { this.look_soon(key) } else { this.queue.add(key) }
        });
        let this = self.clone();
        self.pod_informer.on_change(move |change| this.pod_changed(change));
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let old_owner = change.old.as_ref().and_then(|pod| self.owner_of(&pod.metadata));
        let Some(pod) = &change.new else {
            self.pod_deleted(change.latest(), old_owner);
            return;
        };
        if api::pod::is_terminating(pod) {
            // Its end counts as soon as it is marked: that is what the deletion was expected to do.
            let owner = self.owner_of(&pod.metadata);
            self.pod_deleted(pod, owner.or(old_owner));
            return;
        }
        let owner = self.owner_of(&pod.metadata);
        if let Some(old) = old_owner.filter(|old| Some(old) != owner.as_ref() && change.old.is_some()) {
            self.queue.add(key_of(old.metadata()));
        }
        match owner {
            Some(owner) => {
                let key = key_of(owner.metadata());
                if change.old.is_none() && self.expectations.creation_observed(&key) {
                    self.queue.add(key.clone());
                }
                let became_ready = change
                    .old
                    .as_ref()
                    .is_some_and(|old| !api::pod::is_ready(old) && api::pod::is_ready(pod));
                self.look_soon(key.clone());
                let delay = min_ready_seconds(&owner.as_set());
                if became_ready && delay > 0 {
                    self.queue.add_after(key, Duration::from_secs(u64::from(delay.unsigned_abs()) + 1));
                }
            }
            None if api::owner::controller_of(&pod.metadata).is_none() => self.orphan_changed(change, pod),
            None => {}
        }
    }

    fn pod_deleted(&self, pod: &Pod, owner: Option<Arc<K>>) {
        if let Some(owner) = owner {
            let key = key_of(owner.metadata());
            if self.expectations.deletion_observed(&key, &key_of(&pod.metadata)) {
                self.queue.add(key);
            } else {
                self.look_soon(key);
            }
        }
    }

    /// Looks at a set for what has become of one of its pods, together with the others.
    fn look_soon(&self, key: Key) {
        let rest = self.rests.of(&key);
        self.queue.add_after(key, rest);
    }

    /// A pod without controller: every set that would have it looks at it.
    fn orphan_changed(&self, change: &Change<Pod>, pod: &Pod) {
        let same = change.old.as_ref().is_some_and(|old| {
            old.metadata.labels == pod.metadata.labels
                && old.metadata.owner_references == pod.metadata.owner_references
        });
        if !same {
            let labels = pod.metadata.labels.as_ref();
            let sets = adopting(&self.sets, pod.metadata.namespace.as_deref(), labels);
            sets.iter().for_each(|set| self.queue.add(object_key(set)));
        }
    }

    /// The replica set that controls an object, if it is the one of that uid.
    fn owner_of(&self, metadata: &ObjectMeta) -> Option<Arc<K>> {
        let owner = api::owner::controller_of(metadata).filter(|owner| owner.kind == K::row().kind)?;
        let set = self.sets.get(metadata.namespace.as_deref(), &owner.name)?;
        (text(&set.metadata().uid) == owner.uid).then_some(set)
    }

    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let Some((set, selector)) = with_selector(&self.sets, key) else {
            self.expectations.forget(key);
            self.rests.forget(key);
            return Ok(None);
        };
        let begun = Instant::now();
        let satisfied = self.expectations.satisfied(key);
        let uid = text(&set.metadata().uid);
        let mut candidates = self.pods_by_owner.by(uid);
        candidates.extend(self.pods_by_owner.orphans(&key.0));
        candidates.retain(|pod| !api::pod::is_terminal(pod));
        let ours = self.claim(&set, &selector, candidates).await?;
        let active: Vec<Arc<Pod>> = ours.iter().filter(|pod| api::pod::is_active(pod)).cloned().collect();
        self.rests.took(key, begun.elapsed());
        let mut failure = None;
        if satisfied && set.metadata().deletion_timestamp.is_none() {
            failure = self.manage(key, &set, &active).await.err();
        }
        self.write_status(&set, &ours, failure.as_ref()).await?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(self.look_again(&set, &active)),
        }
    }

    /// A pod that is ready but not long enough becomes available without any event.
    fn look_again(&self, set: &K, active: &[Arc<Pod>]) -> Option<Duration> {
        let delay = min_ready_seconds(&set.as_set());
        let now = Timestamp::now();
        let waiting = |pod: &&Arc<Pod>| api::pod::is_ready(pod) && !api::pod::is_available(pod, delay, now);
        (delay > 0 && active.iter().any(|pod| waiting(&pod)))
            .then(|| Duration::from_secs(u64::from(delay.unsigned_abs())))
    }

    async fn claim(
        &self,
        set: &K,
        selector: &LabelMatcher,
        candidates: Vec<Arc<Pod>>,
    ) -> Result<Vec<Arc<Pod>>, ApiError> {
        let owner = api::owner::controller_reference(set);
        let terminating = set.metadata().deletion_timestamp.is_some();
        let lives = || async {
            let sets = Api::<K>::namespaced(self.api.clone(), text(&set.metadata().namespace));
            let live = sets.find(text(&set.metadata().name)).await?;
            may_adopt(&K::row().kind, live.as_ref().map(|live| live.metadata()), set.metadata())
        };
        claim_all(&*self.api, candidates, &owner, selector, terminating, lives).await
    }

    /// Creates or deletes pods.
    async fn manage(&self, key: &Key, set: &K, active: &[Arc<Pod>]) -> Result<(), ApiError> {
        let siblings = || self.siblings(set);
        match plan(&set.as_set(), active, siblings, Timestamp::now()) {
            ReplicaSetStep::Nothing => Ok(()),
            ReplicaSetStep::Create(count) => self.create(key, set, count).await,
            ReplicaSetStep::Delete(pods) => self.delete(key, set, &pods).await,
        }
    }

    async fn create(&self, key: &Key, set: &K, count: usize) -> Result<(), ApiError> {
        let view = set.as_set();
        let Some(template) = view.spec.as_ref().and_then(|spec| spec.template.as_ref()) else {
            return Ok(());
        };
        let owner: OwnerReference = api::owner::controller_reference(set);
        let pod = pod_of(template, &key.0, &key.1, &owner);
        let reference = reference(set);
        self.expectations.expect_creations(key, count);
        let (done, outcome) = slow_start(count, || self.pods.create(&reference, &pod)).await;
        for _ in done..count {
            self.expectations.creation_observed(key);
        }
        match outcome {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            outcome => outcome,
        }
    }

    async fn delete(&self, key: &Key, set: &K, pods: &[Arc<Pod>]) -> Result<(), ApiError> {
        let reference = reference(set);
        let names: HashSet<Key> = pods.iter().map(|pod| key_of(&pod.metadata)).collect();
        self.expectations.expect_deletions(key, names);
        let calls = pods.iter().map(|pod| self.pods.delete(&reference, pod));
        let outcomes = together(calls.collect()).await;
        let mut failure = Ok(());
        for (pod, outcome) in pods.iter().zip(outcomes) {
            if let Err(error) = outcome {
                self.expectations.deletion_observed(key, &key_of(&pod.metadata));
                if !error.is_not_found() && failure.is_ok() {
                    failure = Err(error);
                }
            }
        }
        failure
    }

    /// Active pods of all replica sets with the same controller, the set's own included: a rollout should
    /// leave the deployment's pods spread, not each set's.
    fn siblings(&self, set: &K) -> Vec<Arc<Pod>> {
        let own = text(&set.metadata().uid);
        let related = match api::owner::controller_of(set.metadata()) {
            Some(owner) => self.sets_by_owner.by(&owner.uid),
            None => Vec::new(),
        };
        let mut uids: HashSet<String> =
            related.iter().map(|set| text(&set.metadata().uid).to_string()).collect();
        uids.insert(own.to_string());
        let pods = uids.iter().flat_map(|uid| self.pods_by_owner.by(uid));
        pods.filter(|pod| api::pod::is_active(pod)).collect()
    }

    async fn write_status(
        &self,
        set: &Arc<K>,
        pods: &[Arc<Pod>],
        failure: Option<&ApiError>,
    ) -> Result<(), ApiError> {
        let now = Timestamp::now();
        let active = pods.iter().filter(|pod| api::pod::is_active(pod)).count();
        let wanted = set.as_set().spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let failure = failure.map(|error| failure_condition(active, wanted, error));
        let api = Api::<K>::namespaced(self.api.clone(), text(&set.metadata().namespace));
        let tell = |set: &K| set.with_status(status(&set.as_set(), pods, failure.as_ref(), now));
        status_write::write(&api, set, tell).await
    }
}

#[cfg(test)]
mod tests;
