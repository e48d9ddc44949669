//! What the composition root tells the API server.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use client::NodeDialer;
use tokio::sync::watch;

use crate::Limits;
use crate::admission::Plugins;
use crate::audit::Audit;
use crate::encryption::Encryption;
use crate::feature_gates::FeatureGates;
use crate::protocols::OtherProtocols;
use crate::runtime_config::RuntimeConfig;

/// The certificate that speaks for callers, as PEM, and its authority.
#[derive(Clone)]
pub struct FrontProxy {
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: String,
}

/// Settings of one API server. Key material comes in as PEM; nothing here is read from disk.
#[derive(Clone)]
pub struct Config {
    /// CIDR that cluster IPs of services are taken from at first, such as `10.43.0.0/16`: the ServiceCIDR
    /// `kubernetes`.
    pub service_cidr: String,
    /// Ports that services of type NodePort and LoadBalancer get on every node; 30000 to 32767 as a rule.
    pub node_ports: RangeInclusive<u16>,
    /// DNS domain of the cluster, such as `cluster.local`.
    pub cluster_domain: String,
    /// Address and port under which pods reach this server: the endpoint of the `kubernetes` service, which
    /// follows it.
    pub advertise_address: watch::Receiver<IpAddr>,
    pub advertise_port: u16,
    /// What this server shows to the servers of other groups; it may change. Without it they do not believe
    /// who a caller is.
    pub front_proxy: watch::Receiver<Option<FrontProxy>>,
    /// The other servers of the cluster, whose addresses that service has too.
    pub other_servers: watch::Receiver<OtherServers>,
    pub service_account_keys: ServiceAccountKeys,
    /// The CA that client certificates are verified against, DER and PEM.
    pub client_ca_der: Vec<u8>,
    pub client_ca_pem: String,
    /// The CA of the serving certificate, as `/cacerts` hands it out.
    pub ca_pem: String,
    /// Bearer token that lets a machine ask for a node's certificate; it may change.
    pub join_token: Option<watch::Receiver<String>>,
    /// Whether requests without credentials are authorized as `system:anonymous`. If not, they get the health
    /// endpoints and `/cacerts`, which need no authorization, and 401 for everything else.
    pub anonymous_auth: bool,
    /// The way to nodes' kubelets, for logs and the node proxy.
    pub node_dialer: Arc<dyn NodeDialer>,
    pub version: VersionInfo,
    pub limits: Limits,
    /// What is told of requests, and to whom; none if nothing is.
    pub audit: Option<Arc<Audit>>,
    /// What is encrypted in the store, and how.
    pub encryption: Arc<Encryption>,
    /// The admission plugins that run.
    pub admission: Plugins,
    /// What is served beside the stable versions.
    pub runtime: RuntimeConfig,
    pub gates: FeatureGates,
    /// Lines that `/metrics` has beside the server's own, in the text format of Prometheus; the store's.
    pub more_metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// What the port serves beside HTTP.
    pub other_protocols: Option<Arc<dyn OtherProtocols>>,
}

/// The servers of a cluster beside this one. They are at the same port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherServers {
    /// This server keeps the endpoints of all, and these can be reached.
    KeptHere(Vec<IpAddr>),
    /// Another server keeps them.
    KeptElsewhere,
}

/// How service account tokens are signed and checked.
#[derive(Clone, Debug)]
pub struct ServiceAccountKeys {
    pub issuer: String,
    pub audiences: Vec<String>,
    /// The ES256 key that signs, as PKCS#8 PEM.
    pub private_key_pem: String,
    /// Further keys whose tokens are accepted, as SubjectPublicKeyInfo PEM.
    pub public_keys_pem: Vec<String>,
    /// Tokens that pods mount are good for a year, though they say an hour: for clients that read them only
    /// once (`--service-account-extend-token-expiration`).
    pub extend_expiration: bool,
}

/// What `/version` says.
#[derive(Clone, Debug)]
pub struct VersionInfo {
    /// Such as `v1.36.2+minik8s1`.
    pub git_version: String,
    pub git_commit: String,
    /// RFC 3339, or empty if unknown.
    pub build_date: String,
}

impl Default for VersionInfo {
    fn default() -> Self {
        VersionInfo {
            git_version: api::GIT_VERSION.to_string(),
            git_commit: String::new(),
            build_date: String::new(),
        }
    }
}
