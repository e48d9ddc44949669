//! Annotations of pods that mean something: the mirror of a node's own manifest, and the old forms of seccomp
//! and AppArmor profiles. None of them changes once the pod is there.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use api::FieldError;
use api::json::{items, text};
use api::validation::{Faults, Path};
use k8s_openapi::api::core::v1::AppArmorProfile;
use serde_json::{Value, json};

use super::security;
use super::volumes::local_path;
use crate::registry::strategies::{items_mut, object};

const MIRROR: &str = "kubernetes.io/config.mirror";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

fn of(tree: &Value) -> impl Iterator<Item = (&str, &str)> {
    let members = tree["metadata"]["annotations"].as_object().into_iter().flatten();
    members.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or("")))
}

/// Faults of annotations in themselves, of a pod or a template of one; `at` is where they are.
pub(in crate::registry::strategies) fn validate(tree: &Value, at: &Path<'_>, faults: &mut Faults) {
    let containers: OnceCell<HashSet<&str>> = OnceCell::new();
    let names = || LISTS.iter().flat_map(|list| items(&tree["spec"], list)).map(|one| text(one, "name"));
    for (key, value) in of(tree) {
        if key == MIRROR && text(tree, "spec.nodeName").is_empty() {
            let message = "must set spec.nodeName if mirror pod annotation is set";
            faults.push(FieldError::invalid(at.key(key), value, message));
        }
        let is_cost = || value.parse::<i32>().is_ok_and(|_| !value.starts_with('+') && !pads(value));
        if key == DELETION_COST && !is_cost() {
            faults.push(FieldError::invalid(at.key(key), value, "must be a 32bit integer"));
        }
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            seccomp(value, &at.child(key), faults);
        }
        if let Some(container) = key.strip_prefix(APP_ARMOR) {
            if !containers.get_or_init(|| names().collect()).contains(container) {
                faults.push(FieldError::invalid(at.key(key), container, "container not found"));
            }
            let good =
                matches!(value, "" | "runtime/default" | "unconfined") || value.starts_with("localhost/");
            if !good {
                let message = format!("invalid AppArmor profile name: {value:?}");
                faults.push(FieldError::invalid(at.key(key), value, message));
            }
        }
    }
}

/// A number written with leading zeros is none to upstream.
fn pads(number: &str) -> bool {
    let digits = number.trim_start_matches('-');
    digits.len() > 1 && digits.starts_with('0')
}

fn seccomp(profile: &str, at: &Path<'_>, faults: &mut Faults) {
    match profile.strip_prefix("localhost/") {
        Some(path) => local_path(path, at, faults),
        None if matches!(profile, "runtime/default" | "docker/default" | "unconfined") => {}
        None => faults.push(FieldError::invalid(at, profile, "must be a valid seccomp profile")),
    }
}

/// Faults of a change: who could take the mirror annotation off, or put it on, would change what a node may
/// read and whose pod it is.
pub(super) fn validate_change(new: &Value, old: &Value, faults: &mut Faults) {
    let at = Path::new("metadata");
    let at = at.child("annotations");
    let fixed = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        _ if key.starts_with(APP_ARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    let (is, was) = (&new["metadata"]["annotations"], &old["metadata"]["annotations"]);
    for (key, value) in of(old) {
        if is[key].as_str() != Some(value)
            && let Some(what) = fixed(key)
        {
            faults.push(FieldError::forbidden(at.key(key), format!("may not remove or update {what}")));
        }
    }
    for (key, _) in of(new).filter(|(key, _)| was[*key].is_null()) {
        if let Some(what) = fixed(key) {
            faults.push(FieldError::forbidden(at.key(key), format!("may not add {what}")));
        }
    }
}

pub(super) fn is_mirror(tree: &Value) -> bool {
    !tree["metadata"]["annotations"][MIRROR].is_null()
}

/// What an AppArmor annotation says as the field that has taken its place; none if it says nothing that is
/// valid.
fn app_armor(value: &str) -> Option<Value> {
    let field = match (value, value.strip_prefix("localhost/")) {
        ("unconfined", _) => json!({"type": "Unconfined"}),
        ("runtime/default", _) => json!({"type": "RuntimeDefault"}),
        (_, Some(name)) if !name.is_empty() => json!({"type": "Localhost", "localhostProfile": name}),
        _ => return None,
    };
    let profile: AppArmorProfile = serde_json::from_value(field.clone()).ok()?;
    let mut faults = Faults::new();
    security::app_armor(Some(&profile), &Path::new("appArmorProfile"), &mut faults);
    faults.is_empty().then_some(field)
}

/// Copies AppArmor annotations to the fields that nodes go by, where these are not set.
pub(super) fn to_fields(tree: &mut Value) {
    let wanted: HashMap<String, Value> = of(tree)
        .filter_map(|(key, value)| Some((key.strip_prefix(APP_ARMOR)?.to_string(), app_armor(value)?)))
        .filter(|(_, field)| tree["spec"]["securityContext"]["appArmorProfile"] != *field)
        .collect();
    let Some(spec) = tree.get_mut("spec").filter(|_| !wanted.is_empty()) else { return };
    for list in LISTS {
        for container in items_mut(spec, list) {
            let field = wanted.get(text(container, "name"));
            let unset = container["securityContext"]["appArmorProfile"].is_null();
            if let Some(field) = field.filter(|_| unset)
                && let Some(context) = object(container, "securityContext")
            {
                context.insert("appArmorProfile".into(), field.clone());
            }
        }
    }
}

/// Faults of a new pod, or a template, whose AppArmor annotations and fields contradict each other; `at` is
/// the spec.
pub(in crate::registry::strategies) fn validate_match(tree: &Value, at: &Path<'_>, faults: &mut Faults) {
    let own = &tree["spec"]["securityContext"]["appArmorProfile"];
    for list in LISTS {
        let at = at.child(list);
        for (index, container) in items(&tree["spec"], list).iter().enumerate() {
            let profile = &container["securityContext"]["appArmorProfile"];
            let profile = if profile.is_null() { own } else { profile };
            let key = format!("{APP_ARMOR}{}", text(container, "name"));
            let Some(annotation) =
                tree["metadata"]["annotations"][&key].as_str().filter(|_| !profile.is_null())
            else {
                continue;
            };
            let at = at.index(index);
            let at = at.child("securityContext");
            let at = at.child("appArmorProfile");
            let local = annotation.strip_prefix("localhost/");
            let alike = match text(profile, "type") {
                "Unconfined" => annotation == "unconfined",
                "RuntimeDefault" => annotation == "runtime/default",
                "Localhost" => local.is_some(),
                _ => true,
            };
            if !alike {
                let message = "apparmor type in annotation and field must match";
                faults.push(FieldError::forbidden(at.child("type"), message));
            } else if text(profile, "type") == "Localhost" && local != profile["localhostProfile"].as_str() {
                let message = "apparmor profile in annotation and field must match";
                faults.push(FieldError::forbidden(at.child("localhostProfile"), message));
            }
        }
    }
}
