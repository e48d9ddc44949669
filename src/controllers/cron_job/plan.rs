//! When a cron job's next job is due, which job that is, and which old ones may go.

use std::sync::Arc;
use std::time::Duration;

use api::cron::{self, Schedule};
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::context::text;
use crate::job::facts;

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// So much later than due we look, for clocks that differ a little.
const GRACE: Duration = Duration::from_millis(100);
/// More missed times than these are told of.
const MANY_MISSED: i64 = 100;

/// What to do about a cron job now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CronDecision {
    /// Nothing until it is changed; the reason and message are told if there are any.
    Stop(Option<(&'static str, String)>),
    /// Nothing for this time.
    Sleep { wait: Duration, tell: Option<(&'static str, String)> },
    /// A job is due.
    Start { at: Timestamp, wait: Duration, many_missed: bool },
}

/// The schedule of a cron job and the zone that it is read in.
#[derive(Debug)]
pub(super) struct Timetable {
    schedule: Schedule,
    zone: TimeZone,
}

/// What was missed since a job was last due.
struct Missed {
    earliest: Timestamp,
    latest: Option<Timestamp>,
    count: i64,
}

/// The schedule makes no sense: times that never come.
#[derive(Debug, thiserror::Error)]
#[error("time difference between two schedules is less than 1 second")]
pub(super) struct NeverDue;

impl Timetable {
    /// The error is the reason and message of an event.
    pub(super) fn of(spec: &CronJobSpec) -> Result<Self, (&'static str, String)> {
        let name = text(&spec.time_zone);
        let Some(zone) = cron::time_zone(name) else {
            let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
            return Err(("UnknownTimeZone", message));
        };
        let schedule = Schedule::parse(&spec.schedule).map_err(|error| {
            ("UnparseableSchedule", format!("unparseable schedule: {:?} : {error}", spec.schedule))
        })?;
        Ok(Timetable { schedule, zone })
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, &self.zone)
    }

    /// The latest time up to now that is due, counted from the last one that was, or from the creation.
    fn missed(&self, cron: &CronJob, now: Timestamp, with_deadline: bool) -> Result<Missed, NeverDue> {
        let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
        let created = cron.metadata.creation_timestamp.as_ref();
        let mut earliest = last.or(created).map_or(now, |time| time.0);
        if let Some(deadline) = cron.spec.starting_deadline_seconds
            && with_deadline
        {
            earliest = earliest.max(api::time::plus_seconds(now, deadline.saturating_neg()));
        }
        let first = self.next(earliest).ok_or(NeverDue)?;
        if now < first {
            return Ok(Missed { earliest, latest: None, count: 0 });
        }
        let second = self.next(first).ok_or(NeverDue)?;
        if now < second {
            return Ok(Missed { earliest, latest: Some(first), count: 0 });
        }
        let between = second.duration_since(first).as_secs();
        if between < 1 {
            return Err(NeverDue);
        }
        // An estimate that leaps near the end, so that years of missed times cost no more than a few.
        let count = now.duration_since(first).as_secs() / between + 1;
        let leap = SignedDuration::from_secs(between.saturating_mul(count - 2));
        let mut latest = None;
        let mut next = self.next(first.checked_add(leap).unwrap_or(now));
        while let Some(at) = next.filter(|at| *at <= now) {
            latest = Some(at);
            next = self.next(at);
        }
        Ok(Missed { earliest, latest, count })
    }

    /// How long until the next time.
    pub(super) fn wait(&self, cron: &CronJob, now: Timestamp) -> Duration {
        let from = match self.missed(cron, now, false) {
            Ok(Missed { latest: Some(latest), .. }) => latest,
            Ok(Missed { earliest, count: 0, .. }) => earliest,
            _ => now,
        };
        let left =
            self.next(from).map(|next| next.duration_since(now)).unwrap_or(SignedDuration::from_hours(24));
        // A time that has come already is looked at right away.
        Duration::try_from(left).unwrap_or_default() + GRACE
    }
}

/// `active` are the jobs that run.
pub(super) fn decide(cron: &CronJob, active: &[ObjectReference], now: Timestamp) -> CronDecision {
    let spec = &cron.spec;
    if cron.metadata.deletion_timestamp.is_some() {
        return CronDecision::Stop(None);
    }
    let timetable = match Timetable::of(spec) {
        Ok(timetable) if spec.suspend != Some(true) => timetable,
        Err((reason, message)) if reason == "UnknownTimeZone" || spec.suspend != Some(true) => {
            return CronDecision::Stop(Some((reason, message)));
        }
        _ => return CronDecision::Stop(None),
    };
    let missed = match timetable.missed(cron, now, true) {
        Ok(missed) => missed,
        Err(error) => {
            let message = format!("invalid schedule: {} : {error}", spec.schedule);
            return CronDecision::Stop(Some(("InvalidSchedule", message)));
        }
    };
    let wait = timetable.wait(cron, now);
    let sleep = |tell| CronDecision::Sleep { wait, tell };
    let Some(at) = missed.latest else { return sleep(None) };
    let too_late =
        spec.starting_deadline_seconds.is_some_and(|limit| api::time::plus_seconds(at, limit) < now);
    if too_late {
        let when = at.strftime("%a, %d %b %Y %H:%M:%S UTC");
        return sleep(Some(("MissSchedule", format!("Missed scheduled time to start a job: {when}"))));
    }
    let name = job_name(cron, at);
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let is_done = last.is_some_and(|last| last.0 == at);
    if is_done || active.iter().any(|job| job.name.as_deref() == Some(&name)) {
        return sleep(None);
    }
    if spec.concurrency_policy.as_deref() == Some("Forbid") && !active.is_empty() {
        let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
        return sleep(Some(("JobAlreadyActive", message.to_string())));
    }
    let next = {
        // After this one.
        let mut started = cron.clone();
        started.status.get_or_insert_default().last_schedule_time = Some(api::time::seconds(at));
        timetable.wait(&started, now)
    };
    CronDecision::Start { at, wait: next, many_missed: missed.count > MANY_MISSED }
}

/// One job a minute: the name is what keeps it from being made twice.
fn job_name(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", text(&cron.metadata.name), at.as_second().div_euclid(60))
}

/// The job that is due at this time.
pub(super) fn new_job(cron: &CronJob, at: Timestamp) -> Job {
    let spec = cron.spec.clone();
    let zone = cron::time_zone(text(&spec.time_zone)).unwrap_or(TimeZone::UTC);
    let local = at.to_zoned(zone);
    let offset = if local.offset().is_zero() { "Z".to_string() } else { local.strftime("%:z").to_string() };
    let template = spec.job_template.metadata.unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED_AT.to_string(), format!("{}{offset}", local.strftime("%Y-%m-%dT%H:%M:%S")));
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(cron, at)),
            namespace: cron.metadata.namespace.clone(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![api::owner::controller_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec,
        status: None,
    }
}

/// Finished jobs beyond the limits of the history, the oldest first.
pub(super) fn superfluous(spec: &CronJobSpec, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let of = |kind: &str, limit: Option<i32>| {
        let Some(limit) = limit else { return Vec::new() };
        let ended = jobs.iter().filter(|job| facts::finish(job).is_some_and(|told| told.type_ == kind));
        let mut ended: Vec<Arc<Job>> = ended.cloned().collect();
        ended.sort_by_key(|job| {
            let started = job.status.as_ref().and_then(|status| status.start_time.clone());
            (started.is_none(), started, job.metadata.name.clone())
        });
        ended.truncate(ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0)));
        ended
    };
    let mut superfluous = of("Complete", spec.successful_jobs_history_limit);
    superfluous.extend(of("Failed", spec.failed_jobs_history_limit));
    superfluous
}

/// What jobs that ended mean for the status. Answers with the names and conditions of those that were active.
pub(super) fn observe(status: &mut CronJobStatus, jobs: &[Arc<Job>]) -> Vec<(String, String)> {
    let mut ended = Vec::new();
    for job in jobs {
        let Some(finish) = facts::finish(job) else { continue };
        if forget(status, text(&job.metadata.uid)) {
            ended.push((text(&job.metadata.name).to_string(), finish.type_.clone()));
        }
        let at = job.status.as_ref().and_then(|status| status.completion_time.clone());
        if finish.type_ == "Complete" && at > status.last_successful_time {
            status.last_successful_time = at;
        }
    }
    ended
}

/// Takes a job from the active ones; tells whether it was there.
pub(super) fn forget(status: &mut CronJobStatus, uid: &str) -> bool {
    let Some(active) = &mut status.active else { return false };
    let before = active.len();
    active.retain(|job| job.uid.as_deref() != Some(uid));
    let was_there = active.len() < before;
    if active.is_empty() {
        status.active = None;
    }
    was_there
}

#[cfg(test)]
mod tests;
