//! Jobs.
//!
//! A job's selector is made by the server unless the caller asks to make it: labels with the job's name and
//! uid go into the template, and the selector names the uid.

use std::borrow::Cow;

use api::ApiError;
use serde_json::{Map, Value, json};

use super::{count, object};
use crate::printers::text;
use crate::strategy::{RequestContext, Str, Strategy, fields};

/// Labels of a job's pods with the job's name, and with its uid: each in its old and its present form.
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

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

impl Strategy for Jobs {
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        if tree["spec"]["manualSelector"] != true {
            generate_selector(tree);
        }
        Ok(())
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
}
