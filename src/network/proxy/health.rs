//! What kube-proxy serves over HTTP: health (:10256), metrics (:10249), and the health checks of load
//! balancers on the ports that Services with `externalTrafficPolicy: Local` name. Names, codes and bodies are
//! kube-proxy's.
//!
//! Each port is a task of its own and takes a bounded number of connections; one that is taken is tried
//! again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use supervisor::{OnExit, Stage};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::ProxyConfig;
use super::facts::{Family, ServiceName};
use super::inputs::Inputs;

/// A change that waits longer means that the proxy does not get on.
const UNHEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Node is about to be removed by the cluster autoscaler.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// By service: the port of its health check, and how many ready endpoints this node has.
type HealthChecks = BTreeMap<ServiceName, (u16, usize)>;

/// What the loops tell and the ports serve.
pub(crate) struct Telemetry {
    inputs: Arc<Inputs>,
    eligible: Mutex<bool>,
    families: Mutex<BTreeMap<Family, FamilyState>>,
    checks: watch::Sender<BTreeMap<Family, HealthChecks>>,
    failures: AtomicU64,
    forgotten: AtomicU64,
    healthz: [AtomicU64; 2],
    livez: [AtomicU64; 2],
}

#[derive(Clone)]
struct FamilyState {
    updated: Timestamp,
    without_local: (usize, usize),
    all: Durations,
    full: Durations,
    partial: Durations,
}

/// A histogram of seconds with kube-proxy's bounds.
#[derive(Clone, Default)]
struct Durations {
    buckets: [u64; BOUNDS],
    count: u64,
    sum: f64,
}

/// One of a family's histograms.
type Histogram = fn(&FamilyState) -> &Durations;

/// 1 ms, doubled 14 times.
const BOUNDS: usize = 15;

impl Durations {
    fn observe(&mut self, seconds: f64) {
        for (at, bucket) in self.buckets.iter_mut().enumerate() {
            *bucket += u64::from(seconds <= bound(at));
        }
        self.count += 1;
        self.sum += seconds;
    }

    fn write(&self, name: &str, family: &str, text: &mut String) {
        let labels = format!("ip_family=\"{family}\"");
        for (at, count) in self.buckets.iter().enumerate() {
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{}\"}} {count}", bound(at));
        }
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", self.count);
        let _ =
            writeln!(text, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {}", self.sum, self.count);
    }
}

fn bound(at: usize) -> f64 {
    0.001 * f64::from(1_u32 << at)
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

impl Telemetry {
    pub(crate) fn new(inputs: Arc<Inputs>) -> Self {
        Telemetry {
            inputs,
            eligible: Mutex::new(false),
            families: Mutex::default(),
            checks: watch::Sender::new(BTreeMap::new()),
            failures: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            healthz: Default::default(),
            livez: Default::default(),
        }
    }

    pub(crate) fn synced(&self, family: Family, took: Duration, anew: bool, without_local: (usize, usize)) {
        let mut families = self.families.lock();
        let state = families.entry(family).or_insert_with(|| FamilyState {
            updated: Timestamp::now(),
            without_local,
            all: Durations::default(),
            full: Durations::default(),
            partial: Durations::default(),
        });
        state.updated = Timestamp::now();
        state.without_local = without_local;
        let seconds = took.as_secs_f64();
        state.all.observe(seconds);
        let kind = if anew { &mut state.full } else { &mut state.partial };
        kind.observe(seconds);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn forgot(&self, flows: usize) {
        self.forgotten.fetch_add(flows as u64, Relaxed);
    }

    pub(crate) fn set_eligible(&self, node: Option<&Node>) {
        let eligible = node.is_some_and(|node| {
            let taints = node.spec.iter().filter_map(|spec| spec.taints.as_ref()).flatten();
            node.metadata.deletion_timestamp.is_none() && taints.into_iter().all(|it| it.key != TO_BE_DELETED)
        });
        *self.eligible.lock() = eligible;
    }

    pub(crate) fn set_health_checks(&self, family: Family, checks: HealthChecks) {
        self.checks.send_if_modified(|all| {
            let changed = all.get(&family) != Some(&checks);
            all.insert(family, checks);
            changed
        });
    }

    /// Per family, when it was last brought up to date and whether nothing has waited too long.
    fn health(&self) -> (bool, BTreeMap<Family, (Timestamp, bool)>) {
        let families = self.families.lock();
        let state = |(family, state): (&Family, &FamilyState)| {
            let waits = self.inputs.waiting(*family).0.is_some_and(|since| since.elapsed() > UNHEALTHY_AFTER);
            (*family, (state.updated, !waits))
        };
        let status: BTreeMap<_, _> = families.iter().map(state).collect();
        (status.values().all(|(_, healthy)| *healthy), status)
    }

    fn health_answer(&self, of_node: bool) -> Response<Full<Bytes>> {
        let (healthy, status) = self.health();
        let eligible = *self.eligible.lock();
        let ok = healthy && (eligible || !of_node);
        let counters = if of_node { &self.healthz } else { &self.livez };
        counters[usize::from(!ok)].fetch_add(1, Relaxed);
        let now = Timestamp::now();
        let updated = if ok { Some(now) } else { status.values().map(|(updated, _)| *updated).max() };
        let updated = updated.map_or("0001-01-01T00:00:00Z".to_string(), |time| time.to_string());
        let families: serde_json::Map<String, serde_json::Value> = status
            .iter()
            .map(|(family, (updated, healthy))| {
                let state = json!({"lastUpdated": updated.to_string(), "healthy": healthy});
                (family_name(*family).to_string(), state)
            })
            .collect();
        let mut body = json!({
            "lastUpdated": updated, "currentTime": now.to_string(), "healthy": healthy, "status": families,
        });
        if of_node {
            body["nodeEligible"] = eligible.into();
        }
        json_answer(ok, body.to_string())
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        let families = self.families.lock().clone();
        let head = |text: &mut String, name: &str, kind: &str| {
            let _ = writeln!(text, "# TYPE kubeproxy_{name} {kind}");
        };
        let histograms: [(&str, Histogram); 3] = [
            ("sync_proxy_rules_duration_seconds", |state| &state.all),
            ("sync_full_proxy_rules_duration_seconds", |state| &state.full),
            ("sync_partial_proxy_rules_duration_seconds", |state| &state.partial),
        ];
        for (name, of) in histograms {
            head(&mut text, name, "histogram");
            for (family, state) in &families {
                of(state).write(&format!("kubeproxy_{name}"), family_name(*family), &mut text);
            }
        }
        let last = "sync_proxy_rules_last_timestamp_seconds";
        head(&mut text, last, "gauge");
        for (family, state) in &families {
            let seconds = state.updated.as_millisecond() as f64 / 1000.0;
            let _ = writeln!(text, "kubeproxy_{last}{{ip_family=\"{}\"}} {seconds}", family_name(*family));
        }
        let without = "sync_proxy_rules_no_local_endpoints_total";
        head(&mut text, without, "gauge");
        for (family, state) in &families {
            let (internal, external) = state.without_local;
            for (policy, count) in [("internal", internal), ("external", external)] {
                let family = family_name(*family);
                let labels = format!("ip_family=\"{family}\",traffic_policy=\"{policy}\"");
                let _ = writeln!(text, "kubeproxy_{without}{{{labels}}} {count}");
            }
        }
        let counts = self.inputs.counts();
        let pending = self.inputs.waiting(Family::V4).1 as u64;
        for (name, kind, value) in [
            ("sync_proxy_rules_service_changes_total", "counter", counts.services),
            ("sync_proxy_rules_endpoint_changes_total", "counter", counts.slices),
            ("sync_proxy_rules_service_changes_pending", "gauge", pending),
            ("sync_proxy_rules_nftables_sync_failures_total", "counter", self.failures.load(Relaxed)),
            ("conntrack_reconciler_deleted_entries_total", "counter", self.forgotten.load(Relaxed)),
        ] {
            head(&mut text, name, kind);
            let _ = writeln!(text, "kubeproxy_{name} {value}");
        }
        for (name, counters) in [("proxy_healthz_total", &self.healthz), ("proxy_livez_total", &self.livez)] {
            head(&mut text, name, "counter");
            for (code, count) in ["200", "503"].iter().zip(counters) {
                let _ = writeln!(text, "kubeproxy_{name}{{code=\"{code}\"}} {}", count.load(Relaxed));
            }
        }
        text
    }

    /// What a load balancer is told of a service.
    fn check_answer(&self, name: &ServiceName) -> Response<Full<Bytes>> {
        let count = self.checks.borrow().values().find_map(|all| all.get(name)).map_or(0, |check| check.1);
        let healthy = self.health().0;
        let service = format!("\t\t\"namespace\": {},\n\t\t\"name\": {}", json!(name.0), json!(name.1));
        let body = format!(
            "{{\n\t\"service\": {{\n{service}\n\t}},\n\t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
        );
        let mut answer = json_answer(count != 0 && healthy, body);
        answer.headers_mut().insert("x-load-balancing-endpoint-weight", count.into());
        answer
    }
}

fn json_answer(ok: bool, body: String) -> Response<Full<Bytes>> {
    let mut answer = plain(if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body);
    let headers = answer.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", http::HeaderValue::from_static("nosniff"));
    answer
}

pub(crate) fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, text);
    answer
}

/// What a path is answered with.
pub(crate) type Answer = Arc<dyn Fn(&str) -> Response<Full<Bytes>> + Send + Sync>;

/// Opens the ports.
pub(crate) fn start(config: &ProxyConfig, telemetry: Arc<Telemetry>, stage: &Stage) {
    if let Some(address) = config.health_address {
        let telemetry = telemetry.clone();
        let answer: Answer = Arc::new(move |path| match path {
            "/healthz" => telemetry.health_answer(true),
            "/livez" => telemetry.health_answer(false),
            _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        });
        let task = serve(address, answer, "service proxy health", stage.clone(), stage.stopping());
        stage.spawn_cancellable("service proxy health", OnExit::Stop, task);
    }
    if let Some(address) = config.metrics_address {
        let telemetry = telemetry.clone();
        let answer: Answer = Arc::new(move |path| match path {
            "/metrics" => plain(StatusCode::OK, telemetry.metrics()),
            "/healthz" => plain(StatusCode::OK, "ok"),
            "/proxyMode" => plain(StatusCode::OK, "nftables"),
            _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        });
        let task = serve(address, answer, "service proxy metrics", stage.clone(), stage.stopping());
        stage.spawn_cancellable("service proxy metrics", OnExit::Stop, task);
    }
    let checks = follow_checks(telemetry, stage.clone());
    stage.spawn_cancellable("health checks of services", OnExit::Stop, checks);
}

/// Opens and closes the ports of services' health checks.
async fn follow_checks(telemetry: Arc<Telemetry>, stage: Stage) {
    let mut checks = telemetry.checks.subscribe();
    let mut open: BTreeMap<(ServiceName, u16), CancellationToken> = BTreeMap::new();
    loop {
        let wanted: Vec<(ServiceName, u16)> = checks
            .borrow_and_update()
            .values()
            .flatten()
            .map(|(name, (port, _))| (name.clone(), *port))
            .collect();
        open.retain(|key, stop| {
            let stays = wanted.contains(key);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for key in wanted {
            if open.contains_key(&key) {
                continue;
            }
            let (telemetry, name) = (telemetry.clone(), key.0.clone());
            let answer: Answer = Arc::new(move |_| telemetry.check_answer(&name));
            let stop = stage.stopping().child_token();
            let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), key.1);
            let task = serve(address, answer, "health check of a service", stage.clone(), stop.clone());
            stage.spawn_until("health check of a service", OnExit::Done, stop.clone(), task);
            open.insert(key, stop);
        }
        if checks.changed().await.is_err() {
            return;
        }
    }
}

const CONNECTIONS: usize = 64;
const HEADERS: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Serves a port for ever.
pub(crate) async fn serve(
    address: SocketAddr,
    answer: Answer,
    what: &'static str,
    stage: Stage,
    stop: CancellationToken,
) {
    let mut delay = FIRST_RETRY;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::warn!(%address, %error, retry = ?delay, "{what}: the port cannot be opened");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LONGEST_RETRY);
            }
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let task = connection(stream, answer.clone());
                stage.spawn_until(what, OnExit::Done, stop.clone(), async move {
                    task.await;
                    drop(place);
                });
            }
            // Out of file descriptors: those who have some must get a chance to give them back.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(stream: TcpStream, answer: Answer) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let response = answer(request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    // A checker that goes away, or stays for ever, is no event.
    let _ = tokio::time::timeout(WHOLE, served).await;
}
