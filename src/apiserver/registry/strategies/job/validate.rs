//! Faults of jobs and of changes of them.

use std::collections::BTreeMap;

use api::validation::{
    Faults, Path, dns1123_label, domain_prefixed_path, immutable, validate_label_selector,
};
use api::{FieldError, LabelSelector};
use k8s_openapi::api::batch::v1::JobSpec;
use serde_json::{Map, Value, json};

use super::{NAME_LABELS, UID_LABELS, policies};
use crate::printers::text;
use crate::registry::strategies::non_negative;
use crate::registry::strategies::pod_template::{self, Template};

/// Limits that keep the lists of indexes in a job's status short.
const MAX_INDEXED_PARALLELISM: i32 = 100_000;
const MAX_FAILED_INDEXES: i32 = 100_000;
const SOFT_COMPLETIONS: i32 = 100_000;
const PARALLELISM_ABOVE: i32 = 10_000;
const FAILED_INDEXES_ABOVE: i32 = 10_000;
const MAX_MANAGED_BY: usize = 63;
const RESTART: [&str; 2] = ["OnFailure", "Never"];

/// All faults of a job. `prefixed` says that its pods must have the labels with a prefix.
pub(super) fn job(tree: &Value, spec: &JobSpec, prefixed: bool, faults: &mut Faults) {
    let at = Path::new("spec");
    generated_selector(tree, spec, prefixed, faults);
    self::spec(spec, &tree["spec"], &at, faults);
    let before = faults.len();
    match &spec.selector {
        None => faults.push(FieldError::required(at.child("selector"), "")),
        Some(selector) => validate_label_selector(selector, &at.child("selector"), faults),
    }
    if spec.selector.is_none() || faults.len() == before {
        let template = Template { typed: &spec.template, tree: &tree["spec"]["template"] };
        pod_template::validate_match(spec.selector.as_ref(), template, &at.child("template"), faults);
    }
    if let Some(completions) = spec.completions.filter(|count| *count > 0)
        && spec.completion_mode.as_deref() == Some("Indexed")
    {
        let name = text(tree, "metadata.name");
        let last = format!("{name}-{}", completions - 1);
        if !dns1123_label(&last).is_empty() {
            let message = format!("will not able to create pod with invalid DNS label: {last}");
            faults.push(FieldError::invalid("metadata.name", name, message));
        }
    }
}

/// Faults of labels and a selector that the server was to make.
fn generated_selector(tree: &Value, spec: &JobSpec, prefixed: bool, faults: &mut Faults) {
    let Some(selector) = spec.selector.as_ref().filter(|_| spec.manual_selector != Some(true)) else {
        return;
    };
    let (uid, name) = (text(tree, "metadata.uid"), text(tree, "metadata.name"));
    let labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    let at = Path::new("spec");
    let at_template = at.child("template");
    let at_metadata = at_template.child("metadata");
    let at_labels = at_metadata.child("labels");
    let mut expected = BTreeMap::new();
    for (index, is_needed) in [(0, true), (1, prefixed)] {
        for (label, value) in [(UID_LABELS[index], uid), (NAME_LABELS[index], name)] {
            if !is_needed {
                continue;
            }
            expected.insert(label.to_string(), value.to_string());
            let message = format!("must be '{value}'");
            match labels.and_then(|labels| labels.get(label)) {
                None => faults.push(FieldError::required(at_labels.key(label), message)),
                Some(own) if own != value => {
                    faults.push(FieldError::invalid(at_labels.key(label), labels, message));
                }
                Some(_) => {}
            }
        }
    }
    if !LabelSelector::from_meta(Some(selector)).matches(&expected) {
        let message = "`selector` not auto-generated";
        faults.push(FieldError::invalid(at.child("selector"), selector, message));
    }
}

/// Faults of a job's spec apart from its selector, also inside a cron job; `tree` is the spec's.
pub(in crate::registry::strategies) fn spec(
    spec: &JobSpec,
    tree: &Value,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    for (field, count) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        non_negative(faults, &at.child(field), count.unwrap_or(0));
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        let message = "when maxFailedIndexes is specified";
        faults.push(FieldError::required(at.child("backoffLimitPerIndex"), message));
    }
    if let Some(manager) = &spec.managed_by {
        domain_prefixed_path(manager, &at.child("managedBy"), faults);
        if manager.len() > MAX_MANAGED_BY {
            faults.push(FieldError::too_long(at.child("managedBy"), MAX_MANAGED_BY));
        }
    }
    completion_mode(spec, at, faults);
    if let Some(policy) = &spec.pod_failure_policy {
        policies::failure(spec, policy, &at.child("podFailurePolicy"), faults);
    }
    if let Some(policy) = &spec.success_policy {
        let at = at.child("successPolicy");
        match spec.completion_mode.as_deref() {
            Some("Indexed") => policies::success(spec, policy, &at, faults),
            _ => {
                let rules = policy.rules.iter().map(|rule| {
                    json!({"SucceededIndexes": rule.succeeded_indexes, "SucceededCount": rule.succeeded_count})
                });
                let printed = json!({"Rules": rules.collect::<Vec<_>>()});
                faults.push(FieldError::invalid(at, printed, "requires indexed completion mode"));
            }
        }
    }
    replacement_policy(spec, &at.child("podReplacementPolicy"), faults);
    let template = Template { typed: &spec.template, tree: &tree["template"] };
    pod_template::validate(template, &at.child("template"), faults);
    restart_policy(spec, at, faults);
}

fn completion_mode(spec: &JobSpec, at: &Path<'_>, faults: &mut Faults) {
    match spec.completion_mode.as_deref().unwrap_or("NonIndexed") {
        "Indexed" => indexed(spec, at, faults),
        "NonIndexed" => {
            for (field, count) in [
                ("backoffLimitPerIndex", spec.backoff_limit_per_index),
                ("maxFailedIndexes", spec.max_failed_indexes),
            ] {
                if let Some(count) = count {
                    faults.push(FieldError::invalid(
                        at.child(field),
                        count,
                        "requires indexed completion mode",
                    ));
                }
            }
        }
        other => {
            let modes = ["NonIndexed", "Indexed"];
            faults.push(FieldError::not_supported(at.child("completionMode"), other, &modes));
        }
    }
}

fn indexed(spec: &JobSpec, at: &Path<'_>, faults: &mut Faults) {
    let at_failed = at.child("maxFailedIndexes");
    if spec.completions.is_none() {
        let message = "when completion mode is Indexed";
        faults.push(FieldError::required(at.child("completions"), message));
    }
    if let Some(parallelism) = spec.parallelism.filter(|count| *count > MAX_INDEXED_PARALLELISM) {
        let message = format!(
            "must be less than or equal to {MAX_INDEXED_PARALLELISM} when completion mode is Indexed"
        );
        faults.push(FieldError::invalid(at.child("parallelism"), parallelism, message));
    }
    if let Some(failed) = spec.max_failed_indexes {
        if spec.completions.is_some_and(|completions| failed > completions) {
            let message = "must be less than or equal to completions";
            faults.push(FieldError::invalid(at_failed, failed, message));
        }
        if failed > MAX_FAILED_INDEXES {
            let message = format!("must be less than or equal to {MAX_FAILED_INDEXES}");
            faults.push(FieldError::invalid(at_failed, failed, message));
        }
    }
    if spec.completions.is_none_or(|count| count <= SOFT_COMPLETIONS)
        || spec.backoff_limit_per_index.is_none()
    {
        return;
    }
    let above = |limit: i32| {
        format!(
            "must be less than or equal to {limit} when completions are above {SOFT_COMPLETIONS} and used with backoff \
             limit per index"
        )
    };
    if spec.max_failed_indexes.is_none() {
        let message = format!("must be specified when completions is above {SOFT_COMPLETIONS}");
        faults.push(FieldError::required(at_failed, message));
    }
    if let Some(parallelism) = spec.parallelism.filter(|count| *count > PARALLELISM_ABOVE) {
        faults.push(FieldError::invalid(at.child("parallelism"), parallelism, above(PARALLELISM_ABOVE)));
    }
    if let Some(failed) = spec.max_failed_indexes.filter(|count| *count > FAILED_INDEXES_ABOVE) {
        faults.push(FieldError::invalid(at_failed, failed, above(FAILED_INDEXES_ABOVE)));
    }
}

fn replacement_policy(spec: &JobSpec, at: &Path<'_>, faults: &mut Faults) {
    let supported: &[&str] =
        if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    if let Some(policy) = spec.pod_replacement_policy.as_deref().filter(|policy| !supported.contains(policy))
    {
        faults.push(FieldError::not_supported(at, policy, supported));
    }
}

fn restart_policy(spec: &JobSpec, at: &Path<'_>, faults: &mut Faults) {
    let at = at.child("template");
    let at = at.child("spec");
    let at = at.child("restartPolicy");
    let policy = spec.template.spec.as_ref().and_then(|pod| pod.restart_policy.as_deref()).unwrap_or("");
    match policy {
        // A pod's default is no choice for a job.
        "" | "Always" => {
            faults.push(FieldError::required(at, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            let message = "only \"Never\" is supported when podFailurePolicy is specified";
            faults.push(FieldError::invalid(at, policy, message));
        }
        "OnFailure" | "Never" => {}
        other => faults.push(FieldError::not_supported(at, other, &RESTART)),
    }
}

/// Faults of a change.
pub(super) fn change(new: &Value, old: &Value, faults: &mut Faults) {
    let at = Path::new("spec");
    let (is, was) = (&new["spec"], &old["spec"]);
    completions(is, was, &at.child("completions"), faults);
    let fixed = |field: &str, faults: &mut Faults| {
        immutable(faults, &at.child(field), &is[field], &was[field]);
    };
    fixed("selector", faults);
    template(old, is, &at, faults);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        fixed(field, faults);
    }
}

/// Indexed jobs may change how many there are, together with how many run at once.
fn completions(is: &Value, was: &Value, at: &Path<'_>, faults: &mut Faults) {
    let (new, old) = (&is["completions"], &was["completions"]);
    if text(is, "completionMode") != "Indexed" {
        return immutable(faults, at, new, old);
    }
    if new != old && !new.is_null() && *new != is["parallelism"] {
        let message = "can only be modified in tandem with spec.parallelism";
        faults.push(FieldError::invalid(at, new, message));
    }
}

/// The template is fixed, but for a suspended job that runs no pods: where its pods may go, and what they
/// get.
fn template(old: &Value, is: &Value, at: &Path<'_>, faults: &mut Faults) {
    let new = &is["template"];
    let mut allowed = old["spec"]["template"].clone();
    let suspended = old["spec"]["suspend"] == true;
    let idle = suspended && has_no_pods(&old["status"]);
    if idle {
        allow_placement(new, &mut allowed);
    }
    if !idle {
        return immutable(faults, &at.child("template"), new, &allowed);
    }
    for list in ["containers", "initContainers"] {
        if let Some(allowed) = allowed["spec"].get_mut(list) {
            allow_resources(&new["spec"][list], allowed);
        }
    }
    immutable(faults, &at.child("template.spec"), &new["spec"], &allowed["spec"]);
}

/// Whether a job has never started, or has stopped all it had.
fn has_no_pods(status: &Value) -> bool {
    let suspended = status["conditions"]
        .as_array()
        .is_some_and(|list| list.iter().any(|one| one["type"] == "Suspended" && one["status"] == "True"));
    (status["startTime"].is_null() || suspended) && status["active"].as_i64().unwrap_or(0) == 0
}

fn take(from: &Value, to: &mut Value, field: &str) {
    let Some(members) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => members.insert(field.into(), value.clone()),
        None => members.remove(field),
    };
}

fn allow_placement(new: &Value, allowed: &mut Value) {
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        take(&new["spec"], &mut allowed["spec"], field);
    }
    if allowed["metadata"].is_null() && !new["metadata"].is_null() {
        allowed["metadata"] = Value::Object(Map::new());
    }
    for field in ["annotations", "labels"] {
        take(&new["metadata"], &mut allowed["metadata"], field);
    }
    let affinity = &new["spec"]["affinity"];
    // Indexing makes a missing member; it is taken away again below.
    let present = &mut allowed["spec"]["affinity"];
    if !present.is_object() && affinity.is_object() {
        *present = Value::Object(Map::new());
    }
    take(affinity, present, "nodeAffinity");
    // An affinity that says nothing may go, or was never there.
    let is_empty = present.as_object().is_some_and(Map::is_empty);
    if (is_empty && affinity.is_null() || present.is_null())
        && let Some(spec) = allowed["spec"].as_object_mut()
    {
        spec.remove("affinity");
    }
}

fn allow_resources(new: &Value, allowed: &mut Value) {
    let (Some(new), Some(allowed)) = (new.as_array(), allowed.as_array_mut()) else { return };
    if new.len() != allowed.len() {
        return;
    }
    for (new, allowed) in new.iter().zip(allowed) {
        if new["name"] == allowed["name"] {
            take(new, allowed, "resources");
        }
    }
}
