//! What a persistent volume is made of: one source of twenty, each with its own demands.

use api::FieldError;
use api::json::{items, number, text};
use api::validation::{Faults, Path, dns1123_label, invalid_each};
use serde_json::Value;

use crate::registry::strategies::rules::{driver_name, one_of, required, required_fields, subdomain};

type Check = fn(&Value, &str, &Path<'_>, &mut Faults);

/// Member, what a second one is called in the answer, check. The order is upstream's.
const SOURCES: &[(&str, &str, Check)] = &[
    ("hostPath", "hostPath", host_path),
    ("gcePersistentDisk", "gcePersistentDisk", gce_disk),
    ("awsElasticBlockStore", "awsElasticBlockStore", aws_store),
    ("glusterfs", "glusterfs", glusterfs),
    ("flocker", "flocker", flocker),
    ("nfs", "nfs", nfs),
    ("rbd", "rbd", rbd),
    ("quobyte", "quobyte", quobyte),
    ("cephfs", "cephFS", cephfs),
    ("iscsi", "iscsi", iscsi),
    ("cinder", "cinder", cinder),
    ("fc", "fc", fc),
    ("flexVolume", "flexVolume", flex_volume),
    ("azureFile", "azureFile", azure_file),
    ("vsphereVolume", "vsphereVolume", |one, _, at, faults| {
        required_fields(faults, at, one, &["volumePath"])
    }),
    ("photonPersistentDisk", "photonPersistentDisk", |one, _, at, faults| {
        required_fields(faults, at, one, &["pdID"]);
    }),
    ("portworxVolume", "portworxVolume", |one, _, at, faults| {
        required_fields(faults, at, one, &["volumeID"])
    }),
    ("azureDisk", "azureDisk", azure_disk),
    ("scaleIO", "scaleIO", |one, _, at, faults| {
        required_fields(faults, at, one, &["gateway", "system", "volumeName"]);
    }),
    ("local", "local", local),
    ("storageos", "storageos", storage_os),
    ("csi", "csi", csi),
];

/// Checks the source of a volume; `volume` is the volume's name.
pub(super) fn validate(spec: &Value, volume: &str, at: &Path<'_>, faults: &mut Faults) {
    let mut found = 0;
    for (member, called, check) in SOURCES {
        let source = &spec[*member];
        if source.is_null() {
            continue;
        }
        // Upstream never counts a flex volume as one too many.
        if found > 0 && *member != "flexVolume" {
            faults.push(FieldError::forbidden(at.child(called), "may not specify more than 1 volume type"));
            continue;
        }
        found += 1;
        let field = if *member == "gcePersistentDisk" { "persistentDisk" } else { member };
        check(source, volume, &at.child(field), faults);
    }
    if found == 0 {
        faults.push(FieldError::required(at, "must specify a volume type"));
    }
}

/// The sources of a volume, which never change, and nothing else of its spec.
pub(super) fn only(spec: &Value) -> Value {
    let members = spec.as_object().into_iter().flatten();
    let is_source = |name: &str| SOURCES.iter().any(|(member, ..)| *member == name);
    members.filter(|(name, _)| is_source(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn no_backsteps(path: &str, at: &Path<'_>, faults: &mut Faults) {
    if path.split('/').any(|part| part == "..") {
        faults.push(FieldError::invalid(at, path, "must not contain '..'"));
    }
}

fn host_path(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    local(source, "", at, faults);
    if !text(source, "path").is_empty() {
        one_of(faults, &at.child("type"), text(source, "type"), &TYPES);
    }
}

fn local(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    required_fields(faults, at, source, &["path"]);
    no_backsteps(text(source, "path"), &at.child("path"), faults);
}

fn partition(source: &Value, at: &Path<'_>, faults: &mut Faults) {
    let partition = number(source, "partition");
    if !(0..=255).contains(&partition) {
        faults.push(FieldError::invalid(
            at.child("partition"),
            partition,
            "must be between 1 and 255, inclusive",
        ));
    }
}

fn gce_disk(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    required_fields(faults, at, source, &["pdName"]);
    partition(source, at, faults);
}

fn aws_store(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    required_fields(faults, at, source, &["volumeID"]);
    partition(source, at, faults);
}

fn glusterfs(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    required_fields(faults, at, source, &["endpoints", "path"]);
    let at = at.child("endpointsNamespace");
    match source["endpointsNamespace"].as_str() {
        None => {}
        Some("") => {
            let message = "if the endpointnamespace is set, it must be a valid namespace name";
            faults.push(FieldError::invalid(at, "", message));
        }
        Some(namespace) => invalid_each(faults, &at, namespace, dns1123_label(namespace)),
    }
}

fn flocker(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    let (name, uuid) = (text(source, "datasetName"), text(source, "datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        faults.push(FieldError::required(at, "one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let message = "datasetName and datasetUUID can not be specified simultaneously";
        faults.push(FieldError::invalid(at, "resource", message));
    }
    if name.contains('/') {
        faults.push(FieldError::invalid(at.child("datasetName"), name, "must not contain '/'"));
    }
}

fn nfs(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    required_fields(faults, at, source, &["server", "path"]);
    let path = text(source, "path");
    if !path.starts_with('/') {
        faults.push(FieldError::invalid(at.child("path"), path, "must be an absolute path"));
    }
}

fn rbd(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    cephfs(source, "", at, faults);
    required_fields(faults, at, source, &["image"]);
}

fn cephfs(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    if items(source, "monitors").is_empty() {
        faults.push(FieldError::required(at.child("monitors"), ""));
    }
}

fn quobyte(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(source, "registry");
    if registry.is_empty() {
        faults.push(FieldError::required(at.child("registry"), PAIRS));
    } else if text(source, "tenant").len() >= 65 {
        let message = "must be a UUID and may not exceed a length of 64 characters";
        faults.push(FieldError::required(at.child("tenant"), message));
    } else {
        for _ in registry.split(',').filter(|pair| pair.rsplit_once(':').is_none()) {
            faults.push(FieldError::invalid(at.child("registry"), registry, PAIRS));
        }
    }
    required_fields(faults, at, source, &["volume"]);
}

/// Whether a name of an iSCSI initiator or target has one of the three forms.
fn is_qualified(name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if name.starts_with("iqn") {
        let mut parts = name.splitn(3, '.');
        let (head, date, rest) = (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let year_and_month = date.split_once('-').is_some_and(|(year, month)| {
            let digits =
                |text: &str, count| text.len() == count && text.bytes().all(|one| one.is_ascii_digit());
            digits(year, 4) && digits(month, 2)
        });
        return head == Some("iqn") && year_and_month && !rest.is_empty();
    }
    match (name.strip_prefix("eui."), name.strip_prefix("naa.")) {
        (Some(id), _) => id.len() == 16 && hex(id),
        (_, Some(id)) => id.len() == 32 && hex(id),
        _ => false,
    }
}

fn iscsi(source: &Value, volume: &str, at: &Path<'_>, faults: &mut Faults) {
    let portal = text(source, "targetPortal");
    required(faults, &at.child("targetPortal"), portal);
    let initiator = source["initiatorName"].as_str();
    if initiator.is_some() && volume.len() + 1 + portal.len() > 64 {
        let message = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        faults.push(FieldError::invalid(at.child("targetportal"), portal, message));
    }
    let target = text(source, "iqn");
    required(faults, &at.child("iqn"), target);
    if !target.is_empty() && !is_qualified(target) {
        faults.push(FieldError::invalid(at.child("iqn"), target, "must be valid format"));
    }
    let lun = number(source, "lun");
    if !(0..=255).contains(&lun) {
        faults.push(FieldError::invalid(at.child("lun"), lun, "must be between 0 and 255, inclusive"));
    }
    let secret = &source["secretRef"];
    let chap = source["chapAuthDiscovery"] == true || source["chapAuthSession"] == true;
    if chap && secret.is_null() {
        faults.push(FieldError::required(at.child("secretRef"), ""));
    }
    if !secret.is_null() {
        required_fields(faults, &at.child("secretRef"), secret, &["name"]);
    }
    if let Some(name) = initiator.filter(|name| !is_qualified(name)) {
        faults.push(FieldError::invalid(at.child("initiatorname"), name, "must be valid format"));
    }
}

fn cinder(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    required_fields(faults, at, source, &["volumeID"]);
    let secret = &source["secretRef"];
    if !secret.is_null() {
        required_fields(faults, &at.child("secretRef"), secret, &["name", "namespace"]);
    }
}

fn fc(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    let (targets, ids) = (items(source, "targetWWNs"), items(source, "wwids"));
    let field = at.child("targetWWNs");
    if targets.is_empty() && ids.is_empty() {
        faults.push(FieldError::required(field, "must specify either targetWWNs or wwids, but not both"));
    }
    if !targets.is_empty() && !ids.is_empty() {
        let message = "targetWWNs and wwids can not be specified simultaneously";
        faults.push(FieldError::invalid(field, targets, message));
    }
    if targets.is_empty() {
        return;
    }
    match source["lun"].as_i64() {
        None => {
            faults.push(FieldError::required(at.child("lun"), "lun is required if targetWWNs is specified"));
        }
        Some(lun) if !(0..=255).contains(&lun) => {
            faults.push(FieldError::invalid(at.child("lun"), lun, "must be between 0 and 255, inclusive"));
        }
        Some(_) => {}
    }
}

fn flex_volume(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    required_fields(faults, at, source, &["driver"]);
    let options = at.child("options");
    for key in source["options"].as_object().into_iter().flatten().map(|(key, _)| key) {
        let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain);
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let message = "kubernetes.io and k8s.io namespaces are reserved";
            faults.push(FieldError::invalid(options.key(key), key, message));
        }
    }
}

fn azure_file(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    required_fields(faults, at, source, &["secretName", "shareName"]);
    if source["secretNamespace"] == "" {
        faults.push(FieldError::required(at.child("secretNamespace"), ""));
    }
}

fn azure_disk(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    required_fields(faults, at, source, &["diskName", "diskURI"]);
    if let Some(mode) = source["cachingMode"].as_str() {
        one_of(faults, &at.child("cachingMode"), mode, &["None", "ReadOnly", "ReadWrite"]);
    }
    let Some(kind) = source["kind"].as_str() else { return };
    one_of(faults, &at.child("kind"), kind, &["Dedicated", "Managed", "Shared"]);
    let uri = text(source, "diskURI");
    let (prefix, form) = if kind == "Managed" { ("/subscriptions/", MANAGED) } else { ("https://", BLOB) };
    if !uri.starts_with(prefix) {
        faults.push(FieldError::not_supported(at.child("diskURI"), uri, &[form]));
    }
}

fn storage_os(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    let (name, namespace) = (text(source, "volumeName"), text(source, "volumeNamespace"));
    required(faults, &at.child("volumeName"), name);
    for (field, label) in [("volumeName", name), ("volumeNamespace", namespace)] {
        if !label.is_empty() {
            invalid_each(faults, &at.child(field), label, dns1123_label(label));
        }
    }
    let secret = &source["secretRef"];
    if !secret.is_null() {
        required_fields(faults, &at.child("secretRef"), secret, &["name", "namespace"]);
    }
}

fn csi(source: &Value, _: &str, at: &Path<'_>, faults: &mut Faults) {
    const SECRETS: [&str; 4] = [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ];
    driver_name(faults, &at.child("driver"), text(source, "driver"));
    required_fields(faults, at, source, &["volumeHandle"]);
    for field in SECRETS.iter().filter(|field| !source[**field].is_null()) {
        let (at, secret) = (at.child(field), &source[*field]);
        match text(secret, "name") {
            "" => faults.push(FieldError::required(at.child("name"), "")),
            name => subdomain(faults, &at.child("name"), name),
        }
        match text(secret, "namespace") {
            "" => faults.push(FieldError::required(at.child("namespace"), "")),
            name => invalid_each(faults, &at.child("namespace"), name, dns1123_label(name)),
        }
    }
}
