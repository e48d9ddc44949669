//! The scheduler: gives each pod that asks for it (`spec.schedulerName: default-scheduler`) a node, through `pods/binding`.
//!
//! It meets the rest of the cluster only through the API, so that upstream's kube-scheduler can take its place.

use std::sync::Arc;

use client::{Informers, ObjectApi};
use supervisor::Stage;

/// Starts scheduling in tasks of `stage`. `api` is bound to `system:kube-scheduler`; reads go through `informers`.
pub fn start(api: Arc<dyn ObjectApi>, informers: Informers, stage: &Stage) {
    let _ = (api, informers, stage);
}
