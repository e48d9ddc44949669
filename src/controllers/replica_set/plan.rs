//! How many pods to create, which to delete, and what the status says.

use std::sync::Arc;

use api::ApiError;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::{min_ready_seconds, rank};

/// The most pods that are created or deleted in one pass.
const BURST: usize = 500;
const REPLICA_FAILURE: &str = "ReplicaFailure";

#[derive(Debug)]
pub(super) enum ReplicaSetStep {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// What brings `active` to the number the set asks for. `siblings` are asked for only if pods must go.
pub(super) fn plan(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    siblings: impl FnOnce() -> Vec<Arc<Pod>>,
    now: Timestamp,
) -> ReplicaSetStep {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let wanted = usize::try_from(wanted).unwrap_or(0);
    if active.len() < wanted {
        ReplicaSetStep::Create((wanted - active.len()).min(BURST))
    } else if active.len() > wanted {
        let surplus = (active.len() - wanted).min(BURST);
        ReplicaSetStep::Delete(rank::first_to_go(active, &siblings(), surplus, now))
    } else {
        ReplicaSetStep::Nothing
    }
}

/// The status of a set with these pods, which include the ones being deleted.
pub(super) fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<&ReplicaSetCondition>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let template_labels = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.clone())
        .unwrap_or_default();
    let fully_labeled = |pod: &&Arc<Pod>| {
        let labels = pod.metadata.labels.as_ref();
        template_labels.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    };
    let active: Vec<&Arc<Pod>> = pods.iter().filter(|pod| api::pod::is_active(pod)).collect();
    let delay = min_ready_seconds(set);
    let count =
        |matching: &dyn Fn(&&Arc<Pod>) -> bool| number(active.iter().filter(|pod| matching(pod)).count());
    let old = set.status.clone().unwrap_or_default();
    let mut conditions = old.conditions.unwrap_or_default();
    let told = conditions.iter().any(|condition| condition.type_ == REPLICA_FAILURE);
    match failure {
        Some(failure) if !told => {
            let mut failure = failure.clone();
            failure.last_transition_time = Some(api::time::seconds(now));
            conditions.push(failure);
        }
        None if told => conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
        _ => {}
    }
    // Zero counts are left out by upstream's encoding, except `replicas`.
    let some = |count: i32| Some(count).filter(|count| *count != 0);
    ReplicaSetStatus {
        replicas: number(active.len()),
        fully_labeled_replicas: some(count(&fully_labeled)),
        ready_replicas: some(count(&|pod| api::pod::is_ready(pod))),
        available_replicas: some(count(&|pod| api::pod::is_available(pod, delay, now))),
        terminating_replicas: Some(number(pods.iter().filter(|pod| api::pod::is_terminating(pod)).count())),
        observed_generation: set.metadata.generation,
        conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The condition that tells why pods could not be created or deleted.
pub(super) fn failure_condition(active: usize, wanted: i32, error: &ApiError) -> ReplicaSetCondition {
    let reason = if number(active) < wanted { "FailedCreate" } else { "FailedDelete" };
    ReplicaSetCondition {
        type_: REPLICA_FAILURE.to_string(),
        status: "True".to_string(),
        reason: Some(reason.to_string()),
        message: Some(error.to_string()),
        last_transition_time: None,
    }
}

#[cfg(test)]
mod tests;
