//! Daemon sets.
//!
//! Their templates are counted in an annotation: clients of versions long gone followed a roll-out by it, and
//! upstream keeps it.

use api::ApiError;
use serde_json::{Value, json};

use super::keep;
use crate::strategy::{RequestContext, Strategy};

/// How often the template has changed.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) struct DaemonSets;

fn template_generation(tree: &Value) -> Option<i64> {
    tree["metadata"]["annotations"][TEMPLATE_GENERATION].as_str()?.parse().ok()
}

fn set_template_generation(tree: &mut Value, generation: i64) {
    if !tree["metadata"]["annotations"].is_object() {
        tree["metadata"]["annotations"] = json!({});
    }
    tree["metadata"]["annotations"][TEMPLATE_GENERATION] = json!(generation.to_string());
}

impl Strategy for DaemonSets {
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        let generation = template_generation(tree).unwrap_or(0).max(1);
        set_template_generation(tree, generation);
        Ok(())
    }

    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        if ctx.subresource == Some("status") {
            keep(new, old, "spec");
            return Ok(());
        }
        let generation = template_generation(old).unwrap_or(0);
        let changed = new["spec"]["template"] != old["spec"]["template"];
        set_template_generation(new, generation + i64::from(changed));
        Ok(())
    }

    fn has_generation(&self) -> bool {
        true
    }
}
