//! A deployment's counts and conditions.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::jiff::Timestamp;

use super::scale::{self, Sets};
use crate::context::text;

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) const NEW_SET_CREATED: &str = "NewReplicaSetCreated";
pub(super) const FOUND_NEW_SET: &str = "FoundNewReplicaSet";
pub(super) const SET_CREATE_ERROR: &str = "ReplicaSetCreateError";
pub(super) const PAUSED: &str = "DeploymentPaused";
pub(super) const RESUMED: &str = "DeploymentResumed";
const SET_UPDATED: &str = "ReplicaSetUpdated";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// The deadline that means none.
const NO_DEADLINE: i32 = i32::MAX;

pub(super) fn deadline(deployment: &Deployment) -> Option<i32> {
    let seconds = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds)?;
    (seconds != NO_DEADLINE).then_some(seconds)
}

pub(super) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason: Some(reason.to_string()),
        message: Some(message),
        last_transition_time: Some(api::time::seconds(now)),
        last_update_time: Some(api::time::seconds(now)),
    }
}

pub(super) fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
}

/// Sets a condition unless one of the same status and reason is there.
pub(super) fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(old) = find(status, &condition.type_) {
        if old.status == condition.status && old.reason == condition.reason {
            return;
        }
        if old.status == condition.status {
            condition.last_transition_time = old.last_transition_time.clone();
        }
    }
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

/// Counts, and whether enough pods are available.
pub(super) fn calculate(
    deployment: &Deployment,
    new: Option<&Arc<ReplicaSet>>,
    all: &Sets,
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let sum = |count: &dyn Fn(&ReplicaSet) -> i32| all.iter().map(|set| count(set)).sum::<i32>();
    let of = |set: &ReplicaSet| set.status.as_ref().map_or(0, |status| status.replicas);
    let available = sum(&scale::available);
    let ready = sum(&|set| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0));
    let terminating =
        sum(&|set| set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0));
    // Zero counts are left out by upstream's encoding.
    let some = |count: i32| Some(count).filter(|count| *count != 0);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(&of)),
        updated_replicas: some(new.map_or(0, |new| of(new))),
        ready_replicas: some(ready),
        available_replicas: some(available),
        unavailable_replicas: some((scale::total(all) - available).max(0)),
        terminating_replicas: Some(terminating),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let enough = available >= scale::wanted(deployment) - scale::max_unavailable(deployment);
    let told = if enough {
        condition(
            AVAILABLE,
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".into(),
            now,
        )
    } else {
        let message = "Deployment does not have minimum availability.";
        condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message.into(), now)
    };
    set(&mut status, told);
    status
}

/// The status of a rollout: progress, its end, or that it takes too long.
pub(super) fn rollout(
    deployment: &Deployment,
    new: Option<&Arc<ReplicaSet>>,
    all: &Sets,
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = calculate(deployment, new, all, now);
    let old = deployment.status.clone().unwrap_or_default();
    let Some(_) = deadline(deployment) else {
        remove(&mut status, PROGRESSING);
        tell_failures(&mut status, new, all);
        return status;
    };
    let current = find(&old, PROGRESSING).cloned();
    let was_complete = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|current| current.reason.as_deref() == Some(NEW_SET_AVAILABLE));
    if !was_complete {
        let subject = match new {
            Some(new) => format!("ReplicaSet {:?}", text(&new.metadata.name)),
            None => format!("Deployment {:?}", text(&deployment.metadata.name)),
        };
        if is_complete(deployment, &status) {
            let message = format!("{subject} has successfully progressed.");
            set(&mut status, condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message, now));
        } else if progressed(&old, &status) {
            let mut told =
                condition(PROGRESSING, "True", SET_UPDATED, format!("{subject} is progressing."), now);
            if let Some(current) = current.filter(|current| current.status == "True") {
                told.last_transition_time = current.last_transition_time;
            }
            // Removed first, so that the time of the update moves on with every step.
            remove(&mut status, PROGRESSING);
            set(&mut status, told);
        } else if timed_out(deployment, &status, now) {
            let message = format!("{subject} has timed out progressing.");
            set(&mut status, condition(PROGRESSING, "False", TIMED_OUT, message, now));
        }
    }
    tell_failures(&mut status, new, all);
    status
}

/// The new set's failure to make pods, or else any other's, is the deployment's.
fn tell_failures(status: &mut DeploymentStatus, new: Option<&Arc<ReplicaSet>>, all: &Sets) {
    let failure = new.into_iter().chain(all).find_map(|set| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE)
    });
    match failure {
        Some(failure) => set(
            status,
            DeploymentCondition {
                type_: REPLICA_FAILURE.to_string(),
                status: failure.status.clone(),
                reason: failure.reason.clone(),
                message: failure.message.clone(),
                last_transition_time: failure.last_transition_time.clone(),
                last_update_time: failure.last_transition_time.clone(),
            },
        ),
        None => remove(status, REPLICA_FAILURE),
    }
}

/// All pods are of the new set and available, and the controller has seen the newest spec.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = scale::wanted(deployment);
    let is = |count: Option<i32>| count.unwrap_or(0) == wanted;
    is(status.updated_replicas)
        && is(status.replicas)
        && is(status.available_replicas)
        && status.observed_generation >= deployment.metadata.generation
}

fn progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or(0);
    let of_old_sets = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || of_old_sets(new) < of_old_sets(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let Some(current) = find(status, PROGRESSING) else { return false };
    match current.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => ends(deployment, status).is_some_and(|end| end < now),
    }
}

/// When the rollout will have taken too long.
fn ends(deployment: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let from = find(status, PROGRESSING)?.last_update_time.as_ref()?.0;
    Some(api::time::plus_seconds(from, i64::from(deadline(deployment)?)))
}

/// When to look whether the rollout is stuck, if nothing happens before: just after its deadline.
pub(super) fn look_again(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<std::time::Duration> {
    let reason = find(status, PROGRESSING)?.reason.as_deref();
    if is_complete(deployment, status) || matches!(reason, Some(TIMED_OUT | PAUSED)) {
        return None;
    }
    let left = api::time::seconds_between(now, ends(deployment, status)?);
    Some(std::time::Duration::from_secs_f64(left.max(0.0) + 1.0))
}

#[cfg(test)]
mod tests;
