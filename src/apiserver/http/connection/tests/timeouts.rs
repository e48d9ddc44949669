//! What the server does not wait for: silent clients, idle ones, unread answers, certificates that have run
//! out.

use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::Timeouts;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn limits(change: impl FnOnce(&mut Timeouts)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits.timeouts);
    limits
}

/// A certificate's chain and key.
pub(super) struct Shown(rustls_pki_types::CertificateDer<'static>, PrivateKeyDer<'static>);

impl Served {
    pub(super) fn certificate(&self, user: &str, group: &str, lifetime: Duration) -> Shown {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
        params.not_after = (SystemTime::now() + lifetime).into();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Shown(certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    pub(super) async fn dial(&self, shown: Option<&Shown>, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            Some(Shown(certificate, key)) => {
                config.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect("127.0.0.1".try_into().unwrap(), stream).await.unwrap()
    }

    pub(super) async fn http2(
        &self,
        shown: Option<&Shown>,
        tasks: &mut JoinSet<()>,
    ) -> http2::SendRequest<Body> {
        let stream = TokioIo::new(self.dial(shown, "h2").await);
        let (client, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(64 * 1024)
            .handshake(stream)
            .await
            .unwrap();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        client
    }

    fn streams(&self) -> usize {
        let report = self.harness.supervisor.report();
        let tasks = report.iter().filter_map(|stage| stage.tasks.get("API server stream"));
        tasks.map(|tasks| tasks.running).sum()
    }

    async fn large_config_maps(&self) {
        for n in 0..20 {
            let body =
                json!({ "metadata": { "name": format!("a{n:02}") }, "data": { "k": "x".repeat(50_000) } });
            self.harness.create(&CONFIG_MAP, HERE, body).await;
        }
    }
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("https://127.0.0.1{path}")).body(Body::empty()).unwrap()
}

/// Reads to the end of a connection, which comes from the other side.
async fn hung_up(mut stream: impl tokio::io::AsyncRead + Unpin) -> Duration {
    let begun = Instant::now();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await.expect("it is hung up");
    begun.elapsed()
}

#[tokio::test]
async fn clients_that_say_nothing_are_hung_up_on() {
    let served = Served::within(
        &["h2"],
        limits(|timeouts| {
            timeouts.handshake = Duration::from_millis(300);
            timeouts.preface = Duration::from_millis(300);
        }),
    )
    .await;
    hung_up(TcpStream::connect(served.address).await.unwrap()).await;
    hung_up(served.dial(None, "h2").await).await;
    served.harness.stop().await;
}

#[tokio::test]
async fn idle_connections_end_and_busy_ones_do_not() {
    let served = Served::within(
        &["h2"],
        limits(|timeouts| {
            timeouts.preface = Duration::from_millis(200);
            timeouts.idle = Duration::from_millis(800);
        }),
    )
    .await;
    let admin = served.certificate("admin", "system:masters", LONG);
    let mut tasks = JoinSet::new();
    let mut idle = served.http2(Some(&admin), &mut tasks).await;
    let mut busy = JoinSet::new();
    let mut watching = served.http2(Some(&admin), &mut busy).await;
    let watch = watching.send_request(get(&format!("{CONFIG_MAPS}?watch=true"))).await.unwrap();
    assert_eq!(watch.status(), 200);
    assert_eq!(idle.send_request(get("/version")).await.unwrap().status(), 200);
    tokio::time::timeout(LONG, tasks.join_next()).await.expect("the idle connection ends");
    served.harness.config_map("a").await;
    let frame = watch.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(frame.starts_with(b"{\"type\":\"ADDED\""));
    served.harness.stop().await;
}

#[tokio::test]
async fn answers_that_nobody_reads_are_dropped_and_the_connection_goes_on() {
    let served =
        Served::within(&["h2"], limits(|timeouts| timeouts.stalled = Duration::from_millis(500))).await;
    served.large_config_maps().await;
    let admin = served.certificate("admin", "system:masters", LONG);
    let mut tasks = JoinSet::new();
    let mut client = served.http2(Some(&admin), &mut tasks).await;
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion=0");
    let unread = [
        client.send_request(get(CONFIG_MAPS)).await.unwrap(),
        client.send_request(get(&format!("{CONFIG_MAPS}?pretty=true"))).await.unwrap(),
        client.send_request(get(&path)).await.unwrap(),
    ];
    assert!(served.streams() >= 3);
    let begun = Instant::now();
    while served.streams() > 0 {
        assert!(begun.elapsed() < LONG, "{} are left", served.streams());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for response in unread {
        assert!(response.into_body().collect().await.is_err(), "the stream was reset");
    }
    let read = client.send_request(get(CONFIG_MAPS)).await.unwrap();
    assert!(read.into_body().collect().await.unwrap().to_bytes().len() > 1_000_000);
    served.harness.stop().await;
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_given_up() {
    let served =
        Served::within(&["http/1.1"], limits(|timeouts| timeouts.stalled = Duration::from_millis(500))).await;
    served.large_config_maps().await;
    let admin = served.certificate("admin", "system:masters", LONG);
    let stream = TokioIo::new(served.dial(Some(&admin), "http/1.1").await);
    let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    // So much that no socket's buffers hold it.
    let mut requests = format!("{CONFIG_MAPS}?watch=true&resourceVersion=0");
    requests.push_str("&allowWatchBookmarks=true");
    let mut response = client.send_request(get(&requests)).await.unwrap().into_body();
    let begun = Instant::now();
    let count = || {
        let report = served.harness.supervisor.report();
        report
            .iter()
            .filter_map(|stage| stage.tasks.get("API server connection"))
            .map(|one| one.running)
            .sum::<usize>()
    };
    let mut n = 0;
    while count() > 0 {
        assert!(begun.elapsed() < LONG * 2);
        let body =
            json!({ "metadata": { "name": format!("b{n:04}") }, "data": { "k": "x".repeat(200_000) } });
        served.harness.create(&CONFIG_MAP, HERE, body).await;
        n += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while let Some(Ok(_)) = response.frame().await {}
    served.harness.stop().await;
}

#[tokio::test]
async fn a_certificate_is_judged_for_every_request() {
    let served = Served::start(&["h2"]).await;
    let short = served.certificate("admin", "system:masters", Duration::from_secs(4));
    let mut tasks = JoinSet::new();
    let mut client = served.http2(Some(&short), &mut tasks).await;
    assert_eq!(client.send_request(get(CONFIG_MAPS)).await.unwrap().status(), 200);
    let begun = Instant::now();
    let refused = loop {
        let response = client.send_request(get(CONFIG_MAPS)).await.unwrap();
        if response.status() != 200 {
            break response;
        }
        assert!(begun.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(refused.status(), 401);
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["reason"], "Unauthorized");
    served.harness.stop().await;
}

#[tokio::test]
async fn streams_end_with_the_certificate() {
    let served =
        Served::within(&["h2"], limits(|timeouts| timeouts.preface = Duration::from_millis(200))).await;
    let short = served.certificate("admin", "system:masters", Duration::from_secs(3));
    let mut tasks = JoinSet::new();
    let mut client = served.http2(Some(&short), &mut tasks).await;
    let watch = client.send_request(get(&format!("{CONFIG_MAPS}?watch=true"))).await.unwrap();
    assert_eq!(watch.status(), 200);
    let end = tokio::time::timeout(LONG, watch.into_body().collect()).await;
    assert!(end.expect("the watch ends").is_err());
    served.harness.stop().await;
}
