//! Rules for `metadata`, on create and on update.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::{BTreeMap, BTreeSet};

use super::{Faults, Path, dns1123_label, invalid_each, label_value, qualified_name};
use crate::FieldError;

pub const FIELD_IMMUTABLE: &str = "field is immutable";

/// Keys and values of all annotations of an object together.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Finalizers of core that have no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Faults of the metadata of an object that is about to be created. `rule` restricts names; its flag is set
/// for a `generateName` prefix, whose trailing dash is forgiven. `core` adds the core group's demand that
/// finalizers are qualified.
pub fn validate_object_meta(
    meta: &ObjectMeta,
    namespaced: bool,
    rule: impl Fn(&str, bool) -> Vec<String>,
    core: bool,
) -> Faults {
    let at = Path::new("metadata");
    let mut faults = Faults::new();
    if let Some(prefix) = meta.generate_name.as_deref().filter(|prefix| !prefix.is_empty()) {
        invalid_each(&mut faults, &at.child("generateName"), prefix, rule(prefix, true));
    }
    match meta.name.as_deref().unwrap_or("") {
        "" => faults.push(FieldError::required(at.child("name"), "name or generateName is required")),
        name => invalid_each(&mut faults, &at.child("name"), name, rule(name, false)),
    }
    let namespace = meta.namespace.as_deref().unwrap_or("");
    match (namespaced, namespace) {
        (true, "") => faults.push(FieldError::required(at.child("namespace"), "")),
        (true, name) => invalid_each(&mut faults, &at.child("namespace"), name, dns1123_label(name)),
        (false, "") => {}
        (false, _) => faults.push(FieldError::forbidden(at.child("namespace"), "not allowed on this type")),
    }
    non_negative_generation(meta, &at, &mut faults);
    common(meta, &at, core, &mut faults);
    faults
}

/// Faults of a change of metadata: what is fixed stays fixed.
pub fn validate_object_meta_update(new: &ObjectMeta, old: &ObjectMeta, core: bool) -> Faults {
    let at = Path::new("metadata");
    let mut faults = Faults::new();
    if old.deletion_timestamp.is_some() {
        no_new_finalizers(new, old, &at, &mut faults);
    }
    if new.resource_version.as_deref().unwrap_or("").is_empty() {
        faults.push(FieldError::invalid(at.child("resourceVersion"), "", "must be specified for an update"));
    }
    let generation = new.generation.unwrap_or(0);
    if generation < old.generation.unwrap_or(0) {
        faults.push(FieldError::invalid(at.child("generation"), generation, "must not be decremented"));
    }
    immutable(&mut faults, &at.child("name"), &new.name, &old.name);
    immutable(&mut faults, &at.child("namespace"), &new.namespace, &old.namespace);
    immutable(&mut faults, &at.child("uid"), &new.uid, &old.uid);
    immutable(&mut faults, &at.child("creationTimestamp"), &new.creation_timestamp, &old.creation_timestamp);
    immutable(&mut faults, &at.child("deletionTimestamp"), &new.deletion_timestamp, &old.deletion_timestamp);
    immutable(
        &mut faults,
        &at.child("deletionGracePeriodSeconds"),
        &new.deletion_grace_period_seconds,
        &old.deletion_grace_period_seconds,
    );
    common(new, &at, core, &mut faults);
    faults
}

/// Adds a fault if the two differ.
pub fn immutable<T: PartialEq + serde::Serialize>(faults: &mut Faults, path: &Path<'_>, new: &T, old: &T) {
    if new != old {
        faults.push(FieldError::invalid(path, new, FIELD_IMMUTABLE));
    }
}

fn common(meta: &ObjectMeta, at: &Path<'_>, core: bool, faults: &mut Faults) {
    if let Some(labels) = &meta.labels {
        validate_labels(labels, &at.child("labels"), faults);
    }
    if let Some(annotations) = &meta.annotations {
        validate_annotations(annotations, &at.child("annotations"), faults);
    }
    validate_owners(meta.owner_references.as_deref().unwrap_or(&[]), &at.child("ownerReferences"), faults);
    validate_finalizers(meta.finalizers.as_deref().unwrap_or(&[]), &at.child("finalizers"), core, faults);
}

fn non_negative_generation(meta: &ObjectMeta, at: &Path<'_>, faults: &mut Faults) {
    let generation = meta.generation.unwrap_or(0);
    if generation < 0 {
        let message = "must be greater than or equal to 0";
        faults.push(FieldError::invalid(at.child("generation"), generation, message));
    }
}

pub fn validate_labels(labels: &BTreeMap<String, String>, at: &Path<'_>, faults: &mut Faults) {
    for (key, value) in labels {
        invalid_each(faults, at, key, qualified_name(key));
        invalid_each(faults, at, value, label_value(value));
    }
}

pub fn validate_annotations(annotations: &BTreeMap<String, String>, at: &Path<'_>, faults: &mut Faults) {
    for key in annotations.keys() {
        // Annotation keys may have upper-case domains.
        invalid_each(faults, at, key, qualified_name(&key.to_lowercase()));
    }
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > ANNOTATIONS_MAX {
        faults.push(FieldError::too_long(at, ANNOTATIONS_MAX));
    }
}

fn validate_owners(owners: &[OwnerReference], at: &Path<'_>, faults: &mut Faults) {
    let mut controller: Option<&str> = None;
    for owner in owners {
        let version = owner.api_version.rsplit('/').next().unwrap_or("");
        if version.is_empty() {
            let field = at.child("apiVersion");
            faults.push(FieldError::invalid(field, &owner.api_version, "version must not be empty"));
        }
        for (field, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
            if value.is_empty() {
                faults.push(FieldError::invalid(at.child(field), value, "must not be empty"));
            }
        }
        if owner.api_version == "v1" && owner.kind == "Event" {
            let message = "/v1, Kind=Event is disallowed from being an owner";
            faults.push(FieldError::invalid(at, owner, message));
        }
        if owner.controller == Some(true) {
            match controller {
                None => controller = Some(&owner.name),
                Some(_) if faults.is_full() => {}
                Some(first) => {
                    let names = format!("Found \"true\" in references for {first} and {}", owner.name);
                    let message = format!("Only one reference can have Controller set to true. {names}");
                    faults.push(FieldError::invalid(at, owners, message));
                }
            }
        }
    }
}

fn validate_finalizers(finalizers: &[String], at: &Path<'_>, core: bool, faults: &mut Faults) {
    let has = |name: &str| finalizers.iter().any(|own| own == name);
    for (index, finalizer) in finalizers.iter().enumerate() {
        invalid_each(faults, at, finalizer, qualified_name(finalizer));
        if core && !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer.as_str()) {
            let message = "name is neither a standard finalizer name nor is it fully qualified";
            faults.push(FieldError::invalid(at.index(index), finalizer, message));
        }
    }
    if has("orphan") && has("foregroundDeletion") {
        let message = "finalizer orphan and foregroundDeletion cannot be both set";
        faults.push(FieldError::invalid(at, finalizers, message));
    }
}

fn no_new_finalizers(new: &ObjectMeta, old: &ObjectMeta, at: &Path<'_>, faults: &mut Faults) {
    let known: BTreeSet<&String> = old.finalizers.iter().flatten().collect();
    let extra: BTreeSet<&String> =
        new.finalizers.iter().flatten().filter(|one| !known.contains(one)).collect();
    if !extra.is_empty() {
        let listed: Vec<String> = extra.iter().map(|one| format!("{one:?}")).collect();
        let found = format!("[]string{{{}}}", listed.join(", "));
        let message = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers {found}"
        );
        faults.push(FieldError::forbidden(at.child("finalizers"), message));
    }
}
