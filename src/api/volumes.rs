//! Claims and volumes: which claim a pod means, and which volume a claim can have.
//!
//! The binder, the scheduler and the kubelet decide by the same rules, which are those of
//! `k8s.io/component-helpers/storage/volume`. Absent: volumes of plugins that were migrated to CSI.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::LabelSelector;
use crate::affinity::Term;
use crate::owner::is_controlled_by;
use crate::quantity::Quantity;

#[cfg(test)]
mod tests;

/// On a claim: it was bound, and is lost if its volume goes.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or volume: not a user but the controller has bound it.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim: the node that its first pod is going to.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a volume: who has made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: who is to make its volume.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
pub const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// The provisioner of classes whose volumes are made by hand.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// The built-in provisioner. The name is that of the one in k3s, so that its manifests work unchanged.
pub const LOCAL_PATH: &str = "rancher.io/local-path";
/// On a node: the directory that volumes of the built-in provisioner are made in.
pub const LOCAL_PATH_DIRECTORY: &str = "local-path.minik8s.io/directory";
/// On a node: volumes of the built-in provisioner that it is to remove, a JSON list of paths. The node takes
/// out what is gone.
pub const LOCAL_PATH_REMOVE: &str = "local-path.minik8s.io/remove";

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

type Annotations = Option<BTreeMap<String, String>>;

pub fn annotation<'a>(annotations: &'a Annotations, name: &str) -> Option<&'a str> {
    annotations.as_ref()?.get(name).map(String::as_str)
}

/// The class of a claim; empty if it wants none.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&claim.metadata.annotations, BETA_CLASS).or(spec).unwrap_or("")
}

/// Whether a claim says which class it wants, be it none.
pub fn names_class(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata.annotations, BETA_CLASS).is_some()
        || claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some())
}

pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&volume.metadata.annotations, BETA_CLASS).or(spec).unwrap_or("")
}

fn is_default_class(class: &StorageClass) -> bool {
    DEFAULT_MARKS.iter().any(|mark| annotation(&class.metadata.annotations, mark) == Some("true"))
}

/// Of several default classes the newest, then the first by name.
pub fn default_class(classes: &[Arc<StorageClass>]) -> Option<&Arc<StorageClass>> {
    let age = |class: &StorageClass| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let marked = classes.iter().filter(|class| is_default_class(class));
    marked.min_by(|a, b| age(b).cmp(&age(a)).then_with(|| a.metadata.name.cmp(&b.metadata.name)))
}

/// Claims of the class are bound once a pod that uses them is placed.
pub fn waits_for_consumer(class: Option<&StorageClass>) -> bool {
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

/// The name of the claim that a pod's volume means, also of one that is made for the pod.
pub fn claim_name(pod: &Pod, volume: &Volume) -> Option<String> {
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.metadata.name.as_deref().unwrap_or(""), volume.name)),
        (None, None) => None,
    }
}

/// The names of all claims that a pod uses.
pub fn claim_names(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(move |volume| claim_name(pod, volume))
}

/// A claim has the name of one of a pod's own, but was not made for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PVC {claim} was not created for pod {pod} (pod is not owner)")]
pub struct NotMadeForPod {
    claim: String,
    pod: String,
}

/// Refuses a claim that is somebody else's.
pub fn check_made_for(pod: &Pod, claim: &PersistentVolumeClaim) -> Result<(), NotMadeForPod> {
    let (own, theirs) = (&pod.metadata, &claim.metadata);
    let uid = own.uid.as_deref().unwrap_or("");
    if own.namespace == theirs.namespace && !uid.is_empty() && is_controlled_by(theirs, uid) {
        return Ok(());
    }
    let place = |meta: &ObjectMeta| {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        format!("{}/{}", text(&meta.namespace), text(&meta.name))
    };
    Err(NotMadeForPod { claim: place(theirs), pod: place(own) })
}

/// What a claim asks for; nothing if that cannot be read.
pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    storage(resources.and_then(|resources| resources.requests.as_ref()))
}

pub fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

/// The `storage` of a list of resources.
pub fn storage(
    list: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
) -> Quantity {
    let quantity = list.and_then(|list| list.get("storage")).and_then(|quantity| quantity.0.parse().ok());
    quantity.unwrap_or_else(|| Quantity::bytes(0))
}

fn mode(mode: Option<&String>) -> &str {
    mode.map_or("Filesystem", String::as_str)
}

pub fn mode_of(volume: &PersistentVolume) -> &str {
    mode(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()))
}

/// One is a file system and the other a device.
pub fn modes_differ(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    mode(claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref())) != mode_of(volume)
}

fn attributes(name: Option<&String>) -> &str {
    name.map_or("", String::as_str)
}

/// The volume has other attributes than the claim asks for.
pub fn attributes_differ(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    attributes(claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()))
        != attributes(volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()))
}

fn modes_of_volume(volume: &PersistentVolume) -> &[String] {
    volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

pub fn access_modes(claim: &PersistentVolumeClaim) -> &[String] {
    claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

/// The volume can be used in every way the claim asks for.
pub fn has_access_modes(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    access_modes(claim).iter().all(|mode| modes_of_volume(volume).contains(mode))
}

/// The volume names this claim: bound to it, or meant for one of its name.
pub fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(named) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    let uid = named.uid.as_deref().unwrap_or("");
    named.name == claim.metadata.name
        && named.namespace == claim.metadata.namespace
        && (uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
}

/// The claim's binding is complete, on its side.
pub fn is_fully_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_name(claim).is_empty() && annotation(&claim.metadata.annotations, BIND_COMPLETED).is_some()
}

pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or("")
}

/// The volume can be reached from the node.
pub fn fits_node(volume: &PersistentVolume, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    let is_met = |terms: &[_]| terms.iter().any(|term| Term::compile(term).matches(node, labels));
    required.is_none_or(|required| is_met(&required.node_selector_terms))
}

/// A node with its labels.
pub type NodeLabels<'a> = (&'a str, &'a BTreeMap<String, String>);

/// The volume for a claim: one that is meant for it, else the smallest that will do and is not excluded. With
/// a node the volume must be reachable from there; without one a claim that waits for its consumer gets only
/// what is meant for it.
pub fn best_match<'v>(
    claim: &PersistentVolumeClaim,
    volumes: impl IntoIterator<Item = &'v Arc<PersistentVolume>>,
    node: Option<NodeLabels<'_>>,
    is_excluded: impl Fn(&str) -> bool,
    waits: bool,
) -> Option<&'v Arc<PersistentVolume>> {
    let requested = requested(claim);
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = selector.map(|selector| LabelSelector::from_meta(Some(selector)));
    let unlabelled = BTreeMap::new();
    let mut smallest: Option<(Quantity, &Arc<PersistentVolume>)> = None;
    for volume in volumes {
        let meta = &volume.metadata;
        let is_named = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
        let is_meant = is_bound_to(volume, claim);
        let size = capacity(volume);
        if is_excluded(meta.name.as_deref().unwrap_or(""))
            || (is_named && !is_meant)
            || size < requested
            || modes_differ(claim, volume)
            || attributes_differ(claim, volume)
            || meta.deletion_timestamp.is_some()
        {
            continue;
        }
        let is_reachable = node.is_none_or(|(name, labels)| fits_node(volume, name, labels));
        if is_meant {
            return is_reachable.then_some(volume);
        }
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let labels = meta.labels.as_ref().unwrap_or(&unlabelled);
        let fits = !(node.is_none() && waits)
            && phase == Some("Available")
            && selector.as_ref().is_none_or(|selector| selector.matches(labels))
            && class_of_volume(volume) == class_of_claim(claim)
            && is_reachable
            && has_access_modes(claim, volume);
        if fits && smallest.as_ref().is_none_or(|(least, _)| size < *least) {
            smallest = Some((size, volume));
        }
    }
    smallest.map(|(_, volume)| volume)
}

/// As [`best_match`] without a node, but volumes that can be used in the fewest ways come first, so that a
/// claim for one writer does not take what many could share.
pub fn best_match_anywhere<'v>(
    claim: &PersistentVolumeClaim,
    volumes: &'v [Arc<PersistentVolume>],
    waits: bool,
) -> Option<&'v Arc<PersistentVolume>> {
    let mut ways: Vec<&[String]> = volumes.iter().map(|volume| modes_of_volume(volume)).collect();
    ways.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    ways.dedup();
    ways.into_iter().find_map(|ways| {
        let alike = volumes.iter().filter(|one| modes_of_volume(one) == ways && has_access_modes(claim, one));
        best_match(claim, alike, None, |_| false, waits)
    })
}
