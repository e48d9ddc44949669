//! Controller revisions: snapshots of templates, whose data never changes.

use api::FieldError;
use api::validation::{Faults, Path, immutable};
use jiff::Timestamp;
use serde_json::Value;

use super::non_negative;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

pub(super) struct ControllerRevisions;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    non_negative(&mut faults, &Path::new("revision"), printers::number(tree, "revision"));
    faults
}

impl Strategy for ControllerRevisions {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        let mut faults = validate(tree);
        match &tree["data"] {
            Value::Object(_) => {}
            Value::Null => faults.push(FieldError::required("data", "data is mandatory")),
            _ => faults.push(FieldError::required("data", "data must be a valid JSON object")),
        }
        faults
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = validate(new);
        immutable(&mut faults, &Path::new("data"), &new["data"], &old["data"]);
        faults
    }

    fn columns(&self) -> &'static [Column] {
        printers::apps::CONTROLLER_REVISION
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::apps::controller_revision(tree, now)
    }
}
