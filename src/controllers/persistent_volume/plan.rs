//! What becomes of one claim, and of one volume, given what is there.
//!
//! A claim leads: it picks its volume. A binding is four writes in an order that never leaves one volume to
//! two claims: the volume names the claim, is Bound, the claim names the volume, is Bound. Whoever finds one
//! half done goes on with it. A volume whose claim is gone is Released, and only then reclaimed.

use std::sync::Arc;

use api::volumes::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, PROVISIONED_BY, SELECTED_NODE, annotation, attributes_differ,
    best_match_anywhere, capacity, class_of_claim, class_of_volume, default_class, has_access_modes,
    is_bound_to, modes_differ, names_class, requested, volume_name, waits_for_consumer,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::context::text;

#[cfg(test)]
mod tests;

/// What claims are decided on.
pub(super) struct Storage {
    pub(super) volumes: Vec<Arc<PersistentVolume>>,
    pub(super) classes: Vec<Arc<StorageClass>>,
}

/// An event: its reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VolumeEvent {
    pub(super) is_warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl VolumeEvent {
    fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        VolumeEvent { is_warning: false, reason, message: message.into() }
    }

    pub(super) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        VolumeEvent { is_warning: true, reason, message: message.into() }
    }
}

/// What is to be done about a claim.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ClaimPlan {
    /// Bind it to the volume, or finish that.
    Bind(Arc<PersistentVolume>),
    /// It names no class: give it the default one.
    AssignClass(String),
    /// Ask this provisioner for a volume.
    Provision(String),
    /// It waits, which is told.
    Pending(Option<VolumeEvent>),
    /// Its volume is gone, or another claim's.
    Lost(VolumeEvent),
    /// Only told.
    Tell(VolumeEvent),
}

/// What is to be done about a volume.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum VolumePlan {
    Available,
    Bound,
    /// Its claim is gone for good.
    Reclaim(Reclaim),
    /// Its claim has another volume.
    Unbind,
    /// Its claim does not name it yet.
    WaitForClaim,
    /// What the claim and the volume are told.
    Mismatch(VolumeEvent, VolumeEvent),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reclaim {
    /// For an administrator to look at.
    Keep,
    /// Whoever made it deletes it.
    ByProvisioner,
    /// It cannot be reclaimed.
    Fail(VolumeEvent),
}

/// `waiting` are pods without a node that use the claim.
pub(super) fn claim(claim: &PersistentVolumeClaim, storage: &Storage, waiting: &[String]) -> ClaimPlan {
    let wanted = volume_name(claim);
    let find = |name: &str| storage.volumes.iter().find(|volume| text(&volume.metadata.name) == name);
    if annotation(&claim.metadata.annotations, BIND_COMPLETED).is_some() {
        return bound_claim(claim, wanted, find(wanted));
    }
    if wanted.is_empty() {
        return free_claim(claim, storage, waiting);
    }
    let Some(volume) = find(wanted) else { return ClaimPlan::Pending(None) };
    let is_free = volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none());
    if is_free && let Err(why) = check(volume, claim) {
        let message = format!("Cannot bind to requested volume {wanted:?}: {why}");
        return ClaimPlan::Pending(Some(VolumeEvent::warning("VolumeMismatch", message)));
    }
    if is_free || is_bound_to(volume, claim) {
        return ClaimPlan::Bind(volume.clone());
    }
    let message = format!("volume {wanted:?} already bound to a different claim.");
    ClaimPlan::Pending(Some(VolumeEvent::warning("FailedBinding", message)))
}

fn bound_claim(
    claim: &PersistentVolumeClaim,
    wanted: &str,
    volume: Option<&Arc<PersistentVolume>>,
) -> ClaimPlan {
    let lost = |reason, message: &str| ClaimPlan::Lost(VolumeEvent::warning(reason, message));
    if wanted.is_empty() {
        let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost("ClaimLost", message);
    }
    let Some(volume) = volume else {
        return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    match volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) {
        Some(named) if named.uid != claim.metadata.uid => {
            let message = "Two claims are bound to the same volume, this one is bound incorrectly";
            lost("ClaimMisbound", message)
        }
        _ => ClaimPlan::Bind(volume.clone()),
    }
}

/// A claim that asks for any volume that fits.
fn free_claim(claim: &PersistentVolumeClaim, storage: &Storage, waiting: &[String]) -> ClaimPlan {
    let class_name = class_of_claim(claim);
    let class = storage.classes.iter().find(|class| text(&class.metadata.name) == class_name);
    let waits = waits_for_consumer(class.map(Arc::as_ref));
    if let Some(volume) = best_match_anywhere(claim, &storage.volumes, waits) {
        return ClaimPlan::Bind(volume.clone());
    }
    if !names_class(claim)
        && let Some(class) = default_class(&storage.classes)
    {
        return ClaimPlan::AssignClass(text(&class.metadata.name).to_string());
    }
    if waits && annotation(&claim.metadata.annotations, SELECTED_NODE).is_none() {
        return ClaimPlan::Pending(Some(waits_for(waiting)));
    }
    if class_name.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return ClaimPlan::Pending(Some(VolumeEvent::normal("FailedBinding", message)));
    }
    let failed = |message: String| ClaimPlan::Tell(VolumeEvent::warning("ProvisioningFailed", message));
    match class {
        None => failed(format!("storageclass.storage.k8s.io {class_name:?} not found")),
        Some(class) if class.provisioner.starts_with("kubernetes.io/") => {
            failed(format!("no volume plugin matched name: {}", class.provisioner))
        }
        Some(class) => ClaimPlan::Provision(class.provisioner.clone()),
    }
}

fn waits_for(pods: &[String]) -> VolumeEvent {
    match pods {
        [] => VolumeEvent::normal(
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
        ),
        [pod] => VolumeEvent::normal("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        pods => VolumeEvent::normal(
            "WaitForPodScheduled",
            format!("waiting for pods {} to be scheduled", pods.join(",")),
        ),
    }
}

/// Why a claim may not have the volume that it asks for by name.
#[derive(Debug, thiserror::Error)]
enum Mismatch {
    #[error("the volume is marked for deletion {0:?}")]
    Leaving(String),
    #[error("requested PV is too small")]
    Size,
    #[error("storageClassName does not match")]
    Class,
    #[error("volumeAttributesClassName does not match")]
    Attributes,
    #[error("incompatible volumeMode")]
    Mode,
    #[error("incompatible accessMode")]
    Access,
}

fn check(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), Mismatch> {
    match () {
        () if volume.metadata.deletion_timestamp.is_some() => {
            Err(Mismatch::Leaving(text(&volume.metadata.name).to_string()))
        }
        () if capacity(volume) < requested(claim) => Err(Mismatch::Size),
        () if class_of_volume(volume) != class_of_claim(claim) => Err(Mismatch::Class),
        () if attributes_differ(claim, volume) => Err(Mismatch::Attributes),
        () if modes_differ(claim, volume) => Err(Mismatch::Mode),
        () if !has_access_modes(claim, volume) => Err(Mismatch::Access),
        () => Ok(()),
    }
}

/// `claim` is the one of the name and uid that the volume names, if the API has it.
pub(super) fn volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumePlan {
    let named = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let Some(named) = named.filter(|named| !text(&named.uid).is_empty()) else {
        // Free, or meant for a claim that may come.
        return VolumePlan::Available;
    };
    let Some(claim) = claim.filter(|claim| claim.metadata.uid == named.uid) else {
        return VolumePlan::Reclaim(reclaim(volume));
    };
    let name = text(&volume.metadata.name);
    match volume_name(claim) {
        "" if modes_differ(claim, volume) => {
            let claim_name = text(&claim.metadata.name);
            let to_claim = format!(
                "Cannot bind PersistentVolume {name:?} to requested PersistentVolumeClaim due to incompatible volumeMode."
            );
            let to_volume = format!(
                "Cannot bind PersistentVolume to requested PersistentVolumeClaim {claim_name:?} due to incompatible volumeMode."
            );
            let told = |message| VolumeEvent::warning("VolumeMismatch", message);
            VolumePlan::Mismatch(told(to_claim), told(to_volume))
        }
        "" => VolumePlan::WaitForClaim,
        bound if bound == name => VolumePlan::Bound,
        _ => {
            let is_made = annotation(&volume.metadata.annotations, PROVISIONED_BY).is_some();
            // One that was made for a claim which has found another in the meantime.
            if is_made && policy(volume) == "Delete" {
                VolumePlan::Reclaim(reclaim(volume))
            } else {
                VolumePlan::Unbind
            }
        }
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

/// Volumes that were made by hand cannot be deleted by anybody, and emptying them (`Recycle`) would take a
/// pod with an image.
fn reclaim(volume: &PersistentVolume) -> Reclaim {
    match policy(volume) {
        "Retain" => Reclaim::Keep,
        "Recycle" => Reclaim::Fail(VolumeEvent::warning(
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!",
        )),
        "Delete" => match annotation(&volume.metadata.annotations, PROVISIONED_BY).unwrap_or("") {
            "" if volume.spec.as_ref().is_some_and(|spec| spec.csi.is_some()) => Reclaim::ByProvisioner,
            "" => {
                let name = text(&volume.metadata.name);
                Reclaim::Fail(VolumeEvent::warning(
                    "VolumeFailedDelete",
                    format!(
                        "error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched"
                    ),
                ))
            }
            by if by.starts_with("kubernetes.io/") => {
                let message = format!("no volume plugin matched name: {by}");
                Reclaim::Fail(VolumeEvent::warning("VolumeFailedDelete", message))
            }
            _ => Reclaim::ByProvisioner,
        },
        _ => Reclaim::Fail(VolumeEvent::warning(
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy",
        )),
    }
}

/// The volume as it is once it names the claim; nothing if it does already.
pub(super) fn naming_claim(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> Option<PersistentVolume> {
    let mut named = volume.clone();
    let reference = client::events::reference_to(claim);
    let spec = named.spec.get_or_insert_default();
    let same = spec.claim_ref.as_ref().is_some_and(|own| {
        own.name == reference.name && own.namespace == reference.namespace && own.uid == reference.uid
    });
    if !same {
        spec.claim_ref = Some(reference);
    }
    // What a user has bound stays theirs: it is not taken apart again.
    let marks = !is_bound_to(volume, claim)
        && annotation(&volume.metadata.annotations, BOUND_BY_CONTROLLER).is_none();
    if marks {
        mark(&mut named.metadata.annotations, BOUND_BY_CONTROLLER);
    }
    (!same || marks).then_some(named)
}

/// The claim as it is once it names the volume; nothing if it does already.
pub(super) fn naming_volume(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Option<PersistentVolumeClaim> {
    let mut named = claim.clone();
    if volume_name(claim) != text(&volume.metadata.name) {
        named.spec.get_or_insert_default().volume_name = volume.metadata.name.clone();
        mark(&mut named.metadata.annotations, BOUND_BY_CONTROLLER);
    }
    mark(&mut named.metadata.annotations, BIND_COMPLETED);
    (named != *claim).then_some(named)
}

fn mark(annotations: &mut Option<std::collections::BTreeMap<String, String>>, name: &str) {
    annotations.get_or_insert_default().entry(name.to_string()).or_insert_with(|| "yes".to_string());
}

/// The volume as it is once it is nobody's. One that a user has meant for a claim stays so.
pub(super) fn unbound(volume: &PersistentVolume) -> PersistentVolume {
    let mut free = volume.clone();
    let by_us = annotation(&volume.metadata.annotations, BOUND_BY_CONTROLLER).is_some();
    if let Some(annotations) = &mut free.metadata.annotations {
        annotations.remove(BOUND_BY_CONTROLLER);
    }
    let spec = free.spec.get_or_insert_default();
    match &mut spec.claim_ref {
        Some(named) if !by_us => named.uid = None,
        named => *named = None,
    }
    free
}

/// The claim as it is told: Bound to a volume with its capacity, or without any.
pub(super) fn with_phase(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> PersistentVolumeClaim {
    let mut told = claim.clone();
    let status = told.status.get_or_insert_default();
    let before = status.phase.replace(phase.to_string());
    match volume.and_then(|volume| volume.spec.as_ref()) {
        None => {
            (status.access_modes, status.capacity) = (None, None);
            status.current_volume_attributes_class_name = None;
        }
        Some(spec) => {
            status.access_modes = spec.access_modes.clone();
            // Later its size is for whoever expands it to tell.
            if before.as_deref() != Some(phase) {
                status.capacity = spec.capacity.clone();
                if before.as_deref() == Some("Pending") {
                    status.current_volume_attributes_class_name = spec.volume_attributes_class_name.clone();
                }
            }
        }
    }
    told
}
