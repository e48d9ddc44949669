//! Devices that pods claim: classes, claims, templates of claims, and the slices that drivers publish.
//!
//! Claims never change; slices change with the devices of a node. Absent: the validation of requests,
//! selectors and devices beyond the schema.

use api::json::text;
use api::validation::{Faults, Path, immutable};
use jiff::Timestamp;
use serde_json::Value;

use super::rules::{driver_name, required_fields};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

pub(super) struct DeviceClasses;
pub(super) struct ResourceClaims;
pub(super) struct ResourceClaimTemplates;
pub(super) struct ResourceSlices;

impl Strategy for DeviceClasses {
    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        printers::resource::NAME_AND_AGE
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::resource::name_and_age(tree, now)
    }
}

impl Strategy for ResourceClaims {
    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = Faults::new();
        immutable(&mut faults, &Path::new("spec"), &new["spec"], &old["spec"]);
        faults
    }

    fn columns(&self) -> &[Column] {
        printers::resource::RESOURCE_CLAIM
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::resource::resource_claim(tree, now)
    }
}

impl Strategy for ResourceClaimTemplates {
    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = Faults::new();
        immutable(&mut faults, &Path::new("spec"), &new["spec"], &old["spec"]);
        faults
    }

    fn columns(&self) -> &[Column] {
        printers::resource::NAME_AND_AGE
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::resource::name_and_age(tree, now)
    }
}

impl Strategy for ResourceSlices {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        let mut faults = Faults::new();
        let at = Path::new("spec");
        driver_name(&mut faults, &at.child("driver"), text(tree, "spec.driver"));
        required_fields(&mut faults, &at.child("pool"), &tree["spec"]["pool"], &["name"]);
        faults
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = self.validate_create(ctx, new);
        let at = Path::new("spec");
        let pool = at.child("pool");
        let name = |tree: &Value| tree["spec"]["pool"]["name"].clone();
        immutable(&mut faults, &pool.child("name"), &name(new), &name(old));
        for field in ["driver", "nodeName"] {
            immutable(&mut faults, &at.child(field), &new["spec"][field], &old["spec"][field]);
        }
        faults
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&["spec.nodeName", "spec.driver"])
    }

    fn columns(&self) -> &[Column] {
        printers::resource::RESOURCE_SLICE
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::resource::resource_slice(tree, now)
    }
}
