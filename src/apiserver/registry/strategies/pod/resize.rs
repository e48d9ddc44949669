//! The `resize` subresource: CPU and memory of containers and of the pod as a whole, and nothing else of it.
//!
//! What a resize may not touch is put back before anything is judged; only a change of the containers
//! themselves is left standing, for validation to refuse.

use api::FieldError;
use api::json::{items, text};
use api::qos::class_of;
use api::validation::{Faults, Path};
use serde_json::{Map, Value};

use super::annotations;
use crate::registry::strategies::{items_mut, keep, keep_metadata};

const LISTS: [&str; 2] = ["containers", "initContainers"];
const PARTS: [&str; 2] = ["limits", "requests"];

/// Puts back all but the resources.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    let length = |tree: &Value, list| items(&tree["spec"], list).len();
    if LISTS.iter().any(|list| length(new, list) != length(old, list)) {
        return;
    }
    let mut spec = old["spec"].clone();
    keep(&mut spec, &new["spec"], "resources");
    for list in LISTS {
        let wanted = items(&new["spec"], list);
        if wanted.iter().zip(items(&old["spec"], list)).any(|(one, other)| one["name"] != other["name"]) {
            keep(&mut spec, &new["spec"], list);
            continue;
        }
        for (container, wanted) in items_mut(&mut spec, list).iter_mut().zip(wanted) {
            keep(container, wanted, "resources");
            keep(container, wanted, "resizePolicy");
        }
    }
    new["spec"] = spec;
    keep(new, old, "status");
    keep_metadata(new, old);
}

pub(super) fn validate(new: &Value, old: &Value, mut faults: Faults) -> Faults {
    if annotations::is_mirror(old) {
        return vec![FieldError::forbidden("", "static pods cannot be resized")].into();
    }
    if text(old, "spec.os.name") == "windows" {
        return vec![FieldError::forbidden("", "windows pods cannot be resized")].into();
    }
    let at = Path::new("spec");
    let class = |tree: &Value| class_of(&api::decode::pod_spec(&tree["spec"]).unwrap_or_default());
    if class(old) != class(new) {
        let message = "Pod QOS Class may not change as a result of resizing";
        faults.push(FieldError::invalid(at, text(new, "status.qosClass"), message));
    }
    // A kubelet that resizes tells the resources of what runs; where nothing runs yet it need not.
    let mut statuses = items(old, "status.containerStatuses").iter();
    if statuses.find(|one| !one["state"]["running"].is_null()).is_some_and(|one| one["resources"].is_null()) {
        faults.push(FieldError::forbidden(at, "Pod running on node without support for resize"));
    }
    whole(new, old, &at, &mut faults);
    let before = faults.len();
    order(new, old, &at, &mut faults);
    if faults.len() == before {
        containers(new, old, &at, &mut faults);
    }
    faults
}

/// The resources of the pod as a whole.
fn whole(new: &Value, old: &Value, at: &Path<'_>, faults: &mut Faults) {
    let (is, was) = (&new["spec"]["resources"], &old["spec"]["resources"]);
    let here = at.child("resources");
    if !was.is_null() && is.is_null() {
        return faults.push(FieldError::forbidden(here, "pod-level resources cannot be removed"));
    }
    for part in ["requests", "limits"] {
        if removed(&is[part], &was[part]) {
            let message = format!("pod-level resource {part} cannot be removed");
            faults.push(FieldError::forbidden(here.child(part), message));
        }
    }
    if fixed(is) != fixed(was) {
        faults.push(FieldError::forbidden(at, "only cpu and memory resources are mutable at pod-level"));
    }
}

fn order(new: &Value, old: &Value, at: &Path<'_>, faults: &mut Faults) {
    for list in LISTS {
        let here = at.child(list);
        let (is, was) = (items(&new["spec"], list), items(&old["spec"], list));
        if is.len() != was.len() {
            let message = format!("{list} may not be added or removed on resize");
            faults.push(FieldError::forbidden(here, message));
            continue;
        }
        for (index, _) in is.iter().zip(was).enumerate().filter(|(_, (is, was))| is["name"] != was["name"]) {
            let message = format!("{list} may not be renamed or reordered on resize");
            faults.push(FieldError::forbidden(here.index(index).child("name"), message));
        }
    }
}

fn containers(new: &Value, old: &Value, at: &Path<'_>, faults: &mut Faults) {
    for list in LISTS {
        let here = at.child(list);
        for (index, (is, was)) in items(&new["spec"], list).iter().zip(items(&old["spec"], list)).enumerate()
        {
            let here = here.index(index);
            let resources = here.child("resources");
            for (part, what) in [("requests", "resource requests"), ("limits", "resource limits")] {
                if removed(&is["resources"][part], &was["resources"][part]) {
                    let message = format!("{what} cannot be removed");
                    faults.push(FieldError::forbidden(resources.child(part), message));
                }
            }
            let mutable = fixed(&is["resources"]) == fixed(&was["resources"])
                && items(is, "resizePolicy") == items(was, "resizePolicy");
            if !mutable {
                let fault = match list {
                    "containers" => FieldError::forbidden(at, "only cpu and memory resources are mutable"),
                    _ => FieldError::forbidden(
                        here,
                        "only cpu and memory resources for init or sidecar containers are mutable",
                    ),
                };
                faults.push(fault);
            }
            let restarts =
                items(is, "resizePolicy").iter().any(|one| one["restartPolicy"] == "RestartContainer");
            let plain_init = list == "initContainers" && is["restartPolicy"] != "Always";
            if plain_init && restarts && is["resources"] != was["resources"] {
                let message =
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                faults.push(FieldError::forbidden(here, message));
            }
        }
    }
}

fn removed(is: &Value, was: &Value) -> bool {
    was.as_object().into_iter().flatten().any(|(name, _)| is[name].is_null())
}

/// What of a container's or pod's resources a resize may not change, without empty parts.
fn fixed(resources: &Value) -> Map<String, Value> {
    let mut fixed = resources.as_object().cloned().unwrap_or_default();
    for part in PARTS {
        if let Some(list) = fixed.get_mut(part).and_then(Value::as_object_mut) {
            list.remove("cpu");
            list.remove("memory");
        }
    }
    fixed.retain(|_, part| match part {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        other => !other.is_null(),
    });
    fixed
}
