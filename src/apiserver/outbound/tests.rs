//! A scripted HTTPS server, for webhooks too, and what is trusted of it.

#![allow(clippy::disallowed_methods, reason = "a scripted server ends with the runtime of its test")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::kinds::{ENDPOINT_SLICE, SERVICE};
use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::resolve::Addresses;
use super::*;
use crate::testing::Harness;

/// How a scripted server answers a body; none for silence.
type Script = dyn Fn(&str, Value) -> Option<(u16, Value)> + Send + Sync;

/// An HTTPS server on loopback that answers as a test says, until it is dropped.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    /// Its authority, as PEM.
    pub(crate) authority: String,
    pub(crate) connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A certificate for names, and its authority: PEM of the latter, then chain and key.
fn certificate(names: &[&str], own: bool) -> (String, Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    if own {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        return (certificate.pem(), certificate.der().to_vec(), key.serialize_der());
    }
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::from_params(&authority, &authority_key);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (authority_certificate.pem(), certificate.der().to_vec(), key.serialize_der())
}

impl Scripted {
    pub(crate) async fn start(
        script: impl Fn(&str, Value) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Scripted {
        Scripted::named(&["127.0.0.1"], false, script).await
    }

    pub(crate) async fn named(
        names: &[&str],
        own: bool,
        script: impl Fn(&str, Value) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Scripted {
        let (authority, chain, key) = certificate(names, own);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain.into()], PrivateKeyDer::try_from(key).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (script, connections): (Arc<Script>, _) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        let counted = connections.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((tcp, _)) = listener.accept().await else { return };
                let (acceptor, script, counted) = (acceptor.clone(), script.clone(), counted.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    counted.fetch_add(1, Ordering::Relaxed);
                    let service = service_fn(move |request| answer(request, script.clone()));
                    let served = hyper::server::conn::http1::Builder::new();
                    let _ = served.serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Scripted { address, authority, connections, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// `clientConfig` of a webhook that is this server.
    pub(crate) fn config(&self, path: &str) -> Value {
        json!({ "url": self.url(path), "caBundle": STANDARD.encode(&self.authority) })
    }

    fn trust(&self) -> Trust {
        Trust::in_authorities(Some(Bytes::from(self.authority.clone())))
    }
}

async fn answer(
    request: http::Request<Incoming>,
    script: Arc<Script>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let Some((code, answer)) = script(&path, serde_json::from_slice(&body).unwrap_or_default()) else {
        return std::future::pending().await;
    };
    let answer = Full::new(Bytes::from(answer.to_string()));
    Ok(Response::builder().status(code).body(answer).unwrap())
}

fn outbound() -> Arc<Outbound> {
    Outbound::new(Caches::new(), Arc::new(Turns::new()))
}

const SOON: Duration = Duration::from_secs(20);

fn whole(answer: &[u8]) -> Result<Value, OutboundError> {
    select(answer, Wanted::Whole)
}

async fn ask(server: &Scripted, trust: &Trust) -> Result<Value, OutboundError> {
    outbound().post(&Target::Url(server.url("/x")), trust, b"{}".to_vec(), SOON, whole).await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept() {
    let server = Scripted::start(|path, body| Some((200, json!({ "path": path, "body": body })))).await;
    let outbound = outbound();
    let (target, trust) = (Target::Url(server.url("/x")), server.trust());
    for at in 0..20 {
        let answer = outbound.post(&target, &trust, json!(at).to_string().into(), SOON, whole).await.unwrap();
        assert_eq!(answer, json!({ "path": "/x", "body": at }));
    }
    // A task of its own puts a connection back after the answer: the next request may be quicker.
    let connections = server.connections.load(Ordering::Relaxed);
    assert!(connections < 10, "{connections} connections for 20 requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_held_to_their_certificate() {
    let script = |_: &str, _| Some((200, json!({})));
    let server = Scripted::start(script).await;
    let stranger = Scripted::start(script).await;
    let refused = ask(&server, &stranger.trust()).await.unwrap_err().to_string();
    assert!(refused.contains("failed to verify certificate"), "{refused}");
    let misnamed = Scripted::named(&["other.svc"], false, script).await;
    assert!(ask(&misnamed, &misnamed.trust()).await.is_err());
    assert!(ask(&misnamed, &Trust { anybody: true, ..Trust::default() }).await.is_ok());
    let own = Scripted::named(&["127.0.0.1"], true, script).await;
    assert!(ask(&own, &own.trust()).await.is_ok(), "a certificate that is its own authority");
    let misnamed = Scripted::named(&["other.svc"], true, script).await;
    assert!(ask(&misnamed, &misnamed.trust()).await.is_err());
    let garbage = Trust::in_authorities(Some("no PEM".into()));
    let refused = ask(&server, &garbage).await.unwrap_err().to_string();
    assert!(refused.contains("unable to load root certificates"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_in_upstreams_words() {
    let server = Scripted::start(|path, _| match path {
        "/silent" => None,
        "/lost" => Some((404, json!({}))),
        "/status" => Some((400, json!({ "kind": "Status", "message": "no" }))),
        _ => Some((500, json!("boom"))),
    })
    .await;
    let (outbound, trust) = (outbound(), server.trust());
    let ask = async |path: &str, limit| {
        let target = Target::Url(server.url(path));
        outbound.post(&target, &trust, b"{}".to_vec(), limit, whole).await.unwrap_err().to_string()
    };
    let address = server.address;
    let silent = ask("/silent", Duration::from_millis(300)).await;
    assert_eq!(silent, format!("Post \"https://{address}/silent?timeout=1s\": context deadline exceeded"));
    assert_eq!(ask("/lost", SOON).await, "the server could not find the requested resource");
    assert_eq!(ask("/status", SOON).await, "no");
    let failed = ask("/", SOON).await;
    assert!(failed.contains("has prevented the request from succeeding"), "{failed}");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::Url(format!("https://{}/", closed.local_addr().unwrap()));
    drop(closed);
    let refused = outbound.post(&target, &trust, b"{}".to_vec(), SOON, whole).await.unwrap_err().to_string();
    assert!(refused.ends_with("connect: connection refused"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_to_its_ready_endpoints() {
    let h = Harness::start().await;
    let caches = h.server.registry.caches.clone();
    let find = |name: &str, port| addresses(&*caches, "default", name, port);
    assert_eq!(find("hook", 443), Err(Unresolved::Service("hook".into())));
    let service = json!({
        "metadata": { "name": "hook" },
        "spec": { "ports": [{ "name": "https", "port": 443, "targetPort": 8443 }] },
    });
    h.create(&SERVICE, Some("default"), service).await;
    assert_eq!(find("hook", 80), Err(Unresolved::Port { name: "hook".into(), port: 80 }));
    assert_eq!(find("hook", 443), Err(Unresolved::Endpoints("hook".into())));
    let slice = json!({
        "metadata": { "name": "hook-1", "labels": { "kubernetes.io/service-name": "hook" } },
        "addressType": "IPv4",
        "endpoints": [
            { "addresses": ["10.42.0.5"], "conditions": { "ready": true } },
            { "addresses": ["10.42.0.6"], "conditions": { "ready": false } },
        ],
        "ports": [{ "name": "https", "port": 8443 }, { "name": "metrics", "port": 9090 }],
    });
    h.create(&ENDPOINT_SLICE, Some("default"), slice).await;
    assert_eq!(find("hook", 443), Ok(Addresses::Endpoints(vec!["10.42.0.5:8443".parse().unwrap()])));
    let outside = json!({
        "metadata": { "name": "outside" }, "spec": { "type": "ExternalName", "externalName": "example.org" },
    });
    h.create(&SERVICE, Some("default"), outside).await;
    assert_eq!(find("outside", 443), Ok(Addresses::External("example.org".into(), 443)));
    h.stop().await;
}

#[test]
fn only_what_is_wanted_is_kept() {
    use Wanted::{Members, Whole};
    let wanted = Members(&[("a", Whole), ("b", Members(&[("c", Whole), ("d", Whole)]))]);
    // As a whole it would take more than a body may.
    let waste = vec!["[{\"x\":1}]"; 200_000].join(",");
    let made = |json: &str| select(json.as_bytes(), wanted);
    let answer = format!(r#"{{"z":[{waste}],"a":[1,2],"b":{{"y":[{waste}],"c":"1","\u0063":"2"}}}}"#);
    assert!(
        matches!(select(answer.as_bytes(), Whole), Err(OutboundError::Undecodable(error)) if error.code() == 413)
    );
    assert_eq!(made(&answer).unwrap(), json!({ "a": [1, 2], "b": { "c": "2" } }));
    // What is kept is counted.
    let refused = made(&format!(r#"{{"a":[{waste}]}}"#)).unwrap_err();
    assert!(refused.to_string().starts_with("Request entity too large: decoded it would take more than"));
    assert_eq!(made(r#" {"b": [1]}"#).unwrap(), json!({ "b": null }));
    assert_eq!(made("[{}]").unwrap(), Value::Null);
    for broken in ["", "{", "[", r#"{"z":[}"#, "{} {}", r#"{"a":1"#] {
        let refused = made(broken).unwrap_err().to_string();
        assert!(refused.starts_with("couldn't get version/kind; json parse error: "), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_is_read_in_a_turn_and_within_the_time() {
    let server = Scripted::start(|path, _| {
        let size = if path == "/large" { crate::heavy::HEAVY } else { 1 };
        Some((200, json!("x".repeat(size))))
    })
    .await;
    let turns = Arc::new(Turns::with_places(1));
    let outbound = Outbound::new(Caches::new(), turns.clone());
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (started, begun) = tokio::sync::oneshot::channel();
    let holder = tokio::spawn(async move {
        let work = pin!(async move {
            started.send(()).unwrap();
            held.recv().unwrap();
        });
        turns.run("somebody", crate::heavy::HEAVY, work).await;
    });
    begun.await.unwrap();
    let ask = async |path: &str, limit| {
        let target = Target::Url(server.url(path));
        outbound.post(&target, &server.trust(), b"{}".to_vec(), limit, whole).await
    };
    ask("/small", SOON).await.unwrap();
    let late = ask("/large", Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(late, OutboundError::Timeout { .. }), "{late}");
    release.send(()).unwrap();
    holder.await.unwrap();
    ask("/large", SOON).await.unwrap();
}
