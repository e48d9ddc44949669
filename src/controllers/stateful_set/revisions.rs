//! Which revisions a stateful set moves between, and which of its history may go.

use std::collections::HashSet;
use std::sync::Arc;

use api::{ApiError, template_hash};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};

use super::{identity, name_of};
use crate::context::text;
use crate::history::{self, HASH_LABEL};

/// A revision as the plan needs it.
#[derive(Clone, Debug)]
pub(super) struct Revision {
    pub(super) name: String,
    pub(super) template: PodTemplateSpec,
}

/// How the set's template gets its revision.
#[derive(Debug)]
pub(super) enum Update {
    /// The newest one is of this template.
    Newest(Arc<ControllerRevision>),
    /// An older one is: it gets this number, the highest.
    Again(Arc<ControllerRevision>, i64),
    /// There is none: it is to be made with this number.
    New(i64),
}

/// `revisions` are sorted.
pub(super) fn update(set: &StatefulSet, revisions: &[Arc<ControllerRevision>]) -> Update {
    let next = revisions.last().map_or(1, |newest| newest.revision + 1);
    let Some(spec) = &set.spec else { return Update::New(next) };
    match revisions.iter().rposition(|revision| history::restores(revision, &spec.template)) {
        Some(at) if at + 1 == revisions.len() => Update::Newest(revisions[at].clone()),
        Some(at) => Update::Again(revisions[at].clone(), next),
        None => Update::New(next),
    }
}

/// A revision of the set's template, to be made.
pub(super) fn new(set: &StatefulSet, number: i64, collisions: i32) -> Result<ControllerRevision, ApiError> {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let hash = template_hash::of(&template, Some(collisions));
    let name = history::name_of(name_of(set), &hash);
    history::new_revision(set, &template, name, (HASH_LABEL, hash), number)
}

/// The revision that pods are at: the one in the status, at the beginning the new one.
pub(super) fn current(
    set: &StatefulSet,
    revisions: &[Arc<ControllerRevision>],
    update: &Arc<ControllerRevision>,
) -> Arc<ControllerRevision> {
    let told = set.status.as_ref().and_then(|status| status.current_revision.as_deref()).unwrap_or("");
    let named = revisions.iter().find(|revision| text(&revision.metadata.name) == told);
    named.unwrap_or(update).clone()
}

/// What the plan needs of a revision; one whose data cannot be read counts as of the set's template.
pub(super) fn brief(set: &StatefulSet, revision: &ControllerRevision) -> Revision {
    let own = || set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    Revision {
        name: text(&revision.metadata.name).to_string(),
        template: history::template_of(revision).unwrap_or_else(own),
    }
}

/// Revisions beyond the limit that no pod is of and the set does not move between, oldest first.
pub(super) fn superfluous(
    set: &StatefulSet,
    revisions: &[Arc<ControllerRevision>],
    pods: &[Arc<Pod>],
    live: [&str; 2],
) -> Vec<Arc<ControllerRevision>> {
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let Ok(limit) = usize::try_from(limit) else { return Vec::new() };
    let mut used: HashSet<&str> = pods.iter().map(|pod| identity::revision(pod)).collect();
    used.extend(live);
    let mut old: Vec<Arc<ControllerRevision>> =
        revisions.iter().filter(|one| !used.contains(text(&one.metadata.name))).cloned().collect();
    old.truncate(old.len().saturating_sub(limit));
    old
}

#[cfg(test)]
mod tests;
