//! The volume claims of a stateful set's pods: their names, and who owns them under the retention policy.
//!
//! What the garbage collector does with a claim follows from its owners: none keep it, the set lets it go
//! with the set, a pod that was scaled away lets it go with the pod. Claims that somebody else controls, and
//! those that refer to an earlier set or pod of the same name, are left as they are.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use api::Kinded;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{identity, name_of};
use crate::context::text;

/// The claims that are there, by name.
pub(super) type Claims = BTreeMap<String, Arc<PersistentVolumeClaim>>;

pub(super) fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

pub(super) fn name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{ordinal}", prefix(set, template))
}

fn prefix(set: &StatefulSet, template: &PersistentVolumeClaim) -> String {
    format!("{}-{}", text(&template.metadata.name), name_of(set))
}

/// The names of the set's claims without their ordinals.
pub(super) fn prefixes(set: &StatefulSet) -> HashSet<String> {
    templates(set).iter().map(|template| prefix(set, template)).collect()
}

/// The names of a pod's claims.
pub(super) fn names(set: &StatefulSet, pod: &Pod) -> Vec<String> {
    let Some(ordinal) = identity::ordinal(pod) else { return Vec::new() };
    templates(set).iter().map(|template| name(set, template, ordinal)).collect()
}

/// The claims that a pod needs, as they are made.
pub(super) fn wanted(set: &StatefulSet, pod: &Pod) -> Vec<PersistentVolumeClaim> {
    let Some(ordinal) = identity::ordinal(pod) else { return Vec::new() };
    let selector = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    let claim = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        claim.metadata.name = Some(name(set, template, ordinal));
        claim.metadata.namespace = set.metadata.namespace.clone();
        claim.metadata.labels.get_or_insert_default().extend(selector.clone());
        claim.status = None;
        claim
    };
    templates(set).iter().map(claim).collect()
}

/// What becomes of claims: deleted with the pod that is scaled away, deleted with the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Retention {
    scaled_goes: bool,
    deleted_goes: bool,
}

fn retention(set: &StatefulSet) -> Retention {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let goes = |word: Option<&String>| word.is_some_and(|word| word == "Delete");
    Retention {
        scaled_goes: goes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        deleted_goes: goes(policy.and_then(|policy| policy.when_deleted.as_ref())),
    }
}

fn owners(claim: &PersistentVolumeClaim) -> &[OwnerReference] {
    claim.metadata.owner_references.as_deref().unwrap_or_default()
}

/// The reference names the object's kind and name, whatever its uid.
fn names_it<K: Kinded>(reference: &OwnerReference, object: &ObjectMeta) -> bool {
    let row = K::row();
    reference.api_version == row.api_version()
        && reference.kind == row.kind
        && reference.name == text(&object.name)
}

fn has_owner(claim: &PersistentVolumeClaim, owner: &ObjectMeta) -> bool {
    owners(claim).iter().any(|reference| reference.uid == text(&owner.uid))
}

/// Refers to an earlier object of this kind and name.
pub(super) fn is_stale<K: Kinded>(claim: &PersistentVolumeClaim, object: &ObjectMeta) -> bool {
    let reference = owners(claim).iter().find(|reference| names_it::<K>(reference, object));
    reference.is_some_and(|reference| reference.uid != text(&object.uid))
}

/// A pod must wait for these: the policy deletes claims of pods that were scaled away, and one of its claims
/// still waits for that.
pub(super) fn are_leaving(set: &StatefulSet, pod: &Pod, claims: &Claims) -> bool {
    retention(set).scaled_goes
        && names(set, pod)
            .iter()
            .filter_map(|name| claims.get(name))
            .any(|claim| is_stale::<Pod>(claim, &pod.metadata))
}

/// Somebody else manages the claim, while the policy would have us do it.
pub(super) fn has_other_controller(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    let retention = retention(set);
    if !retention.scaled_goes && !retention.deleted_goes {
        return false;
    }
    owners(claim).iter().any(|reference| {
        if names_it::<StatefulSet>(reference, &set.metadata) {
            reference.uid != text(&set.metadata.uid)
        } else if names_it::<Pod>(reference, &pod.metadata) {
            reference.uid != text(&pod.metadata.uid)
        } else {
            reference.controller == Some(true)
        }
    })
}

/// Whether the set and the pod should own the claim.
fn wanted_owners(set: &StatefulSet, pod: &Pod) -> (bool, bool) {
    let retention = retention(set);
    let scaled_away = identity::ordinal(pod).and_then(|ordinal| identity::index(set, ordinal)).is_none();
    let of_pod = retention.scaled_goes && scaled_away;
    (retention.deleted_goes && !of_pod, of_pod)
}

/// The claim's owners are what the policy asks for, or not our matter.
pub(super) fn is_owned_right(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    if is_stale::<StatefulSet>(claim, &set.metadata) || is_stale::<Pod>(claim, &pod.metadata) {
        return true;
    }
    let (of_set, of_pod) = (has_owner(claim, &set.metadata), has_owner(claim, &pod.metadata));
    if has_other_controller(claim, set, pod) {
        return !of_set && !of_pod;
    }
    let ours = [text(&set.metadata.uid), text(&pod.metadata.uid)];
    let not_controller = |reference: &OwnerReference| {
        ours.contains(&reference.uid.as_str()) && reference.controller != Some(true)
    };
    !owners(claim).iter().any(not_controller) && (of_set, of_pod) == wanted_owners(set, pod)
}

/// The owners that the claim should have.
pub(super) fn right_owners(
    claim: &PersistentVolumeClaim,
    set: &StatefulSet,
    pod: &Pod,
) -> Vec<OwnerReference> {
    let ours = |reference: &&OwnerReference| {
        names_it::<StatefulSet>(reference, &set.metadata) || names_it::<Pod>(reference, &pod.metadata)
    };
    let mut right: Vec<OwnerReference> =
        owners(claim).iter().filter(|reference| !ours(reference)).cloned().collect();
    if has_other_controller(claim, set, pod) {
        return right;
    }
    let (of_set, of_pod) = wanted_owners(set, pod);
    if of_set {
        right.push(api::owner::controller_reference(set));
    }
    if of_pod {
        right.push(api::owner::controller_reference(pod));
    }
    right
}

/// The owners of all claims of the pod that are there are right.
pub(super) fn are_owned_right(set: &StatefulSet, pod: &Pod, claims: &Claims) -> bool {
    names(set, pod).iter().filter_map(|name| claims.get(name)).all(|claim| is_owned_right(claim, set, pod))
}

#[cfg(test)]
mod tests;
