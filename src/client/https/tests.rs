//! Tests of the HTTPS client against a small TLS server in the same process.

mod proxied;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::kinds::{CONFIG_MAP, POD};
use api::{DeleteOptions, ListOptions, PropagationPolicy, WatchEvent, WatchOptions};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::decode::Frames;
use super::{ClientCertificate, HttpsApi, HttpsConfig, Servers, Token, is_connection_error};
use crate::{NodeDialer, ObjectApi, ObjectRef, TlsNodeDialer};

type Body = BoxBody<Bytes, Infallible>;

/// What a handler sees of a request.
#[derive(Debug)]
struct Seen {
    line: String,
    authorization: String,
    content_type: String,
    body: String,
    peer: Vec<u8>,
}

struct Fixture {
    address: SocketAddr,
    ca_pem: Vec<u8>,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

fn whole(code: u16, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed();
    Response::builder().status(code).body(body).unwrap()
}

/// An answer that arrives in these pieces.
fn pieces(parts: Vec<Vec<u8>>) -> Response<Body> {
    let frames = stream::iter(parts).then(|part| async move {
        tokio::task::yield_now().await;
        Ok(Frame::data(Bytes::from(part)))
    });
    Response::new(BodyExt::boxed(StreamBody::new(frames.boxed_sync())))
}

trait BoxedSync: Sized {
    fn boxed_sync(
        self,
    ) -> std::pin::Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync>>;
}

impl<S> BoxedSync for S
where
    S: futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync + 'static,
{
    fn boxed_sync(
        self,
    ) -> std::pin::Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync>> {
        Box::pin(self)
    }
}

impl Fixture {
    /// A server that offers these protocols and asks for client certificates.
    async fn start(
        protocols: &[&str],
        answer: impl Fn(Seen) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
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
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![serving.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        tls.alpn_protocols = protocols.iter().map(|one| one.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::new(answer));
        Fixture { address, ca_pem: issuer.pem().into_bytes(), issuer }
    }

    fn config(&self) -> HttpsConfig {
        let mut config = HttpsConfig::new(format!("https://{}", self.address));
        config.ca_pem = Some(self.ca_pem.clone());
        config
    }

    fn certificate(&self) -> (ClientCertificate, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().signed_by(&key, &self.issuer).unwrap();
        let pair = ClientCertificate {
            certificate_pem: certificate.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
        };
        (pair, certificate.der().to_vec())
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's server ends with the test's runtime")]
fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    answer: Arc<dyn Fn(Seen) -> Response<Body> + Send + Sync>,
) {
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let peer =
                    tls.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec()).unwrap_or_default();
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (answer, peer) = (answer.clone(), peer.clone());
                    async move {
                        let header = |name: &str| {
                            request.headers().get(name).map(|value| value.to_str().unwrap().to_string())
                        };
                        let mut seen = Seen {
                            line: format!("{} {}", request.method(), request.uri().path_and_query().unwrap()),
                            authorization: header("authorization").unwrap_or_default(),
                            content_type: header("content-type").unwrap_or_default(),
                            body: String::new(),
                            peer,
                        };
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        seen.body = String::from_utf8(body.to_vec()).unwrap();
                        Ok::<_, Infallible>(answer(seen))
                    }
                });
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
}

const ONE: &str =
    r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"n","resourceVersion":"7"}}"#;

#[tokio::test]
async fn calls_say_what_the_api_expects() {
    for protocols in [&["h2", "http/1.1"][..], &["http/1.1"][..]] {
        let server = Fixture::start(protocols, |seen| match seen.line.as_str() {
            "GET /api/v1/namespaces/n/configmaps/a" => whole(200, ONE),
            "GET /api/v1/namespaces/n/configmaps?labelSelector=app%3Dweb%2Ctier%20in%20%28a%2Cb%29&limit=2" => {
                assert_eq!(seen.authorization, "Bearer t0ken");
                whole(
                    200,
                    r#"{"kind":"ConfigMapList","metadata":{"resourceVersion":"9","continue":"c","remainingItemCount":3},"items":[{"metadata":{"name":"x","resourceVersion":"4"}}]}"#,
                )
            }
            "DELETE /api/v1/namespaces/n/configmaps/a" => {
                assert_eq!(
                    serde_json::from_str::<serde_json::Value>(&seen.body).unwrap(),
                    serde_json::json!({"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"propagationPolicy":"Foreground","preconditions":{"uid":"u"}})
                );
                whole(200, r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#)
            }
            "POST /api/v1/namespaces/n/pods/p/binding" => whole(201, r#"{"kind":"Status","status":"Success"}"#),
            "PATCH /api/v1/namespaces/n/configmaps/a" => {
                assert_eq!(seen.content_type, "application/strategic-merge-patch+json");
                whole(200, ONE)
            }
            other => panic!("unexpected {other}"),
        })
        .await;
        let mut config = server.config();
        config.token = Token::Static("t0ken".into());
        let api = HttpsApi::new(config).unwrap();
        let at = ObjectRef::new(Some("n"), "a");
        assert_eq!(api.get(&CONFIG_MAP, at).await.unwrap().resource_version(), 7);
        let labels = api::LabelSelector {
            requirements: vec![
                api::selector::Requirement {
                    key: "app".into(),
                    operator: api::selector::Operator::Equals,
                    values: vec!["web".into()],
                },
                api::selector::Requirement {
                    key: "tier".into(),
                    operator: api::selector::Operator::In,
                    values: vec!["a".into(), "b".into()],
                },
            ],
            nothing: false,
        };
        let options = ListOptions { labels, limit: 2, ..ListOptions::default() };
        let list = api.list(&CONFIG_MAP, Some("n"), &options).await.unwrap();
        assert_eq!(
            (list.resource_version, list.continue_token.as_deref(), list.remaining),
            (9, Some("c"), Some(3))
        );
        let tree = list.items[0].tree().unwrap();
        assert_eq!(tree["kind"], "ConfigMap", "items of a list get their type");
        assert_eq!(list.items[0].resource_version(), 4);
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            propagation_policy: Some(PropagationPolicy::Foreground),
            preconditions: api::Preconditions { uid: Some("u".into()), resource_version: None },
            ..DeleteOptions::default()
        };
        assert!(api.delete(&CONFIG_MAP, at, &options).await.unwrap().is_none());
        let binding = ObjectRef::new(Some("n"), "p").sub("binding");
        let bound = api
            .create_sub(&POD, binding, serde_json::json!({}), &api::CreateOptions::default())
            .await
            .unwrap();
        assert_eq!(bound["status"], "Success");
        let patch = api::Patch::strategic(serde_json::json!({"data": {"k": "v"}}));
        api.patch(&CONFIG_MAP, at, patch, &api::UpdateOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn errors_are_the_servers_status_or_made_from_its_code() {
    let server = Fixture::start(&["h2"], |seen| {
        if seen.line.ends_with("/gone") {
            whole(
                404,
                r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"configmaps \"gone\" not found","reason":"NotFound","code":404}"#,
            )
        } else {
            whole(503, "upstream connect error")
        }
    })
    .await;
    let api = HttpsApi::new(server.config()).unwrap();
    let error = api.get(&CONFIG_MAP, ObjectRef::new(Some("n"), "gone")).await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.message(), "configmaps \"gone\" not found");
    let error = api.get(&CONFIG_MAP, ObjectRef::new(Some("n"), "x")).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (503, "ServiceUnavailable"));
    assert!(!is_connection_error(&error), "the server answered");
}

#[tokio::test]
async fn no_server_and_no_trust_are_told_apart_from_answers() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut config = HttpsConfig::new(format!("https://{closed}"));
    let server = Fixture::start(&["h2"], |_| whole(200, ONE)).await;
    config.ca_pem = Some(server.ca_pem.clone());
    let error =
        HttpsApi::new(config).unwrap().get(&CONFIG_MAP, ObjectRef::new(Some("n"), "a")).await.unwrap_err();
    assert!(is_connection_error(&error) && error.code() == 503, "{error:?}");
    assert!(error.message().contains(&closed.to_string()) && error.message().contains("refused"), "{error}");

    let other = Fixture::start(&["h2"], |_| whole(200, ONE)).await;
    let mut config = server.config();
    config.ca_pem = Some(other.ca_pem);
    let error = HttpsApi::new(config.clone())
        .unwrap()
        .get(&CONFIG_MAP, ObjectRef::new(Some("n"), "a"))
        .await
        .unwrap_err();
    assert!(is_connection_error(&error) && error.message().contains("certificate"), "{error}");
    (config.ca_pem, config.insecure_skip_tls_verify) = (None, true);
    HttpsApi::new(config).unwrap().get(&CONFIG_MAP, ObjectRef::new(Some("n"), "a")).await.unwrap();
}

#[tokio::test]
async fn any_of_several_servers_will_do() {
    let answer = |name: &'static str| {
        move |seen: Seen| {
            if seen.line.contains("watch=true") {
                let first =
                    format!(r#"{{"type":"ADDED","object":{{"kind":"Pod","metadata":{{"name":"{name}"}}}}}}"#);
                let first = Bytes::from(first + "\n");
                let open = stream::iter([Ok(Frame::data(first))]).chain(stream::pending());
                return Response::new(BodyExt::boxed(StreamBody::new(open.boxed_sync())));
            }
            whole(200, &ONE.replace("\"a\"", &format!("{name:?}")))
        }
    };
    let (first, second) =
        (Fixture::start(&["h2"], answer("first")).await, Fixture::start(&["h2"], answer("second")).await);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let servers = Servers::new([closed, first.address, second.address].map(|address| address.to_string()));
    let mut config = HttpsConfig::new(format!("https://{closed}"));
    (config.servers, config.insecure_skip_tls_verify) = (Some(servers.clone()), true);
    let api = HttpsApi::new(config).unwrap();
    let at = ObjectRef::new(Some("n"), "a");
    assert_eq!(api.get(&CONFIG_MAP, at).await.unwrap().name(), "first");
    let mut watch = api.watch(&POD, None, &WatchOptions::default()).await.unwrap();
    assert_eq!(told(&watch.next().await.unwrap()), "+first@0");
    servers.give_up(&first.address.to_string());
    assert!(watch.next().await.is_none());
    let mut watch = api.watch(&POD, None, &WatchOptions::default()).await.unwrap();
    assert_eq!(told(&watch.next().await.unwrap()), "+second@0");
    assert_eq!(api.get(&CONFIG_MAP, at).await.unwrap().name(), "second");
}

/// The text of a watch with every kind of frame.
const WATCH: &str = concat!(
    r#"{"type":"ADDED","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"ä","resourceVersion":"1"}}}"#,
    "\n",
    r#"{"type":"MODIFIED","object":{"kind":"ConfigMap","metadata":{"name":"ä","resourceVersion":"2"},"data":{"k":"a\nb"}}}"#,
    "\n\n",
    r#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"5","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
    "\n",
    r#"{"type":"DELETED","object":{"kind":"ConfigMap","metadata":{"name":"ä","resourceVersion":"6"}}}"#,
    "\n",
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too old resource version: 1 (5)","reason":"Expired","code":410}}"#,
    "\n",
    r#"{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"after","resourceVersion":"7"}}}"#,
    "\n",
);

fn told(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Added(object) => format!("+{}@{}", object.name(), object.resource_version()),
        WatchEvent::Modified(object) => format!("~{}@{}", object.name(), object.resource_version()),
        WatchEvent::Deleted(object) => format!("-{}@{}", object.name(), object.resource_version()),
        WatchEvent::Bookmark { resource_version, initial_events_end } => {
            format!("={resource_version} {initial_events_end}")
        }
        WatchEvent::Error(error) => format!("!{} {}", error.code(), error.reason()),
    }
}

#[tokio::test]
async fn watch_frames_may_be_split_anywhere_and_an_error_ends_them() {
    for size in [1, 2, 7, 100, WATCH.len()] {
        let parts: Vec<Vec<u8>> = WATCH.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
        let server = Fixture::start(&["h2", "http/1.1"], move |seen| {
            assert_eq!(
                seen.line,
                "GET /api/v1/configmaps?watch=true&resourceVersion=1&allowWatchBookmarks=true&timeoutSeconds=30"
            );
            pieces(parts.clone())
        })
        .await;
        let api = HttpsApi::new(server.config()).unwrap();
        let options = WatchOptions {
            resource_version: Some("1".into()),
            allow_bookmarks: true,
            timeout: Some(Duration::from_secs(30)),
            ..WatchOptions::default()
        };
        let events = api.watch(&CONFIG_MAP, None, &options).await.unwrap();
        let events: Vec<String> = events.map(|event| told(&event)).collect().await;
        assert_eq!(events, ["+ä@1", "~ä@2", "=5 true", "-ä@6", "!410 Expired"], "pieces of {size}");
    }
}

#[tokio::test]
async fn a_refused_watch_and_one_that_breaks_off() {
    let server = Fixture::start(&["h2"], |seen| {
        if seen.line.contains("resourceVersion=1") {
            whole(
                410,
                r#"{"kind":"Status","status":"Failure","message":"old","reason":"Expired","code":410}"#,
            )
        } else {
            let whole_frame = r#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"p"}}}"#;
            pieces(vec![format!("{whole_frame}\n{{\"type\":\"ADD").into_bytes()])
        }
    })
    .await;
    let api = HttpsApi::new(server.config()).unwrap();
    let old = WatchOptions { resource_version: Some("1".into()), ..WatchOptions::default() };
    let Err(error) = api.watch(&POD, None, &old).await else { panic!("a watch of a version that is gone") };
    assert!(error.is_expired());
    let events = api.watch(&POD, None, &WatchOptions::default()).await.unwrap();
    let events: Vec<String> = events.map(|event| told(&event)).collect().await;
    assert_eq!(events, ["+p@0"], "half a frame is no event");
}

#[tokio::test]
async fn more_watches_than_a_connection_carries_leave_room_for_calls() {
    let server = Fixture::start(&["h2"], |seen| {
        if seen.line.contains("watch=true") {
            let first = b"{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"}}}\n";
            let open = stream::iter([Ok(Frame::data(Bytes::from_static(first)))]).chain(stream::pending());
            return Response::new(BodyExt::boxed(StreamBody::new(open.boxed_sync())));
        }
        whole(200, ONE)
    })
    .await;
    let api = HttpsApi::new(server.config()).unwrap();
    let mut watches = Vec::new();
    for _ in 0..450 {
        let mut watch = api.watch(&POD, None, &WatchOptions::default()).await.unwrap();
        assert!(watch.next().await.is_some());
        watches.push(watch);
    }
    api.get(&CONFIG_MAP, ObjectRef::new(Some("n"), "a")).await.unwrap();
}

#[tokio::test]
async fn a_replaced_certificate_is_presented_from_then_on() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = parking_lot::Mutex::new(sender);
    let server = Fixture::start(&["h2"], move |seen| {
        sender.lock().send(seen.peer).unwrap();
        whole(200, ONE)
    })
    .await;
    let (first, first_der) = server.certificate();
    let (second, second_der) = server.certificate();
    let mut config = server.config();
    config.certificate = Some(first);
    let api = HttpsApi::new(config).unwrap();
    let at = ObjectRef::new(Some("n"), "a");
    api.get(&CONFIG_MAP, at).await.unwrap();
    api.replace_certificate(&second).unwrap();
    api.get(&CONFIG_MAP, at).await.unwrap();
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [first_der, second_der]);
}

#[tokio::test]
async fn a_nodes_kubelet_is_reached_where_its_status_says() {
    let server = Fixture::start(&["http/1.1"], |seen| {
        assert!(!seen.peer.is_empty(), "the kubelet sees who calls");
        whole(200, &seen.line)
    })
    .await;
    let (certificate, _) = server.certificate();
    let dialer = TlsNodeDialer::new(&server.ca_pem, &certificate).unwrap();
    let node = |port: u16| -> k8s_openapi::api::core::v1::Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "n"},
            "status": {
                "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            },
        }))
        .unwrap()
    };
    let mut stream = dialer.dial(&node(server.address.port())).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("GET /healthz"), "{answer}");

    let other = Fixture::start(&["http/1.1"], |_| whole(200, "")).await;
    let Err(error) = dialer.dial(&node(other.address.port())).await else {
        panic!("another authority's certificate")
    };
    assert!(error.to_string().starts_with("kubelet of node n at 127.0.0.1:"), "{error}");
    let Err(error) = dialer.dial(&node(0)).await else { panic!("a node without a port") };
    assert_eq!(error.to_string(), "node n has no kubelet port");
}

#[test]
fn frames_are_lines() {
    let mut frames = Frames::default();
    frames.push(b"one\ntw");
    assert_eq!(frames.next().as_deref(), Some(&b"one"[..]));
    assert_eq!(frames.next(), None);
    frames.push(b"o\r\n\n\nrest");
    assert_eq!(frames.next().as_deref(), Some(&b"two\r"[..]));
    assert_eq!(frames.next(), None);
    assert_eq!(frames.rest().as_deref(), Some(&b"rest"[..]));
    assert_eq!(frames.rest(), None);
}

#[test]
fn server_urls() {
    let split =
        |url: &str| super::split_server(url).map(|(scheme, at, path)| format!("{scheme} {at} {path}"));
    assert_eq!(split("https://h").unwrap(), "https h:443 ");
    assert_eq!(split("10.0.0.1:6443").unwrap(), "https 10.0.0.1:6443 ");
    assert_eq!(split("https://[::1]:6443/k8s/a/").unwrap(), "https [::1]:6443 /k8s/a");
    assert_eq!(split("http://localhost:8080/").unwrap(), "http localhost:8080 ");
    assert!(split("ftp://h").is_err() && split("https://").is_err());
}
