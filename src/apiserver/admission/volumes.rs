//! StorageObjectInUseProtection and PersistentVolumeClaimResize: volumes, claims and classes of attributes
//! stay while they are used, and only claims whose class allows it grow.

use api::ApiError;
use api::json::{items, text};
use api::kinds::STORAGE_CLASS;
use api::quantity::Quantity;
use serde_json::{Value, json};

use super::request::{Operation, Request};

const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Puts the finalizer on a new object that lets go of it once nobody uses it.
pub(super) fn protect(request: &Request<'_>, object: &mut Value) {
    if request.operation != Operation::Create {
        return;
    }
    let Some((.., finalizer)) = PROTECTED.iter().find(|(group, plural, _)| request.is(group, plural, None))
    else {
        return;
    };
    let mut finalizers = items(object, "metadata.finalizers").to_vec();
    if !finalizers.iter().any(|one| one == finalizer) {
        finalizers.push(json!(finalizer));
        object["metadata"]["finalizers"] = json!(finalizers);
    }
}

fn size(claim: &Value) -> Quantity {
    let text = text(claim, "spec.resources.requests.storage");
    text.parse().unwrap_or(Quantity::ZERO)
}

fn class(claim: &Value) -> &str {
    match claim["metadata"]["annotations"][BETA_CLASS].as_str() {
        Some(class) => class,
        None => text(claim, "spec.storageClassName"),
    }
}

/// Refuses to grow a claim that cannot grow.
pub(super) fn resize(request: &Request<'_>, claim: &Value) -> Result<(), ApiError> {
    if request.operation != Operation::Update || !request.is("", "persistentvolumeclaims", None) {
        return Ok(());
    }
    let old = request.old_tree();
    if size(claim) <= size(&old) {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let named = class(claim);
    let found = || request.ctx.caches.get(&STORAGE_CLASS, None, named)?.tree().ok();
    let same = !named.is_empty() && named == class(&old);
    if same && found().is_some_and(|class| class["allowVolumeExpansion"] == true) {
        return Ok(());
    }
    Err(request.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}
