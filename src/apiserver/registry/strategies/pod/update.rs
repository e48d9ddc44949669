//! What an update of a pod may change: images, a shorter deadline, more tolerations, fewer gates; and nothing
//! else.

use std::collections::{HashMap, HashSet};

use api::FieldError;
use api::json::{items, text};
use api::validation::{Faults, Path, immutable, invalid_each, name_is_dns_subdomain, qualified_name};
use serde_json::{Map, Value, json};

use crate::registry::strategies::differences;
use crate::registry::strategies::pod::container::validate_image;

const MUTABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

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
    if is_gated(&old["spec"]) {
        narrower_selector(new, old, &at, &mut faults);
        narrower_affinity(new, old, &at, &mut faults);
    }
    if !faults.is_empty() {
        return faults;
    }
    let mut masked = new["spec"].clone();
    mask(&mut masked, &new["spec"], &old["spec"]);
    if masked != old["spec"] {
        let differences = differences("spec", &old["spec"], &masked);
        let message = format!("pod updates may not change fields other than {MUTABLE}\n{differences}");
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
    let known: HashSet<&Value> = items(old, "spec.schedulingGates").iter().collect();
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
    let new: HashSet<Value> = items(new, "spec.tolerations").iter().map(bare).collect();
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
    if is_gated(old) {
        parts.push("nodeSelector");
    }
    for part in parts {
        match old.get(part) {
            Some(value) => spec.insert(part.to_string(), value.clone()),
            None => spec.remove(part),
        };
    }
    if is_gated(old) {
        keep_node_affinity(spec, old);
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

/// A pod that waits behind gates may be told more narrowly where to go.
fn is_gated(spec: &Value) -> bool {
    !items(spec, "schedulingGates").is_empty()
}

/// The pod's affinity to nodes is compared on its own; that to pods stays.
fn keep_node_affinity(spec: &mut Map<String, Value>, old: &Value) {
    let mut affinity = spec.get("affinity").and_then(Value::as_object).cloned().unwrap_or_default();
    match old["affinity"].get("nodeAffinity") {
        Some(value) => affinity.insert("nodeAffinity".into(), value.clone()),
        None => affinity.remove("nodeAffinity"),
    };
    if affinity.is_empty() && old["affinity"].is_null() {
        spec.remove("affinity");
    } else {
        spec.insert("affinity".into(), Value::Object(affinity));
    }
}

fn narrower_selector(new: &Value, old: &Value, at: &Path<'_>, faults: &mut Faults) {
    let (is, was) = (&new["spec"]["nodeSelector"], &old["spec"]["nodeSelector"]);
    if was.as_object().into_iter().flatten().any(|(key, value)| is[key] != *value) {
        let message = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        faults.push(FieldError::invalid(at.child("nodeSelector"), is, message));
    }
}

/// Terms are alternatives, so there may be no more and no fewer of them; what a term demands may grow.
fn narrower_affinity(new: &Value, old: &Value, at: &Path<'_>, faults: &mut Faults) {
    let terms = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let (is, was) = (items(new, terms), items(old, terms));
    if was.is_empty() {
        return;
    }
    let at = at.child("affinity");
    let at = at.child("nodeAffinity");
    let at = at.child("requiredDuringSchedulingIgnoredDuringExecution");
    let at = at.child("nodeSelectorTerms");
    if is.len() != was.len() {
        let message = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return faults.push(FieldError::invalid(at, is, message));
    }
    let lists = ["matchExpressions", "matchFields"];
    for (index, (is, was)) in is.iter().zip(was).enumerate() {
        let empty = |term: &Value| lists.iter().all(|list| items(term, list).is_empty());
        let grows = lists.iter().all(|list| items(is, list).starts_with(items(was, list)));
        if !grows || (empty(was) && !empty(is)) {
            let message = "only additions are allowed (no mutations or deletions)";
            faults.push(FieldError::invalid(at.index(index), is, message));
        }
    }
}

/// Ephemeral containers are only ever added.
pub(super) fn validate_ephemeral(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let at = at.child("ephemeralContainers");
    let now = by_name(items(new, "spec.ephemeralContainers"));
    for was in items(old, "spec.ephemeralContainers") {
        let name = text(was, "name");
        match now.get(name).copied() {
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

/// What a status may not say: another class of quality, a place for a pod that has one, or that a container
/// lives again which has ended and is not to be restarted.
pub(super) fn validate_status(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("status");
    for (index, condition) in items(new, "status.conditions").iter().enumerate() {
        let kind = text(condition, "type");
        let list = at.child("conditions");
        invalid_each(&mut faults, &list.index(index).child("Type"), kind, qualified_name(kind));
    }
    let (is, was) = (text(new, "status.qosClass"), text(old, "status.qosClass"));
    immutable(&mut faults, &at.child("qosClass"), &is, &was);
    let (is, was) = (text(new, "status.nominatedNodeName"), text(old, "status.nominatedNodeName"));
    if !is.is_empty() && is != was {
        let at = at.child("nominatedNodeName");
        invalid_each(&mut faults, &at, is, name_is_dns_subdomain(is, false));
        if !text(old, "spec.nodeName").is_empty() {
            let message = "may not be set on pods that are already bound to a node";
            faults.push(FieldError::forbidden(at, message));
        }
    }
    ended_stay_ended(new, old, &at.child("containerStatuses"), &mut faults);
    faults
}

fn ended_stay_ended(new: &Value, old: &Value, at: &Path<'_>, faults: &mut Faults) {
    let policy = text(old, "spec.restartPolicy");
    if policy == "Always" {
        return;
    }
    let restarted: HashSet<&str> = items(old, "spec.containers")
        .iter()
        .filter(|one| !one["restartPolicy"].is_null() || !one["restartPolicyRules"].is_null())
        .map(|one| text(one, "name"))
        .collect();
    let is_final = |was: &&Value| {
        let ended = &was["state"]["terminated"];
        !ended.is_null() && (policy == "Never" || ended["exitCode"] == 0)
    };
    let ended = items(old, "status.containerStatuses").iter().filter(is_final);
    let ended: HashSet<&str> =
        ended.map(|was| text(was, "name")).filter(|name| !restarted.contains(name)).collect();
    for (index, is) in items(new, "status.containerStatuses").iter().enumerate() {
        if ended.contains(text(is, "name")) && is["state"]["terminated"].is_null() {
            let message = "may not be transitioned to non-terminated state";
            faults.push(FieldError::forbidden(at.index(index).child("state"), message));
        }
    }
}

/// The first of each name.
fn by_name(list: &[Value]) -> HashMap<&str, &Value> {
    let mut named = HashMap::with_capacity(list.len());
    for one in list {
        named.entry(text(one, "name")).or_insert(one);
    }
    named
}
