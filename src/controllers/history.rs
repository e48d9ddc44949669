//! The history of a stateful or daemon set: `ControllerRevision`s, each with one pod template.
//!
//! A revision's data is a strategic merge patch that puts the template back; `kubectl rollout undo` applies
//! it as it is. Revisions are compared by their templates, so those that another controller wrote are
//! recognised.

use std::sync::Arc;

use api::{ApiError, DeleteOptions, Kinded, Preconditions};
use client::Api;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::context::{text, unless_gone};
use crate::templates;

/// The label of pods that says which revision they are of: its name (stateful sets) or hash (daemon sets).
/// Revisions of daemon sets have it, too.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";
/// The label of a stateful set's revisions with their hash.
pub(crate) const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// The longest part of an owner's name that goes into a revision's.
const NAME_PREFIX: usize = 223;

/// The patch that restores a template.
pub(crate) fn data_of(template: &PodTemplateSpec) -> Result<RawExtension, ApiError> {
    let mut template = serde_json::to_value(template).map_err(ApiError::internal)?;
    if let Value::Object(fields) = &mut template {
        fields.insert("$patch".to_string(), json!("replace"));
    }
    Ok(RawExtension(json!({"spec": {"template": template}})))
}

/// The template that a revision restores; none if the data is something else.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    api::decode::pod_template(&template).ok()
}

/// Whether the revision restores this template.
pub(crate) fn restores(revision: &ControllerRevision, template: &PodTemplateSpec) -> bool {
    template_of(revision).is_some_and(|own| templates::same(&own, template))
}

/// Oldest first.
pub(crate) fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by_key(|revision| {
        let metadata = &revision.metadata;
        (revision.revision, metadata.creation_timestamp.clone(), metadata.name.clone())
    });
}

pub(crate) fn name_of(owner: &str, hash: &str) -> String {
    let cut = (0..=NAME_PREFIX.min(owner.len())).rev().find(|at| owner.is_char_boundary(*at)).unwrap_or(0);
    format!("{}-{hash}", &owner[..cut])
}

/// A revision of a template, to be made. It has the template's labels and one more, with the template's hash.
pub(crate) fn new_revision<K: Kinded>(
    owner: &K,
    template: &PodTemplateSpec,
    name: String,
    (label, hash): (&str, String),
    number: i64,
) -> Result<ControllerRevision, ApiError> {
    let mut labels =
        template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    labels.insert(label.to_string(), hash);
    Ok(ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: owner.metadata().namespace.clone(),
            labels: Some(labels),
            annotations: owner.metadata().annotations.clone(),
            owner_references: Some(vec![api::owner::controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(data_of(template)?),
        revision: number,
    })
}

/// Gives a revision that is used again the newest number.
pub(crate) async fn renumber(
    api: &Api<ControllerRevision>,
    revision: &ControllerRevision,
    number: i64,
) -> Result<Arc<ControllerRevision>, ApiError> {
    let mut renumbered = revision.clone();
    renumbered.revision = number;
    api.update(&renumbered).await
}

pub(crate) async fn delete(
    api: &Api<ControllerRevision>,
    revision: &ControllerRevision,
) -> Result<(), ApiError> {
    let preconditions = Preconditions { uid: revision.metadata.uid.clone(), ..Preconditions::default() };
    let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
    unless_gone(api.delete(text(&revision.metadata.name), &options).await)
}

#[cfg(test)]
mod tests;
