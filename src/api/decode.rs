//! Parts of pods as their types, from JSON trees.
//!
//! These are functions of this crate, not calls of serde where they are needed, because the machine code of
//! a pod's decoder is large and every crate that names it gets a copy of its own. Whole objects decode by
//! [`crate::Kinded::from_json`].

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use serde::Deserialize;
use serde_json::{Result, Value};

#[inline(never)]
pub fn pod_spec(tree: &Value) -> Result<PodSpec> {
    PodSpec::deserialize(tree)
}

#[inline(never)]
pub fn pod_template(tree: &Value) -> Result<PodTemplateSpec> {
    PodTemplateSpec::deserialize(tree)
}
