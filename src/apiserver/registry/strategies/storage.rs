//! Volumes, claims and the kinds of `storage.k8s.io`: what upstream's `pkg/apis/storage` and the volume parts
//! of `pkg/apis/core` demand of them.

mod attachment;
mod claim;
mod class;
mod csi;
mod sources;
mod volume;

#[cfg(test)]
mod tests;

pub(super) use attachment::VolumeAttachments;
pub(super) use claim::{Claims, validate_spec as validate_claim_spec};
pub(super) use class::{StorageClasses, VolumeAttributesClasses};
pub(super) use csi::{CsiDrivers, CsiNodes, CsiStorageCapacities};
pub(super) use volume::Volumes;
