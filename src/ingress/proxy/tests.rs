//! Requests through real sockets: passed on, tried again, refused, upgraded.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use supervisor::{ConnectionLimiter, ConnectionLimits, OnExit, Stage, Supervisor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::{Owner, Proxy, Route};
use crate::facts::{Backend, IngressFacts, PathRule, PortName, Rule};
use crate::listener::Front;
use crate::metrics::{Answers, Metrics};
use crate::paths::Kind;
use crate::pool::Pool;
use crate::services::{Protocol, Slot};
use crate::table::Table;

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct World {
    proxy: Arc<Proxy>,
    metrics: Arc<Metrics>,
    stage: Stage,
    front: SocketAddr,
    _supervisor: Supervisor,
}

struct Site {
    host: &'static str,
    slot: Arc<Slot>,
    timeout: Option<Duration>,
    secure: bool,
}

fn site(host: &'static str, slot: Arc<Slot>) -> Site {
    Site { host, slot, timeout: Some(Duration::from_secs(5)), secure: false }
}

fn table(sites: &[Site]) -> Table<Arc<Route>> {
    let facts: Vec<IngressFacts> = sites
        .iter()
        .enumerate()
        .map(|(at, site)| {
            let backend = Backend::Service { name: at.to_string(), port: PortName::Number(80) };
            let paths = vec![PathRule { kind: Kind::Prefix, path: "/".to_string(), backend }];
            IngressFacts {
                namespace: "n".to_string(),
                name: site.host.to_string(),
                uid: at.to_string(),
                created: None,
                rules: vec![Rule { host: site.host.to_string(), paths }],
                default: None,
                tls: Vec::new(),
                redirects: true,
                response_timeout: None,
            }
        })
        .collect();
    let target = |_: &IngressFacts, backend: &Backend| {
        let Backend::Service { name, port } = backend else { return None };
        let site = &sites[name.parse::<usize>().unwrap()];
        let owner = Owner {
            name: ("n".to_string(), site.host.to_string()),
            answers: Arc::new(Answers::default()),
            secure_hosts: site.secure.then(|| site.host.to_string()).into_iter().collect(),
            response_timeout: site.timeout,
        };
        Some(Arc::new(Route { owner: Arc::new(owner), slot: site.slot.clone(), port: port.clone() }))
    };
    Table::build(&facts, target).0
}

async fn world(sites: &[Site], tls: Option<Arc<rustls::ServerConfig>>) -> World {
    let supervisor = Supervisor::new();
    let stage = supervisor.stage("ingress");
    let metrics = Arc::new(Metrics::default());
    let proxy = Arc::new(Proxy {
        table: ArcSwap::from_pointee(table(sites)),
        pool: Pool::start(&stage),
        metrics: metrics.clone(),
        stage: stage.clone(),
        https_port: Some(8443),
        places: Arc::new(Semaphore::new(100)),
    });
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let address = listener.local_addr().unwrap();
    let limiter = ConnectionLimiter::new(ConnectionLimits::default());
    let front =
        Arc::new(Front { port: address.port(), tls, proxy: proxy.clone(), limiter, stage: stage.clone() });
    stage.spawn_cancellable("accept", OnExit::Done, async move {
        while let Ok((stream, peer)) = listener.accept().await {
            front.take(stream, peer.ip());
        }
    });
    World { proxy, metrics, stage, front: address, _supervisor: supervisor }
}

type Said = BoxBody<Bytes, hyper::Error>;

/// A server that says what it got: the client's port, method, target and some headers, then the body.
async fn echo(request: Request<Incoming>, peer: SocketAddr) -> Result<Response<Said>, Infallible> {
    let shown: Vec<String> = ["host", "x-forwarded-for", "x-forwarded-proto", "content-length", "te"]
        .iter()
        .filter_map(|name| Some(format!("{name}={}", request.headers().get(*name)?.to_str().unwrap())))
        .collect();
    let (method, target) = (request.method().clone(), request.uri().path_and_query().unwrap().clone());
    let head = format!("{} {method} {target} {}\n", peer.port(), shown.join(" "));
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let mut body = request.into_body();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, hyper::Error>>(1);
    let pump = async move {
        sender.send(Ok(Frame::data(Bytes::from(head)))).await.unwrap();
        while let Some(frame) = body.frame().await {
            if sender.send(frame).await.is_err() {
                return;
            }
        }
        let _ = sender.send(Ok(Frame::trailers(trailers))).await;
    };
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(pump);
    let stream = futures_of(receiver);
    Ok(Response::new(StreamBody::new(stream).boxed()))
}

/// A channel as a stream.
fn futures_of<T: Send + 'static>(
    mut receiver: tokio::sync::mpsc::Receiver<T>,
) -> impl futures::Stream<Item = T> + Send + Sync {
    futures::stream::poll_fn(move |cx| receiver.poll_recv(cx))
}

async fn backend(stage: &Stage, protocol: Protocol) -> SocketAddr {
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let address = listener.local_addr().unwrap();
    let inner = stage.clone();
    stage.spawn_cancellable("backend", OnExit::Done, async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let service = service_fn(move |request| echo(request, peer));
            inner.spawn_cancellable("backend connection", OnExit::Done, async move {
                let io = TokioIo::new(stream);
                let _ = match protocol {
                    Protocol::Http1 => {
                        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                    }
                    Protocol::Http2 => {
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await
                    }
                };
            });
        }
    });
    address
}

/// A server of bytes: what a connection is answered with, each time it has sent something.
async fn scripted(
    stage: &Stage,
    answer: impl Fn(usize) -> Option<&'static str> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let address = listener.local_addr().unwrap();
    stage.spawn_cancellable("script", OnExit::Done, async move {
        let mut count = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
                let said = answer(count);
                count += 1;
                let Some(said) = said else { break };
                stream.write_all(said.as_bytes()).await.unwrap();
            }
        }
    });
    address
}

/// An address that nobody listens on.
async fn nobody() -> SocketAddr {
    TcpListener::bind(LOCAL).await.unwrap().local_addr().unwrap()
}

/// Status and body of one request on a connection of its own.
async fn ask(front: SocketAddr, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(front).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let whole = async { while stream.read_buf(&mut got).await.is_ok_and(|length| length > 0) {} };
    let ended = tokio::time::timeout(Duration::from_secs(10), whole).await.is_ok();
    let answer = String::from_utf8_lossy(&got).into_owned();
    assert!(ended, "no end: {answer}");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer)
}

async fn get(front: SocketAddr, host: &str) -> (u16, String) {
    ask(front, &format!("GET /x?y HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn requests_reach_endpoints_over_connections_that_are_kept() {
    let slot = Slot::fixed(Protocol::Http1, &[]);
    let world = world(&[site("a.io", slot.clone())], None).await;
    slot.set(Protocol::Http1, &[backend(&world.stage, Protocol::Http1).await]);
    let (status, first) = get(world.front, "a.io:80").await;
    assert_eq!(status, 200, "{first}");
    assert!(
        first.contains("GET /x?y host=a.io:80 x-forwarded-for=127.0.0.1 x-forwarded-proto=http"),
        "{first}"
    );
    let port = |answer: &str| {
        answer.lines().find(|it| it.contains(" GET ")).map(|it| it.split(' ').next().unwrap().to_string())
    };
    let (_, second) = get(world.front, "a.io:80").await;
    assert_eq!(port(&first), port(&second), "the connection was kept");

    let post = "POST /p HTTP/1.1\r\nHost: a.io\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let (_, answer) = ask(world.front, post).await;
    assert!(answer.contains("content-length=5") && answer.contains("hello"), "{answer}");
    // What nobody serves.
    assert_eq!(get(world.front, "b.io").await.0, 404);
    slot.set(Protocol::Http1, &[]);
    assert_eq!(get(world.front, "a.io").await.0, 503);
    let text = world.metrics.text();
    assert!(
        text.contains("minik8s_ingress_requests_total{namespace=\"\",ingress=\"\",code=\"4xx\"} 1"),
        "{text}"
    );
    assert!(text.contains("minik8s_ingress_request_duration_seconds_count 5"), "{text}");
}

#[tokio::test]
async fn a_request_that_was_not_sent_goes_to_another_endpoint() {
    let slot = Slot::fixed(Protocol::Http1, &[]);
    let world = world(
        &[site("a.io", slot.clone()), site("dead.io", Slot::fixed(Protocol::Http1, &[nobody().await]))],
        None,
    )
    .await;
    slot.set(
        Protocol::Http1,
        &[nobody().await, backend(&world.stage, Protocol::Http1).await, nobody().await],
    );
    let post = "POST / HTTP/1.1\r\nHost: a.io\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    for _ in 0..6 {
        assert_eq!(get(world.front, "a.io").await.0, 200);
        assert!(ask(world.front, post).await.1.contains("\nhi"), "with its body");
    }
    assert_eq!(get(world.front, "dead.io").await.0, 502);
}

#[tokio::test]
async fn what_was_sent_is_repeated_only_if_it_may_be() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let slot = Slot::fixed(Protocol::Http1, &[]);
    let world = world(&[site("a.io", slot.clone())], None).await;
    // Every second request ends the connection instead of an answer.
    slot.set(Protocol::Http1, &[scripted(&world.stage, |count| (count % 2 == 0).then_some(OK)).await]);
    assert_eq!(get(world.front, "a.io").await.0, 200);
    assert_eq!(get(world.front, "a.io").await.0, 200, "repeated on a new connection");
    let post = "POST / HTTP/1.1\r\nHost: a.io\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(world.front, post).await.0, 502, "it may have had an effect");
}

#[tokio::test]
async fn a_backend_that_is_late_or_talks_nonsense() {
    let supervisor = Supervisor::new();
    let stage = supervisor.stage("backends");
    let late = Slot::fixed(Protocol::Http1, &[scripted(&stage, |_| Some("")).await]);
    let nonsense = Slot::fixed(Protocol::Http1, &[scripted(&stage, |_| Some("SSH-2.0-x\r\n\r\n")).await]);
    let late = Site { timeout: Some(Duration::from_millis(50)), ..site("late.io", late) };
    let world = world(&[late, site("nonsense.io", nonsense)], None).await;
    assert_eq!(get(world.front, "late.io").await.0, 504);
    assert_eq!(get(world.front, "nonsense.io").await.0, 502);
}

#[tokio::test]
async fn plain_http_is_sent_to_https() {
    let slot = Slot::fixed(Protocol::Http1, &[]);
    let world = world(&[Site { secure: true, ..site("*.a.io", slot) }], None).await;
    let (status, answer) = get(world.front, "X.a.io:8080").await;
    assert_eq!(status, 308);
    assert!(answer.contains("location: https://x.a.io:8443/x?y\r\n"), "{answer}");
}

#[tokio::test]
async fn requests_that_could_be_two_are_refused() {
    let slot = Slot::fixed(Protocol::Http1, &[]);
    let world = world(&[site("", slot.clone())], None).await;
    slot.set(Protocol::Http1, &[backend(&world.stage, Protocol::Http1).await]);
    let with = |headers: &str| {
        format!(
            "POST / HTTP/1.1\r\n{headers}Connection: close\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"
        )
    };
    for headers in [
        "Host: a\r\nTransfer-Encoding: identity, chunked\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Host: a\r\nContent-Length: 3\r\nContent-Length: 5\r\n",
        "Host: a\r\nHost: b\r\nContent-Length: 0\r\n",
        "Content-Length: 0\r\n",
    ] {
        let (status, answer) = ask(world.front, &with(headers)).await;
        assert!([400, 501].contains(&status), "{headers}: {answer}");
        assert!(!answer.contains("smuggled"), "{answer}");
    }
    // Of two ways to tell a body's end one counts, and the other is not passed on.
    let (status, answer) =
        ask(world.front, &with("Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n")).await;
    assert_eq!(status, 200, "{answer}");
    assert!(!answer.contains("smuggled") && !answer.contains("content-length="), "{answer}");
    assert_eq!(ask(world.front, "GET /a/../b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.0, 400);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70 * 1024));
    assert_eq!(ask(world.front, &many).await.0, 431);
}

#[tokio::test]
async fn bodies_pass_piece_by_piece() {
    let slot = Slot::fixed(Protocol::Http1, &[]);
    let world = world(&[site("a.io", slot.clone())], None).await;
    slot.set(Protocol::Http1, &[backend(&world.stage, Protocol::Http1).await]);
    let mut stream = TcpStream::connect(world.front).await.unwrap();
    stream.write_all(b"PUT / HTTP/1.1\r\nHost: a.io\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let mut got = Vec::new();
    for piece in ["one", "two", "three"] {
        stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.unwrap();
        // It comes back before the next one is sent.
        while !String::from_utf8_lossy(&got).contains(piece) {
            let read = tokio::time::timeout(Duration::from_secs(5), stream.read_buf(&mut got)).await;
            assert!(read.unwrap().unwrap() > 0);
        }
    }
}

#[tokio::test]
async fn upgraded_connections_are_joined_and_outlive_their_rule() {
    let supervisor = Supervisor::new();
    let stage = supervisor.stage("backends");
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let address = scripted(&stage, move |count| Some(if count == 0 { switched } else { "pong" })).await;
    let world = world(&[site("a.io", Slot::fixed(Protocol::Http1, &[address]))], None).await;
    let mut stream = TcpStream::connect(world.front).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: a.io\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut got).await.unwrap() > 0);
    }
    let head = String::from_utf8(got).unwrap().to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 101")
            && head.contains("upgrade: websocket")
            && head.contains("sec-websocket-accept: x"),
        "{head}"
    );
    world.proxy.table.store(Arc::new(Table::default()));
    for _ in 0..3 {
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"pong");
    }
    assert_eq!(get(world.front, "a.io").await.0, 404, "the next request sees the change");
}

fn client_of(made: &rustls::sign::CertifiedKey) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

#[tokio::test]
async fn http2_with_trailers_passes_in_tls_while_certificates_change() {
    let made = crate::certificates::self_made().unwrap();
    let (resolver, tls) = crate::tls(&made).unwrap();
    let slot = Slot::fixed(Protocol::Http2, &[]);
    let world = world(&[site("ingress.local", slot.clone())], Some(tls)).await;
    slot.set(Protocol::Http2, &[backend(&world.stage, Protocol::Http2).await]);
    let connect = async |config: Arc<rustls::ClientConfig>| {
        let stream = TcpStream::connect(world.front).await.unwrap();
        tokio_rustls::TlsConnector::from(config).connect("ingress.local".try_into().unwrap(), stream).await
    };
    let stream = connect(client_of(&made)).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    world.stage.spawn_cancellable("client", OnExit::Done, async move {
        let _ = connection.await;
    });
    let mut call = async || {
        let request = Request::post("https://ingress.local/pkg.Service/Call").header("te", "trailers");
        let answer = sender
            .send_request(request.body(Full::new(Bytes::from_static(b"message"))).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let whole = answer.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
        String::from_utf8(whole.to_bytes().to_vec()).unwrap()
    };
    let said = call().await;
    assert!(
        said.contains("POST /pkg.Service/Call")
            && said.contains("x-forwarded-proto=https")
            && said.contains("te=trailers"),
        "{said}"
    );
    assert!(said.ends_with("message"), "{said}");

    let fresh = crate::certificates::self_made().unwrap();
    let shown = crate::certificates::Shown::new(&Default::default(), |_| None, &fresh);
    resolver.0.store(Arc::new(shown));
    call().await;
    assert!(connect(client_of(&made)).await.is_err(), "new connections see the new certificate");
    assert!(connect(client_of(&fresh)).await.is_ok());
}

#[tokio::test]
async fn connections_beyond_the_bound_of_an_address_are_told_so() {
    let limits = ConnectionLimits { per_user: 1, ..ConnectionLimits::default() };
    let slot = Slot::fixed(Protocol::Http1, &[]);
    let world = world(&[site("a.io", slot)], None).await;
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let address = listener.local_addr().unwrap();
    let limiter = ConnectionLimiter::new(limits);
    let front = Arc::new(Front {
        port: 80,
        tls: None,
        proxy: world.proxy.clone(),
        limiter,
        stage: world.stage.clone(),
    });
    world.stage.spawn_cancellable("accept", OnExit::Done, async move {
        while let Ok((stream, peer)) = listener.accept().await {
            front.take(stream, peer.ip());
        }
    });
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nHost: a.io\r\n\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    assert!(first.read(&mut buffer).await.unwrap() > 0);
    let (status, answer) = get(address, "a.io").await;
    assert!(status == 503 && answer.contains("too many connections"), "{answer}");
}
