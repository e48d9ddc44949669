//! Events, in both groups. They are recorded by many clients of many ages, so little is demanded of them.

use std::borrow::Cow;
use std::time::Duration;

use api::FieldError;
use api::json::text;
use api::validation::{Faults, Path, qualified_name};
use jiff::Timestamp;
use serde_json::Value;

use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

const NOTE_MAX: usize = 1024;
const WORD_MAX: usize = 128;

pub(super) struct Events;

/// The new API is strict where the old one could not be.
fn validate_new(tree: &Value, faults: &mut Faults) {
    if tree["eventTime"].is_null() {
        faults.push(FieldError::required(Path::new("eventTime"), ""));
    }
    match text(tree, "reportingController") {
        "" => faults.push(FieldError::required(Path::new("reportingController"), "")),
        name => api::validation::invalid_each(
            faults,
            &Path::new("reportingController"),
            name,
            qualified_name(name),
        ),
    }
    for field in ["reportingInstance", "action", "reason"] {
        match text(tree, field) {
            "" => faults.push(FieldError::required(Path::new(field), "")),
            long if long.len() > WORD_MAX => {
                let message = format!("can have at most {WORD_MAX} characters");
                faults.push(FieldError::invalid(Path::new(field), "", message));
            }
            _ => {}
        }
    }
    if text(tree, "note").len() > NOTE_MAX {
        let message = format!("can have at most {NOTE_MAX} characters");
        faults.push(FieldError::invalid(Path::new("message"), "", message));
    }
    if !matches!(text(tree, "type"), "Normal" | "Warning") {
        faults.push(FieldError::invalid(
            Path::new("type"),
            "",
            "has invalid value: ".to_string() + text(tree, "type"),
        ));
    }
}

/// An event is in the namespace of what it is about; about cluster-scoped objects in `default`.
fn validate(ctx: &RequestContext<'_>, tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let new = ctx.row.group == "events.k8s.io";
    let involved = if new { "regarding" } else { "involvedObject" };
    let (own, about) = (text(tree, "metadata.namespace"), text(&tree[involved], "namespace"));
    let fits = if about.is_empty() { matches!(own, "" | "default" | "kube-system") } else { own == about };
    if !fits {
        let message = "does not match event.namespace";
        faults.push(FieldError::invalid("involvedObject.namespace", about, message));
    }
    if new {
        validate_new(tree, &mut faults);
    }
    faults
}

impl Strategy for Events {
    fn validate_create(&self, ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(ctx, tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, tree: &Value, _old: &Value) -> Faults {
        // A series is counted by updates of events that older clients may have made.
        match &*ctx.row.group {
            "events.k8s.io" => Faults::new(),
            _ => validate(ctx, tree),
        }
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn time_to_live(&self) -> Option<Duration> {
        Some(Duration::from_secs(3600))
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ])
    }

    fn indexed_fields(&self) -> Vec<Str> {
        fields(&["involvedObject.uid"])
    }

    fn field_value<'a>(&self, tree: &'a Value, path: &str) -> Cow<'a, str> {
        let found = match path {
            // The new form of the same field.
            _ if path.starts_with("involvedObject.") && tree["involvedObject"].is_null() => {
                text(&tree["regarding"], &path["involvedObject.".len()..])
            }
            "source" => match text(tree, "source.component") {
                "" => printers::or(text(tree, "reportingComponent"), text(tree, "reportingController")),
                component => component,
            },
            "reportingComponent" => printers::or(text(tree, path), text(tree, "reportingController")),
            _ => text(tree, path),
        };
        Cow::Borrowed(found)
    }

    fn columns(&self) -> &'static [Column] {
        printers::event::COLUMNS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::event::cells(tree, now)
    }
}
