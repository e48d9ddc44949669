//! What a pod's phase, conditions and deletion mark mean to others: ready, available, active, terminal.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::time;

pub const READY: &str = "Ready";
pub const SCHEDULED: &str = "PodScheduled";
pub const DISRUPTION_TARGET: &str = "DisruptionTarget";

pub const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// The annotation of pods that the kubelet made from files, and of their mirrors.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// `status.phase`, empty if there is none yet.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

/// All containers have ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Marked for deletion.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Counts for a replica: neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

/// The node the pod is bound to.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|name| !name.is_empty())
}

/// A copy of a pod that the kubelet runs from a file.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR_ANNOTATION))
}

/// `spec.priority`, 0 if admission set none.
pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref().and_then(|status| condition_of(status, kind))
}

pub(crate) fn condition_of<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// The Ready condition is True.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, READY).is_some_and(|condition| condition.status == "True")
}

/// Since when the pod is ready, if it is.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, READY).filter(|condition| condition.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Ready for at least `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    if !is_ready(pod) {
        return false;
    }
    min_ready_seconds <= 0
        || ready_since(pod)
            .is_some_and(|since| time::plus_seconds(since, i64::from(min_ready_seconds)) <= now)
}

/// Puts a condition in place of the one of its type. The transition time stays if the status does. Tells
/// whether anything but times changed.
pub fn set_condition(conditions: &mut Vec<PodCondition>, mut new: PodCondition, now: Timestamp) -> bool {
    let transition: Time = time::seconds(now);
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == new.type_) else {
        new.last_transition_time.get_or_insert(transition);
        conditions.push(new);
        return true;
    };
    new.last_transition_time =
        if old.status == new.status { old.last_transition_time.clone() } else { Some(transition) };
    let same = old.status == new.status
        && old.reason == new.reason
        && old.message == new.message
        && old.observed_generation == new.observed_generation;
    *old = new;
    !same
}
