//! The arithmetic of sizes: how many pods each replica set should have next.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::is_recreate;
use super::sets::{DESIRED_REPLICAS, MAX_REPLICAS, age_key, annotation};
use crate::percent::resolve;

pub(super) type Sets = [Arc<ReplicaSet>];
/// A set and the size it should get.
pub(super) type Resize = (Arc<ReplicaSet>, i32);

/// `spec.replicas` of a set.
pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// `spec.replicas` of the deployment.
pub(super) fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn total(sets: &Sets) -> i32 {
    sets.iter().map(|set| replicas(set)).sum()
}

pub(super) fn active(sets: &Sets) -> Vec<Arc<ReplicaSet>> {
    sets.iter().filter(|set| replicas(set) > 0).cloned().collect()
}

/// `maxSurge` and `maxUnavailable` as numbers. Both zero would never get anywhere: then one may be
/// unavailable.
fn fence_posts(deployment: &Deployment) -> (i32, i32) {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let wanted = wanted(deployment);
    let surge = resolve(rolling.and_then(|rolling| rolling.max_surge.as_ref()), wanted, true);
    let unavailable = resolve(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), wanted, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_recreate(deployment) { 0 } else { fence_posts(deployment).0 }
}

pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    if is_recreate(deployment) || wanted(deployment) == 0 {
        return 0;
    }
    fence_posts(deployment).1.min(wanted(deployment))
}

/// What sets are annotated with: the deployment's size, without and with surge.
pub(super) fn sizes(deployment: &Deployment) -> (i32, i32) {
    (wanted(deployment), wanted(deployment).saturating_add(max_surge(deployment)))
}

/// The deployment was scaled since its active sets were last sized.
pub(super) fn was_scaled(deployment: &Deployment, sets: &Sets) -> bool {
    active(sets).iter().any(|set| {
        let desired =
            annotation(&set.metadata, DESIRED_REPLICAS).and_then(|desired| desired.parse::<i32>().ok());
        desired.is_some_and(|desired| desired != wanted(deployment))
    })
}

/// The size of the new set, given all sets (itself included if it exists): as many as the surge allows.
pub(super) fn new_set_size(deployment: &Deployment, all: &Sets, current: i32) -> i32 {
    if is_recreate(deployment) {
        return wanted(deployment);
    }
    let most = wanted(deployment).saturating_add(max_surge(deployment));
    let room = most - total(all);
    if room <= 0 { current } else { current + room.min(wanted(deployment) - current) }
}

/// The next size of a new set that exists.
pub(super) fn resize_new(deployment: &Deployment, new: &ReplicaSet, all: &Sets) -> i32 {
    let current = replicas(new);
    if current >= wanted(deployment) { wanted(deployment) } else { new_set_size(deployment, all, current) }
}

/// How the old sets shrink in a rolling update: first pods that do not work anyway, then as many as may be
/// unavailable.
pub(super) fn resize_old(deployment: &Deployment, new: Option<&Arc<ReplicaSet>>, old: &Sets) -> Vec<Resize> {
    let mut old: Vec<Resize> = active(old).into_iter().map(|set| (set.clone(), replicas(&set))).collect();
    old.sort_by_key(|(set, _)| age_key(set));
    if old.is_empty() {
        return Vec::new();
    }
    let new_size = new.map_or(0, |new| replicas(new));
    let new_available = new.map_or(0, |new| available(new));
    let least_available = wanted(deployment) - max_unavailable(deployment);
    let all: i32 = old.iter().map(|(_, size)| size).sum::<i32>() + new_size;
    let most_gone = all - least_available - (new_size - new_available);
    if most_gone <= 0 {
        return Vec::new();
    }
    let mut cleaned = 0;
    for (set, size) in &mut old {
        let unhealthy = (*size - available(set)).max(0);
        let gone = unhealthy.min(most_gone - cleaned);
        *size -= gone;
        cleaned += gone;
    }
    let available_now: i32 = old.iter().map(|(set, _)| available(set)).sum::<i32>() + new_available;
    let mut to_go = available_now - least_available;
    for (_, size) in &mut old {
        let gone = (*size).min(to_go).max(0);
        *size -= gone;
        to_go -= gone;
    }
    old.retain(|(set, size)| *size != replicas(set));
    old
}

/// Sizes after the deployment was scaled (or while it is paused). The flag says whether annotations are to be
/// written even where the size stays.
pub(super) fn rescale(
    deployment: &Deployment,
    new: Option<&Arc<ReplicaSet>>,
    old: &Sets,
) -> (Vec<Resize>, bool) {
    let wanted = wanted(deployment);
    if let Some(only) = active_or_latest(new, old) {
        let resize = if replicas(&only) == wanted { Vec::new() } else { vec![(only, wanted)] };
        return (resize, false);
    }
    if new.is_some_and(|new| is_saturated(deployment, new)) {
        return (active(old).into_iter().map(|set| (set, 0)).collect(), false);
    }
    if is_recreate(deployment) {
        return (Vec::new(), false);
    }
    let mut all: Vec<Arc<ReplicaSet>> = active(old);
    all.extend(new.filter(|new| replicas(new) > 0).cloned());
    let allowed = if wanted > 0 { wanted.saturating_add(max_surge(deployment)) } else { 0 };
    (proportional(deployment, all, allowed), true)
}

/// The one set to scale if there is only one that has pods, or else the newest of those without.
fn active_or_latest(new: Option<&Arc<ReplicaSet>>, old: &Sets) -> Option<Arc<ReplicaSet>> {
    let mut all = old.to_vec();
    all.extend(new.cloned());
    match active(&all).as_slice() {
        [] => new.cloned().or_else(|| old.iter().max_by_key(|set| age_key(set)).cloned()),
        [only] => Some(only.clone()),
        _ => None,
    }
}

/// The new set has all pods, and they work.
fn is_saturated(deployment: &Deployment, new: &ReplicaSet) -> bool {
    let wanted = wanted(deployment);
    let desired = annotation(&new.metadata, DESIRED_REPLICAS).and_then(|desired| desired.parse::<i32>().ok());
    desired == Some(wanted) && replicas(new) == wanted && available(new) == wanted
}

/// Spreads growth or shrinkage over the sets in proportion to their sizes, largest first; what rounding
/// leaves goes to the first.
fn proportional(deployment: &Deployment, mut all: Vec<Arc<ReplicaSet>>, allowed: i32) -> Vec<Resize> {
    let to_add = allowed - total(&all);
    let newer_first = to_add > 0;
    all.sort_by(|one, other| {
        let by_age = age_key(one).cmp(&age_key(other));
        replicas(other).cmp(&replicas(one)).then(if newer_first { by_age.reverse() } else { by_age })
    });
    let mut added = 0;
    let mut resized: Vec<Resize> = Vec::with_capacity(all.len());
    for set in all {
        let share = if to_add == 0 { 0 } else { proportion(deployment, &set, to_add, added) };
        added += share;
        let size = replicas(&set) + share;
        resized.push((set, size));
    }
    if let Some((_, size)) = resized.first_mut().filter(|_| to_add != 0) {
        *size = (*size + to_add - added).max(0);
    }
    resized
}

fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if replicas(set) == 0 || to_add == added {
        return 0;
    }
    let (fraction, left) = (fraction(deployment, set), to_add - added);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// The change of a set's size that keeps its share of the deployment.
fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    if wanted(deployment) == 0 {
        return -replicas(set);
    }
    let annotated = annotation(&set.metadata, MAX_REPLICAS).and_then(|max| max.parse::<i32>().ok());
    let before =
        annotated.or_else(|| deployment.status.as_ref().and_then(|status| status.replicas)).unwrap_or(0);
    if before == 0 {
        return 0;
    }
    let after = wanted(deployment).saturating_add(max_surge(deployment));
    let size = (f64::from(replicas(set)) * f64::from(after) / f64::from(before)).round();
    size as i32 - replicas(set)
}

#[cfg(test)]
mod tests;
