//! One pass over a job: makes or deletes pods, then writes what is counted.

use std::collections::HashSet;
use std::sync::Arc;

use api::ApiError;
use client::Api;
use client::events::{EventType, reference_to};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, ObjectFieldSelector, ObjectReference, Pod,
};

use super::plan::{JobAction, JobStanding, JobView, finalized, number, standing};
use super::track::{Done, Turn, finish, settle, track};
use super::{Controller, facts, policy, version_of};
use crate::context::{Key, ReconcileResult, key_of, text};
use crate::pod_control::{pod_of, slow_start_each, together};

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// The longest prefix of a generated name.
const NAME_PREFIX: usize = 58;

impl Controller {
    pub(super) async fn carry_out(&self, key: &Key, view: &JobView<'_>) -> ReconcileResult {
        let standing = standing(view);
        let reference = reference_to(view.job);
        let (done, failure) = self.act(key, view, &standing, &reference).await;
        let tracked = track(view, &standing, done);
        match tracked.turn {
            Some(Turn::Suspended) => self.tell(&reference, EventType::Normal, "Suspended", "Job suspended"),
            Some(Turn::Resumed) => self.tell(&reference, EventType::Normal, "Resumed", "Job resumed"),
            None => {}
        }
        let mut job = Arc::new(view.job.clone());
        job = self.write(key, job, &tracked.status).await?;
        self.memory.lock().entry(key.clone()).or_default().backoff = standing.backoff.clone();
        let mut held = tracked.held;
        let released = self.release_all(key, &tracked.release, &mut held).await;
        let mut status = job.status.clone().unwrap_or_default();
        settle(&mut status, &held);
        let finished = released.is_ok() && finish(&mut status, tracked.finish.as_ref());
        self.write(key, job, &status).await?;
        released?;
        if let Some(condition) = tracked.finish.filter(|_| finished) {
            self.tell_finished(&reference, view.job, &status, &condition);
        }
        failure?;
        let wait = match standing.action {
            JobAction::Wait(wait) => Some(wait),
            _ => None,
        };
        Ok([wait, standing.again].into_iter().flatten().min())
    }

    fn tell(&self, reference: &ObjectReference, kind: EventType, reason: &str, message: &str) {
        self.pods.recorder.event(reference, kind, reason, message);
    }

    fn tell_finished(
        &self,
        reference: &ObjectReference,
        job: &Job,
        status: &JobStatus,
        condition: &JobCondition,
    ) {
        if condition.type_ != "Complete" {
            let (reason, message) = (text(&condition.reason), text(&condition.message));
            return self.tell(reference, EventType::Warning, reason, message);
        }
        let wanted = job.spec.as_ref().and_then(|spec| spec.completions);
        if wanted.is_some_and(|wanted| status.succeeded.unwrap_or(0) > wanted) {
            let message = "Too many succeeded pods running after completion count reached";
            self.tell(reference, EventType::Warning, "TooManySucceededPods", message);
        }
        self.tell(reference, EventType::Normal, "Completed", "Job completed");
    }

    /// Writes the status if it has changed.
    async fn write(&self, key: &Key, job: Arc<Job>, status: &JobStatus) -> Result<Arc<Job>, ApiError> {
        if job.status.as_ref() == Some(status) {
            return Ok(job);
        }
        let api = Api::<Job>::namespaced(self.api.clone(), &key.0);
        let mut told = (*job).clone();
        told.status = Some(status.clone());
        let written = api.update_status(&told).await?;
        let version = version_of(&written.metadata);
        self.memory.lock().entry(key.clone()).or_default().written = version;
        Ok(written)
    }

    /// Makes or deletes pods; answers with what was done and the first failure.
    async fn act(
        &self,
        key: &Key,
        view: &JobView<'_>,
        standing: &JobStanding,
        reference: &ObjectReference,
    ) -> (Done, Result<(), ApiError>) {
        let managed = Done { managed: true, ..Done::default() };
        match &standing.action {
            JobAction::Hold => (Done::default(), Ok(())),
            JobAction::Nothing | JobAction::Wait(_) => (managed, Ok(())),
            JobAction::Stop(pods) => self.delete(None, pods, reference).await,
            JobAction::Remove(pods) => {
                let names = pods.iter().map(|pod| key_of(&pod.metadata)).collect();
                self.expectations.expect_deletions(key, names);
                let (done, outcome) = self.delete(Some(key), pods, reference).await;
                (Done { managed: true, ..done }, outcome)
            }
            JobAction::Create(count) => {
                let indexes = vec![None; *count];
                self.create(key, view, standing, reference, indexes).await
            }
            JobAction::CreateIndexes(indexes) => {
                let indexes = indexes.iter().copied().map(Some).collect();
                self.create(key, view, standing, reference, indexes).await
            }
        }
    }

    /// Deletes pods. With a key they are let go uncounted, and their deletion is expected.
    async fn delete(
        &self,
        expected: Option<&Key>,
        pods: &[Arc<Pod>],
        reference: &ObjectReference,
    ) -> (Done, Result<(), ApiError>) {
        let calls = pods.iter().map(|pod| async move {
            if expected.is_some() && facts::has_finalizer(pod) {
                self.release(pod).await?;
            }
            self.pods.delete(reference, pod).await
        });
        let outcomes = together(calls.collect()).await;
        let (mut done, mut failure) = (Done::default(), Ok(()));
        for (pod, outcome) in pods.iter().zip(outcomes) {
            if let (Some(key), Err(_)) = (expected, &outcome) {
                self.expectations.deletion_observed(key, &key_of(&pod.metadata));
            }
            match outcome {
                Err(error) if !error.is_not_found() => failure = failure.and(Err(error)),
                _ => {
                    done.deleted += 1;
                    done.deleted_ready += i32::from(api::pod::is_ready(pod));
                }
            }
        }
        (done, failure)
    }

    async fn create(
        &self,
        key: &Key,
        view: &JobView<'_>,
        standing: &JobStanding,
        reference: &ObjectReference,
        indexes: Vec<Option<u32>>,
    ) -> (Done, Result<(), ApiError>) {
        let count = indexes.len();
        self.expectations.expect_creations(key, count);
        let call = |index: Option<u32>| {
            let pod = new_pod(view, standing, index);
            async move { self.pods.create(reference, &pod).await }
        };
        let (created, outcome) = slow_start_each(indexes, call).await;
        for _ in created..count {
            self.expectations.creation_observed(key);
        }
        let outcome = match outcome {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            outcome => outcome,
        };
        (Done { created: number(created), managed: true, ..Done::default() }, outcome)
    }

    /// Removes the finalizers of pods that are in the status; those that are gone need it no more.
    async fn release_all(
        &self,
        key: &Key,
        pods: &[Arc<Pod>],
        held: &mut HashSet<String>,
    ) -> Result<(), ApiError> {
        let uids = pods.iter().filter_map(|pod| pod.metadata.uid.clone());
        if !pods.is_empty() {
            self.memory.lock().entry(key.clone()).or_default().counted.extend(uids);
        }
        let calls = pods.iter().map(|pod| self.release(pod));
        let outcomes = together(calls.collect()).await;
        let mut failure = Ok(());
        for (pod, outcome) in pods.iter().zip(outcomes) {
            let uid = text(&pod.metadata.uid);
            let Err(error) = outcome else {
                held.remove(uid);
                continue;
            };
            // No change of this pod will tell of it.
            self.counting_observed(key, uid);
            if error.is_not_found() {
                held.remove(uid);
            } else {
                failure = failure.and(Err(error));
            }
        }
        failure
    }
}

/// A pod of the job, for one of its indexes if it has any.
fn new_pod(view: &JobView<'_>, standing: &JobStanding, index: Option<u32>) -> Pod {
    let (namespace, name) = (text(&view.job.metadata.namespace), text(&view.job.metadata.name));
    let owner = api::owner::controller_reference(view.job);
    let mut pod = pod_of(&view.spec.template, namespace, name, &owner);
    finalized(&mut pod.metadata.finalizers);
    let Some(index) = index else { return pod };
    let suffix = format!("-{index}-");
    let cut = (NAME_PREFIX - suffix.len()).min(name.len());
    pod.metadata.generate_name = Some(format!("{}{suffix}", &name[..cut]));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(facts::INDEX.to_string(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(facts::INDEX.to_string(), index.to_string());
    if view.spec.backoff_limit_per_index.is_some() {
        let (counted, ignored) = inherited(view, standing, index);
        annotations.insert(facts::FAILURES.to_string(), counted.to_string());
        if ignored > 0 {
            annotations.insert(facts::IGNORED_FAILURES.to_string(), ignored.to_string());
        }
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{index}"));
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        tell_index(container);
    }
    pod
}

/// Failures of the index, with that of the pod that is replaced.
fn inherited(view: &JobView<'_>, standing: &JobStanding, index: u32) -> (u32, u32) {
    let Some(replaced) = standing.replaced.get(&index) else { return (0, 0) };
    let (counted, ignored) = facts::failures(replaced);
    if policy::judge(view.spec, replaced).counts() {
        (counted.saturating_add(1), ignored)
    } else {
        (counted, ignored.saturating_add(1))
    }
}

/// The variable with the index, unless the container sets it itself.
fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field =
        ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{}']", facts::INDEX) };
    variables.push(EnvVar {
        name: INDEX_VARIABLE.to_string(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    });
}
