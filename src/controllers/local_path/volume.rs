//! What the provisioner's volumes look like, and when they leave.

use std::collections::BTreeMap;

use api::Kinded;
use api::volumes::{
    LOCAL_PATH, LOCAL_PATH_DIRECTORY, LOCAL_PATH_REMOVE, PROVISIONED_BY, access_modes, annotation, requested,
};
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::context::text;

#[cfg(test)]
mod tests;

/// Keeps a volume until its directory is gone.
pub(super) const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// On a volume: the name of the node that it is on. Nodes cannot write volumes.
const NODE: &str = "local.path.provisioner/selected-node";
/// The entry of the configuration for nodes that have none of their own.
const OTHER_NODES: &str = "DEFAULT_PATH_FOR_NON_LISTED_NODES";
/// The longest name of a file.
const LONGEST_NAME: usize = 255;

/// Why there can be no volume for a claim; the words are those of k3s' provisioner where it has any.
#[derive(Debug, thiserror::Error)]
pub(super) enum CannotProvision {
    #[error("claim.Spec.Selector is not supported")]
    Selector,
    #[error("{LOCAL_PATH} does not support block volume provisioning")]
    Block,
    #[error("NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes")]
    AccessModes,
    #[error("{LOCAL_PATH} cannot fill a volume from a data source")]
    DataSource,
    #[error("configuration error, no node was specified")]
    NoNode,
    #[error("no local path available on node {0}")]
    Nowhere(String),
    #[error("the path {0:?} for volumes is not absolute")]
    Relative(String),
    #[error("{0:?} is not a supported volume type")]
    Type(String),
    #[error("invalid config.json of local-path-config: {0}")]
    Config(#[source] serde_json::Error),
    #[error("cannot describe the volume: {0}")]
    Volume(#[source] serde_json::Error),
}

/// `config.json` of the ConfigMap.
#[derive(Deserialize)]
struct Config {
    #[serde(rename = "nodePathMap", default)]
    paths: Vec<NodePaths>,
}

#[derive(Deserialize)]
struct NodePaths {
    node: String,
    #[serde(default)]
    paths: Vec<String>,
}

pub(super) fn is_ours(volume: &PersistentVolume) -> bool {
    annotation(&volume.metadata.annotations, PROVISIONED_BY) == Some(LOCAL_PATH)
}

fn hostname(node: &Node) -> &str {
    annotation(&node.metadata.labels, HOSTNAME).unwrap_or(text(&node.metadata.name))
}

/// The name of the node that a volume of ours is on. Its hostname is a label that nodes write themselves, so
/// it tells nothing of whose directory this is.
pub(super) fn node_of(volume: &PersistentVolume) -> Option<&str> {
    annotation(&volume.metadata.annotations, NODE).filter(|name| is_ours(volume) && !name.is_empty())
}

pub(super) fn path_of(volume: &PersistentVolume) -> Option<&str> {
    let spec = volume.spec.as_ref()?;
    let local = spec.local.as_ref().map(|local| local.path.as_str());
    local.or_else(|| spec.host_path.as_ref().map(|host| host.path.as_str()))
}

/// What a node is still to remove.
pub(super) fn to_remove(node: &Node) -> Vec<String> {
    let list = annotation(&node.metadata.annotations, LOCAL_PATH_REMOVE).unwrap_or("[]");
    serde_json::from_str(list).unwrap_or_default()
}

/// Whether a volume is to go, and its data with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// It is being deleted, and what is in it stays.
    WithoutData,
    WithData,
}

pub(super) fn leaving(volume: &PersistentVolume) -> Leaving {
    let Some(spec) = volume.spec.as_ref().filter(|_| is_ours(volume)) else { return Leaving::No };
    let is_going = volume.metadata.deletion_timestamp.is_some();
    let is_guarded = volume.metadata.finalizers.iter().flatten().any(|one| one == FINALIZER);
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    // An administrator who takes the claim off wants to use it again.
    let had_claim = spec.claim_ref.as_ref().is_some_and(|named| !text(&named.uid).is_empty());
    match spec.persistent_volume_reclaim_policy.as_deref() {
        Some("Delete") if phase == Some("Released") && had_claim && (is_guarded || !is_going) => {
            Leaving::WithData
        }
        Some("Delete") => Leaving::No,
        _ if is_going && is_guarded => Leaving::WithoutData,
        _ => Leaving::No,
    }
}

/// Where volumes of a node are: as configured, else where the node says.
fn directory(node: &Node, config: Option<&Config>) -> Result<String, CannotProvision> {
    let name = text(&node.metadata.name);
    let nowhere = || CannotProvision::Nowhere(name.to_string());
    let entries = config.iter().flat_map(|config| config.paths.iter());
    let of = |wanted: &str| entries.clone().find(|entry| entry.node == wanted);
    if let Some(entry) = of(name).or_else(|| of(OTHER_NODES)) {
        let path = entry.paths.first().ok_or_else(nowhere)?;
        return Ok(path.trim_end_matches('/').to_string());
    }
    let own = annotation(&node.metadata.annotations, LOCAL_PATH_DIRECTORY);
    own.map(str::to_string).ok_or_else(nowhere)
}

fn read(config: Option<&ConfigMap>) -> Result<Option<Config>, CannotProvision> {
    let text = config.and_then(|config| config.data.as_ref()?.get("config.json"));
    let parsed = text.map(|text| serde_json::from_str(text)).transpose();
    parsed.map_err(CannotProvision::Config)
}

fn check(claim: &PersistentVolumeClaim) -> Result<(), CannotProvision> {
    let spec = claim.spec.clone().unwrap_or_default();
    if spec.selector.is_some() {
        return Err(CannotProvision::Selector);
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(CannotProvision::Block);
    }
    if access_modes(claim).iter().any(|mode| !["ReadWriteOnce", "ReadWriteOncePod"].contains(&mode.as_str()))
    {
        return Err(CannotProvision::AccessModes);
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Err(CannotProvision::DataSource);
    }
    Ok(())
}

/// The volume for a claim, or why there can be none.
pub(super) fn for_claim(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: Option<&Node>,
    config: Option<&ConfigMap>,
) -> Result<PersistentVolume, CannotProvision> {
    check(claim)?;
    let node = node.ok_or(CannotProvision::NoNode)?;
    let config = read(config)?;
    let directory = directory(node, config.as_ref())?;
    if !directory.starts_with('/') {
        return Err(CannotProvision::Relative(directory));
    }
    let meta = &claim.metadata;
    let name = format!("pvc-{}", text(&meta.uid));
    let mut folder = format!("{name}_{}_{}", text(&meta.namespace), text(&meta.name));
    // Names are of ASCII characters.
    folder.truncate(LONGEST_NAME);
    let path = format!("{directory}/{folder}");
    // The hostname is what k3s has here. The name confines a volume to the node whose directory it is.
    let on_node = json!({
        "matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [hostname(node)]}],
        "matchFields": [{"key": "metadata.name", "operator": "In", "values": [node.metadata.name]}],
    });
    let annotations =
        BTreeMap::from([(PROVISIONED_BY, LOCAL_PATH), (NODE, node.metadata.name.as_deref().unwrap_or(""))]);
    let mut spec = json!({
        "capacity": {"storage": requested(claim).to_string()},
        "accessModes": access_modes(claim),
        "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
        "storageClassName": class.metadata.name,
        "volumeMode": "Filesystem",
        "mountOptions": class.mount_options,
        "claimRef": client::events::reference_to(claim),
        "nodeAffinity": {"required": {"nodeSelectorTerms": [on_node]}},
    });
    match volume_type(claim, class)? {
        "local" => spec["local"] = json!({"path": path}),
        _ => spec["hostPath"] = json!({"path": path, "type": "DirectoryOrCreate"}),
    }
    let metadata = json!({"name": name, "annotations": annotations, "finalizers": [FINALIZER]});
    let tree: Value = json!({
        "apiVersion": PersistentVolume::row().api_version(), "kind": PersistentVolume::row().kind,
        "metadata": metadata, "spec": spec,
    });
    PersistentVolume::from_tree(&tree).map_err(CannotProvision::Volume)
}

/// The claim's annotation, else the class's.
fn volume_type<'a>(
    claim: &'a PersistentVolumeClaim,
    class: &'a StorageClass,
) -> Result<&'a str, CannotProvision> {
    let own = annotation(&claim.metadata.annotations, "volumeType");
    let kind = own.or_else(|| annotation(&class.metadata.annotations, "defaultVolumeType"));
    match kind.unwrap_or("hostPath") {
        kind @ ("local" | "hostPath") => Ok(kind),
        other => Err(CannotProvision::Type(other.to_string())),
    }
}
