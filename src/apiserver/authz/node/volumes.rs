//! What a node's pods lead to by way of their claims: volumes with their secrets, attachments, devices.
//!
//! A volume belongs to the claim that it names itself: what a claim says of a volume is the word of whoever
//! wrote the claim.

use std::sync::Arc;

use api::Object;
use api::json::text;
use api::kinds::{PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, VOLUME_ATTACHMENT};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::MIRROR_ANNOTATION;
use crate::authz::references;
use crate::cache::Caches;

/// Where volumes name secrets that a node needs; some may leave the namespace to the claim's.
const SECRETS: [&str; 10] = [
    "csi.nodePublishSecretRef",
    "csi.nodeStageSecretRef",
    "csi.nodeExpandSecretRef",
    "cephfs.secretRef",
    "cinder.secretRef",
    "flexVolume.secretRef",
    "iscsi.secretRef",
    "rbd.secretRef",
    "scaleIO.secretRef",
    "storageos.secretRef",
];

/// The pods of a node. A mirror of the node's own manifest leads nowhere.
fn pods(caches: &Caches, node: &str) -> impl Iterator<Item = (Arc<Object>, Arc<Pod>)> {
    let all = caches.indexed(&POD, "spec.nodeName", node).into_iter();
    let typed = all.filter_map(|object| object.typed::<Pod>().ok().map(|pod| (object, pod)));
    typed.filter(|(_, pod)| {
        let annotations = pod.metadata.annotations.as_ref();
        annotations.is_none_or(|own| !own.contains_key(MIRROR_ANNOTATION))
    })
}

/// Names of the claims that a pod uses, also of those that are made for it.
fn claims(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let name = pod.metadata.name.as_deref().unwrap_or("");
    let volumes = spec.volumes.iter().flatten().filter(|volume| volume.ephemeral.is_some());
    let made = volumes.map(|volume| format!("{name}-{}", volume.name));
    references::claims(spec).into_iter().map(str::to_string).chain(made).collect()
}

/// Whether a pod of the node uses a claim, by name or because it is made for the pod.
pub(super) fn uses_claim(caches: &Caches, node: &str, namespace: Option<&str>, name: &str) -> bool {
    let mut own = pods(caches, node).filter(|(object, _)| object.namespace() == namespace);
    own.any(|(_, pod)| claims(&pod).iter().any(|claim| claim == name))
}

fn volume(caches: &Caches, name: &str) -> Option<Value> {
    caches.get(&PERSISTENT_VOLUME, None, name)?.tree().ok()
}

/// Whether a volume is bound to a claim of the node's pods.
pub(super) fn uses_volume(caches: &Caches, node: &str, name: &str) -> bool {
    volume(caches, name).is_some_and(|volume| {
        let (namespace, claim) =
            (text(&volume, "spec.claimRef.namespace"), text(&volume, "spec.claimRef.name"));
        !claim.is_empty() && uses_claim(caches, node, Some(namespace), claim)
    })
}

/// Whether a volume of the node's pods names a secret.
pub(super) fn uses_secret(caches: &Caches, node: &str, namespace: Option<&str>, name: &str) -> bool {
    pods(caches, node).any(|(object, pod)| {
        claims(&pod).iter().any(|claim| {
            let found = caches.get(&PERSISTENT_VOLUME_CLAIM, object.namespace(), claim);
            let found = found.and_then(|claim| claim.tree().ok()).unwrap_or_default();
            let volume = volume(caches, text(&found, "spec.volumeName")).unwrap_or_default();
            let is_bound = text(&volume, "spec.claimRef.name") == claim
                && Some(text(&volume, "spec.claimRef.namespace")) == object.namespace();
            is_bound && names_secret(&volume, namespace, name)
        })
    })
}

fn names_secret(volume: &Value, namespace: Option<&str>, name: &str) -> bool {
    let default = text(volume, "spec.claimRef.namespace");
    let is_it = |own: &str, place: &str| {
        let place = if place.is_empty() { default } else { place };
        !own.is_empty() && own == name && Some(place) == namespace
    };
    let spec = &volume["spec"];
    let by_reference = SECRETS.iter().any(|path| {
        let of = |part: &str| text(spec, &format!("{path}.{part}")).to_string();
        is_it(&of("name"), &of("namespace"))
    });
    by_reference || is_it(text(spec, "azureFile.secretName"), text(spec, "azureFile.secretNamespace"))
}

/// Whether an attachment is to the node.
pub(super) fn is_attached(caches: &Caches, node: &str, name: &str) -> bool {
    let attachment = caches.get(&VOLUME_ATTACHMENT, None, name).and_then(|one| one.tree().ok());
    attachment.is_some_and(|tree| tree["spec"]["nodeName"] == node)
}

/// Whether a pod of the node has a claim of devices: by name, made from its template, or for what it asks of
/// extended resources.
pub(super) fn uses_devices(caches: &Caches, node: &str, namespace: Option<&str>, name: &str) -> bool {
    let mut own = pods(caches, node).filter(|(object, _)| object.namespace() == namespace);
    own.any(|(_, pod)| {
        let by_name = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
        let mut by_name = by_name.filter_map(|claim| claim.resource_claim_name.as_deref());
        let status = pod.status.as_ref();
        let made = status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
        let mut made = made.filter_map(|claim| claim.resource_claim_name.as_deref());
        let extended = status.and_then(|status| status.extended_resource_claim_status.as_ref());
        by_name.any(|own| own == name)
            || made.any(|own| own == name)
            || extended.is_some_and(|claim| claim.resource_claim_name == name)
    })
}

#[cfg(test)]
mod tests;
