//! Persistent volumes. What a volume is made of never changes; its status knows since when it is in its
//! phase.

use api::json::{items, text};
use api::validation::{Faults, Path, immutable};
use api::{ApiError, FieldError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeSelector;
use serde_json::{Value, json};

use super::sources;
use crate::printers;
use crate::registry::strategies::pod::placement::node_selector;
use crate::registry::strategies::rules::{
    VOLUME_MODES, access_modes, basic_amount, one_of, positive_amount, same, subdomain,
};
use crate::registry::strategies::{differences, object, typed};
use crate::registry::time;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const RECLAIM: [&str; 3] = ["Delete", "Recycle", "Retain"];
/// Sources that know mount options by annotation.
const MOUNTABLE: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];
/// Sources that are no more, and since when.
const GONE: [(&str, &str, &str); 6] = [
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

pub(in super::super) struct Volumes;

/// The spec of a volume, or of one that is described where it is attached (`inline`).
pub(super) fn validate_spec(spec: &Value, volume: &str, inline: bool, at: &Path<'_>, faults: &mut Faults) {
    if inline {
        only_inline(spec, at, faults);
    }
    if items(spec, "accessModes").is_empty() {
        faults.push(FieldError::required(at.child("accessModes"), ""));
    }
    access_modes(faults, &at.child("accessModes"), items(spec, "accessModes"));
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    if !inline {
        capacity(&spec["capacity"], &at.child("capacity"), faults);
        if !policy.is_empty() {
            one_of(faults, &at.child("persistentVolumeReclaimPolicy"), policy, &RECLAIM);
        }
    }
    let affinity = &spec["nodeAffinity"];
    if !affinity.is_null() && !inline {
        node_affinity(affinity, &at.child("nodeAffinity"), faults);
    }
    sources::validate(spec, volume, at, faults);
    if !spec["local"].is_null() && affinity.is_null() {
        faults.push(FieldError::required(at.child("nodeAffinity"), "Local volume requires node affinity"));
    }
    let root = spec["hostPath"]["path"].as_str().is_some_and(is_root);
    if root && policy == "Recycle" {
        let message = "may not be 'recycle' for a hostPath mount of '/'";
        faults.push(FieldError::forbidden(at.child("persistentVolumeReclaimPolicy"), message));
    }
    let class = text(spec, "storageClassName");
    if !inline && !class.is_empty() {
        subdomain(faults, &at.child("storageClassName"), class);
    }
    if let (false, Some(mode)) = (inline, spec["volumeMode"].as_str()) {
        one_of(faults, &at.child("volumeMode"), mode, &VOLUME_MODES);
    }
    attributes_class(spec, at, faults);
}

/// A path that comes to `/` when it is cleaned.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

fn only_inline(spec: &Value, at: &Path<'_>, faults: &mut Faults) {
    const NOT: &str = "may not be specified in the context of inline volumes";
    for field in ["claimRef", "capacity", "nodeAffinity"] {
        if !same(&spec[field], &Value::Null) {
            faults.push(FieldError::forbidden(at.child(field), NOT));
        }
    }
    if spec["csi"].is_null() {
        faults.push(FieldError::required(
            at.child("csi"),
            "has to be specified in the context of inline volumes",
        ));
    }
    if !text(spec, "storageClassName").is_empty() {
        faults.push(FieldError::forbidden(at.child("storageClassName"), NOT));
    }
    if !matches!(text(spec, "persistentVolumeReclaimPolicy"), "" | "Retain") {
        let message = "may only be Retain in the context of inline volumes";
        faults.push(FieldError::forbidden(at.child("persistentVolumeReclaimPolicy"), message));
    }
    if !matches!(text(spec, "volumeMode"), "" | "Filesystem") {
        let message = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        faults.push(FieldError::forbidden(at.child("volumeMode"), message));
    }
}

fn capacity(capacity: &Value, at: &Path<'_>, faults: &mut Faults) {
    let amounts: Vec<_> = capacity.as_object().into_iter().flatten().collect();
    if amounts.is_empty() {
        faults.push(FieldError::required(at, ""));
    }
    if capacity["storage"].is_null() || amounts.len() > 1 {
        faults.push(FieldError::not_supported(at, capacity, &["storage"]));
    }
    for (resource, amount) in amounts {
        basic_amount(faults, &at.key(resource), amount);
        positive_amount(faults, &at.key(resource), amount);
    }
}

fn node_affinity(affinity: &Value, at: &Path<'_>, faults: &mut Faults) {
    let at = at.child("required");
    if affinity["required"].is_null() {
        faults.push(FieldError::required(at, "must specify required node constraints"));
    } else if let Some(required) = typed::<NodeSelector>(&affinity["required"], &at, faults) {
        node_selector(&required, &at, faults);
    }
}

fn attributes_class(spec: &Value, at: &Path<'_>, faults: &mut Faults) {
    let Some(class) = spec["volumeAttributesClassName"].as_str() else { return };
    let field = at.child("volumeAttributesClassName");
    if class.is_empty() {
        faults.push(FieldError::required(field, "an empty string is disallowed"));
    } else {
        subdomain(faults, &field, class);
    }
    if spec["csi"].is_null() {
        let message = "has to be specified when using volumeAttributesClassName";
        faults.push(FieldError::required(at.child("csi"), message));
    }
}

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let spec = &tree["spec"];
    validate_spec(spec, text(tree, "metadata.name"), false, &Path::new("spec"), &mut faults);
    let has_options = !tree["metadata"]["annotations"][MOUNT_OPTIONS].is_null();
    if has_options && MOUNTABLE.iter().all(|source| spec[*source].is_null()) {
        let at = Path::new("metadata");
        let at = at.child("annotations");
        let message = "may not specify mount options for this volume type";
        faults.push(FieldError::forbidden(at.child(MOUNT_OPTIONS), message));
    }
    faults
}

fn validate_update(new: &Value, old: &Value) -> Faults {
    let mut faults = validate(new);
    let (mut source, before) = (sources::only(&new["spec"]), sources::only(&old["spec"]));
    // The secret for growing may be named later, once.
    if before["csi"].is_object()
        && before["csi"]["controllerExpandSecretRef"].is_null()
        && let Some(csi) = source["csi"].as_object_mut()
    {
        csi.remove("controllerExpandSecretRef");
    }
    if source != before {
        let changed = differences("spec.persistentvolumesource", &before, &source);
        let message = format!("spec.persistentvolumesource is immutable after creation\n{changed}");
        faults.push(FieldError::forbidden("spec.persistentvolumesource", message));
    }
    let (new, old) = (&new["spec"], &old["spec"]);
    immutable(&mut faults, &Path::new("volumeMode"), &new["volumeMode"], &old["volumeMode"]);
    let affinity = &old["nodeAffinity"];
    if !affinity.is_null() && new["nodeAffinity"] != *affinity && new["nodeAffinity"] != renamed(affinity) {
        immutable(&mut faults, &Path::new("nodeAffinity"), &new["nodeAffinity"], affinity);
    }
    if !old["volumeAttributesClassName"].is_null() && new["volumeAttributesClassName"].is_null() {
        let message = "update from non-nil value to nil is forbidden";
        faults.push(FieldError::forbidden("spec.volumeAttributesClassName", message));
    }
    faults
}

/// An affinity with the present names of labels that once were beta.
fn renamed(affinity: &Value) -> Value {
    const NAMES: [(&str, &str); 5] = [
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ];
    let mut affinity = affinity.clone();
    let terms = affinity.pointer_mut("/required/nodeSelectorTerms").and_then(Value::as_array_mut);
    for term in terms.into_iter().flatten() {
        for part in ["matchExpressions", "matchFields"] {
            let list = term.get_mut(part).and_then(Value::as_array_mut);
            for expression in list.into_iter().flatten() {
                if let Some((_, now)) = NAMES.iter().find(|(was, _)| expression["key"] == *was) {
                    expression["key"] = json!(now);
                }
            }
        }
    }
    affinity
}

impl Strategy for Volumes {
    fn prepare_for_create(&self, ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        if let Some(status) = object(tree, "status") {
            *status = serde_json::Map::new();
            status.insert("phase".into(), json!("Pending"));
            status.insert("lastPhaseTransitionTime".into(), json!(time(ctx.now)));
        }
        Ok(())
    }

    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        if ctx.subresource != Some("status") {
            return Ok(());
        }
        const SINCE: &str = "lastPhaseTransitionTime";
        let same_phase = new["status"]["phase"] == old["status"]["phase"];
        let told = !new["status"][SINCE].is_null();
        let told_anew = told && new["status"][SINCE] != old["status"][SINCE];
        if let Some(status) = object(new, "status") {
            if same_phase && !told && !old["status"][SINCE].is_null() {
                status.insert(SINCE.into(), old["status"][SINCE].clone());
            } else if !same_phase && !told_anew {
                status.insert(SINCE.into(), json!(time(ctx.now)));
            }
        }
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource.is_some() { Faults::new() } else { validate_update(new, old) }
    }

    fn warnings(&self, ctx: &RequestContext<'_>, tree: &Value, _old: Option<&Value>) -> Vec<String> {
        if ctx.subresource.is_some() {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        for (key, instead) in [
            (BETA_CLASS, "deprecated since v1.8; use \"storageClassName\" attribute instead"),
            (MOUNT_OPTIONS, "deprecated since v1.31; use \"mountOptions\" attribute instead"),
        ] {
            if !tree["metadata"]["annotations"][key].is_null() {
                warnings.push(format!("metadata.annotations[{key}]: {instead}"));
            }
        }
        if text(tree, "spec.persistentVolumeReclaimPolicy") == "Recycle" {
            warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_string());
        }
        let gone = GONE.iter().filter(|(source, ..)| !tree["spec"][*source].is_null());
        warnings.extend(gone.map(|(_, called, since)| format!("spec.{called}: {since}")));
        warnings
    }

    fn columns(&self) -> &[Column] {
        printers::storage::PERSISTENT_VOLUME
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::storage::persistent_volume(tree, now)
    }
}
