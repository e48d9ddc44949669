//! Runtime classes: which handler of the runtime runs a pod, what that costs, and where it is installed.

use std::collections::{BTreeMap, HashSet};

use api::FieldError;
use api::json::text;
use api::validation::{Faults, Path, dns1123_label, immutable, invalid_each, validate_labels};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Toleration;
use serde_json::Value;

use super::pod::placement::tolerations;
use super::resource_names::{container_resource_name, resource_amount};
use super::typed;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

pub(super) struct RuntimeClasses;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("handler");
    match text(tree, "handler") {
        "" => faults.push(FieldError::required(at, "")),
        handler => invalid_each(&mut faults, &at, handler, dns1123_label(handler)),
    }
    let at = Path::new("overhead");
    let limits = at.child("limits");
    for (name, value) in tree["overhead"]["podFixed"].as_object().into_iter().flatten() {
        container_resource_name(&mut faults, &limits.key(name), name);
        resource_amount(&mut faults, &limits.key(name), name, value);
    }
    let at = Path::new("scheduling");
    let scheduling = &tree["scheduling"];
    let field = at.child("nodeSelector");
    if let Some(labels) = typed::<BTreeMap<String, String>>(&scheduling["nodeSelector"], &field, &mut faults)
    {
        validate_labels(&labels, &field, &mut faults);
    }
    let list = at.child("tolerations");
    let Some(own) = typed::<Vec<Toleration>>(&scheduling["tolerations"], &list, &mut faults) else {
        return faults;
    };
    tolerations(&own, &list, &mut faults);
    let mut seen = HashSet::new();
    for (index, one) in own.iter().enumerate() {
        if !seen.insert((&one.key, &one.operator, &one.value, &one.effect)) {
            faults.push(FieldError::duplicate(list.index(index), one));
        }
    }
    faults
}

impl Strategy for RuntimeClasses {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = validate(new);
        immutable(&mut faults, &Path::new("handler"), &new["handler"], &old["handler"]);
        faults
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        printers::classes::RUNTIME_CLASS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::classes::runtime_class(tree, now)
    }
}
