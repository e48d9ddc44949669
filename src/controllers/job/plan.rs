//! Where a job stands, and which pods to make or delete.
//!
//! Order matters where several things are true at once: a decision that was told before stands, then failure,
//! then success.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::backoff::Backoff;
use super::facts::{self, FINALIZER};
use super::indexes::Indexes;
use super::policy::{self, Verdict};

mod pods;

use pods::manage;

pub(super) const FAILURE_TARGET: &str = "FailureTarget";
pub(super) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";

/// What a plan is made of.
pub(super) struct JobView<'a> {
    pub(super) job: &'a Job,
    pub(super) spec: &'a JobSpec,
    /// All pods of the job that are there.
    pub(super) pods: &'a [Arc<Pod>],
    /// Uids of pods whose finalizer was removed, which has not been seen yet: they are counted.
    pub(super) counted: &'a HashSet<String>,
    /// All pods that were made and deleted have been seen.
    pub(super) satisfied: bool,
    pub(super) backoff: &'a Backoff,
    pub(super) now: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) enum JobAction {
    /// Nothing may be done now: not all has been seen, or the job is being deleted.
    Hold,
    /// All is as it should be.
    Nothing,
    /// Pods may be made after a while.
    Wait(Duration),
    /// The job is over: these pods go, and are counted like others.
    Stop(Vec<Arc<Pod>>),
    /// These are too many: they go without being counted.
    Remove(Vec<Arc<Pod>>),
    /// So many pods without an index.
    Create(usize),
    /// A pod for each of these indexes.
    CreateIndexes(Vec<u32>),
}

/// Where a job stands.
#[derive(Clone, Debug)]
pub(super) struct JobStanding {
    pub(super) action: JobAction,
    /// The job is over, as far as its pods tell.
    pub(super) finish: Option<JobCondition>,
    pub(super) started: Option<Timestamp>,
    pub(super) active: i32,
    pub(super) ready: i32,
    pub(super) terminating: i32,
    pub(super) succeeded: i32,
    pub(super) before: Indexes,
    pub(super) succeeded_indexes: Indexes,
    pub(super) failed_indexes: Option<Indexes>,
    /// By index, failed pods whose replacement is to be made: it takes over their count of failures.
    pub(super) replaced: BTreeMap<u32, Arc<Pod>>,
    pub(super) backoff: Backoff,
    /// Look again after this: the job's deadline.
    pub(super) again: Option<Duration>,
}

pub(super) fn condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    let at = Some(api::time::seconds(now));
    JobCondition {
        type_: kind.to_string(),
        status: "True".to_string(),
        reason: Some(reason.to_string()),
        message: Some(message.to_string()),
        last_probe_time: at.clone(),
        last_transition_time: at,
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or("")
}

pub(super) fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl JobView<'_> {
    pub(super) fn completions(&self) -> Option<u32> {
        self.spec.completions.map(|count| u32::try_from(count).unwrap_or(0))
    }

    /// The pod's index, if it is one of the job's.
    pub(super) fn index(&self, pod: &Pod) -> Option<u32> {
        let completions = self.completions().unwrap_or(0);
        facts::index(pod).filter(|index| *index < completions)
    }

    pub(super) fn is_indexed(&self) -> bool {
        facts::is_indexed(self.spec)
    }

    /// Pods that are not in the status' counts, and whose index is one of the job's.
    fn uncounted(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| {
            facts::has_finalizer(pod)
                && !self.counted.contains(uid(pod))
                && (!self.is_indexed() || self.index(pod).is_some())
        })
    }

    fn status(&self) -> Option<&JobStatus> {
        self.job.status.as_ref()
    }

    /// Uids that the status has noted as ended, but not counted yet.
    pub(super) fn noted(&self, failed: bool) -> HashSet<&str> {
        let noted = self.status().and_then(|status| status.uncounted_terminated_pods.as_ref());
        let list =
            noted.and_then(|noted| if failed { noted.failed.as_ref() } else { noted.succeeded.as_ref() });
        list.into_iter().flatten().map(String::as_str).collect()
    }

    /// Those that ended since the status was written.
    fn newly_ended(&self) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
        let (succeeded, failed) = (self.noted(false), self.noted(true));
        let new = |noted: &HashSet<&str>, ended: &dyn Fn(&Pod) -> bool| {
            let pods = self.uncounted().filter(|pod| !noted.contains(uid(pod)) && ended(pod));
            pods.cloned().collect::<Vec<Arc<Pod>>>()
        };
        (
            new(&succeeded, &|pod| api::pod::phase(pod) == "Succeeded"),
            new(&failed, &|pod| facts::is_failed(self.spec, pod)),
        )
    }

    fn started(&self) -> Option<Timestamp> {
        let told = self.status().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        told.or_else(|| (!facts::is_suspended(self.spec)).then_some(self.now))
    }

    fn backoff_limit(&self) -> i32 {
        self.spec.backoff_limit.unwrap_or(6)
    }
}

pub(super) fn standing(view: &JobView<'_>) -> JobStanding {
    let (new_succeeded, new_failed) = view.newly_ended();
    let told = |count: Option<i32>| usize::try_from(count.unwrap_or(0)).unwrap_or(0);
    let status = view.status();
    let succeeded =
        told(status.and_then(|status| status.succeeded)) + new_succeeded.len() + view.noted(false).len();
    let counting = new_failed.iter().filter(|pod| policy::judge(view.spec, pod).counts()).count();
    let failed = told(status.and_then(|status| status.failed)) + counting + view.noted(true).len();
    let active: Vec<Arc<Pod>> = view.pods.iter().filter(|pod| api::pod::is_active(pod)).cloned().collect();
    let ready = active.iter().filter(|pod| api::pod::is_ready(pod)).count();
    let terminating = view.pods.iter().filter(|pod| facts::is_terminating(pod)).count();
    let mut standing = JobStanding {
        action: JobAction::Hold,
        finish: None,
        started: view.started(),
        active: number(active.len()),
        ready: number(ready),
        terminating: number(terminating),
        succeeded: number(succeeded),
        before: Indexes::default(),
        succeeded_indexes: Indexes::default(),
        failed_indexes: None,
        replaced: BTreeMap::new(),
        backoff: view.backoff.after(&new_succeeded, &new_failed),
        again: None,
    };
    standing.finish = told_before(view).or_else(|| failing_pod(view));
    if standing.finish.is_none() {
        standing.finish = over_limit(view, number(failed), &mut standing);
    }
    if view.is_indexed() {
        by_index(view, &active, &mut standing);
    }
    if standing.finish.is_some() {
        standing.action = JobAction::Stop(active);
        return standing;
    }
    if view.satisfied && view.job.metadata.deletion_timestamp.is_none() {
        standing.action = manage(view, &active, &standing);
    }
    standing
}

/// A decision that the status tells of already.
fn told_before(view: &JobView<'_>) -> Option<JobCondition> {
    if let Some(met) = facts::true_condition(view.job, SUCCESS_CRITERIA_MET) {
        return Some(met.clone());
    }
    let target = facts::true_condition(view.job, FAILURE_TARGET)?;
    let (reason, message) = (target.reason.as_deref(), target.message.as_deref());
    Some(condition("Failed", reason.unwrap_or(""), message.unwrap_or(""), view.now))
}

/// A pod that fails the job by its policy.
fn failing_pod(view: &JobView<'_>) -> Option<JobCondition> {
    view.spec.pod_failure_policy.as_ref()?;
    let failed = view.pods.iter().filter(|pod| facts::is_failed(view.spec, pod));
    let mut messages = failed.filter_map(|pod| match policy::judge(view.spec, pod) {
        Verdict::FailJob(message) => Some(message),
        _ => None,
    });
    messages.next().map(|message| condition(FAILURE_TARGET, "PodFailurePolicy", &message, view.now))
}

/// Too many failures, or too late.
fn over_limit(view: &JobView<'_>, failed: i32, standing: &mut JobStanding) -> Option<JobCondition> {
    let target = |reason: &str, message: &str| Some(condition(FAILURE_TARGET, reason, message, view.now));
    if failed > view.backoff_limit() || restarted_too_often(view) {
        return target("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    let allowed = view.spec.active_deadline_seconds.filter(|_| !facts::is_suspended(view.spec))?;
    let deadline = api::time::plus_seconds(standing.started?, allowed);
    if view.now >= deadline {
        return target("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    standing.again = Duration::try_from(deadline.duration_since(view.now)).ok();
    None
}

/// Restarts within pods count as failures where containers are restarted in place.
fn restarted_too_often(view: &JobView<'_>) -> bool {
    let policy = view.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let running = view.pods.iter().filter(|pod| matches!(api::pod::phase(pod), "Running" | "Pending"));
    let statuses = running.filter_map(|pod| pod.status.as_ref());
    let containers = statuses.flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    let restarts: i64 = containers.map(|container| i64::from(container.restart_count)).sum();
    restarts >= i64::from(view.backoff_limit().max(1))
}

/// What is particular to jobs whose pods have indexes.
fn by_index(view: &JobView<'_>, active: &[Arc<Pod>], standing: &mut JobStanding) {
    let completions = view.completions().unwrap_or(0);
    let status = view.status();
    let told = status.and_then(|status| status.completed_indexes.as_deref()).unwrap_or("");
    standing.before = Indexes::parse(told, completions);
    let tracked = || view.pods.iter().filter(|pod| facts::has_finalizer(pod));
    let succeeded = tracked().filter(|pod| api::pod::phase(pod) == "Succeeded");
    standing.succeeded_indexes = standing.before.with(succeeded.filter_map(|pod| view.index(pod)));
    standing.succeeded = number(standing.succeeded_indexes.total());
    let target = |reason: &str, message: &str| Some(condition(FAILURE_TARGET, reason, message, view.now));
    if let Some(limit) = view.spec.backoff_limit_per_index {
        let told = status.and_then(|status| status.failed_indexes.as_deref()).unwrap_or("");
        let failed = tracked().filter(|pod| is_index_failed(view.spec, pod, limit));
        let failed = Indexes::parse(told, completions).with(failed.filter_map(|pod| view.index(pod)));
        if standing.finish.is_none() {
            let over = view.spec.max_failed_indexes.is_some_and(|most| number(failed.total()) > most);
            let all = failed.total() + standing.succeeded_indexes.total() >= completions as usize;
            if over {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                standing.finish = target("MaxFailedIndexesExceeded", message);
            } else if !failed.is_empty() && all {
                standing.finish = target("FailedIndexes", "Job has failed indexes");
            }
        }
        standing.replaced = to_be_replaced(view, active, &standing.succeeded_indexes, &failed);
        standing.failed_indexes = Some(failed);
    }
    if standing.finish.is_none()
        && let Some(message) = policy::success(view.spec, &standing.succeeded_indexes)
    {
        standing.finish = Some(condition(SUCCESS_CRITERIA_MET, "SuccessPolicy", &message, view.now));
    }
}

fn is_index_failed(spec: &JobSpec, pod: &Pod, limit: i32) -> bool {
    if !facts::is_failed(spec, pod) {
        return false;
    }
    match policy::judge(spec, pod) {
        Verdict::FailIndex => true,
        verdict => verdict.counts() && i64::from(facts::failures(pod).0) >= i64::from(limit),
    }
}

/// The last failed pod of each index that goes on: it stays until its replacement has its counts.
fn to_be_replaced(
    view: &JobView<'_>,
    active: &[Arc<Pod>],
    succeeded: &Indexes,
    failed: &Indexes,
) -> BTreeMap<u32, Arc<Pod>> {
    let running: BTreeSet<u32> = active.iter().filter_map(|pod| facts::index(pod)).collect();
    let all = |pod: &Pod| {
        let (counted, ignored) = facts::failures(pod);
        counted.saturating_add(ignored)
    };
    let mut last: BTreeMap<u32, Arc<Pod>> = BTreeMap::new();
    for pod in view.uncounted().filter(|pod| facts::is_failed(view.spec, pod)) {
        let Some(index) = view.index(pod) else { continue };
        if succeeded.contains(index) || failed.contains(index) || running.contains(&index) {
            continue;
        }
        let later = last.get(&index).is_none_or(|other| {
            all(other) <= all(pod) && facts::finished_at(other) <= facts::finished_at(pod)
        });
        if later {
            last.insert(index, pod.clone());
        }
    }
    last
}

/// With the finalizer that keeps a pod until it is counted.
pub(super) fn finalized(finalizers: &mut Option<Vec<String>>) {
    let finalizers = finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.to_string());
    }
}

#[cfg(test)]
mod tests;
