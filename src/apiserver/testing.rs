//! A whole API server over a store in memory, for tests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::{
    ApiError, CreateOptions, DeleteOptions, Identity, KindRow, ListOptions, Object, WatchEvent, WatchOptions,
};
use base64::Engine as _;
use client::{ApiFor, BoxFuture, ByteStream, NodeDialer, ObjectApi, ObjectRef};
use embedded_store::MemoryStore;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use supervisor::Supervisor;

use crate::{ApiServer, Config, Limits, ServiceAccountKeys, VersionInfo};

/// Longer than anything in a test takes.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Harness {
    pub(crate) server: Arc<ApiServer>,
    pub(crate) supervisor: Supervisor,
    pub(crate) store: Arc<MemoryStore>,
    /// As a master.
    pub(crate) api: Arc<dyn ObjectApi>,
}

/// There are no nodes here.
struct NoNodes;

impl NodeDialer for NoNodes {
    fn dial<'a>(&'a self, _node: &'a Node) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async { Err(io::Error::new(io::ErrorKind::NotConnected, "no nodes in this test")) })
    }
}

fn private_key() -> String {
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let der = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

pub(crate) fn config() -> Config {
    Config {
        service_cidr: "10.43.0.0/16".into(),
        node_ports: 30000..=32767,
        cluster_domain: "cluster.local".into(),
        advertise_address: tokio::sync::watch::channel([192, 0, 2, 1].into()).1,
        advertise_port: 6443,
        service_account_keys: ServiceAccountKeys {
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            audiences: Vec::new(),
            private_key_pem: private_key(),
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
        more_metrics: None,
    }
}

pub(crate) fn master() -> Identity {
    Identity::user("admin", [api::identity::GROUP_MASTERS])
}

impl Harness {
    pub(crate) async fn start() -> Harness {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: Config) -> Harness {
        Self::over(Arc::new(MemoryStore::new()), config).await
    }

    /// A server over a store that may have another.
    pub(crate) async fn over(store: Arc<MemoryStore>, config: Config) -> Harness {
        let supervisor = Supervisor::new();
        let server = ApiServer::start(config, store.clone(), &supervisor.stage("API server")).await.unwrap();
        let api = server.as_user(master());
        Harness { server, supervisor, store, api }
    }

    pub(crate) async fn create(&self, row: &KindRow, namespace: Option<&str>, body: Value) -> Arc<Object> {
        self.api.create(row, namespace, body, &CreateOptions::default()).await.unwrap()
    }

    pub(crate) async fn config_map(&self, name: &str) -> Arc<Object> {
        let body = json!({ "metadata": { "name": name, "labels": { "app": name } }, "data": { "k": "v" } });
        self.create(&api::kinds::CONFIG_MAP, Some("default"), body).await
    }

    pub(crate) async fn get(
        &self,
        row: &KindRow,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError> {
        let object = self.api.get(row, ObjectRef::new(namespace, name)).await?;
        Ok(object.tree().unwrap())
    }

    pub(crate) async fn delete(
        &self,
        row: &KindRow,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError> {
        let options = DeleteOptions::default();
        let object = self.api.delete(row, ObjectRef::new(namespace, name), &options).await?;
        Ok(object.unwrap().tree().unwrap())
    }

    pub(crate) async fn names(&self, row: &KindRow, options: &ListOptions) -> Vec<String> {
        let list = self.api.list(row, Some("default"), options).await.unwrap();
        list.items.iter().map(|object| object.name().to_string()).collect()
    }

    pub(crate) async fn watch(&self, row: &KindRow, options: &WatchOptions) -> Events {
        Events(self.api.watch(row, Some("default"), options).await.unwrap())
    }

    pub(crate) async fn stop(self) {
        self.supervisor.shutdown(TIMEOUT).await;
    }
}

/// The messages of a watch as short texts: `ADDED name`.
pub(crate) struct Events(pub(crate) client::EventStream);

impl Events {
    pub(crate) async fn next(&mut self) -> String {
        tokio::time::timeout(TIMEOUT, self.next_unbounded()).await.expect("an event in time")
    }

    /// [`Events::next`] for tests that hold the clock themselves.
    pub(crate) async fn next_unbounded(&mut self) -> String {
        match self.0.next().await {
            None => "the end".into(),
            Some(WatchEvent::Added(object)) => format!("ADDED {}", object.name()),
            Some(WatchEvent::Modified(object)) => format!("MODIFIED {}", object.name()),
            Some(WatchEvent::Deleted(object)) => format!("DELETED {}", object.name()),
            Some(WatchEvent::Bookmark { initial_events_end, .. }) => format!("BOOKMARK {initial_events_end}"),
            Some(WatchEvent::Error(error)) => format!("ERROR {} {}", error.code(), error.reason()),
        }
    }
}

/// A Deployment that passes validation.
pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "image:1" }] },
            },
        },
    })
}

/// A Pod that passes validation.
pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "serviceAccountName": "default", "automountServiceAccountToken": false,
                  "containers": [{ "name": "c", "image": "image:1" }] },
    })
}
