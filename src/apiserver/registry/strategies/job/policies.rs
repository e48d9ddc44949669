//! Faults of a job's policies: which failures count, and what is success.

use std::collections::HashSet;

use api::FieldError;
use api::validation::{Faults, Path, invalid_each, qualified_name};
use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule, SuccessPolicy, SuccessPolicyRule,
};

use super::indexes;
use crate::registry::strategies::non_negative;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_CONDITIONS: usize = 20;
const MAX_INDEXES_LENGTH: usize = 64 * 1024;

fn too_many(at: &Path<'_>, count: usize, max: usize, faults: &mut Faults) {
    if count > max {
        faults.push(FieldError::too_many(at, count, i64::try_from(max).unwrap_or(i64::MAX)));
    }
}

/// A word of a fixed set that must be there.
fn one_of(word: &str, words: &[&str], at: &Path<'_>, faults: &mut Faults) {
    if word.is_empty() {
        let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        faults.push(FieldError::required(at, format!("valid values: [{}]", quoted.join(" "))));
    } else if !words.contains(&word) {
        faults.push(FieldError::not_supported(at, word, words));
    }
}

pub(super) fn failure(spec: &JobSpec, policy: &PodFailurePolicy, at: &Path<'_>, faults: &mut Faults) {
    let at = at.child("rules");
    too_many(&at, policy.rules.len(), MAX_RULES, faults);
    let pod = spec.template.spec.as_ref();
    let containers =
        pod.into_iter().flat_map(|pod| pod.containers.iter().chain(pod.init_containers.iter().flatten()));
    let names: HashSet<&str> = containers.map(|container| container.name.as_str()).collect();
    for (index, rule) in policy.rules.iter().enumerate() {
        failure_rule(spec, rule, &names, &at.index(index), faults);
    }
}

fn failure_rule(
    spec: &JobSpec,
    rule: &PodFailurePolicyRule,
    containers: &HashSet<&str>,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or(&[]);
    if rule.action == "FailIndex" {
        if spec.backoff_limit_per_index.is_none() {
            let message = "requires the backoffLimitPerIndex to be set";
            faults.push(FieldError::invalid(at.child("action"), &rule.action, message));
        }
    } else {
        one_of(&rule.action, &ACTIONS, &at.child("action"), faults);
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(codes, containers, &at.child("onExitCodes"), faults);
    }
    if !conditions.is_empty() {
        pod_conditions(conditions, &at.child("onPodConditions"), faults);
    }
    match (rule.on_exit_codes.is_some(), !conditions.is_empty()) {
        (true, true) => {
            let message = "specifying both OnExitCodes and OnPodConditions is not supported";
            faults.push(FieldError::invalid_without_value(at, message));
        }
        (false, false) => {
            let message = "specifying one of OnExitCodes and OnPodConditions is required";
            faults.push(FieldError::invalid_without_value(at, message));
        }
        _ => {}
    }
}

fn pod_conditions(patterns: &[PodFailurePolicyOnPodConditionsPattern], at: &Path<'_>, faults: &mut Faults) {
    too_many(at, patterns.len(), MAX_CONDITIONS, faults);
    for (index, pattern) in patterns.iter().enumerate() {
        let at = at.index(index);
        invalid_each(faults, &at.child("type"), &pattern.type_, qualified_name(&pattern.type_));
        one_of(pattern.status.as_deref().unwrap_or(""), &STATUSES, &at.child("status"), faults);
    }
}

fn exit_codes(
    codes: &PodFailurePolicyOnExitCodesRequirement,
    containers: &HashSet<&str>,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    one_of(&codes.operator, &OPERATORS, &at.child("operator"), faults);
    if let Some(name) = codes.container_name.as_deref().filter(|name| !containers.contains(name)) {
        let message = "must be one of the container or initContainer names in the pod template";
        faults.push(FieldError::invalid(at.child("containerName"), name, message));
    }
    let at = at.child("values");
    if codes.values.is_empty() {
        faults.push(FieldError::invalid(at, &codes.values, "at least one value is required"));
    }
    too_many(&at, codes.values.len(), MAX_EXIT_CODES, faults);
    let mut seen = HashSet::new();
    for (index, value) in codes.values.iter().enumerate() {
        if codes.operator == "In" && *value == 0 {
            faults.push(FieldError::invalid(at.index(index), value, "must not be 0 for the In operator"));
        }
        if !seen.insert(value) {
            faults.push(FieldError::duplicate(at.index(index), value));
        }
    }
    if !codes.values.is_sorted() {
        faults.push(FieldError::invalid(at, &codes.values, "must be ordered"));
    }
}

pub(super) fn success(spec: &JobSpec, policy: &SuccessPolicy, at: &Path<'_>, faults: &mut Faults) {
    let at = at.child("rules");
    if policy.rules.is_empty() {
        let message = "at least one rules must be specified when the successPolicy is specified";
        faults.push(FieldError::required(at, message));
    }
    too_many(&at, policy.rules.len(), MAX_RULES, faults);
    for (index, rule) in policy.rules.iter().enumerate() {
        success_rule(spec.completions.unwrap_or(0), rule, &at.index(index), faults);
    }
}

fn success_rule(completions: i32, rule: &SuccessPolicyRule, at: &Path<'_>, faults: &mut Faults) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let message = "at least one of succeededCount or succeededIndexes must be specified";
        faults.push(FieldError::required(at, message));
    }
    let mut total = 0;
    if let Some(text) = &rule.succeeded_indexes {
        let at = at.child("succeededIndexes");
        if text.len() > MAX_INDEXES_LENGTH {
            faults.push(FieldError::too_long(at, MAX_INDEXES_LENGTH));
        }
        match indexes::parse(text, completions) {
            Ok(count) => total = count,
            Err(why) => {
                let message = format!("error parsing succeededIndexes: {why}");
                faults.push(FieldError::invalid(at, text, message));
            }
        }
    }
    let Some(count) = rule.succeeded_count else { return };
    let at = at.child("succeededCount");
    non_negative(faults, &at, i64::from(count));
    if count > completions {
        let message =
            format!("must be less than or equal to {completions} (the number of specified completions)");
        faults.push(FieldError::invalid(at, count, message));
    }
    if rule.succeeded_indexes.is_some() && count > total {
        let message = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        faults.push(FieldError::invalid(at, count, message));
    }
}
