//! The controllers of kube-controller-manager: each makes one part of what objects ask for true.
//!
//! Every controller acts as its own service account of `kube-system`, as upstream's do, so that bootstrap
//! RBAC applies and audit and managed fields name the one who wrote. Informers are shared and read as
//! `system:kube-controller-manager`. A controller is a pure `plan` (what should change, given what is there)
//! and a thin `reconcile` (do it).

use std::sync::Arc;

use client::ApiFor;
use supervisor::Stage;

mod adoption;
mod availability;
mod certificates;
mod config;
mod context;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoint_slices;
mod endpoints;
mod ephemeral_volume;
mod expectations;
mod garbage;
mod history;
mod horizontal_pod_autoscaler;
mod ingress;
mod job;
mod load_balancer;
mod local_path;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod owned;
mod percent;
mod persistent_volume;
mod pod_control;
mod pod_gc;
mod ranking;
mod replica_set;
mod resource_quota;
mod rests;
mod root_ca;
mod selecting;
mod service_account;
mod service_cidr;
mod service_pods;
mod service_slices;
mod slice_mirroring;
mod stateful_set;
mod status_write;
mod storage_protection;
mod taint_eviction;
mod templates;
mod token_cleaner;
mod ttl_after_finished;
mod volume_expand;

pub use config::{CertificateSigner, Config, SigningError};

/// Starts all controllers in tasks of `stage`.
pub fn start(config: Config, api: Arc<dyn ApiFor>, stage: &Stage) {
    let context = context::ControllerContext::new(config, api, stage);
    service_account::start(&context);
    root_ca::start(&context);
    namespace::start(&context);
    replica_set::start(&context);
    deployment::start(&context);
    stateful_set::start(&context);
    daemon_set::start(&context);
    job::start(&context);
    cron_job::start(&context);
    ttl_after_finished::start(&context);
    horizontal_pod_autoscaler::start(&context);
    disruption::start(&context);
    garbage::start(&context);
    endpoints::start(&context);
    endpoint_slices::start(&context);
    slice_mirroring::start(&context);
    service_cidr::start(&context);
    if context.config.runs_load_balancer {
        load_balancer::start(&context);
    }
    if let Some(ports) = context.config.ingress_ports {
        ingress::start(&context, ports);
    }
    resource_quota::start(&context);
    storage_protection::start(&context);
    persistent_volume::start(&context);
    ephemeral_volume::start(&context);
    volume_expand::start(&context);
    if context.config.local_storage {
        local_path::start(&context);
    }
    node_ipam::start(&context);
    node_lifecycle::start(&context);
    taint_eviction::start(&context);
    pod_gc::start(&context);
    certificates::start(&context);
    token_cleaner::start(&context);
}
