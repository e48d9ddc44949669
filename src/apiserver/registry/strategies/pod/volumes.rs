//! Validation of volumes: one source each, and what the common sources need.

use std::collections::HashSet;

use api::FieldError;
use api::validation::{Faults, Path, config_map_key, dns1123_label, invalid_each};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, Volume, VolumeProjection,
};
use serde_json::Value;

use super::environment::{VOLUME_FIELDS, validate_field, validate_resource};

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const MIN_TOKEN_SECONDS: i64 = 600;
const MODE: std::ops::RangeInclusive<i32> = 0..=0o777;

/// Checks volumes and gives the names of the good ones.
pub(super) fn validate<'a>(volumes: &'a [Volume], at: &Path<'_>, faults: &mut Faults) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let at = at.index(index);
        let before = faults.len();
        validate_source(volume, &at, faults);
        if volume.name.is_empty() {
            faults.push(FieldError::required(at.child("name"), ""));
        } else {
            invalid_each(faults, &at.child("name"), &volume.name, dns1123_label(&volume.name));
        }
        if names.contains(volume.name.as_str()) {
            faults.push(FieldError::duplicate(at.child("name"), &volume.name));
        }
        if faults.len() == before {
            names.insert(volume.name.as_str());
        }
    }
    names
}

/// Names of a volume's sources as they appear in JSON: there are thirty, and only their number matters for
/// most.
fn sources(volume: &Volume) -> Vec<String> {
    match serde_json::to_value(volume) {
        Ok(Value::Object(members)) => {
            members.into_iter().map(|(key, _)| key).filter(|key| key != "name").collect()
        }
        _ => Vec::new(),
    }
}

fn validate_source(volume: &Volume, at: &Path<'_>, faults: &mut Faults) {
    let sources = sources(volume);
    if sources.is_empty() {
        return faults.push(FieldError::required(at, "must specify a volume type"));
    }
    for extra in &sources[1..] {
        faults.push(FieldError::forbidden(at.child(extra), "may not specify more than 1 volume type"));
    }
    if let Some(source) = &volume.host_path {
        let at = at.child("hostPath");
        if source.path.is_empty() {
            faults.push(FieldError::required(at.child("path"), ""));
        }
        no_backsteps(&source.path, &at.child("path"), faults);
        if let Some(kind) = source.type_.as_deref().filter(|kind| !HOST_PATH_TYPES.contains(kind)) {
            faults.push(FieldError::not_supported(at.child("type"), kind, &HOST_PATH_TYPES));
        }
    }
    if let Some(source) = &volume.secret {
        let at = at.child("secret");
        required(source.secret_name.as_deref().unwrap_or(""), &at.child("secretName"), faults);
        validate_mode(source.default_mode, &at.child("defaultMode"), faults);
        validate_items(source.items.as_deref(), &at.child("items"), faults);
    }
    if let Some(source) = &volume.config_map {
        let at = at.child("configMap");
        required(&source.name, &at.child("name"), faults);
        validate_mode(source.default_mode, &at.child("defaultMode"), faults);
        validate_items(source.items.as_deref(), &at.child("items"), faults);
    }
    if let Some(source) = &volume.persistent_volume_claim {
        required(&source.claim_name, &at.child("persistentVolumeClaim").child("claimName"), faults);
    }
    if let Some(source) = &volume.projected {
        validate_projected(source, &at.child("projected"), faults);
    }
    if let Some(source) = &volume.downward_api {
        let at = at.child("downwardAPI");
        validate_mode(source.default_mode, &at.child("defaultMode"), faults);
        validate_downward(source.items.as_deref(), &at.child("items"), faults);
    }
    if let Some(source) = &volume.nfs {
        let at = at.child("nfs");
        required(&source.server, &at.child("server"), faults);
        required(&source.path, &at.child("path"), faults);
        if !source.path.starts_with('/') {
            faults.push(FieldError::invalid(at.child("path"), &source.path, "must be an absolute path"));
        }
    }
    if let Some(source) = &volume.csi {
        required(&source.driver, &at.child("csi").child("driver"), faults);
    }
    if volume.ephemeral.as_ref().is_some_and(|source| source.volume_claim_template.is_none()) {
        faults.push(FieldError::required(at.child("ephemeral").child("volumeClaimTemplate"), ""));
    }
}

fn required(value: &str, at: &Path<'_>, faults: &mut Faults) {
    if value.is_empty() {
        faults.push(FieldError::required(at, ""));
    }
}

fn validate_mode(mode: Option<i32>, at: &Path<'_>, faults: &mut Faults) {
    if let Some(mode) = mode.filter(|mode| !MODE.contains(mode)) {
        let message = "must be a number between 0 and 0777 (octal), both inclusive";
        faults.push(FieldError::invalid(at, mode, message));
    }
}

fn validate_items(items: Option<&[KeyToPath]>, at: &Path<'_>, faults: &mut Faults) {
    for (index, item) in items.unwrap_or(&[]).iter().enumerate() {
        let at = at.index(index);
        match item.key.as_str() {
            "" => faults.push(FieldError::required(at.child("key"), "")),
            key => invalid_each(faults, &at.child("key"), key, config_map_key(key)),
        }
        required(&item.path, &at.child("path"), faults);
        reserved_path(&item.path, &at.child("path"), faults);
        validate_mode(item.mode, &at.child("mode"), faults);
    }
}

fn validate_projected(source: &ProjectedVolumeSource, at: &Path<'_>, faults: &mut Faults) {
    validate_mode(source.default_mode, &at.child("defaultMode"), faults);
    let list = at.child("sources");
    for (index, source) in source.sources.iter().flatten().enumerate() {
        validate_projection(source, &list.index(index), faults);
    }
}

fn validate_projection(source: &VolumeProjection, at: &Path<'_>, faults: &mut Faults) {
    let mut count = 0;
    let mut next = |field: &str, faults: &mut Faults| {
        count += 1;
        if count > 1 {
            faults.push(FieldError::forbidden(
                at.child(field),
                "may not specify more than 1 volume type per source",
            ));
        }
    };
    if let Some(secret) = &source.secret {
        next("secret", faults);
        required(&secret.name, &at.child("secret").child("name"), faults);
        validate_items(secret.items.as_deref(), &at.child("secret").child("items"), faults);
    }
    if let Some(map) = &source.config_map {
        next("configMap", faults);
        required(&map.name, &at.child("configMap").child("name"), faults);
        validate_items(map.items.as_deref(), &at.child("configMap").child("items"), faults);
    }
    if let Some(downward) = &source.downward_api {
        next("downwardAPI", faults);
        validate_downward(downward.items.as_deref(), &at.child("downwardAPI").child("items"), faults);
    }
    if let Some(token) = &source.service_account_token {
        next("serviceAccountToken", faults);
        let at = at.child("serviceAccountToken");
        if let Some(seconds) = token.expiration_seconds.filter(|seconds| *seconds < MIN_TOKEN_SECONDS) {
            let message = "may not specify a duration less than 10 minutes";
            faults.push(FieldError::invalid(at.child("expirationSeconds"), seconds, message));
        }
        if let Some(seconds) = token.expiration_seconds.filter(|seconds| *seconds > 1 << 32) {
            let message = "may not specify a duration larger than 2^32 seconds";
            faults.push(FieldError::invalid(at.child("expirationSeconds"), seconds, message));
        }
        required(&token.path, &at.child("path"), faults);
        reserved_path(&token.path, &at.child("path"), faults);
    }
}

fn validate_downward(items: Option<&[DownwardAPIVolumeFile]>, at: &Path<'_>, faults: &mut Faults) {
    for (index, file) in items.unwrap_or(&[]).iter().enumerate() {
        let at = at.index(index);
        required(&file.path, &at.child("path"), faults);
        reserved_path(&file.path, &at.child("path"), faults);
        match (&file.field_ref, &file.resource_field_ref) {
            (Some(_), Some(_)) => {
                let message = "fieldRef and resourceFieldRef can not be specified simultaneously";
                faults.push(FieldError::invalid(at, "resource", message));
            }
            (Some(field), None) => validate_field(field, &VOLUME_FIELDS, &at.child("fieldRef"), faults),
            (None, Some(resource)) => {
                validate_resource(resource, true, &at.child("resourceFieldRef"), faults)
            }
            (None, None) => {
                faults.push(FieldError::required(at, "one of fieldRef and resourceFieldRef is required"));
            }
        }
        validate_mode(file.mode, &at.child("mode"), faults);
    }
}

pub(super) fn no_backsteps(path: &str, at: &Path<'_>, faults: &mut Faults) {
    if path.split('/').any(|part| part == "..") {
        faults.push(FieldError::invalid(at, path, "must not contain '..'"));
    }
}

/// A path below the volume.
pub(super) fn local_path(path: &str, at: &Path<'_>, faults: &mut Faults) {
    if path.starts_with('/') {
        faults.push(FieldError::invalid(at, path, "must be a relative path"));
    }
    no_backsteps(path, at, faults);
}

/// A path below a volume whose top-level names with two dots are the kubelet's own.
fn reserved_path(path: &str, at: &Path<'_>, faults: &mut Faults) {
    local_path(path, at, faults);
    if path.starts_with("..") && !path.starts_with("../") && path != ".." {
        faults.push(FieldError::invalid(at, path, "must not start with '..'"));
    }
}
