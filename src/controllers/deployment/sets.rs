//! Which replica set is the new one, which are old, and the annotations by which `kubectl rollout` knows
//! their revisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::template_hash;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::context::text;
use crate::templates;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const REVISION_HISTORY_CHARS: usize = 2000;
/// Annotations of the deployment that its sets do not get.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// The set of the deployment's template, if there is one, and all others; both oldest first.
pub(super) fn split(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
) -> (Option<Arc<ReplicaSet>>, Vec<Arc<ReplicaSet>>) {
    let mut sets = sets.to_vec();
    sets.sort_by_key(|set| age_key(set));
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let is_new = |set: &&Arc<ReplicaSet>| {
        let own = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        matches!((own, template), (Some(own), Some(template)) if same_template(own, template))
    };
    let new = sets.iter().find(is_new).cloned();
    sets.retain(|set| new.as_ref().is_none_or(|new| new.metadata.uid != set.metadata.uid));
    (new, sets)
}

/// Oldest first, then by name.
pub(super) fn age_key(set: &ReplicaSet) -> impl Ord + use<> {
    (set.metadata.creation_timestamp.clone(), set.metadata.name.clone())
}

/// Equal but for the hash label.
pub(super) fn same_template(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(labels) = template.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
            labels.remove(template_hash::LABEL);
        }
        template
    };
    templates::same(&bare(one), &bare(other))
}

pub(super) fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

pub(super) fn revision(metadata: &ObjectMeta) -> i64 {
    annotation(metadata, REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

/// The revision that the new set has or gets: one above all old ones.
pub(super) fn next_revision(old: &[Arc<ReplicaSet>]) -> i64 {
    old.iter().map(|set| revision(&set.metadata)).max().unwrap_or(0) + 1
}

/// Brings the annotations of the new set up to date; tells whether anything changed. A set that exists keeps
/// the sizes it was annotated with, because scaling compares them with the deployment's.
pub(super) fn annotate_new(
    set: &mut ReplicaSet,
    deployment: &Deployment,
    next_revision: i64,
    sizes: Option<(i32, i32)>,
) -> bool {
    let mut changed = false;
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN_ANNOTATIONS.contains(&key.as_str()) && annotations.get(key) != Some(value) {
            annotations.insert(key.clone(), value.clone());
            changed = true;
        }
    }
    let old = annotations.get(REVISION).cloned();
    let old_revision: i64 = old.as_deref().and_then(|old| old.parse().ok()).unwrap_or(0);
    if old_revision < next_revision {
        annotations.insert(REVISION.to_string(), next_revision.to_string());
        changed = true;
        if let Some(old) = old.filter(|old| !old.is_empty()) {
            remember_revision(annotations, &old);
        }
    }
    if let Some((desired, max)) = sizes {
        changed |= annotate_sizes(annotations, desired, max);
    }
    changed
}

fn remember_revision(annotations: &mut BTreeMap<String, String>, old: &str) {
    let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
    let mut revisions: Vec<&str> = history.split(',').filter(|revision| !revision.is_empty()).collect();
    let length = |revisions: &[&str]| revisions.iter().map(|revision| revision.len() + 1).sum::<usize>();
    while !revisions.is_empty() && length(&revisions) + old.len() > REVISION_HISTORY_CHARS {
        revisions.remove(0);
    }
    revisions.push(old);
    annotations.insert(REVISION_HISTORY.to_string(), revisions.join(","));
}

/// Sets the sizes that the deployment wants of all its sets together; tells whether they changed.
pub(super) fn annotate_sizes(annotations: &mut BTreeMap<String, String>, desired: i32, max: i32) -> bool {
    let mut changed = false;
    for (key, value) in [(DESIRED_REPLICAS, desired), (MAX_REPLICAS, max)] {
        let value = value.to_string();
        if annotations.get(key) != Some(&value) {
            annotations.insert(key.to_string(), value);
            changed = true;
        }
    }
    changed
}

/// The new set of a deployment, without pods yet.
pub(super) fn new_set(deployment: &Deployment) -> Option<ReplicaSet> {
    let spec = deployment.spec.as_ref()?;
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash::of(&spec.template, collisions);
    let mut template = spec.template.clone();
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(template_hash::LABEL.to_string(), hash.clone());
    let labels = metadata.labels.clone();
    let mut selector: LabelSelector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(template_hash::LABEL.to_string(), hash.clone());
    Some(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", text(&deployment.metadata.name))),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            owner_references: Some(vec![api::owner::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    })
}

/// Old sets beyond the history limit that nothing depends on, oldest revision first.
pub(super) fn superfluous(old: &[Arc<ReplicaSet>], limit: usize) -> Vec<Arc<ReplicaSet>> {
    let mut alive: Vec<Arc<ReplicaSet>> =
        old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).cloned().collect();
    let surplus = alive.len().saturating_sub(limit);
    alive.sort_by_key(|set| revision(&set.metadata));
    alive.truncate(surplus);
    alive.retain(|set| {
        let status = set.status.clone().unwrap_or_default();
        let observed = set.metadata.generation.unwrap_or(0) <= status.observed_generation.unwrap_or(0);
        status.replicas == 0 && super::scale::replicas(set) == 0 && observed
    });
    alive
}

#[cfg(test)]
mod tests;
