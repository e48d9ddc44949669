//! Starts jobs on a schedule.
//!
//! `plan` decides; this does it. The name of a job is made of its minute, so neither a lagging informer nor a
//! controller that dies between creating a job and telling so makes it twice.

use std::sync::Arc;

use api::{ApiError, DeleteOptions, Kinded, Preconditions, PropagationPolicy};
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Change, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text};
use crate::job::facts;
use crate::owned::Owned;
use plan::{CronDecision, Timetable, decide};

mod plan;

const ACCOUNT: &str = "cronjob-controller";
const WORKERS: usize = 5;

struct Controller {
    api: Arc<dyn ObjectApi>,
    recorder: Recorder,
    crons: Informer<CronJob>,
    jobs: Informer<Job>,
    jobs_by_owner: Owned<Job>,
    queue: WorkQueue<Key>,
}

pub(crate) fn start(context: &ControllerContext) {
    let jobs: Informer<Job> = context.informers.of();
    let queue = WorkQueue::new("cronjob");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, ACCOUNT),
        crons: context.informers.of(),
        jobs_by_owner: Owned::follow(&jobs),
        jobs,
        queue: queue.clone(),
    });
    let this = controller.clone();
    controller.crons.on_change(move |change| this.cron_changed(change));
    let this = controller.clone();
    controller.jobs.on_change(move |change| {
        for job in [&change.old, &change.new].into_iter().flatten() {
            if let Some(cron) = this.owner_of(&job.metadata) {
                this.queue.add(key_of(&cron.metadata));
            }
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.crons.synced().await;
        synced.jobs.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    fn cron_changed(&self, change: &Change<CronJob>) {
        let cron = change.latest();
        let key = key_of(&cron.metadata);
        let times = |cron: &Arc<CronJob>| (cron.spec.schedule.clone(), cron.spec.time_zone.clone());
        let (Some(old), Some(new)) = (&change.old, &change.new) else { return self.queue.add(key) };
        if times(old) == times(new) {
            return self.queue.add(key);
        }
        // Times of a new schedule that have passed are not made up for.
        match Timetable::of(&new.spec) {
            Ok(timetable) => self.queue.add_after(key, timetable.wait(new, Timestamp::now())),
            Err(_) => self.queue.add(key),
        }
    }

    fn owner_of(&self, metadata: &ObjectMeta) -> Option<Arc<CronJob>> {
        let owner = api::owner::controller_of(metadata).filter(|owner| owner.kind == CronJob::row().kind)?;
        let cron = self.crons.get(metadata.namespace.as_deref(), &owner.name)?;
        (text(&cron.metadata.uid) == owner.uid).then_some(cron)
    }

    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let Some(cron) = self.crons.get(Some(&key.0), &key.1) else { return Ok(None) };
        let mut cron = (*cron).clone();
        let before = cron.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let jobs = self.jobs_by_owner.by(text(&cron.metadata.uid));
        self.clean_up(&cron, &jobs, &mut status).await;
        let seen = self.observe(&cron, &jobs, &mut status).await;
        cron.status = Some(status.clone());
        let outcome = match seen {
            Ok(()) => self.act(&cron, &mut status).await,
            Err(error) => Err(error),
        };
        if status != before {
            cron.status = Some(status);
            let crons = Api::<CronJob>::namespaced(self.api.clone(), &key.0);
            match crons.update_status(&cron).await {
                Err(error) if error.is_not_found() => return Ok(None),
                written => written.map(|_| ())?,
            }
        }
        outcome
    }

    fn tell(&self, cron: &CronJob, kind: EventType, reason: &str, message: impl Into<String>) {
        self.recorder.event(&reference_to(cron), kind, reason, message);
    }

    /// Deletes finished jobs beyond the limits. One that cannot be deleted is tried again when it is seen.
    async fn clean_up(&self, cron: &CronJob, jobs: &[Arc<Job>], status: &mut CronJobStatus) {
        for job in plan::superfluous(&cron.spec, jobs) {
            if job.metadata.deletion_timestamp.is_none() {
                // The failure is told in an event.
                let _told = self.delete(cron, &job, status).await;
            }
        }
    }

    async fn delete(&self, cron: &CronJob, job: &Job, status: &mut CronJobStatus) -> Result<(), ApiError> {
        let preconditions = Preconditions { uid: job.metadata.uid.clone(), ..Preconditions::default() };
        let options = DeleteOptions {
            preconditions,
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteOptions::default()
        };
        let jobs = Api::<Job>::namespaced(self.api.clone(), text(&cron.metadata.namespace));
        match jobs.delete(text(&job.metadata.name), &options).await {
            Err(error) if !error.is_not_found() => {
                let message = format!("Deleted job: {error}");
                self.tell(cron, EventType::Warning, "FailedDelete", message);
                Err(error)
            }
            _ => {
                plan::forget(status, text(&job.metadata.uid));
                let message = format!("Deleted job {}", text(&job.metadata.name));
                self.tell(cron, EventType::Normal, "SuccessfulDelete", message);
                Ok(())
            }
        }
    }

    /// Brings the list of active jobs in line with those that are there.
    async fn observe(
        &self,
        cron: &CronJob,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> Result<(), ApiError> {
        for (name, kind) in plan::observe(status, jobs) {
            let message = format!("Saw completed job: {name}, condition: {kind}");
            self.tell(cron, EventType::Normal, "SawCompletedJob", message);
        }
        let uids = |status: &CronJobStatus| -> Vec<String> {
            status.active.iter().flatten().filter_map(|job| job.uid.clone()).collect()
        };
        let known = uids(status);
        let unknown = |known: &[String]| -> Vec<Arc<Job>> {
            let running = jobs.iter().filter(|job| !facts::is_finished(job));
            running.filter(|job| !known.iter().any(|uid| uid == text(&job.metadata.uid))).cloned().collect()
        };
        if !unknown(&known).is_empty() {
            // Our own status may be older than the job that it tells of.
            let crons = Api::<CronJob>::namespaced(self.api.clone(), text(&cron.metadata.namespace));
            let live = crons.find(text(&cron.metadata.name)).await?;
            let live = live.and_then(|live| live.status.clone()).unwrap_or_default();
            for job in unknown(&uids(&live)) {
                let name = text(&job.metadata.name);
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                self.tell(cron, EventType::Warning, "UnexpectedJob", message);
            }
        }
        let api = Api::<Job>::namespaced(self.api.clone(), text(&cron.metadata.namespace));
        for active in status.active.clone().into_iter().flatten() {
            let (name, uid) = (text(&active.name), text(&active.uid));
            if jobs.iter().any(|job| text(&job.metadata.uid) == uid) {
                continue;
            }
            // The informer may lag: the API has the last word.
            if api.find(name).await?.is_none() {
                self.tell(cron, EventType::Normal, "MissingJob", format!("Active job went missing: {name}"));
                plan::forget(status, uid);
            }
        }
        Ok(())
    }

    async fn act(&self, cron: &CronJob, status: &mut CronJobStatus) -> ReconcileResult {
        let schedule = cron.spec.schedule.as_str();
        if schedule.contains("TZ") && cron.metadata.deletion_timestamp.is_none() {
            let message = format!(
                "CRON_TZ or TZ used in schedule {schedule:?} is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
            );
            self.tell(cron, EventType::Warning, "UnsupportedSchedule", message);
        }
        let active = status.active.clone().unwrap_or_default();
        let (at, wait) = match decide(cron, &active, Timestamp::now()) {
            CronDecision::Stop(tell) => {
                if let Some((reason, message)) = tell {
                    self.tell(cron, EventType::Warning, reason, message);
                }
                return Ok(None);
            }
            CronDecision::Sleep { wait, tell } => {
                if let Some((reason, message)) = tell {
                    let normal = reason == "JobAlreadyActive";
                    let kind = if normal { EventType::Normal } else { EventType::Warning };
                    self.tell(cron, kind, reason, message);
                }
                return Ok(Some(wait));
            }
            CronDecision::Start { at, wait, many_missed } => {
                if many_missed {
                    let message = "too many missed start times. Set or decrease \
                                   .spec.startingDeadlineSeconds or check clock skew";
                    self.tell(cron, EventType::Warning, "TooManyMissedTimes", message);
                }
                (at, wait)
            }
        };
        let replaces = cron.spec.concurrency_policy.as_deref() == Some("Replace");
        let jobs = Api::<Job>::namespaced(self.api.clone(), text(&cron.metadata.namespace));
        for job in active.iter().filter(|_| replaces) {
            match jobs.find(text(&job.name)).await {
                Ok(Some(job)) => self.delete(cron, &job, status).await?,
                Ok(None) => drop(plan::forget(status, text(&job.uid))),
                Err(error) => {
                    self.tell(cron, EventType::Warning, "FailedGet", format!("Get job: {error}"));
                    return Err(error);
                }
            }
        }
        self.create(cron, status, at).await?;
        Ok(Some(wait))
    }

    async fn create(
        &self,
        cron: &CronJob,
        status: &mut CronJobStatus,
        at: Timestamp,
    ) -> Result<(), ApiError> {
        let jobs = Api::<Job>::namespaced(self.api.clone(), text(&cron.metadata.namespace));
        let new = plan::new_job(cron, at);
        let job = match jobs.create(&new).await {
            Ok(job) => {
                let message = format!("Created job {}", text(&job.metadata.name));
                self.tell(cron, EventType::Normal, "SuccessfulCreate", message);
                job
            }
            Err(error) if error.is_already_exists() => {
                // Ours, if we came no further than here before.
                let job = jobs.get(text(&new.metadata.name)).await?;
                let uid = text(&job.metadata.uid);
                let listed = status.active.iter().flatten().any(|active| active.uid.as_deref() == Some(uid));
                if !api::owner::is_controlled_by(&job.metadata, text(&cron.metadata.uid)) || listed {
                    return Ok(());
                }
                job
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    let message = format!("Error creating job: {error}");
                    self.tell(cron, EventType::Warning, "FailedCreate", message);
                }
                return Err(error);
            }
        };
        if !facts::is_finished(&job) {
            status.active.get_or_insert_default().push(reference_to(&*job));
        }
        status.last_schedule_time = Some(api::time::seconds(at));
        Ok(())
    }
}
