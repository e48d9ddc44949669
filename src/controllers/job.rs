//! Runs the pods of a job to completion and counts how they end.
//!
//! `plan` says where a job stands and which pods to make or delete, `track` counts the pods that ended,
//! `carry_out` does what they say; `orphans` frees pods that no job will count.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Kinded, LabelMatcher};
use client::events::{EventType, reference_to};
use client::{Api, Change, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::adoption::{claim_all_with, may_adopt};
use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text};
use crate::expectations::Expectations;
use crate::owned::Owned;
use crate::pod_control::PodControl;
use crate::rests::Rests;
use crate::selecting::{adopting, object_key, with_selector};
use backoff::Backoff;
use plan::JobView;

mod backoff;
mod carry_out;
pub(crate) mod facts;
mod indexes;
mod orphans;
mod plan;
mod policy;
mod track;

const ACCOUNT: &str = "job-controller";
const WORKERS: usize = 5;
/// Changes of pods are looked at together: of a large job many pods end at about the same time.
const BATCH: Duration = Duration::from_millis(20);
/// How many times as long as finding the pods a whole look takes, about, without its calls.
const LOOK: u32 = 3;

struct Controller {
    pods: PodControl,
    api: Arc<dyn ObjectApi>,
    jobs: Informer<Job>,
    pod_informer: Informer<Pod>,
    pods_by_owner: Owned<Pod>,
    expectations: Expectations,
    rests: Rests,
    memory: Mutex<HashMap<Key, Memory>>,
    queue: WorkQueue<Key>,
    orphans: WorkQueue<Key>,
}

/// What is known of a job beside what informers show. All of it may be lost: then pods that failed are
/// replaced sooner.
#[derive(Clone, Debug, Default)]
struct Memory {
    backoff: Backoff,
    /// The version we wrote last. What the informer shows of before is not looked at: pods whose finalizer is
    /// gone would be in no count.
    written: u64,
    /// Uids of pods whose finalizer was removed, which has not been seen yet.
    counted: HashSet<String>,
}

pub(crate) fn start(context: &ControllerContext) {
    let api = context.act_as(ACCOUNT);
    let queue = WorkQueue::new("job");
    let orphans = WorkQueue::new("job orphan pods");
    let controller = Arc::new(Controller {
        pods: PodControl { api: api.clone(), recorder: context.recorder(ACCOUNT, ACCOUNT) },
        api,
        jobs: context.informers.of(),
        pods_by_owner: context.pods_by_owner.clone(),
        pod_informer: context.informers.of(),
        expectations: Expectations::default(),
        rests: Rests::default(),
        memory: Mutex::default(),
        queue: queue.clone(),
        orphans: orphans.clone(),
    });
    controller.watch();
    let synced = |controller: Arc<Controller>| async move {
        controller.jobs.synced().await;
        controller.pod_informer.synced().await;
    };
    let this = controller.clone();
    context.run(&queue, WORKERS, synced(controller.clone()), move |key| {
        let this = this.clone();
        async move { this.reconcile(&key).await }
    });
    let ready = synced(controller.clone());
    context.run(&orphans, 1, ready, move |key| {
        let controller = controller.clone();
        async move { controller.free_orphan(&key).await }
    });
}

fn version_of(metadata: &ObjectMeta) -> u64 {
    text(&metadata.resource_version).parse().unwrap_or(0)
}

impl Controller {
    fn watch(self: &Arc<Self>) {
        let this = self.clone();
        self.jobs.on_change(move |change| this.job_changed(change));
        let this = self.clone();
        self.pod_informer.on_change(move |change| this.pod_changed(change));
    }

    fn job_changed(&self, change: &Change<Job>) {
        let job = change.latest();
        let key = key_of(&job.metadata);
        let is_gone = change.new.is_none();
        if is_gone {
            self.memory.lock().remove(&key);
        }
        if is_gone || facts::is_finished(job) {
            // Nobody counts these any more.
            for pod in self.pods_by_owner.by(text(&job.metadata.uid)) {
                if facts::has_finalizer(&pod) {
                    self.orphans.add(key_of(&pod.metadata));
                }
            }
        }
        let is_own_status = change.old.as_ref().is_some_and(|old| {
            let (old, new) = (&old.metadata, &job.metadata);
            old.uid == new.uid
                && old.generation == new.generation
                && old.deletion_timestamp == new.deletion_timestamp
                && old.labels == new.labels
        });
        if is_own_status && !is_gone { self.look_soon(key) } else { self.queue.add(key) }
    }

    /// Looks at a job for what has become of one of its pods, together with the others.
    fn look_soon(&self, key: Key) {
        let rest = self.rests.of(&key).max(BATCH);
        self.queue.add_after(key, rest);
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        for owner in
            [&change.old, &change.new].into_iter().flatten().filter_map(|pod| self.owner_of(&pod.metadata))
        {
            let key = key_of(&owner.metadata);
            if change.new.is_none() || !facts::has_finalizer(pod) {
                self.counting_observed(&key, text(&pod.metadata.uid));
            }
            if change.new.is_none() || api::pod::is_terminating(pod) {
                self.expectations.deletion_observed(&key, &key_of(&pod.metadata));
            }
            if change.old.is_none() {
                self.expectations.creation_observed(&key);
            }
            self.look_soon(key);
        }
        if change.new.is_none() {
            return;
        }
        let is_counted = self.owner_of(&pod.metadata).is_some_and(|owner| !facts::is_finished(&owner));
        if facts::has_finalizer(pod) && !is_counted {
            self.orphans.add(key_of(&pod.metadata));
        }
        if api::owner::controller_of(&pod.metadata).is_none() {
            let labels = pod.metadata.labels.as_ref();
            let jobs = adopting(&self.jobs, pod.metadata.namespace.as_deref(), labels);
            jobs.iter().for_each(|job| self.queue.add_after(object_key(job), BATCH));
        }
    }

    fn counting_observed(&self, key: &Key, uid: &str) {
        if let Some(memory) = self.memory.lock().get_mut(key) {
            memory.counted.remove(uid);
        }
    }

    fn owner_of(&self, metadata: &ObjectMeta) -> Option<Arc<Job>> {
        let owner = api::owner::controller_of(metadata).filter(|owner| owner.kind == Job::row().kind)?;
        let job = self.jobs.get(metadata.namespace.as_deref(), &owner.name)?;
        (text(&job.metadata.uid) == owner.uid).then_some(job)
    }

    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let Some((job, selector)) = with_selector(&self.jobs, key) else {
            self.forget(key);
            return Ok(None);
        };
        if facts::is_external(&job) {
            return Ok(None);
        }
        if facts::is_finished(&job) {
            self.forget(key);
            return Ok(None);
        }
        let Some(spec) = &job.spec else { return Ok(None) };
        if !matches!(spec.completion_mode.as_deref(), None | Some("NonIndexed" | "Indexed")) {
            let message = "Skipped Job sync because completion mode is unknown";
            let reference = reference_to(&*job);
            self.pods.recorder.event(&reference, EventType::Warning, "UnknownCompletionMode", message);
            return Ok(None);
        }
        let memory = self.memory.lock().get(key).cloned().unwrap_or_default();
        if version_of(&job.metadata) < memory.written {
            // The version that we wrote comes and wakes us.
            return Ok(None);
        }
        // Asked before pods are looked at: what is seen in between can only be more.
        let satisfied = self.expectations.satisfied(key);
        let begun = Instant::now();
        let pods = self.claim(&job, &selector).await?;
        self.rests.took(key, begun.elapsed() * LOOK);
        let view = JobView {
            job: &job,
            spec,
            pods: &pods,
            counted: &memory.counted,
            satisfied,
            backoff: &memory.backoff,
            now: Timestamp::now(),
        };
        self.carry_out(key, &view).await
    }

    fn forget(&self, key: &Key) {
        self.expectations.forget(key);
        self.rests.forget(key);
        self.memory.lock().remove(key);
    }

    async fn claim(&self, job: &Job, selector: &LabelMatcher) -> Result<Vec<Arc<Pod>>, ApiError> {
        let mut candidates = self.pods_by_owner.by(text(&job.metadata.uid));
        candidates.extend(self.pods_by_owner.orphans(text(&job.metadata.namespace)));
        let owner = api::owner::controller_reference(job);
        let terminating = job.metadata.deletion_timestamp.is_some();
        let lives = || async {
            let jobs = Api::<Job>::namespaced(self.api.clone(), text(&job.metadata.namespace));
            let live = jobs.find(text(&job.metadata.name)).await?;
            may_adopt("Job", live.as_ref().map(|live| &live.metadata), &job.metadata)
        };
        let finalizer = Some(facts::FINALIZER);
        claim_all_with(&*self.api, candidates, &owner, selector, terminating, finalizer, lives).await
    }
}
