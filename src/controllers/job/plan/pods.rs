//! Which pods of a job to make or delete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::super::{backoff, facts};
use super::{JobAction, JobStanding, JobView, number};
use crate::ranking;

/// The most pods that are made or deleted in one pass.
const BURST: usize = 500;

/// Makes or deletes pods, never both in one pass.
pub(super) fn manage(view: &JobView<'_>, active: &[Arc<Pod>], standing: &JobStanding) -> JobAction {
    if facts::is_suspended(view.spec) {
        let all = superfluous(view, active, active.len());
        return if all.is_empty() { JobAction::Nothing } else { JobAction::Remove(all) };
    }
    let parallelism = view.spec.parallelism.unwrap_or(1);
    let running = number(active.len());
    let wanted = match view.spec.completions {
        // Once one has succeeded the others are left to end.
        None if standing.succeeded > 0 => running,
        None => parallelism,
        Some(completions) => (completions - standing.succeeded).min(parallelism).max(0),
    };
    let surplus = usize::try_from(running - wanted).unwrap_or(0);
    let mut remove = superfluous(view, active, surplus);
    if !remove.is_empty() {
        remove.truncate(BURST);
        return JobAction::Remove(remove);
    }
    let terminating = if facts::waits_for_failure(view.spec) { standing.terminating } else { 0 };
    let lacking = usize::try_from(wanted - terminating - running).unwrap_or(0).min(BURST);
    if lacking == 0 {
        return JobAction::Nothing;
    }
    create(view, active, standing, lacking)
}

fn create(view: &JobView<'_>, active: &[Arc<Pod>], standing: &JobStanding, count: usize) -> JobAction {
    let per_index = view.spec.backoff_limit_per_index.is_some();
    let wait = standing.backoff.left(view.now);
    if !per_index && !wait.is_zero() {
        return JobAction::Wait(wait);
    }
    if !view.is_indexed() {
        return JobAction::Create(count);
    }
    let waits_for_failure = facts::waits_for_failure(view.spec);
    let leaving = view.pods.iter().filter(|pod| waits_for_failure && facts::is_terminating(pod));
    let taken = active.iter().chain(leaving).filter_map(|pod| facts::index(pod));
    let failed = standing.failed_indexes.clone().unwrap_or_default();
    let taken = standing.succeeded_indexes.with(taken).union(&failed);
    let pending = taken.missing(count, view.completions().unwrap_or(0));
    if !per_index {
        return created(pending);
    }
    let wait = |index: &u32| match standing.replaced.get(index) {
        None => Duration::ZERO,
        Some(pod) => {
            let (counted, ignored) = facts::failures(pod);
            let failures = counted.saturating_add(ignored).saturating_add(1);
            backoff::left(failures, facts::finished_at(pod), view.now)
        }
    };
    let now: Vec<u32> = pending.iter().filter(|index| wait(index).is_zero()).copied().collect();
    match pending.iter().map(wait).min() {
        Some(shortest) if now.is_empty() => JobAction::Wait(shortest),
        _ => created(now),
    }
}

fn created(indexes: Vec<u32>) -> JobAction {
    if indexes.is_empty() { JobAction::Nothing } else { JobAction::CreateIndexes(indexes) }
}

/// Active pods to delete: those without a valid index and all but the furthest of each index, then others,
/// the least far first, until there are `at_least` so many.
fn superfluous(view: &JobView<'_>, active: &[Arc<Pod>], at_least: usize) -> Vec<Arc<Pod>> {
    let (mut remove, mut left) = (Vec::new(), Vec::new());
    if view.is_indexed() {
        let mut by_index: BTreeMap<u32, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in active {
            match view.index(pod) {
                Some(index) => by_index.entry(index).or_default().push(pod.clone()),
                None => remove.push(pod.clone()),
            }
        }
        for pods in by_index.into_values() {
            let mut pods = ranking::first_to_go_first(pods);
            left.extend(pods.pop());
            remove.extend(pods);
        }
    } else {
        left.extend(active.iter().cloned());
    }
    if remove.len() < at_least {
        let more = ranking::first_to_go_first(left).into_iter().take(at_least - remove.len());
        remove.extend(more);
    }
    remove
}
