//! Leases.

use api::FieldError;
use api::validation::{Faults, Path};
use jiff::Timestamp;
use serde_json::Value;

use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

pub(super) struct Leases;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let spec = &tree["spec"];
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|seconds| *seconds <= 0) {
        faults.push(FieldError::invalid(at.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
    }
    if let Some(count) = spec["leaseTransitions"].as_i64().filter(|count| *count < 0) {
        let message = "must be greater than or equal to 0";
        faults.push(FieldError::invalid(at.child("leaseTransitions"), count, message));
    }
    faults
}

impl Strategy for Leases {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, _old: &Value) -> Faults {
        validate(new)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        printers::core::LEASE
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::core::lease(tree, now)
    }
}
