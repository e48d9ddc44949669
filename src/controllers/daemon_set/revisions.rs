//! The history of a daemon set's templates: finds or makes the revision of the present one, gives each the
//! label with its hash, and deletes old ones that no pod is of.

use std::sync::Arc;

use api::{ApiError, LabelMatcher, Patch, template_hash};
use client::{Api, Change};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{Controller, plan};
use crate::context::{text, unless_gone};
use crate::history::{self, REVISION_LABEL};

/// The hash of the present template, and the revisions of others, oldest first.
pub(super) struct History {
    pub(super) hash: String,
    old: Vec<Arc<ControllerRevision>>,
}

fn hash_of(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(REVISION_LABEL)).map_or("", String::as_str)
}

fn new_revision(set: &DaemonSet, number: i64) -> Result<ControllerRevision, ApiError> {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash::of(&template, collisions);
    let name = format!("{}-{hash}", text(&set.metadata.name));
    history::new_revision(set, &template, name, (REVISION_LABEL, hash), number)
}

/// Old revisions beyond the limit that no pod is of, oldest first.
fn superfluous(
    set: &DaemonSet,
    old: &[Arc<ControllerRevision>],
    pods: &[Arc<Pod>],
) -> Vec<Arc<ControllerRevision>> {
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    let live = plan::live_hashes(pods);
    old.iter().filter(|revision| !live.contains(hash_of(revision))).take(surplus).cloned().collect()
}

/// A revision before and after a change, if its owner has to look at it. A new one does not wake its owner:
/// the owner made it, or somebody who prepares a rollout and may delete its equal next. As upstream, equal
/// ones are merged at the owner's next look, whatever causes that.
pub(super) fn that_matter(
    change: &Change<ControllerRevision>,
) -> impl Iterator<Item = &Arc<ControllerRevision>> {
    let is_new = change.old.is_none();
    change.old.iter().chain(&change.new).filter(move |_| !is_new)
}

/// A revision that nobody owns now.
pub(super) fn orphan(change: &Change<ControllerRevision>) -> Option<&Arc<ControllerRevision>> {
    change.new.as_ref().filter(|revision| api::owner::controller_of(&revision.metadata).is_none())
}

impl Controller {
    pub(super) async fn history(
        &self,
        set: &DaemonSet,
        selector: &LabelMatcher,
        pods: &[Arc<Pod>],
    ) -> Result<History, ApiError> {
        let api = Api::<ControllerRevision>::namespaced(self.api.clone(), text(&set.metadata.namespace));
        let mut candidates = self.revisions_by_owner.by(text(&set.metadata.uid));
        candidates.extend(self.revisions_by_owner.orphans(text(&set.metadata.namespace)));
        let mut revisions = self.claim(set, selector, candidates).await?;
        for revision in &mut revisions {
            if hash_of(revision).is_empty() {
                let mut labeled = (**revision).clone();
                let name = text(&revision.metadata.name).to_string();
                labeled.metadata.labels.get_or_insert_default().insert(REVISION_LABEL.to_string(), name);
                *revision = api.update(&labeled).await?;
            }
        }
        history::sort(&mut revisions);
        let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let (mut current, old): (Vec<_>, Vec<_>) =
            revisions.into_iter().partition(|revision| history::restores(revision, &template));
        let number = old.iter().map(|revision| revision.revision).max().unwrap_or(0) + 1;
        let newest = match current.pop() {
            None => self.make_revision(set, &api, number).await?,
            Some(newest) => {
                self.merge(set, &api, &newest, &current, pods).await?;
                if newest.revision < number {
                    history::renumber(&api, &newest, number).await?
                } else {
                    newest
                }
            }
        };
        Ok(History { hash: hash_of(&newest).to_string(), old })
    }

    /// Several revisions of the same template, as after a change of version, become one.
    async fn merge(
        &self,
        set: &DaemonSet,
        api: &Api<ControllerRevision>,
        kept: &ControllerRevision,
        others: &[Arc<ControllerRevision>],
        pods: &[Arc<Pod>],
    ) -> Result<(), ApiError> {
        if others.is_empty() {
            return Ok(());
        }
        for pod in pods {
            let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_LABEL));
            if label.is_none_or(|label| !others.iter().any(|other| hash_of(other) == label)) {
                continue;
            }
            let body =
                json!({"metadata": {"uid": pod.metadata.uid, "labels": {REVISION_LABEL: hash_of(kept)}}});
            let pods = Api::<Pod>::namespaced(self.api.clone(), text(&set.metadata.namespace));
            unless_gone(pods.patch(text(&pod.metadata.name), Patch::merge(body)).await)?;
        }
        for other in others {
            history::delete(api, other).await?;
        }
        Ok(())
    }

    async fn make_revision(
        &self,
        set: &DaemonSet,
        api: &Api<ControllerRevision>,
        number: i64,
    ) -> Result<Arc<ControllerRevision>, ApiError> {
        let new = new_revision(set, number)?;
        let error = match api.create(&new).await {
            Err(error) if error.is_already_exists() => error,
            outcome => return outcome,
        };
        let existing = api.get(text(&new.metadata.name)).await?;
        let template = history::template_of(&new).unwrap_or_default();
        let ours = api::owner::is_controlled_by(&existing.metadata, text(&set.metadata.uid));
        if ours && history::restores(&existing, &template) {
            return Ok(existing);
        }
        // A collision of hashes: the next pass tries another name, if the count is not an old one.
        let sets = Api::<DaemonSet>::namespaced(self.api.clone(), text(&set.metadata.namespace));
        let newest = sets.get(text(&set.metadata.name)).await?;
        let count = |set: &DaemonSet| set.status.as_ref().and_then(|status| status.collision_count);
        if count(&newest) == count(set) {
            let mut told = (*newest).clone();
            let status = told.status.get_or_insert_default();
            status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
            sets.update_status(&told).await?;
        }
        Err(error)
    }

    pub(super) async fn clean_up(
        &self,
        set: &DaemonSet,
        history: &History,
        pods: &[Arc<Pod>],
    ) -> Result<(), ApiError> {
        let api = Api::<ControllerRevision>::namespaced(self.api.clone(), text(&set.metadata.namespace));
        for revision in superfluous(set, &history.old, pods) {
            history::delete(&api, &revision).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
