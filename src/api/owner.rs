//! Owner references: who an object belongs to, and which of its owners manages it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::Kinded;

/// The reference to the controller, of which an object has at most one.
pub fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|reference| reference.controller == Some(true))
}

/// The same for metadata as the machinery holds it.
pub fn controller_of_object(metadata: &crate::Metadata) -> Option<&crate::OwnerReference> {
    metadata.owner_references.iter().find(|reference| reference.controller == Some(true))
}

/// Whether the controller is the object of this uid.
pub fn is_controlled_by(metadata: &ObjectMeta, uid: &str) -> bool {
    controller_of(metadata).is_some_and(|reference| reference.uid == uid)
}

/// The reference that a controller puts on what it creates.
pub fn controller_reference<K: Kinded>(owner: &K) -> OwnerReference {
    let metadata = owner.metadata();
    OwnerReference {
        api_version: K::row().api_version(),
        kind: K::row().kind.to_string(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
