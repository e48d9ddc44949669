//! What a job's pod says of itself: its index, how often the index failed before, whether it failed, when it
//! ended, and whether it has been counted.

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

fn annotated(pod: &Pod, key: &str) -> Option<u32> {
    pod.metadata.annotations.as_ref()?.get(key)?.parse().ok()
}

/// The completion index, whether or not the job has it still.
pub(super) fn index(pod: &Pod) -> Option<u32> {
    annotated(pod, INDEX)
}

/// Failures of the index before this pod that count, and those that a policy ignored.
pub(super) fn failures(pod: &Pod) -> (u32, u32) {
    (annotated(pod, FAILURES).unwrap_or(0), annotated(pod, IGNORED_FAILURES).unwrap_or(0))
}

/// Not counted yet: the finalizer goes once the pod is.
pub(super) fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// A replacement waits until the pod has really failed, not just been told to stop.
pub(super) fn waits_for_failure(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// Failed, or going away without having succeeded.
pub(super) fn is_failed(spec: &JobSpec, pod: &Pod) -> bool {
    match api::pod::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        // One that never reaches its node is deleted without ever having failed.
        _ => !waits_for_failure(spec) && api::pod::is_terminating(pod),
    }
}

/// Being deleted, and not ended yet.
pub(super) fn is_terminating(pod: &Pod) -> bool {
    api::pod::is_terminating(pod) && !api::pod::is_terminal(pod)
}

/// When the pod ended: when its last container did, when it stopped being ready, when it was deleted.
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    let not_ready = || {
        let ready = api::pod::condition(pod, api::pod::READY).filter(|ready| ready.status == "False")?;
        ready.last_transition_time.as_ref().map(|time| time.0)
    };
    let deleted = || {
        let at = pod.metadata.deletion_timestamp.as_ref()?.0;
        Some(api::time::plus_seconds(at, -pod.metadata.deletion_grace_period_seconds.unwrap_or(0)))
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    containers_finished_at(pod).or_else(not_ready).or_else(deleted).or_else(created).unwrap_or_default()
}

/// None while any container or sidecar has not ended.
fn containers_finished_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let sidecars = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: Vec<&str> = sidecars
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect();
    let of_sidecars = status.init_container_statuses.iter().flatten();
    let of_sidecars = of_sidecars.filter(|status| sidecars.contains(&status.name.as_str()));
    let ended = |status: &ContainerStatus| {
        status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0)
    };
    let mut last = None;
    for status in status.container_statuses.iter().flatten().chain(of_sidecars) {
        last = last.max(Some(ended(status)?));
    }
    last
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

pub(super) fn is_suspended(spec: &JobSpec) -> bool {
    spec.suspend == Some(true)
}

pub(super) fn conditions(job: &Job) -> &[JobCondition] {
    job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

/// The condition of this type, if it is true.
pub(super) fn true_condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    conditions(job).iter().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// Complete or failed for good.
pub(crate) fn is_finished(job: &Job) -> bool {
    finish(job).is_some()
}

/// The condition that says that the job is over.
pub(crate) fn finish(job: &Job) -> Option<&JobCondition> {
    true_condition(job, "Complete").or_else(|| true_condition(job, "Failed"))
}

/// Somebody else looks after the job.
pub(super) fn is_external(job: &Job) -> bool {
    let by = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    by.is_some_and(|by| by != "kubernetes.io/job-controller")
}
