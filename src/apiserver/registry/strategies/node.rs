//! Nodes.

pub(crate) mod pod_ranges;

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

use api::validation::{Faults, Path, invalid_each, label_value, qualified_name};
use api::{ApiError, FieldError, json};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeSpec, NodeStatus, Taint};
use serde_json::Value;

use super::{flag, object, typed};
use crate::claims::{Claims, Records};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) struct Nodes;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    if let Some(spec) = typed::<NodeSpec>(&tree["spec"], &at, &mut faults) {
        taints(spec.taints.as_deref().unwrap_or(&[]), &at.child("taints"), &mut faults);
        pod_cidrs(&spec, &at, &mut faults);
    }
    let at = Path::new("status");
    if let Some(status) = typed::<NodeStatus>(&tree["status"], &at, &mut faults) {
        let mut seen = HashSet::new();
        let at = at.child("addresses");
        for (index, address) in status.addresses.iter().flatten().enumerate() {
            if !seen.insert((&address.type_, &address.address)) {
                faults.push(FieldError::duplicate(at.index(index), address));
            }
        }
    }
    faults
}

fn taints(taints: &[Taint], at: &Path<'_>, faults: &mut Faults) {
    let mut seen = HashSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let at = at.index(index);
        invalid_each(faults, &at.child("key"), &taint.key, qualified_name(&taint.key));
        let value = taint.value.as_deref().unwrap_or("");
        invalid_each(faults, &at.child("value"), value, label_value(value));
        if taint.effect.is_empty() {
            faults.push(FieldError::required(at.child("effect"), ""));
        } else if !EFFECTS.contains(&taint.effect.as_str()) {
            faults.push(FieldError::not_supported(at.child("effect"), &taint.effect, &EFFECTS));
        }
        if !seen.insert((&taint.key, &taint.effect)) {
            let mut fault = FieldError::duplicate(at, taint);
            fault.detail = "taints must be unique by key and effect pair".to_string();
            faults.push(fault);
        }
    }
}

fn pod_cidrs(spec: &NodeSpec, at: &Path<'_>, faults: &mut Faults) {
    let at = at.child("podCIDRs");
    for (index, cidr) in spec.pod_cidrs.iter().flatten().enumerate() {
        let parts = cidr
            .split_once('/')
            .and_then(|(ip, bits)| Some((ip.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?)));
        let good = parts.is_some_and(|(ip, bits)| bits <= if ip.is_ipv4() { 32 } else { 128 });
        if !good {
            let message = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            faults.push(FieldError::invalid(at.index(index), cidr, message));
        }
    }
}

/// One address range is written twice: alone and as the first of a list.
fn mirror_pod_cidr(tree: &mut Value) {
    let Some(spec) = object(tree, "spec") else { return };
    let one = spec.get("podCIDR").and_then(Value::as_str).unwrap_or("").to_string();
    let first = spec.get("podCIDRs").and_then(|list| list[0].as_str()).unwrap_or("").to_string();
    if !one.is_empty() && first.is_empty() {
        spec.insert("podCIDRs".into(), serde_json::json!([one]));
    } else if one.is_empty() && !first.is_empty() {
        spec.insert("podCIDR".into(), first.into());
    }
}

impl Strategy for Nodes {
    fn has_claims(&self, subresource: Option<&str>) -> bool {
        subresource.is_none()
    }

    fn claim(
        &self,
        _ctx: &RequestContext<'_>,
        records: &dyn Records,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<Claims, ApiError> {
        pod_ranges::claim(records, new, old)
    }

    fn release(&self, _ctx: &RequestContext<'_>, records: &dyn Records, old: &Value) -> Claims {
        pod_ranges::release(records, old)
    }

    fn default(&self, _ctx: &RequestContext<'_>, tree: &mut Value) {
        mirror_pod_cidr(tree);
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = validate(new);
        if ctx.subresource.is_some() {
            return faults;
        }
        // An empty field may be filled once: by the address allocator, by a cloud.
        for field in ["podCIDR", "podCIDRs", "providerID"] {
            let (was, is) = (&old["spec"][field], &new["spec"][field]);
            let set = !was.is_null() && was != "" && was.as_array().is_none_or(|list| !list.is_empty());
            if set && was != is {
                let at = format!("spec.{field}");
                let message = match field {
                    "providerID" => "node updates may not change providerID except from \"\" to valid",
                    _ => "node updates may not change podCIDR except from \"\" to valid",
                };
                faults.push(FieldError::forbidden(at, message));
            }
        }
        faults
    }

    fn keeps_status_on_create(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&["spec.unschedulable"])
    }

    fn field_value<'a>(&self, tree: &'a Value, path: &str) -> Cow<'a, str> {
        match path {
            "spec.unschedulable" => Cow::Borrowed(flag(tree, path)),
            _ => Cow::Borrowed(json::text(tree, path)),
        }
    }

    fn columns(&self) -> &'static [Column] {
        printers::node::COLUMNS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::node::cells(tree, now)
    }
}
