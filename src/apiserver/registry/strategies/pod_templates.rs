//! Pod templates as objects of their own.

use api::validation::{Faults, Path};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::pod_template::{self, Template};
use super::typed;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

pub(super) struct PodTemplates;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("template");
    if let Some(template) = typed::<PodTemplateSpec>(&tree["template"], &at, &mut faults) {
        pod_template::validate(Template { typed: &template, tree: &tree["template"] }, &at, &mut faults);
    }
    faults
}

impl Strategy for PodTemplates {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, _old: &Value) -> Faults {
        validate(new)
    }

    fn warnings(&self, _ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        let old = old.map(|old| &old["template"]);
        pod_template::warnings(&tree["template"], old, "template", &mut warnings);
        warnings
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        printers::core::POD_TEMPLATE
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::core::pod_template(tree, now)
    }
}
