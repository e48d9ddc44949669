//! Claims of volumes. Their spec changes in three places: the volume is named once, and a bound claim may
//! grow and change its class of attributes.

use api::json::{items, text};
use api::quantity::Quantity;
use api::validation::{
    Faults, Path, dns1123_label, immutable, invalid_each, qualified_name, validate_label_selector,
};
use api::{ApiError, FieldError};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use crate::printers;
use crate::registry::strategies::rules::{
    VOLUME_MODES, access_modes, amount, basic_amount, non_negative_amount, one_of, positive_amount,
    required_fields, subdomain,
};
use crate::registry::strategies::{differences, keep, object, typed};
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

pub(in super::super) struct Claims;

/// The spec of a claim, or of a claim's template.
pub(in super::super) fn validate_spec(spec: &Value, at: &Path<'_>, faults: &mut Faults) {
    if items(spec, "accessModes").is_empty() {
        faults.push(FieldError::required(at.child("accessModes"), "at least 1 access mode is required"));
    }
    if !spec["selector"].is_null() {
        let at = at.child("selector");
        if let Some(selector) = typed::<LabelSelector>(&spec["selector"], &at, faults) {
            validate_label_selector(&selector, &at, faults);
        }
    }
    access_modes(faults, &at.child("accessModes"), items(spec, "accessModes"));
    let resources = at.child("resources");
    let storage = resources.key("storage");
    match &spec["resources"]["requests"]["storage"] {
        Value::Null => faults.push(FieldError::required(storage, "")),
        requested => positive_amount(faults, &storage, requested),
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        subdomain(faults, &at.child("storageClassName"), class);
    }
    if let Some(mode) = spec["volumeMode"].as_str() {
        one_of(faults, &at.child("volumeMode"), mode, &VOLUME_MODES);
    }
    data_sources(spec, at, faults);
    let class = text(spec, "volumeAttributesClassName");
    if !class.is_empty() {
        subdomain(faults, &at.child("volumeAttributesClassName"), class);
    }
}

fn data_sources(spec: &Value, at: &Path<'_>, faults: &mut Faults) {
    let (source, reference) = (&spec["dataSource"], &spec["dataSourceRef"]);
    for (field, source) in [("dataSource", source), ("dataSourceRef", reference)] {
        if !source.is_null() {
            data_source(source, &at.child(field), faults);
        }
    }
    let namespace = text(reference, "namespace");
    if !namespace.is_empty() {
        let at = at.child("dataSourceRef");
        invalid_each(faults, &at.child("namespace"), namespace, dns1123_label(namespace));
    }
    if source.is_null() || reference.is_null() {
        return;
    }
    let message = if !namespace.is_empty() {
        "may not be specified when dataSourceRef.namespace is specified"
    } else if ["apiGroup", "kind", "name"].iter().any(|field| source[*field] != reference[*field]) {
        "must match dataSourceRef"
    } else {
        return;
    };
    faults.push(FieldError::invalid(at, String::from(at.child("dataSource")), message));
}

fn data_source(source: &Value, at: &Path<'_>, faults: &mut Faults) {
    required_fields(faults, at, source, &["name", "kind"]);
    match text(source, "apiGroup") {
        "" if text(source, "kind") != "PersistentVolumeClaim" => {
            let message = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            faults.push(FieldError::invalid(at, text(source, "kind"), message));
        }
        "" => {}
        group => subdomain(faults, &at.child("apiGroup"), group),
    }
}

/// Fills one of the two ways to name where the data come from with the other, after dropping what older
/// servers ignored.
fn normalize(new: &mut Value, old: Option<&Value>) {
    let used = |field: &str| old.is_some_and(|old| !old["spec"][field].is_null());
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    spec.retain(|name, value| !(value.is_null() && matches!(name.as_str(), "dataSource" | "dataSourceRef")));
    let elsewhere = spec.get("dataSourceRef").is_some_and(|source| !text(source, "namespace").is_empty());
    // Data of other namespaces are an alpha feature.
    if elsewhere && !used("dataSourceRef") {
        spec.remove("dataSourceRef");
    }
    let known = spec.get("dataSource").is_some_and(|source| {
        matches!(
            (text(source, "apiGroup"), text(source, "kind")),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        )
    });
    let is_old = used("dataSource") || used("dataSourceRef");
    if !is_old && !spec.contains_key("dataSourceRef") && !known {
        spec.remove("dataSource");
    }
    let copy = |source: &Value| -> Value {
        let parts = ["apiGroup", "kind", "name"].iter().filter(|part| !source[**part].is_null());
        parts.map(|part| (part.to_string(), source[*part].clone())).collect()
    };
    match (spec.get("dataSource"), spec.get("dataSourceRef")) {
        (Some(source), None) => {
            let reference = copy(source);
            spec.insert("dataSourceRef".into(), reference);
        }
        (None, Some(reference)) if text(reference, "namespace").is_empty() => {
            let source = copy(reference);
            spec.insert("dataSource".into(), source);
        }
        _ => {}
    }
}

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    validate_spec(&tree["spec"], &Path::new("spec"), &mut faults);
    faults
}

fn storage(tree: &Value, path: &str) -> Quantity {
    tree.pointer(path).and_then(amount).unwrap_or(Quantity::ZERO)
}

/// What of the old spec an update may have changed is put back into a copy of the new one.
fn masked(new: &Value, old: &Value, faults: &mut Faults) -> Value {
    let mut spec = new["spec"].clone();
    let (was, old_annotation) = (&old["spec"], &old["metadata"]["annotations"][BETA_CLASS]);
    let new_annotation = &new["metadata"]["annotations"][BETA_CLASS];
    if text(was, "volumeName").is_empty() {
        keep(&mut spec, was, "volumeName");
    }
    let class = &new["spec"]["storageClassName"];
    let unnamed = was["storageClassName"].is_null() && !class.is_null();
    let from_annotation = unnamed
        && !old_annotation.is_null()
        && class == old_annotation
        && (new_annotation.is_null() || new_annotation == old_annotation);
    if !from_annotation && new_annotation != old_annotation {
        let at = Path::new("metadata");
        let at = at.child("annotations");
        let at = at.key(BETA_CLASS);
        immutable(
            faults,
            &at,
            &new_annotation.as_str().unwrap_or(""),
            &old_annotation.as_str().unwrap_or(""),
        );
    }
    if from_annotation || (unnamed && old_annotation.is_null()) {
        keep(&mut spec, was, "storageClassName");
    }
    if new["status"]["phase"] == "Bound" {
        if let Some(requests) = spec.pointer_mut("/resources/requests") {
            keep(requests, &was["resources"]["requests"], "storage");
        }
        keep(&mut spec, was, "volumeAttributesClassName");
    }
    spec
}

fn validate_update(new: &Value, old: &Value) -> Faults {
    let mut old = old.clone();
    normalize(&mut old, None);
    let old = &old;
    let mut faults = validate(new);
    let spec = masked(new, old, &mut faults);
    if spec != old["spec"] {
        let changed = differences("spec", &old["spec"], &spec);
        let message = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{changed}"
        );
        faults.push(FieldError::forbidden("spec", message));
    }
    const REQUESTED: &str = "/spec/resources/requests/storage";
    let wanted = storage(new, REQUESTED);
    if wanted < storage(old, REQUESTED) && wanted <= storage(old, "/status/capacity/storage") {
        let message = "field can not be less than status.capacity";
        faults.push(FieldError::forbidden("spec.resources.requests.storage", message));
    }
    immutable(&mut faults, &Path::new("volumeMode"), &new["spec"]["volumeMode"], &old["spec"]["volumeMode"]);
    let (is, was) = (&new["spec"]["volumeAttributesClassName"], &old["spec"]["volumeAttributesClassName"]);
    if is != was && !old["status"]["currentVolumeAttributesClassName"].is_null() {
        let value = match is.as_str() {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return faults,
        };
        let message =
            format!("update to {value} is forbidden when status.currentVolumeAttributesClassName is not nil");
        faults.push(FieldError::forbidden("spec.volumeAttributesClassName", message));
    }
    faults
}

fn validate_status(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let status = &tree["status"];
    let at = Path::new("status");
    let entries = |part: &str| -> Vec<(String, Value)> {
        let members = status[part].as_object().into_iter().flatten();
        members.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    for (resource, amount) in entries("capacity") {
        basic_amount(&mut faults, &at.child("capacity").key(&resource), &amount);
    }
    let field = at.child("allocatedResourceStatuses");
    for (resource, state) in entries("allocatedResourceStatuses") {
        resource_key(&resource, &field, &mut faults);
        if !RESIZES.contains(&state.as_str().unwrap_or("")) {
            faults.push(FieldError::not_supported(field, resource, &RESIZES));
        }
    }
    let field = at.child("allocatedResources");
    for (resource, amount) in entries("allocatedResources") {
        let before = faults.len();
        resource_key(&resource, &field, &mut faults);
        if faults.len() == before {
            non_negative_amount(&mut faults, &field.key(&resource), &amount);
        }
    }
    faults
}

/// A resource that a claim knows: storage, or one of somebody else's domain.
fn resource_key(name: &str, at: &Path<'_>, faults: &mut Faults) {
    let wrong = qualified_name(name);
    if !wrong.is_empty() {
        return invalid_each(faults, at, name, wrong);
    }
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if native && name != "storage" {
        faults.push(FieldError::not_supported(at, name, &["storage"]));
    }
}

impl Strategy for Claims {
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        normalize(tree, None);
        if let Some(status) = object(tree, "status") {
            status.insert("phase".into(), json!("Pending"));
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
            normalize(new, Some(old));
        }
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource.is_some() { validate_status(new) } else { validate_update(new, old) }
    }

    fn warnings(&self, ctx: &RequestContext<'_>, tree: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if ctx.subresource.is_some() {
            return warnings;
        }
        if !tree["metadata"]["annotations"][BETA_CLASS].is_null() {
            let instead = "deprecated since v1.8; use \"storageClassName\" attribute instead";
            warnings.push(format!("metadata.annotations[{BETA_CLASS}]: {instead}"));
        }
        for list in ["requests", "limits"] {
            let value = &tree["spec"]["resources"][list]["storage"];
            if amount(value).is_some_and(|amount| amount.milli_value() % 1000 != 0) {
                let message = format!("fractional byte value {value} is invalid, must be an integer");
                warnings.push(format!("spec.resources.{list}[storage]: {message}"));
            }
        }
        warnings
    }

    fn columns(&self) -> &[Column] {
        printers::storage::PERSISTENT_VOLUME_CLAIM
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::storage::persistent_volume_claim(tree, now)
    }
}
