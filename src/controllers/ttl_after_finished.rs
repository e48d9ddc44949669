//! Deletes jobs when their time after the end is over (`spec.ttlSecondsAfterFinished`).

use std::sync::Arc;
use std::time::Duration;

use api::{DeleteOptions, Preconditions, PropagationPolicy};
use client::{Api, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;

use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text, unless_gone};
use crate::job::facts;

const ACCOUNT: &str = "ttl-after-finished-controller";
const WORKERS: usize = 5;

struct Controller {
    api: Arc<dyn ObjectApi>,
    jobs: Informer<Job>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("ttl after finished");
    let controller = Arc::new(Controller { api: context.act_as(ACCOUNT), jobs: context.informers.of() });
    let work = queue.clone();
    controller.jobs.on_change(move |change| {
        if let Some(job) = change.new.as_ref().filter(|job| left(job, Timestamp::now()).is_some()) {
            work.add(key_of(&job.metadata));
        }
    });
    let synced = controller.clone();
    let ready = async move { synced.jobs.synced().await };
    context.run(&queue, WORKERS, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// How long the job has; none if it is not to be deleted at all.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let finished = facts::finish(job)?.last_transition_time.as_ref()?.0;
    let at = api::time::plus_seconds(finished, i64::from(seconds));
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let Some(job) = self.jobs.get(Some(&key.0), &key.1) else { return Ok(None) };
        match left(&job, Timestamp::now()) {
            Some(left) if left.is_zero() => {}
            later => return Ok(later),
        }
        // The time may have been changed since: the API has the last word.
        let jobs = Api::<Job>::namespaced(self.api.clone(), &key.0);
        let Some(job) = jobs.find(&key.1).await? else { return Ok(None) };
        match left(&job, Timestamp::now()) {
            Some(left) if left.is_zero() => {}
            later => return Ok(later),
        }
        let preconditions = Preconditions {
            uid: job.metadata.uid.clone(),
            resource_version: job.metadata.resource_version.clone(),
        };
        let options = DeleteOptions {
            preconditions,
            propagation_policy: Some(PropagationPolicy::Foreground),
            ..DeleteOptions::default()
        };
        unless_gone(jobs.delete(text(&job.metadata.name), &options).await)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
