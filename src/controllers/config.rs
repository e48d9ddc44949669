//! What the composition root tells the controllers.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::Cidr;
use client::BoxFuture;

/// What the controllers need to know.
#[derive(Clone)]
pub struct Config {
    /// Addresses for pods, of which each node is given a part (`spec.podCIDR`).
    pub cluster_cidr: Cidr,
    /// Addresses for services.
    pub service_cidr: Cidr,
    /// Prefix length of a node's part; 24 as a rule.
    pub node_cidr_mask: u8,
    /// What `kube-root-ca.crt` publishes in every namespace: the CA of the API server's certificate.
    pub root_ca_pem: String,
    pub signer: Arc<dyn CertificateSigner>,
    /// The built-in provisioner of volumes runs, and its class is there.
    pub local_storage: bool,
    /// Services of the type `LoadBalancer` get addresses of nodes.
    pub runs_load_balancer: bool,
    /// Ports (TCP) that such services do not get on any node.
    pub load_balancer_reserved_ports: Vec<u16>,
    /// Ports that nodes serve ingresses on, if they do.
    pub ingress_ports: Option<[u16; 2]>,
}

/// Why a request is not signed: a sentence for its status.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SigningError {
    #[error("{0}")]
    Malformed(Cow<'static, str>),
    /// It is not as its signer demands.
    #[error("{0}")]
    Refused(Cow<'static, str>),
    #[error("unable to sign: {0}")]
    Failed(Cow<'static, str>),
}

impl SigningError {
    pub fn malformed(why: impl Into<Cow<'static, str>>) -> Self {
        SigningError::Malformed(why.into())
    }

    pub fn refused(why: impl Into<Cow<'static, str>>) -> Self {
        SigningError::Refused(why.into())
    }

    pub fn failed(why: impl Into<Cow<'static, str>>) -> Self {
        SigningError::Failed(why.into())
    }
}

/// The cluster's certificate authority, as far as the signing controller needs it.
pub trait CertificateSigner: Send + Sync {
    /// Signs a PEM certificate request for one of the `kubernetes.io/*` signers and answers with the PEM
    /// chain. `usages` are the API's words (`client auth`, `digital signature` …); the certificate is valid
    /// for `duration` or, if that is none or too long, for as long as the signer sees fit.
    fn sign<'a>(
        &'a self,
        csr_pem: &'a str,
        signer_name: &'a str,
        usages: &'a [String],
        duration: Option<Duration>,
    ) -> BoxFuture<'a, Result<String, SigningError>>;

    /// Whether one of these is a name or an address of the API server, for which this node gets no serving
    /// certificate.
    fn is_reserved(&self, node: &str, dns_names: &[String], addresses: &[IpAddr]) -> bool;

    /// Whether a server runs this node itself: its name is taken even before it has registered.
    fn is_own_node(&self, node: &str) -> bool;

    /// Whether the certificate (PEM, ended or not) is one that was given to this node, and its key has made
    /// the signature (base64) over the request.
    fn is_proved(&self, node: &str, csr_pem: &str, certificate_pem: &str, signature: &str) -> bool;
}
