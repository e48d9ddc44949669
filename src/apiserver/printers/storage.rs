//! Volumes, claims, and the kinds of `storage.k8s.io`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, column, items, name, or, text, wide};
use crate::strategy::{Cell, Column};

/// How classes were named before they had a field.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const ATTRIBUTES_CLASS: Column = column("VolumeAttributesClass", "string", "The class of its attributes.");
const VOLUME_MODE: Column = wide("VolumeMode", "string", "Whether it is a file system or a block device.");

pub(crate) const PERSISTENT_VOLUME: &[Column] = &[
    NAME,
    column("Capacity", "string", "What the volume holds."),
    column("Access Modes", "string", "The ways in which the volume can be mounted."),
    column("Reclaim Policy", "string", "What becomes of the volume when its claim is gone."),
    column("Status", "string", "Whether the volume is available, bound or released."),
    column("Claim", "string", "The claim that the volume is bound to."),
    column("StorageClass", "string", "The class of the volume."),
    ATTRIBUTES_CLASS,
    column("Reason", "string", "Why the volume is in its state."),
    AGE,
    VOLUME_MODE,
];

pub(crate) fn persistent_volume(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = &object["spec"];
    let claim = match &spec["claimRef"] {
        Value::Null => String::new(),
        claim => format!("{}/{}", text(claim, "namespace"), text(claim, "name")),
    };
    vec![
        name(object),
        json!(or(text(spec, "capacity.storage"), "0")),
        json!(access_modes(items(spec, "accessModes"))),
        json!(text(spec, "persistentVolumeReclaimPolicy")),
        json!(phase(object)),
        json!(claim),
        json!(class(object)),
        json!(or(text(spec, "volumeAttributesClassName"), "<unset>")),
        json!(text(object, "status.reason")),
        age(object, now),
        json!(or(text(spec, "volumeMode"), "<unset>")),
    ]
}

pub(crate) const PERSISTENT_VOLUME_CLAIM: &[Column] = &[
    NAME,
    column("Status", "string", "Whether the claim is bound."),
    column("Volume", "string", "The volume that the claim is bound to."),
    column("Capacity", "string", "What the volume holds."),
    column("Access Modes", "string", "The ways in which the volume can be mounted."),
    column("StorageClass", "string", "The class of the claim."),
    ATTRIBUTES_CLASS,
    AGE,
    VOLUME_MODE,
];

pub(crate) fn persistent_volume_claim(object: &Value, now: Timestamp) -> Vec<Cell> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let volume = text(spec, "volumeName");
    let (capacity, modes) = if volume.is_empty() {
        ("", String::new())
    } else {
        (or(text(status, "capacity.storage"), "0"), access_modes(items(status, "accessModes")))
    };
    vec![
        name(object),
        json!(phase(object)),
        json!(volume),
        json!(capacity),
        json!(modes),
        json!(class(object)),
        json!(or(text(spec, "volumeAttributesClassName"), "<unset>")),
        age(object, now),
        json!(or(text(spec, "volumeMode"), "<unset>")),
    ]
}

fn phase(object: &Value) -> &str {
    if text(object, "metadata.deletionTimestamp").is_empty() {
        text(object, "status.phase")
    } else {
        "Terminating"
    }
}

/// The class of a volume or claim: the annotation's, if there is one.
fn class(object: &Value) -> &str {
    match object["metadata"]["annotations"][BETA_CLASS].as_str() {
        Some(class) => class,
        None => text(object, "spec.storageClassName"),
    }
}

fn access_modes(modes: &[Value]) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let present = SHORT.iter().filter(|(mode, _)| modes.iter().any(|one| one == mode));
    present.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

pub(crate) const STORAGE_CLASS: &[Column] = &[
    NAME,
    column("Provisioner", "string", "Who makes the volumes of the class."),
    column("ReclaimPolicy", "string", "What becomes of the volumes when their claims are gone."),
    column("VolumeBindingMode", "string", "When volumes are made and bound."),
    column("AllowVolumeExpansion", "string", "Whether the volumes can grow."),
    AGE,
];

pub(crate) fn storage_class(object: &Value, now: Timestamp) -> Vec<Cell> {
    let annotations = &object["metadata"]["annotations"];
    let is_default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|key| annotations[*key] == "true");
    let mark = if is_default { " (default)" } else { "" };
    vec![
        json!(format!("{}{mark}", text(object, "metadata.name"))),
        json!(text(object, "provisioner")),
        json!(or(text(object, "reclaimPolicy"), "Delete")),
        json!(or(text(object, "volumeBindingMode"), "Immediate")),
        json!(object["allowVolumeExpansion"] == true),
        age(object, now),
    ]
}

pub(crate) const VOLUME_ATTRIBUTES_CLASS: &[Column] =
    &[NAME, column("DriverName", "string", "The driver that knows the attributes."), AGE];

pub(crate) fn volume_attributes_class(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(text(object, "driverName")), age(object, now)]
}

pub(crate) const VOLUME_ATTACHMENT: &[Column] = &[
    NAME,
    column("Attacher", "string", "The driver that attaches the volume."),
    column("PV", "string", "The volume."),
    column("Node", "string", "The node that the volume is attached to."),
    column("Attached", "boolean", "Whether it is attached."),
    AGE,
];

pub(crate) fn volume_attachment(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![
        name(object),
        json!(text(object, "spec.attacher")),
        json!(text(object, "spec.source.persistentVolumeName")),
        json!(text(object, "spec.nodeName")),
        json!(object["status"]["attached"] == true),
        age(object, now),
    ]
}

pub(crate) const CSI_NODE: &[Column] =
    &[NAME, column("Drivers", "integer", "How many drivers are registered on the node."), AGE];

pub(crate) fn csi_node(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(items(object, "spec.drivers").len()), age(object, now)]
}

pub(crate) const CSI_DRIVER: &[Column] = &[
    NAME,
    column("AttachRequired", "boolean", "Whether volumes are attached before they are mounted."),
    column("PodInfoOnMount", "boolean", "Whether the driver is told for which pod it mounts."),
    column("StorageCapacity", "boolean", "Whether the scheduler asks for free capacity."),
    column("TokenRequests", "string", "Audiences of the tokens that the driver gets."),
    column("RequiresRepublish", "boolean", "Whether volumes are mounted again from time to time."),
    column("Modes", "string", "Kinds of volumes that the driver serves."),
    AGE,
];

pub(crate) fn csi_driver(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = &object["spec"];
    let joined =
        |list: &[Value], part: fn(&Value) -> &str| list.iter().map(part).collect::<Vec<_>>().join(",");
    let tokens = match spec["tokenRequests"].as_array() {
        Some(list) => joined(list, |one| text(one, "audience")),
        None => "<unset>".to_string(),
    };
    let modes = joined(items(spec, "volumeLifecycleModes"), |one| one.as_str().unwrap_or(""));
    vec![
        name(object),
        json!(spec["attachRequired"] != false),
        json!(spec["podInfoOnMount"] == true),
        json!(spec["storageCapacity"] == true),
        json!(tokens),
        json!(spec["requiresRepublish"] == true),
        json!(or(&modes, "<none>")),
        age(object, now),
    ]
}

pub(crate) const CSI_STORAGE_CAPACITY: &[Column] = &[
    NAME,
    column("StorageClassName", "string", "The class whose volumes the capacity is for."),
    column("Capacity", "string", "What is free."),
];

pub(crate) fn csi_storage_capacity(object: &Value) -> Vec<Cell> {
    let capacity = or(text(object, "capacity"), "<unset>");
    vec![name(object), json!(text(object, "storageClassName")), json!(capacity)]
}
