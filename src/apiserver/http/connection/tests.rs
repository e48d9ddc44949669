//! Real connections: TLS, both protocols, client certificates, tokens, stopping.

mod flood;
mod load;
mod timeouts;
mod unread;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::kinds::{CONFIG_MAP, SERVICE_ACCOUNT};
use api::{CreateOptions, ListOptions, Patch, UpdateOptions, WatchOptions};
use client::https::{ClientCertificate, HttpsApi, HttpsConfig, Token};
use client::{ObjectApi, ObjectRef};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::TcpListener;

use crate::Limits;
use crate::testing::{Events, Harness, config};

const HERE: Option<&str> = Some("default");

struct Served {
    harness: Harness,
    url: String,
    address: SocketAddr,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Served {
    async fn start(protocols: &[&str]) -> Served {
        Self::within(protocols, Limits::default()).await
    }

    async fn within(protocols: &[&str], limits: Limits) -> Served {
        let harness = Harness::with(crate::Config { limits, ..config() }).await;
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let serving =
            CertificateParams::new(vec!["127.0.0.1".to_string()]).unwrap().signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(issuer.der().clone()).unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![serving.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = protocols.iter().map(|one| one.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("https://{address}");
        harness.server.serve(listener, Arc::new(tls), &harness.supervisor.stage("port"));
        Served { harness, url, address, issuer }
    }

    fn anonymous(&self) -> HttpsConfig {
        let mut config = HttpsConfig::new(self.url.clone());
        config.ca_pem = Some(self.issuer.pem().into_bytes());
        config
    }

    fn with_certificate(&self, user: &str, group: &str) -> HttpsApi {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let certificate = ClientCertificate {
            certificate_pem: certificate.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
        };
        HttpsApi::new(HttpsConfig { certificate: Some(certificate), ..self.anonymous() }).unwrap()
    }
}

#[tokio::test]
async fn both_transports_show_the_same_api() {
    for protocols in [&["h2", "http/1.1"][..], &["http/1.1"][..], &[]] {
        let served = Served::start(protocols).await;
        let api = served.with_certificate("admin", "system:masters");
        let watch = api.watch(&CONFIG_MAP, HERE, &WatchOptions::default()).await.unwrap();
        let mut events = Events(watch);
        let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": "v" } });
        let remote = api.create(&CONFIG_MAP, HERE, body, &CreateOptions::default()).await.unwrap();
        let local = served.harness.api.get(&CONFIG_MAP, ObjectRef::new(HERE, "a")).await.unwrap();
        assert_eq!(remote.tree().unwrap(), local.tree().unwrap());
        assert_eq!(events.next().await, "ADDED a");
        let patch = Patch::merge(json!({ "data": { "k": "w" } }));
        api.patch(&CONFIG_MAP, ObjectRef::new(HERE, "a"), patch, &UpdateOptions::default()).await.unwrap();
        assert_eq!(events.next().await, "MODIFIED a");
        let list = api.list(&CONFIG_MAP, HERE, &ListOptions::default()).await.unwrap();
        assert_eq!(list.items[0].tree().unwrap()["data"]["k"], "w");
        let missing = api.get(&CONFIG_MAP, ObjectRef::new(HERE, "b")).await.unwrap_err();
        assert_eq!(missing.message(), "configmaps \"b\" not found");
        served.harness.stop().await;
    }
}

#[tokio::test]
async fn hundreds_of_requests_at_once_share_a_connection() {
    let served = Served::start(&["h2"]).await;
    let api = served.with_certificate("admin", "system:masters");
    // More than a small window takes: what does not fit is sent in pieces as small as what has been read.
    let create = |number: usize| {
        let data = json!({ "k": "v".repeat(1100 + number % 7 * 100) });
        let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": { "name": format!("m-{number}") } });
        let api = &api;
        async move { api.create(&CONFIG_MAP, HERE, body, &CreateOptions::default()).await }
    };
    let outcomes = futures::future::join_all((0..900).map(create)).await;
    let refused = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
    assert!(refused.is_none(), "{refused:?}");
    served.harness.stop().await;
}

#[tokio::test]
async fn certificates_and_tokens_say_who_calls() {
    let served = Served::start(&["h2"]).await;
    let eve = served.with_certificate("eve", "nobody");
    let refused = eve.list(&CONFIG_MAP, HERE, &ListOptions::default()).await.unwrap_err();
    assert!(refused.message().contains("User \"eve\" cannot list resource \"configmaps\""), "{refused}");

    served.harness.create(&SERVICE_ACCOUNT, HERE, json!({ "metadata": { "name": "builder" } })).await;
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "audiences": [] } });
    let at = ObjectRef::new(HERE, "builder").sub("token");
    let options = CreateOptions::default();
    let answer = served.harness.api.create_sub(&SERVICE_ACCOUNT, at, request, &options).await.unwrap();
    let token = answer["status"]["token"].as_str().unwrap().to_string();
    let builder = HttpsApi::new(HttpsConfig { token: Token::Static(token), ..served.anonymous() }).unwrap();
    let refused = builder.list(&CONFIG_MAP, HERE, &ListOptions::default()).await.unwrap_err();
    assert!(refused.message().contains("\"system:serviceaccount:default:builder\""), "{refused}");

    let wrong =
        HttpsApi::new(HttpsConfig { token: Token::Static("x.y.z".into()), ..served.anonymous() }).unwrap();
    assert_eq!(wrong.list(&CONFIG_MAP, HERE, &ListOptions::default()).await.unwrap_err().code(), 401);
    served.harness.stop().await;
}

#[tokio::test]
async fn stopping_ends_watches_and_joins_everything() {
    let served = Served::start(&["h2"]).await;
    let api = served.with_certificate("admin", "system:masters");
    let watch = api.watch(&CONFIG_MAP, HERE, &WatchOptions::default()).await.unwrap();
    let mut events = Events(watch);
    served.harness.config_map("a").await;
    assert_eq!(events.next().await, "ADDED a");
    let stop = served.harness.stop();
    tokio::time::timeout(Duration::from_secs(15), stop).await.expect("all tasks end");
    let end = events.next().await;
    assert!(end == "the end" || end.starts_with("ERROR"), "{end}");
}
