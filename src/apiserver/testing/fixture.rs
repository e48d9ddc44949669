//! The settings of an API server without nodes, for unit tests, integration tests and benchmarks.
//!
//! The latter two are crates of their own, which include this file: what they share is no part of the
//! library.

use std::io;
use std::sync::Arc;

use apiserver::{
    Config, FeatureGates, Limits, OtherServers, Plugins, RuntimeConfig, ServiceAccountKeys, VersionInfo,
};
use client::{BoxFuture, ByteStream, NodeDialer};
use k8s_openapi::api::core::v1::Node;

/// There are no nodes here.
struct NoNodes;

impl NodeDialer for NoNodes {
    fn dial<'a>(&'a self, _node: &'a Node) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async { Err(io::Error::new(io::ErrorKind::NotConnected, "no nodes in this test")) })
    }
}

pub(crate) fn config() -> Config {
    Config {
        service_cidr: "10.43.0.0/16".into(),
        node_ports: 30000..=32767,
        cluster_domain: "cluster.local".into(),
        advertise_address: tokio::sync::watch::channel([192, 0, 2, 1].into()).1,
        advertise_port: 6443,
        front_proxy: tokio::sync::watch::channel(None).1,
        service_account_keys: ServiceAccountKeys {
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            audiences: Vec::new(),
            private_key_pem: rcgen::KeyPair::generate().expect("a key").serialize_pem(),
            public_keys_pem: Vec::new(),
            extend_expiration: true,
        },
        client_ca_der: Vec::new(),
        client_ca_pem: String::new(),
        ca_pem: "the CA\n".into(),
        join_token: None,
        anonymous_auth: true,
        node_dialer: Arc::new(NoNodes),
        version: VersionInfo::default(),
        limits: Limits::default(),
        audit: None,
        encryption: Arc::default(),
        admission: Plugins::default(),
        runtime: RuntimeConfig::default(),
        gates: FeatureGates::default(),
        more_metrics: None,
        other_protocols: None,
        other_servers: tokio::sync::watch::channel(OtherServers::KeptHere(Vec::new())).1,
    }
}
