//! What an update of a pod may change: images, a shorter deadline, more tolerations, fewer gates; and nothing else.

use api::FieldError;
use api::validation::{Faults, Path};
use serde_json::{Value, json};

use crate::printers::{items, text};
use crate::registry::strategies::pod::container::validate_image;

const MUTABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
/// How many differences are named: enough to find the mistake.
const SHOWN: usize = 10;

pub(super) fn validate(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    if new["spec"] == old["spec"] {
        return faults;
    }
    let at = Path::new("spec");
    for list in ["containers", "initContainers"] {
        if items(&new["spec"], list).len() != items(&old["spec"], list).len() {
            let message = "pod updates may not add or remove containers";
            faults.push(FieldError::forbidden(at.child(list), message));
            return faults;
        }
        for (index, container) in items(&new["spec"], list).iter().enumerate() {
            validate_image(container["image"].as_str(), &at.child(list).index(index), &mut faults);
        }
    }
    deadline(new, old, &at, &mut faults);
    gates(new, old, &at, &mut faults);
    tolerations(new, old, &at, &mut faults);
    if !faults.is_empty() {
        return faults;
    }
    let mut masked = new["spec"].clone();
    mask(&mut masked, &new["spec"], &old["spec"]);
    if masked != old["spec"] {
        let mut differences = Vec::new();
        compare("spec", &old["spec"], &masked, &mut differences);
        differences.truncate(SHOWN);
        let message =
            format!("pod updates may not change fields other than {MUTABLE}\n{}", differences.join("\n"));
        faults.push(FieldError::forbidden(at, message));
    }
    faults
}

fn deadline(new: &Value, old: &Value, at: &Path<'_>, faults: &mut Faults) {
    let at = at.child("activeDeadlineSeconds");
    match (old["spec"]["activeDeadlineSeconds"].as_i64(), new["spec"]["activeDeadlineSeconds"].as_i64()) {
        (Some(was), Some(is)) if is > was => {
            faults.push(FieldError::invalid(at, is, "must be less than or equal to previous value"));
        }
        (Some(_), None) => {
            let message = "must not update from a positive integer to nil value";
            faults.push(FieldError::invalid(at, Value::Null, message));
        }
        _ => {}
    }
}

fn gates(new: &Value, old: &Value, at: &Path<'_>, faults: &mut Faults) {
    let known = items(old, "spec.schedulingGates");
    let added: Vec<&str> = items(new, "spec.schedulingGates")
        .iter()
        .filter(|gate| !known.contains(gate))
        .map(|gate| text(gate, "name"))
        .collect();
    if !added.is_empty() {
        let quoted: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
        let message =
            format!("only deletion is allowed, but found new scheduling gates '{{{}}}'", quoted.join(", "));
        faults.push(FieldError::forbidden(at.child("schedulingGates").index(0), message));
    }
}

/// Tolerations may be added; of those that are there only the seconds may change.
fn tolerations(new: &Value, old: &Value, at: &Path<'_>, faults: &mut Faults) {
    let bare = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(members) = toleration.as_object_mut() {
            members.remove("tolerationSeconds");
        }
        toleration
    };
    let new: Vec<Value> = items(new, "spec.tolerations").iter().map(bare).collect();
    if items(old, "spec.tolerations").iter().any(|one| !new.contains(&bare(one))) {
        let message = "existing toleration can not be modified except its tolerationSeconds";
        faults.push(FieldError::forbidden(at.child("tolerations"), message));
    }
}

/// Replaces in `masked` all that may change by what was there.
fn mask(masked: &mut Value, new: &Value, old: &Value) {
    let Some(spec) = masked.as_object_mut() else { return };
    let negative = old["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0);
    let mut parts = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    if negative && new["terminationGracePeriodSeconds"] == 1 {
        parts.push("terminationGracePeriodSeconds");
    }
    // A pod that waits behind gates may be told more narrowly where to go.
    if old["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        parts.extend(["nodeSelector", "affinity"]);
    }
    for part in parts {
        match old.get(part) {
            Some(value) => spec.insert(part.to_string(), value.clone()),
            None => spec.remove(part),
        };
    }
    for list in ["containers", "initContainers"] {
        let was = items(old, list);
        for (index, container) in
            spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().enumerate()
        {
            if let (Some(container), Some(was)) = (container.as_object_mut(), was.get(index)) {
                container.insert("image".into(), was.get("image").cloned().unwrap_or(json!("")));
            }
        }
    }
}

/// Lists the leaves in which two trees differ, as `-path: old` and `+path: new`.
fn compare(path: &str, old: &Value, new: &Value, out: &mut Vec<String>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(a), Value::Object(b)) => {
            let added = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(added) {
                compare(&format!("{path}.{key}"), &old[key.as_str()], &new[key.as_str()], out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{index}]"), a, b, out);
            }
        }
        _ => {
            out.extend(Some(format!("- {path}: {old}")).filter(|_| !old.is_null()));
            out.extend(Some(format!("+ {path}: {new}")).filter(|_| !new.is_null()));
        }
    }
}

/// Ephemeral containers are only ever added.
pub(super) fn validate_ephemeral(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let at = at.child("ephemeralContainers");
    let now = items(new, "spec.ephemeralContainers");
    for was in items(old, "spec.ephemeralContainers") {
        let name = text(was, "name");
        match now.iter().find(|one| text(one, "name") == name) {
            None => {
                let message = format!("existing ephemeral containers {name:?} may not be removed\n");
                faults.push(FieldError::forbidden(at, message));
            }
            Some(is) if is != was => {
                let message = format!("existing ephemeral containers {name:?} may not be changed\n");
                faults.push(FieldError::forbidden(at, message));
            }
            Some(_) => {}
        }
    }
    faults
}

/// A container that has ended and is not to be restarted does not live again.
pub(super) fn validate_status(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    let policy = text(old, "spec.restartPolicy");
    if policy == "Always" {
        return faults;
    }
    let at = Path::new("status");
    let at = at.child("containerStatuses");
    for was in items(old, "status.containerStatuses") {
        let ended = &was["state"]["terminated"];
        let final_end = !ended.is_null() && (policy == "Never" || ended["exitCode"] == 0);
        let rules = items(old, "spec.containers").iter().any(|one| {
            one["name"] == was["name"]
                && (!one["restartPolicy"].is_null() || !one["restartPolicyRules"].is_null())
        });
        if !final_end || rules {
            continue;
        }
        for (index, is) in items(new, "status.containerStatuses").iter().enumerate() {
            if is["name"] == was["name"] && is["state"]["terminated"].is_null() {
                let message = "may not be transitioned to non-terminated state";
                faults.push(FieldError::forbidden(at.index(index).child("state"), message));
            }
        }
    }
    faults
}
