//! Counts pods that ended, each exactly once, and tells when the job is over.
//!
//! A pod that ended is first noted in the status by uid, then loses its finalizer, then is moved from the
//! note to the count. Whatever is interrupted in between, the status and the finalizers tell what was done.
//! Indexes that succeeded need no note: counting them twice changes nothing.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::facts;
use super::plan::{FAILURE_TARGET, JobStanding, JobView, SUCCESS_CRITERIA_MET, condition, number};
use super::policy;

/// The most pods that are noted at once, so that the status stays under 20 KB.
const MOST_NOTED: usize = 500;

/// What was done to pods in this pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) deleted: i32,
    pub(super) deleted_ready: i32,
    pub(super) created: i32,
    /// The job's pods were managed: whether it is complete or suspended can be told.
    pub(super) managed: bool,
}

/// What happened to the job, to be told in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Suspended,
    Resumed,
}

#[derive(Debug)]
pub(super) struct Tracked {
    /// To be written before finalizers are removed.
    pub(super) status: JobStatus,
    /// Pods that are in the status now and lose their finalizer.
    pub(super) release: Vec<Arc<Pod>>,
    /// Uids that have their finalizer still.
    pub(super) held: HashSet<String>,
    /// The final condition, for when all is counted.
    pub(super) finish: Option<JobCondition>,
    pub(super) turn: Option<Turn>,
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn some(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

/// The status after this pass, up to the removal of finalizers.
pub(super) fn track(view: &JobView<'_>, standing: &JobStanding, done: Done) -> Tracked {
    let mut status = view.job.status.clone().unwrap_or_default();
    status.uncounted_terminated_pods.get_or_insert_default();
    status.start_time = standing.started.map(api::time::seconds);
    let active = standing.active - done.deleted + done.created;
    let terminating = standing.terminating + done.deleted;
    let mut finish = standing.finish.clone();
    let mut turn = None;
    if finish.is_some() {
        // There may be pods that we could not delete or have not seen: then the job is not over yet.
        if done.deleted != standing.active || !view.satisfied {
            finish = None;
        }
    } else if is_complete(view, standing, active) {
        let message = "Reached expected number of succeeded pods";
        finish = Some(condition(SUCCESS_CRITERIA_MET, "CompletionsReached", message, view.now));
    } else if done.managed {
        turn = tell_suspension(view, &mut status);
    }
    status.active = some(active);
    status.ready = Some(standing.ready - done.deleted_ready);
    status.terminating = Some(terminating);
    let held: HashSet<String> = view
        .pods
        .iter()
        .filter(|pod| facts::has_finalizer(pod) && !view.counted.contains(&uid(pod)))
        .map(|pod| uid(pod))
        .collect();
    settle(&mut status, &held);
    let mut tracked = Tracked { status, release: Vec::new(), held, finish, turn };
    let all = note(view, standing, &mut tracked);
    tracked.finish = promote(view, tracked.finish, &mut tracked.status);
    if !all {
        // There are more; the next pass goes on, and only the last one may finish the job.
        tracked.finish = None;
    }
    tracked
}

fn is_complete(view: &JobView<'_>, standing: &JobStanding, active: i32) -> bool {
    match view.spec.completions {
        // Any success is enough once all others have ended.
        None => standing.succeeded > 0 && active == 0,
        Some(completions) => standing.succeeded >= completions && active == 0,
    }
}

fn tell_suspension(view: &JobView<'_>, status: &mut JobStatus) -> Option<Turn> {
    if facts::is_suspended(view.spec) {
        let told = set_condition(status, "Suspended", "True", "JobSuspended", "Job suspended", view.now);
        // It starts anew when it is resumed.
        return told.then(|| {
            status.start_time = None;
            Turn::Suspended
        });
    }
    let told = set_condition(status, "Suspended", "False", "JobResumed", "Job resumed", view.now);
    told.then(|| {
        status.start_time = Some(api::time::seconds(view.now));
        Turn::Resumed
    })
}

/// Sets a condition; one that would become false is not added. Tells whether anything changed.
fn set_condition(
    status: &mut JobStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let new = JobCondition { status: value.to_string(), ..condition(kind, reason, message, now) };
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|old| old.type_ == kind) {
        Some(old) => {
            let same = (&old.status, &old.reason, &old.message) == (&new.status, &new.reason, &new.message);
            if !same {
                *old = new;
            }
            !same
        }
        None if value == "False" => {
            if conditions.is_empty() {
                status.conditions = None;
            }
            false
        }
        None => {
            conditions.push(new);
            true
        }
    }
}

/// Notes pods that ended, and which finalizers go. Tells whether that was all of them.
fn note(view: &JobView<'_>, standing: &JobStanding, tracked: &mut Tracked) -> bool {
    let (noted_succeeded, noted_failed) = (view.noted(false), view.noted(true));
    let (mut succeeded, mut failed, mut new_indexes) = (Vec::new(), Vec::new(), Vec::new());
    let mut pods: Vec<&Arc<Pod>> = view.pods.iter().filter(|pod| tracked.held.contains(&uid(pod))).collect();
    pods.sort_by_key(|pod| facts::index(pod));
    let already = {
        let noted = tracked.status.uncounted_terminated_pods.get_or_insert_default();
        noted.succeeded.as_ref().map_or(0, Vec::len) + noted.failed.as_ref().map_or(0, Vec::len)
    };
    let met = tracked.finish.as_ref().is_some_and(|finish| finish.type_ == SUCCESS_CRITERIA_MET);
    let mut all = true;
    for pod in pods {
        let is_failed = facts::is_failed(view.spec, pod);
        if !may_release(view, standing, tracked.finish.as_ref(), pod, is_failed) {
            continue;
        }
        if already + succeeded.len() + failed.len() + new_indexes.len() >= MOST_NOTED {
            all = false;
            break;
        }
        tracked.release.push(pod.clone());
        let uid = uid(pod);
        let index = view.index(pod);
        if api::pod::phase(pod) == "Succeeded" && !noted_failed.contains(uid.as_str()) {
            if view.is_indexed() {
                new_indexes.extend(index.filter(|index| !standing.before.contains(*index)));
            } else if !noted_succeeded.contains(uid.as_str()) {
                succeeded.push(uid);
            }
        } else if (is_failed || (tracked.finish.is_some() && !met))
            && !noted_failed.contains(uid.as_str())
            && (!view.is_indexed() || index.is_some())
            && policy::judge(view.spec, pod).counts()
        {
            // When a job has failed, the pods that were stopped count as failed too.
            failed.push(uid);
        }
    }
    let noted = tracked.status.uncounted_terminated_pods.get_or_insert_default();
    if !succeeded.is_empty() {
        noted.succeeded.get_or_insert_default().extend(succeeded);
    }
    if !failed.is_empty() {
        noted.failed.get_or_insert_default().extend(failed);
    }
    if view.is_indexed() {
        let indexes = standing.before.with(new_indexes);
        tracked.status.succeeded = some(number(indexes.total()));
        tracked.status.completed_indexes = Some(indexes.to_string()).filter(|text| !text.is_empty());
        tracked.status.failed_indexes = standing.failed_indexes.as_ref().map(ToString::to_string);
    }
    all
}

fn may_release(
    view: &JobView<'_>,
    standing: &JobStanding,
    finish: Option<&JobCondition>,
    pod: &Pod,
    is_failed: bool,
) -> bool {
    if view.job.metadata.deletion_timestamp.is_some()
        || finish.is_some()
        || api::pod::phase(pod) == "Succeeded"
    {
        return true;
    }
    // One that is to be replaced lends its counts to the replacement first.
    let lends = || {
        let replaced = facts::index(pod).and_then(|index| standing.replaced.get(&index));
        replaced.is_some_and(|replaced| replaced.metadata.uid == pod.metadata.uid)
    };
    is_failed && !lends()
}

/// Adds the interim condition to the status and answers with the final one that follows from it.
fn promote(view: &JobView<'_>, finish: Option<JobCondition>, status: &mut JobStatus) -> Option<JobCondition> {
    let finish = finish?;
    let kind = match finish.type_.as_str() {
        FAILURE_TARGET => "Failed",
        SUCCESS_CRITERIA_MET => "Complete",
        _ => return Some(finish),
    };
    let last = condition(
        kind,
        finish.reason.as_deref().unwrap_or(""),
        finish.message.as_deref().unwrap_or(""),
        view.now,
    );
    let conditions = status.conditions.get_or_insert_default();
    if !conditions.iter().any(|told| told.type_ == finish.type_ && told.status == "True") {
        conditions.push(finish);
    }
    Some(last)
}

/// Moves noted pods without finalizer to the counts. Tells whether there were any.
pub(super) fn settle(status: &mut JobStatus, held: &HashSet<String>) -> bool {
    let Some(noted) = &mut status.uncounted_terminated_pods else { return false };
    let move_to_count = |list: &mut Option<Vec<String>>, count: &mut Option<i32>| {
        let Some(uids) = list else { return false };
        let before = uids.len();
        uids.retain(|uid| held.contains(uid));
        let moved = number(before - uids.len());
        if uids.is_empty() {
            *list = None;
        }
        *count = some(count.unwrap_or(0) + moved);
        moved > 0
    };
    let succeeded = move_to_count(&mut noted.succeeded, &mut status.succeeded);
    let failed = move_to_count(&mut noted.failed, &mut status.failed);
    succeeded || failed
}

/// Ends the job, if all pods are counted and gone. Tells whether it did.
pub(super) fn finish(status: &mut JobStatus, finish: Option<&JobCondition>) -> bool {
    let Some(finish) = finish else { return false };
    let noted = status.uncounted_terminated_pods.as_ref();
    let uncounted = noted.is_some_and(|noted| {
        [&noted.succeeded, &noted.failed].into_iter().flatten().any(|list| !list.is_empty())
    });
    if uncounted || status.terminating.unwrap_or(0) > 0 {
        return false;
    }
    let at: Option<Time> = finish.last_transition_time.clone();
    let conditions = status.conditions.get_or_insert_default();
    if !conditions.iter().any(|told| told.type_ == finish.type_) {
        conditions.push(finish.clone());
    }
    if finish.type_ == "Complete" {
        status.completion_time = at;
    }
    true
}
