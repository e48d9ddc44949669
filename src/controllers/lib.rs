//! The controllers of kube-controller-manager: each makes one part of what objects ask for true.
//!
//! Every controller acts as its own service account of `kube-system`, as upstream's do, so that bootstrap RBAC applies and
//! audit and managed fields name the one who wrote. Informers are shared and read as `system:kube-controller-manager`.
//! A controller is a pure `plan` (what should change, given what is there) and a thin `reconcile` (do it).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::Cidr;
use client::{ApiFor, BoxFuture};
use supervisor::Stage;

mod adoption;
mod certificates;
mod context;
mod deployment;
mod endpoint_slices;
mod endpoints;
mod expectations;
mod garbage;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod owned;
mod pod_control;
mod pod_gc;
mod replica_set;
mod root_ca;
mod service_account;
mod service_cidr;
mod service_pods;
mod slice_mirroring;
mod taint_eviction;
mod token_cleaner;

/// What the controllers need to know.
#[derive(Clone)]
pub struct Config {
    /// Addresses for pods, of which each node is given a part (`spec.podCIDR`).
    pub cluster_cidr: Cidr,
    /// Prefix length of a node's part; 24 as a rule.
    pub node_cidr_mask: u8,
    /// What `kube-root-ca.crt` publishes in every namespace: the CA of the API server's certificate.
    pub root_ca_pem: String,
    pub signer: Arc<dyn CertificateSigner>,
}

/// The cluster's certificate authority, as far as the signing controller needs it.
pub trait CertificateSigner: Send + Sync {
    /// Signs a PEM certificate request for one of the `kubernetes.io/*` signers and answers with the PEM chain.
    /// `usages` are the API's words (`client auth`, `digital signature` …); the certificate is valid for `duration`
    /// or, if that is none or too long, for as long as the signer sees fit. An error is a sentence for the request's status.
    fn sign<'a>(
        &'a self,
        csr_pem: &'a str,
        signer_name: &'a str,
        usages: &'a [String],
        duration: Option<Duration>,
    ) -> BoxFuture<'a, Result<String, String>>;

    /// Whether one of these is a name or an address of the API server, for which this node gets no serving certificate.
    fn is_reserved(&self, node: &str, dns_names: &[String], addresses: &[IpAddr]) -> bool;

    /// Whether a server runs this node itself: its name is taken even before it has registered.
    fn is_own_node(&self, node: &str) -> bool;

    /// Whether the certificate (PEM, ended or not) is one that was given to this node, and its key has made the signature
    /// (base64) over the request.
    fn is_proved(&self, node: &str, csr_pem: &str, certificate_pem: &str, signature: &str) -> bool;
}

/// Starts all controllers in tasks of `stage`.
pub fn start(config: Config, api: Arc<dyn ApiFor>, stage: &Stage) {
    let context = context::Context::new(config, api, stage);
    service_account::start(&context);
    root_ca::start(&context);
    namespace::start(&context);
    replica_set::start(&context);
    deployment::start(&context);
    garbage::start(&context);
    endpoints::start(&context);
    endpoint_slices::start(&context);
    slice_mirroring::start(&context);
    service_cidr::start(&context);
    node_ipam::start(&context);
    node_lifecycle::start(&context);
    taint_eviction::start(&context);
    pod_gc::start(&context);
    certificates::start(&context);
    token_cleaner::start(&context);
}
