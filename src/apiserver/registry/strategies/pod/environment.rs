//! Validation of a container's environment.

use api::FieldError;
use api::validation::{
    Faults, Path, config_map_key, dns1123_label, env_var_name, invalid_each, qualified_name,
};
use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, ObjectFieldSelector, PodSpec, ResourceFieldSelector,
};

use super::volumes::no_backsteps;

const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
pub(super) const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub(super) fn validate(variables: &[EnvVar], at: &Path<'_>, faults: &mut Faults) {
    for (index, variable) in variables.iter().enumerate() {
        let at = at.index(index);
        match variable.name.as_str() {
            "" => faults.push(FieldError::required(at.child("name"), "")),
            name => invalid_each(faults, &at.child("name"), name, env_var_name(name)),
        }
        if let Some(source) = &variable.value_from {
            let set = variable.value.as_deref().is_some_and(|value| !value.is_empty());
            validate_source(source, set, &at.child("valueFrom"), faults);
        }
    }
}

fn validate_source(source: &EnvVarSource, has_value: bool, at: &Path<'_>, faults: &mut Faults) {
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        validate_field(field, &FIELDS, &at.child("fieldRef"), faults);
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        validate_resource(resource, false, &at.child("resourceFieldRef"), faults);
    }
    if let Some(key) = &source.config_map_key_ref {
        sources += 1;
        validate_key(&key.key, &at.child("configMapKeyRef"), faults);
    }
    if let Some(key) = &source.secret_key_ref {
        sources += 1;
        validate_key(&key.key, &at.child("secretKeyRef"), faults);
    }
    if let Some(key) = &source.file_key_ref {
        sources += 1;
        validate_file_key(key, &at.child("fileKeyRef"), faults);
    }
    if sources == 0 {
        let message = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        faults.push(FieldError::invalid(at, "", message));
    } else if has_value {
        faults.push(FieldError::invalid(at, "", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        faults.push(FieldError::invalid(at, "", "may not have more than one field specified at a time"));
    }
}

fn validate_key(key: &str, at: &Path<'_>, faults: &mut Faults) {
    match key {
        "" => faults.push(FieldError::required(at.child("key"), "")),
        key => invalid_each(faults, &at.child("key"), key, config_map_key(key)),
    }
}

/// A line of a file of a volume. A path with a leading slash begins at the volume's top.
fn validate_file_key(reference: &FileKeySelector, at: &Path<'_>, faults: &mut Faults) {
    match reference.key.as_str() {
        "" => faults.push(FieldError::required(at.child("key"), "")),
        key => invalid_each(faults, &at.child("key"), key, env_var_name(key)),
    }
    match reference.volume_name.as_str() {
        "" => faults.push(FieldError::required(at.child("volumeName"), "")),
        name => invalid_each(faults, &at.child("volumeName"), name, dns1123_label(name)),
    }
    match reference.path.as_str() {
        "" => faults.push(FieldError::required(at.child("path"), "")),
        path => no_backsteps(path, &at.child("path"), faults),
    }
}

/// Variables are read from files of the pod's own emptyDir volumes only.
pub(super) fn validate_file_volumes(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    let init = spec.init_containers.iter().flatten().map(|one| &one.env);
    let main = spec.containers.iter().map(|one| &one.env);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|one| &one.env);
    let init = init.enumerate().map(|(index, env)| ("initContainers", index, env));
    let main = main.enumerate().map(|(index, env)| ("containers", index, env));
    let ephemeral = ephemeral.enumerate().map(|(index, env)| ("ephemeralContainers", index, env));
    for (list, index, env) in init.chain(main).chain(ephemeral) {
        let at = at.child(list);
        let at = at.index(index);
        let at = at.child("env");
        for (index, variable) in env.iter().flatten().enumerate() {
            let source = variable.value_from.as_ref();
            let Some(reference) = source.and_then(|source| source.file_key_ref.as_ref()) else { continue };
            let at = at.index(index);
            let at = at.child("valueFrom");
            let at = at.child("fileKeyRef");
            let at = at.child("volumeName");
            let name = &reference.volume_name;
            match spec.volumes.iter().flatten().find(|volume| volume.name == *name) {
                None => faults.push(FieldError::not_found(at, name)),
                Some(volume) if volume.empty_dir.is_none() => {
                    let message = "referenced volume must be of type emptyDir";
                    faults.push(FieldError::invalid(at, name, message));
                }
                Some(_) => {}
            }
        }
    }
}

/// A field of the pod, or one label or annotation of it (`metadata.labels['app']`).
pub(super) fn validate_field(
    field: &ObjectFieldSelector,
    supported: &[&str],
    at: &Path<'_>,
    faults: &mut Faults,
) {
    let path_at = at.child("fieldPath");
    if field.field_path.is_empty() {
        return faults.push(FieldError::required(path_at, ""));
    }
    let Some((path, key)) = field.field_path.strip_suffix("']").and_then(|path| path.split_once("['")) else {
        if !supported.contains(&field.field_path.as_str()) {
            faults.push(FieldError::not_supported(path_at, &field.field_path, supported));
        }
        return;
    };
    match path {
        "metadata.annotations" => invalid_each(faults, &path_at, key, qualified_name(&key.to_lowercase())),
        "metadata.labels" => invalid_each(faults, &path_at, key, qualified_name(key)),
        _ => {
            let message = "does not support subscript";
            faults.push(FieldError::invalid(path_at, path, message));
        }
    }
}

pub(super) fn validate_resource(
    resource: &ResourceFieldSelector,
    volume: bool,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    if volume && resource.container_name.as_deref().unwrap_or("").is_empty() {
        faults.push(FieldError::required(at.child("containerName"), ""));
    }
    match resource.resource.as_str() {
        "" => faults.push(FieldError::required(at.child("resource"), "")),
        known if RESOURCES.contains(&known) => {}
        huge if huge.starts_with("limits.hugepages-") || huge.starts_with("requests.hugepages-") => {}
        other => faults.push(FieldError::not_supported(at.child("resource"), other, &RESOURCES)),
    }
}

pub(super) fn validate_from(sources: &[EnvFromSource], at: &Path<'_>, faults: &mut Faults) {
    for (index, source) in sources.iter().enumerate() {
        let at = at.index(index);
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            invalid_each(faults, &at.child("prefix"), prefix, env_var_name(prefix));
        }
        let mut count = 0;
        if let Some(reference) = &source.config_map_ref {
            count += 1;
            if reference.name.is_empty() {
                faults.push(FieldError::required(at.child("configMapRef").child("name"), ""));
            }
        }
        if let Some(reference) = &source.secret_ref {
            count += 1;
            if reference.name.is_empty() {
                faults.push(FieldError::required(at.child("secretRef").child("name"), ""));
            }
        }
        match count {
            0 => {
                faults.push(FieldError::invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
            }
            1 => {}
            _ => faults.push(FieldError::invalid(
                at,
                "",
                "may not have more than one field specified at a time",
            )),
        }
    }
}
