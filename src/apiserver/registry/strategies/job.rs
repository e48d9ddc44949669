//! Jobs.
//!
//! A job's selector is made by the server unless the caller asks to make it: labels with the job's name and
//! uid go into the template, and the selector names the uid.

mod indexes;
mod policies;
mod status;
pub(super) mod validate;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use api::ApiError;
use api::validation::{Faults, Path};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::JobSpec;
use serde_json::{Map, Value, json};

use super::pod_template;
use super::{count, object, typed};
use crate::printers::{self, number, text};
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

/// Labels of a job's pods with the job's name, and with its uid: each in its old and its present form.
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
/// Indexed jobs of more completions and more parallelism than these may become too much to keep book of.
const MANY_COMPLETIONS: i64 = 100_000;
const MUCH_PARALLELISM: i64 = 10_000;

pub(super) struct Jobs;

/// Labels in the template and the selector over them. What the caller has set stays, and validation judges
/// it.
fn generate_selector(tree: &mut Value) {
    let (name, uid) = (text(tree, "metadata.name").to_string(), text(tree, "metadata.uid").to_string());
    let Some(spec) = object(tree, "spec") else { return };
    let template = spec.entry("template").or_insert_with(|| json!({}));
    let metadata = object(template, "metadata").map(|metadata| member(metadata, "labels"));
    if let Some(Some(labels)) = metadata {
        for (keys, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
            for key in keys {
                labels.entry(key).or_insert_with(|| json!(value));
            }
        }
    }
    let selector = member(spec, "selector").and_then(|selector| member(selector, "matchLabels"));
    if let Some(labels) = selector {
        labels.entry(UID_LABELS[1]).or_insert_with(|| json!(uid));
    }
}

/// The object in a member, made if it is not there.
fn member<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let member = parent.entry(key).or_insert_with(|| json!({}));
    if member.is_null() {
        *member = json!({});
    }
    member.as_object_mut()
}

/// Texts about a job's spec, also inside a cron job; `at` is where the spec is.
pub(super) fn warnings(spec: &Value, old: Option<&Value>, at: &str, warnings: &mut Vec<String>) {
    if old == Some(spec) {
        return;
    }
    let indexed = text(spec, "completionMode") == "Indexed";
    if indexed
        && number(spec, "completions") > MANY_COMPLETIONS
        && number(spec, "parallelism") > MUCH_PARALLELISM
    {
        warnings.push(format!(
            "{at}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    let old = old.map(|old| &old["template"]);
    pod_template::warnings(&spec["template"], old, &format!("{at}.template"), warnings);
}

fn spec_of(tree: &Value, faults: &mut Faults) -> Option<JobSpec> {
    typed::<JobSpec>(&tree["spec"], &Path::new("spec"), faults)
}

impl Strategy for Jobs {
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        if tree["spec"]["manualSelector"] != true {
            generate_selector(tree);
        }
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        let mut faults = Faults::new();
        if let Some(spec) = spec_of(tree, &mut faults) {
            validate::job(tree, &spec, true, &mut faults);
        }
        faults
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource == Some("status") {
            return status::validate(new, old);
        }
        let mut faults = Faults::new();
        if let Some(spec) = spec_of(new, &mut faults) {
            // Jobs that are older than the labels with a prefix go on without them.
            let labels = &old["spec"]["template"]["metadata"]["labels"];
            let prefixed = [NAME_LABELS[1], UID_LABELS[1]].iter().all(|label| !labels[*label].is_null());
            validate::job(new, &spec, prefixed, &mut faults);
            validate::change(new, old, &mut faults);
        }
        faults
    }

    fn warnings(&self, ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        let mut texts = Vec::new();
        if ctx.subresource.is_none() {
            pod_template::name_warnings(tree, old, &mut texts);
            warnings(&tree["spec"], old.map(|old| &old["spec"]), "spec", &mut texts);
        }
        texts
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&["status.successful"])
    }

    fn field_source<'a>(&self, _path: &'a str) -> &'a str {
        "status.succeeded"
    }

    fn field_value<'a>(&self, tree: &'a Value, path: &str) -> Cow<'a, str> {
        count(tree, self.field_source(path))
    }

    fn columns(&self) -> &'static [Column] {
        printers::batch::JOB
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::batch::job(tree, now)
    }
}
