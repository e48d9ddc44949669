//! Replica sets.

use std::borrow::Cow;

use api::validation::{Faults, Path};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSetSpec;
use serde_json::Value;

use super::pod_template::{self, Template};
use super::{count, non_negative, rollout, typed};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

pub(super) struct ReplicaSets;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let Some(spec) = typed::<ReplicaSetSpec>(&tree["spec"], &at, &mut faults) else { return faults };
    let selector = Some(&spec.selector).filter(|_| !tree["spec"]["selector"].is_null());
    non_negative(&mut faults, &at.child("replicas"), i64::from(spec.replicas.unwrap_or(0)));
    non_negative(&mut faults, &at.child("minReadySeconds"), i64::from(spec.min_ready_seconds.unwrap_or(0)));
    let template = spec.template.unwrap_or_default();
    let template = Template { typed: &template, tree: &tree["spec"]["template"] };
    pod_template::validate_replicated(selector, template, &mut faults);
    faults
}

impl Strategy for ReplicaSets {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource == Some("status") {
            return rollout::validate_replica_status(new, &["terminatingReplicas"]);
        }
        let mut faults = validate(new);
        pod_template::immutable_selector(new, old, &mut faults);
        faults
    }

    fn warnings(&self, ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        rollout::warnings(ctx, tree, old)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&["status.replicas"])
    }

    fn field_value<'a>(&self, tree: &'a Value, path: &str) -> Cow<'a, str> {
        count(tree, path)
    }

    fn columns(&self) -> &'static [Column] {
        printers::apps::REPLICA_SET
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::apps::replica_set(tree, now)
    }
}
