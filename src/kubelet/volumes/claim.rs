//! Whether a claim leads to a volume: the binding must be whole on both sides.

use api::ApiError;
use api::volumes::volume_name;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

pub(super) const FINALIZER: &str = "kubernetes.io/pvc-protection";

/// Why a claim does not lead to a volume, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error("failed to fetch PVC from API server: {0}")]
    NoClaim(#[source] ApiError),
    #[error("PVC is being deleted")]
    Deleted,
    #[error("PVC is not bound")]
    NotBound,
    #[error("PVC has empty pvc.Spec.VolumeName")]
    NoVolumeName,
    #[error("failed to fetch PV {volume} from API server: {source}")]
    NoVolume { volume: String, source: ApiError },
    #[error("found PV object {0} but its pvc.Spec.ClaimRef is nil")]
    Unclaimed(String),
    #[error(
        "found PV object {volume} but its pvc.Spec.ClaimRef.UID {named} does not point to claim.UID {wanted}"
    )]
    OtherClaim { volume: String, named: String, wanted: String },
}

pub(super) fn check_claim(claim: &PersistentVolumeClaim) -> Result<(), ClaimError> {
    let meta = &claim.metadata;
    let is_guarded = meta.finalizers.iter().flatten().any(|one| one == FINALIZER);
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    match () {
        () if meta.deletion_timestamp.is_some() && !is_guarded => Err(ClaimError::Deleted),
        () if phase != Some("Bound") => Err(ClaimError::NotBound),
        () if volume_name(claim).is_empty() => Err(ClaimError::NoVolumeName),
        () => Ok(()),
    }
}

pub(super) fn check_volume(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> Result<(), ClaimError> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    let uid = |uid: &Option<String>| uid.clone().unwrap_or_default();
    match volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) {
        None => Err(ClaimError::Unclaimed(name)),
        Some(named) if named.uid != claim.metadata.uid => Err(ClaimError::OtherClaim {
            volume: name,
            named: uid(&named.uid),
            wanted: uid(&claim.metadata.uid),
        }),
        Some(_) => Ok(()),
    }
}
