//! A flood of everything at once, from a generator held to half a core: another user's reads and a node's
//! lease go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::timeouts::Shown;
use super::*;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LASTS: Duration = Duration::from_secs(8);
/// An hour.
const LONG: Duration = Duration::from_secs(3600);

/// Nanoseconds of processor time of this thread.
fn processor_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Resident memory of this process in MiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(format!("https://127.0.0.1{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

/// Everything the generator keeps open.
#[derive(Default)]
struct Held {
    silent: Vec<TcpStream>,
    without_preface: Vec<tokio_rustls::client::TlsStream<TcpStream>>,
    answers: JoinSet<Option<Response<Incoming>>>,
    unread: Vec<Response<Incoming>>,
    refused: usize,
    sent: usize,
}

impl Held {
    async fn one_more(&mut self, n: usize, served: &Served, shown: &Shown, client: &SendRequest<Body>) {
        let ask = |held: &mut Held, request: Request<Body>| {
            let mut client = client.clone();
            held.sent += 1;
            held.answers.spawn(async move { client.send_request(request).await.ok() });
        };
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        match n % 10 {
            0 => self.silent.extend(TcpStream::connect(served.address).await),
            1 if self.without_preface.len() < 200 => {
                self.without_preface.push(served.dial(Some(shown), "h2").await);
            }
            2 => ask(self, request("GET", &format!("{CONFIG_MAPS}?pretty=1"), &[], Body::empty())),
            3 => ask(self, request("GET", CONFIG_MAPS, &[("accept", "application/yaml")], Body::empty())),
            4 => ask(self, request("GET", CONFIG_MAPS, &[("accept", table)], Body::empty())),
            5 => {
                let accept = [("accept", "application/vnd.kubernetes.protobuf")];
                ask(self, request("GET", CONFIG_MAPS, &accept, Body::empty()));
            }
            6 => ask(
                self,
                request("GET", &format!("{CONFIG_MAPS}?watch=1&resourceVersion=0"), &[], Body::empty()),
            ),
            7 => {
                // A body that begins and does not go on.
                let begun =
                    futures::stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"{")) });
                let body = Body::from_stream(begun.chain(futures::stream::pending()));
                ask(self, request("POST", CONFIG_MAPS, &[("content-length", "2000000")], body));
            }
            8 => ask(self, request("POST", CONFIG_MAPS, &[], Body::from("[".repeat(500_000)))),
            _ => {
                let body = json!({ "metadata": { "name": "large" }, "data": { "k": "x".repeat(700_000) } });
                let path = format!("{CONFIG_MAPS}?dryRun=All");
                ask(self, request("POST", &path, &[], Body::from(body.to_string())));
            }
        }
        while let Some(Ok(answer)) = self.answers.try_join_next() {
            let Some(answer) = answer else { continue };
            self.refused += usize::from(answer.status() == 429);
            if answer.status() == 200 {
                self.unread.push(answer);
            }
        }
    }
}

/// Floods until told to stop. Connections are dialled anew when the server ends them.
async fn flood(served: &Served, shown: &Shown, stop: &AtomicBool) -> Held {
    let (mut held, mut connections, mut clients) = (Held::default(), JoinSet::new(), Vec::new());
    let (begun, used) = (Instant::now(), processor_time());
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if n % 50 == 0 && clients.len() < 40 {
            clients.push(served.http2(Some(shown), &mut connections).await);
        }
        let at = n % clients.len();
        if clients[at].is_closed() {
            clients[at] = served.http2(Some(shown), &mut connections).await;
        }
        held.one_more(n, served, shown, &clients[at]).await;
        // Half a core.
        let used = Duration::from_nanos(processor_time() - used);
        let ahead = (used * 2).saturating_sub(begun.elapsed());
        if ahead.is_zero() { tokio::task::yield_now().await } else { tokio::time::sleep(ahead).await }
    }
    held
}

/// Asks one thing again and again; how long each took, sorted.
async fn ask(
    served: &Served,
    shown: &Shown,
    pause: Duration,
    one: impl Fn(usize) -> Request<Body>,
) -> Vec<Duration> {
    let mut connections = JoinSet::new();
    let mut client = served.http2(Some(shown), &mut connections).await;
    let (mut took, begun) = (Vec::new(), Instant::now());
    while begun.elapsed() < LASTS {
        let start = Instant::now();
        let response = client.send_request(one(took.len())).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(status, 200, "{body:?}");
        took.push(start.elapsed());
        tokio::time::sleep(pause).await;
    }
    took.sort();
    took
}

fn on_its_own<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_delays_nobody_else() {
    let before = resident();
    let served = Served::start(&["h2"]).await;
    let role = |user: &str| {
        json!({ "metadata": { "name": user }, "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }] })
    };
    for user in ["eve", "alice"] {
        served.harness.create(&api::kinds::ROLE_BINDING, HERE, role(user)).await;
    }
    for n in 0..500 {
        let body = json!({ "metadata": { "name": format!("a{n:03}") }, "data": { "k": "x".repeat(10_000) } });
        served.harness.create(&CONFIG_MAP, HERE, body).await;
    }
    served.harness.create(&api::kinds::NODE, None, json!({ "metadata": { "name": "n" } })).await;
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "n", "namespace": "kube-node-lease" },
        "spec": { "holderIdentity": "n", "leaseDurationSeconds": 40 } });
    served.harness.create(&api::kinds::LEASE, Some("kube-node-lease"), lease).await;
    let (eve, alice) =
        (served.certificate("eve", "people", LONG), served.certificate("alice", "people", LONG));
    let node = served.certificate("system:node:n", "system:nodes", LONG);
    let (stop, served) = (AtomicBool::new(false), &served);
    let renew = |n: usize| {
        let body = format!("{{\"spec\":{{\"renewTime\":\"2026-01-01T00:00:00.{n:06}Z\"}}}}");
        let patch = [("content-type", "application/merge-patch+json")];
        request(
            "PATCH",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n",
            &patch,
            Body::from(body),
        )
    };
    let get = |_| request("GET", &format!("{CONFIG_MAPS}/a007"), &[], Body::empty());
    let (held, gets, leases, most) = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let flooding = scope.spawn(|| on_its_own(flood(served, &eve, &stop)));
            let leases = scope.spawn(|| on_its_own(ask(served, &node, Duration::from_millis(100), renew)));
            let gets = scope.spawn(|| on_its_own(ask(served, &alice, Duration::from_millis(5), get)));
            let mut most = 0;
            while !gets.is_finished() || !leases.is_finished() {
                most = most.max(resident());
                std::thread::park_timeout(Duration::from_millis(50));
            }
            stop.store(true, Ordering::Relaxed);
            (flooding.join().unwrap(), gets.join().unwrap(), leases.join().unwrap(), most)
        })
    });
    let p99 = |all: &[Duration]| all[all.len() * 99 / 100];
    let (get, lease, latest) = (p99(&gets), p99(&leases), leases[leases.len() - 1]);
    let grown = most.saturating_sub(before);
    println!(
        "gets: {}, p50 {:?}, p99 {get:?}; leases: {}, p99 {lease:?}, latest {latest:?}; memory {before} MiB, then at most {most} MiB; \
         flood: {} requests, {} refused, {} silent and {} without a preface, {} unread",
        gets.len(),
        gets[gets.len() / 2],
        leases.len(),
        held.sent,
        held.refused,
        held.silent.len(),
        held.without_preface.len(),
        held.unread.len()
    );
    assert!(held.sent > 100, "it was a flood: {}", held.sent);
    // Unoptimised code beside other tests gets more time.
    let slack = if cfg!(debug_assertions) { 20 } else { 1 };
    assert!(get < Duration::from_millis(100) * slack, "{get:?}");
    assert!(latest < Duration::from_secs(10), "a lease is renewed every ten seconds: {latest:?}");
    assert!(grown < 300, "{grown} MiB more, generator included");
    served.harness.supervisor.shutdown(Duration::from_secs(20)).await;
}
