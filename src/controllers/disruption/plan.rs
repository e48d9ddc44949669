//! How many of a budget's pods may be disrupted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use crate::context::text;
use crate::percent;

/// A pod that was to be evicted must be on its way out after this time.
const DELETION_TIMEOUT: i64 = 120;
/// A pod that was marked as disrupted and is there all the same after this time is not.
const STALE: i64 = 120;
const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// How many pods there should be, and how many must be healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) pods: i32,
    pub(super) healthy: i32,
}

/// Whether the sizes of the pods' controllers are needed: all but a plain number of `minAvailable` are a part
/// of them.
pub(super) fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// `scale` is the sum of the sizes of the pods' controllers, if it is needed.
pub(super) fn expected(spec: &PodDisruptionBudgetSpec, pods: usize, scale: i32) -> Expected {
    if let Some(unavailable) = &spec.max_unavailable {
        let unavailable = percent::resolve(Some(unavailable), scale, true);
        return Expected { pods: scale, healthy: scale.saturating_sub(unavailable).max(0) };
    }
    match &spec.min_available {
        Some(IntOrString::Int(healthy)) => {
            Expected { pods: i32::try_from(pods).unwrap_or(i32::MAX), healthy: *healthy }
        }
        share => Expected { pods: scale, healthy: percent::resolve(share.as_ref(), scale, true) },
    }
}

/// Pods that are on their way out although nothing of it can be seen yet.
#[derive(Debug, Default)]
pub(super) struct Disrupted {
    pub(super) pods: BTreeMap<String, Time>,
    /// These were to be deleted and are there still.
    pub(super) overdue: Vec<Arc<Pod>>,
    /// Look again after this.
    pub(super) again: Option<Duration>,
}

pub(super) fn disrupted(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], now: Timestamp) -> Disrupted {
    let told = budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
    let mut disrupted = Disrupted::default();
    for pod in pods.iter().filter(|pod| !api::pod::is_terminating(pod)) {
        let name = text(&pod.metadata.name);
        let Some(since) = told.get(name) else { continue };
        let until = api::time::plus_seconds(since.0, DELETION_TIMEOUT);
        if until < now {
            disrupted.overdue.push(pod.clone());
            continue;
        }
        // A little later than the time itself, or it would not be over yet.
        let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        let left = left + Duration::from_millis(10);
        disrupted.again = Some(disrupted.again.map_or(left, |again| again.min(left)));
        disrupted.pods.insert(name.to_string(), since.clone());
    }
    disrupted
}

/// The status under which so many pods are healthy as are ready and not on their way out.
pub(super) fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: Expected,
    disrupted: &Disrupted,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let healthy = pods.iter().filter(|pod| {
        !api::pod::is_terminating(pod)
            && !disrupted.pods.contains_key(text(&pod.metadata.name))
            && api::pod::is_ready(pod)
    });
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    // Without any pod expected nothing is allowed: the first ones are not counted before they can be evicted.
    let allowed = if expected.pods > 0 { healthy.saturating_sub(expected.healthy).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted.pods.clone()).filter(|pods| !pods.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: budget.status.as_ref().and_then(|status| status.conditions.clone()),
    };
    let (value, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set_condition(&mut status, value, reason, String::new(), now);
    status
}

/// The status when it cannot be calculated: nothing is allowed.
pub(super) fn fail_safe(
    budget: &PodDisruptionBudget,
    error: &ApiError,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    for count in [&mut status.current_healthy, &mut status.desired_healthy, &mut status.expected_pods] {
        count.get_or_insert(0);
    }
    set_condition(&mut status, "False", "SyncFailed", error.message().to_string(), now);
    status
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().find(|condition| condition.type_ == DISRUPTION_ALLOWED);
    let since = old.filter(|old| old.status == value).map(|old| old.last_transition_time.clone());
    let new = Condition {
        type_: DISRUPTION_ALLOWED.to_string(),
        status: value.to_string(),
        reason: reason.to_string(),
        message,
        observed_generation: status.observed_generation,
        last_transition_time: since.unwrap_or_else(|| api::time::seconds(now)),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == DISRUPTION_ALLOWED) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// How long until the pod's mark of disruption is stale; none if it has none that could be.
pub(super) fn stale_in(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let mark = api::pod::condition(pod, api::pod::DISRUPTION_TARGET)?;
    // What the kubelet ends may take its time.
    let by_kubelet = mark.reason.as_deref() == Some("TerminationByKubelet");
    if mark.status != "True" || by_kubelet || !api::pod::is_active(pod) {
        return None;
    }
    let since = mark.last_transition_time.as_ref().map_or(now, |time| time.0);
    let left = api::time::plus_seconds(since, STALE).duration_since(now);
    Some(Duration::try_from(left).unwrap_or_default())
}

/// The pod's conditions without the mark.
pub(super) fn unmarked(pod: &Pod, now: Timestamp) -> Vec<PodCondition> {
    let mut conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let not_disrupted = PodCondition {
        type_: api::pod::DISRUPTION_TARGET.to_string(),
        status: "False".to_string(),
        ..PodCondition::default()
    };
    api::pod::set_condition(&mut conditions, not_disrupted, now);
    conditions
}

#[cfg(test)]
mod tests;
