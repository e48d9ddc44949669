//! Faults of a job's status.
//!
//! Others than our controller may manage jobs, so that upstream holds every change of a status against what
//! clients may rely on. A rule is asked about only where what it is about has changed: the spec may have
//! changed meanwhile, and the controller comes after.

use std::collections::HashSet;

use api::FieldError;
use api::validation::{Faults, Path};
use serde_json::Value;

use super::indexes;
use crate::printers::{at as find, items, number, text};
use crate::registry::strategies::rollout;

fn is_true(tree: &Value, condition: &str) -> bool {
    has(tree, condition, "True")
}

fn has(tree: &Value, condition: &str, status: &str) -> bool {
    let conditions = items(tree, "status.conditions");
    conditions.iter().any(|one| text(one, "type") == condition && text(one, "status") == status)
}

fn is_finished(tree: &Value) -> bool {
    is_true(tree, "Complete") || is_true(tree, "Failed")
}

/// A changed status beside the one before.
struct Change<'a> {
    new: &'a Value,
    old: &'a Value,
}

impl Change<'_> {
    /// Whether any of these fields of the status has changed.
    fn of(&self, fields: &[&str]) -> bool {
        fields.iter().any(|field| self.new["status"][*field] != self.old["status"][*field])
    }

    /// Whether any of these conditions has become true, or has ceased to be.
    fn of_conditions(&self, conditions: &[&str]) -> bool {
        conditions.iter().any(|one| is_true(self.new, one) != is_true(self.old, one))
    }

    fn of_finish(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }
}

pub(super) fn validate(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    let change = Change { new, old };
    let counts = ["active", "succeeded", "failed", "ready", "terminating"];
    rollout::validate_counts(new, &counts, &mut faults);
    uncounted(new, &mut faults);
    conditions(&change, &mut faults);
    completion_time(&change, &mut faults);
    outcome(&change, &mut faults);
    finished(&change, &mut faults);
    index_lists(&change, &mut faults);
    success_criteria(new, &mut faults);
    transitions(&change, &mut faults);
    faults
}

/// Pods are counted once.
fn uncounted(new: &Value, faults: &mut Faults) {
    let at = Path::new("status");
    let at = at.child("uncountedTerminatedPods");
    let mut seen = HashSet::new();
    for list in ["succeeded", "failed"] {
        let at = at.child(list);
        for (index, uid) in items(&new["status"]["uncountedTerminatedPods"], list).iter().enumerate() {
            let uid = uid.as_str().unwrap_or("");
            if uid.is_empty() {
                faults.push(FieldError::invalid(at.index(index), uid, "must not be empty"));
            } else if !seen.insert(uid) {
                faults.push(FieldError::duplicate(at.index(index), uid));
            }
        }
    }
}

fn blame_conditions(message: impl Into<String>, faults: &mut Faults) {
    faults.push(FieldError::invalid_without_value("status.conditions", message));
}

fn conditions(change: &Change<'_>, faults: &mut Faults) {
    let complete = is_true(change.new, "Complete");
    if change.of_conditions(&["Complete", "Failed"]) && complete && is_true(change.new, "Failed") {
        blame_conditions("cannot set Complete=True and Failed=true conditions", faults);
    }
    if change.of_conditions(&["Complete", "FailureTarget"])
        && complete
        && is_true(change.new, "FailureTarget")
    {
        blame_conditions("cannot set Complete=True and FailureTarget=true conditions", faults);
    }
}

fn completion_time(change: &Change<'_>, faults: &mut Faults) {
    let (status, at) = (&change.new["status"], "status.completionTime");
    let (start, end) = (&status["startTime"], &status["completionTime"]);
    let complete = is_true(change.new, "Complete");
    if change.of_conditions(&["Complete"]) || change.of(&["completionTime"]) {
        if !end.is_null() && !complete {
            let message = "cannot set completionTime when there is no Complete=True condition";
            faults.push(FieldError::invalid(at, end, message));
        }
        if end.is_null() && complete {
            faults.push(FieldError::required(at, "completionTime is required for Complete jobs"));
        }
    }
    let time = |value: &Value| value.as_str().and_then(api::time::parse);
    if change.of(&["startTime", "completionTime"])
        && let (Some(from), Some(to)) = (time(start), time(end))
        && to < from
    {
        faults.push(FieldError::invalid(at, end, "must be equal to or after `startTime`"));
    }
}

fn outcome(change: &Change<'_>, faults: &mut Faults) {
    let new = change.new;
    let failed = change.of_conditions(&["Failed"]) || change.of(&["failedIndexes"]);
    if failed && is_true(new, "Failed") && !is_true(new, "FailureTarget") {
        blame_conditions("cannot set Failed=True condition without the FailureTarget=true condition", faults);
    }
    let complete = change.of_conditions(&["Complete", "SuccessCriteriaMet"]);
    if complete && is_true(new, "Complete") && !is_true(new, "SuccessCriteriaMet") {
        let message = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        blame_conditions(message, faults);
    }
}

fn finished(change: &Change<'_>, faults: &mut Faults) {
    let (new, status) = (change.new, &change.new["status"]);
    let at = Path::new("status");
    let (finished, finishes) = (is_finished(new), change.of_finish());
    let (active, ready) = (number(status, "active"), number(status, "ready"));
    let terminating = number(status, "terminating");
    if (finishes || change.of(&["active"])) && active > 0 && finished {
        faults.push(FieldError::invalid(at.child("active"), active, "active>0 is invalid for finished job"));
    }
    let nothing_to_do = new["spec"]["suspend"] == true && new["spec"]["completions"] == 0;
    let starts = (finishes || change.of(&["startTime"])) && !nothing_to_do;
    if starts && status["startTime"].is_null() && finished {
        faults.push(FieldError::required(at.child("startTime"), "startTime is required for finished job"));
    }
    let pods = &status["uncountedTerminatedPods"];
    let some = !items(pods, "succeeded").is_empty() || !items(pods, "failed").is_empty();
    if (finishes || change.of(&["uncountedTerminatedPods"])) && finished && some {
        let printed = serde_json::json!({"Succeeded": pods["succeeded"], "Failed": pods["failed"]});
        let at = at.child("uncountedTerminatedPods");
        faults.push(FieldError::invalid(at, printed, "must be empty for finished job"));
    }
    if (finishes || change.of(&["terminating"])) && terminating > 0 && finished {
        let message = "terminating>0 is invalid for finished job";
        faults.push(FieldError::invalid(at.child("terminating"), terminating, message));
    }
    if change.of(&["ready", "active"]) && ready > active {
        faults.push(FieldError::invalid(at.child("ready"), ready, "cannot set more ready pods than active"));
    }
}

fn index_lists(change: &Change<'_>, faults: &mut Faults) {
    let (spec, status) = (&change.new["spec"], &change.new["status"]);
    let at = Path::new("status");
    let (at_done, at_failed) = (at.child("completedIndexes"), at.child("failedIndexes"));
    let done = text(status, "completedIndexes");
    let failed = status["failedIndexes"].as_str();
    let completions = spec["completions"].as_i64().and_then(|count| i32::try_from(count).ok());
    let per_index = !spec["backoffLimitPerIndex"].is_null();
    let unreadable = |field: &str, list: &str, completions: i32| {
        indexes::parse(list, completions).err().map(|why| format!("error parsing {field}: {why}"))
    };
    if change.of(&["completedIndexes"]) {
        if let Some(message) = completions.and_then(|all| unreadable("completedIndexes", done, all)) {
            faults.push(FieldError::invalid(at_done, done, message));
        }
        if !done.is_empty() && text(spec, "completionMode") != "Indexed" {
            let message = "cannot set non-empty completedIndexes when non-indexed completion mode";
            faults.push(FieldError::invalid(at_done, done, message));
        }
    }
    let Some(failed) = failed else { return };
    if change.of(&["failedIndexes"]) {
        let all = completions.filter(|_| per_index);
        if let Some(message) = all.and_then(|all| unreadable("failedIndexes", failed, all)) {
            faults.push(FieldError::invalid(at_failed, failed, message));
        }
        if !per_index {
            let message = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            faults.push(FieldError::invalid(at_failed, failed, message));
        }
    }
    if change.of(&["failedIndexes", "completedIndexes"])
        && let Some(index) = completions.and_then(|all| indexes::overlap(done, failed, all))
    {
        let message = format!("failedIndexes and completedIndexes overlap at index: {index}");
        faults.push(FieldError::invalid(at_failed, failed, message));
    }
}

fn success_criteria(new: &Value, faults: &mut Faults) {
    let met = is_true(new, "SuccessCriteriaMet");
    if met && is_true(new, "Failed") {
        blame_conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions", faults);
    }
    if met && is_true(new, "FailureTarget") {
        blame_conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions", faults);
    }
    if !met && is_true(new, "Complete") && !find(new, "spec.successPolicy").is_null() {
        let message = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        blame_conditions(message, faults);
    }
}

/// What does not go back.
fn transitions(change: &Change<'_>, faults: &mut Faults) {
    let (new, old) = (change.new, change.old);
    let (is, was) = (&new["status"], &old["status"]);
    let at = Path::new("status");
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if is_true(old, condition) && !is_true(new, condition) {
            blame_conditions(format!("cannot disable the terminal {condition}=True condition"), faults);
        }
    }
    let spec = &new["spec"];
    // Indexed jobs can be made smaller while they run.
    let elastic = text(spec, "completionMode") == "Indexed" && spec["completions"] == spec["parallelism"];
    for (field, may_shrink) in [("failed", false), ("succeeded", elastic)] {
        let count = number(is, field);
        if !may_shrink && count < number(was, field) {
            let message = format!("cannot decrease the {field} counter");
            faults.push(FieldError::invalid(at.child(field), count, message));
        }
    }
    let (end, ended) = (&is["completionTime"], &was["completionTime"]);
    if !end.is_null() && !ended.is_null() && end != ended {
        faults.push(FieldError::invalid(at.child("completionTime"), end, "field is immutable"));
    }
    let (start, started) = (&is["startTime"], &was["startTime"]);
    let resumes = has(old, "Suspended", "True") && has(new, "Suspended", "False");
    if start != started && !resumes && !started.is_null() && spec["suspend"] != true {
        let message = "field is immutable for unsuspended job once set";
        faults.push(FieldError::invalid(at.child("startTime"), start, message));
    }
    let (met, was_met) = (is_true(new, "SuccessCriteriaMet"), is_true(old, "SuccessCriteriaMet"));
    if was_met && !met {
        blame_conditions("cannot disable the SuccessCriteriaMet=True condition", faults);
    }
    if is_true(old, "Complete") && !was_met && met {
        let message = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        blame_conditions(message, faults);
    }
}
