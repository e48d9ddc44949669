//! What `/metrics` tells of requests: how many, how long, how large, which are under way, which are on
//! versions that go away; and what health checks have found. Names and labels are upstream's.

mod render;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use api::KindRow;
use axum::body::Body;
use bytes::Bytes;
use client::Served;
use http::Response;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::audited::ENDLESS;
use super::route::Target;

/// Bounds of the histogram of durations, in seconds.
const SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// Bounds of the histogram of answers' sizes, in bytes.
const BYTES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

type Sizes = Mutex<HashMap<Labels, Histogram<{ BYTES.len() }>>>;

#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<HashMap<Labels, Series>>,
    /// Requests under way that last as long as their clients want.
    long: Arc<Mutex<HashMap<Labels, usize>>>,
    /// Sizes of answers to readers, without the label of dry runs.
    sizes: Arc<Sizes>,
    deprecated: Mutex<BTreeSet<[String; 4]>>,
    health: Mutex<BTreeMap<(String, &'static str), Health>>,
}

/// What has been seen of one check of one endpoint.
#[derive(Default)]
struct Health {
    ok: bool,
    passed: u64,
    failed: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Labels {
    resource: Named,
    verb: &'static str,
    subresource: Box<str>,
    scope: &'static str,
    dry_run: &'static str,
}

/// A resource by its names. Only the row is held: what else a kind has goes with the kind.
#[derive(Clone)]
struct Named(Arc<KindRow>);

impl Named {
    fn names(&self) -> (&str, &str, &str) {
        (&self.0.plural, &self.0.group, &self.0.version)
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.names() == other.names()
    }
}

impl Eq for Named {}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}

struct Series {
    by_code: BTreeMap<u16, u64>,
    seconds: Histogram<{ SECONDS.len() }>,
}

struct Histogram<const N: usize> {
    buckets: [u64; N],
    count: u64,
    sum: f64,
}

impl<const N: usize> Histogram<N> {
    fn new() -> Self {
        Histogram { buckets: [0; N], count: 0, sum: 0.0 }
    }

    fn observe(&mut self, bounds: &[f64; N], value: f64) {
        self.count += 1;
        self.sum += value;
        if let Some(at) = bounds.iter().position(|bound| value <= *bound) {
            self.buckets[at] += 1;
        }
    }
}

/// The name of a request's verb: what HTTP calls it, but for lists, watches, applied patches and connections.
fn verb_name(verb: &'static str, target: &Target, applies: bool) -> &'static str {
    let connects = |name: &str| ENDLESS.contains(&name);
    match verb {
        _ if target.subresource.as_deref().is_some_and(connects) => "CONNECT",
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" if applies => "APPLY",
        "patch" => "PATCH",
        _ => "DELETE",
    }
}

fn labels(verb: &'static str, target: &Target, applies: bool, is_dry: bool) -> Labels {
    let scope = match (&target.name, &target.namespace) {
        _ if verb == "create" => "resource",
        (Some(_), _) => "resource",
        (None, Some(_)) => "namespace",
        (None, None) => "cluster",
    };
    Labels {
        resource: Named(target.resource.row.clone()),
        subresource: target.subresource.as_deref().unwrap_or("").into(),
        verb: verb_name(verb, target, applies),
        scope,
        dry_run: if is_dry { "All" } else { "" },
    }
}

/// A request under way.
pub(crate) struct Timer<'a> {
    metrics: &'a Metrics,
    labels: Labels,
    start: Instant,
}

/// A request that lasts as long as its client wants; it counts until this is dropped.
pub(crate) struct LongRunning {
    counts: Arc<Mutex<HashMap<Labels, usize>>>,
    labels: Labels,
}

impl Drop for LongRunning {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.labels) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Metrics {
    /// Begins to time a request. `applies`: a patch by server-side apply.
    pub(crate) fn start(
        &self,
        verb: &'static str,
        target: &Target,
        applies: bool,
        is_dry: bool,
    ) -> Timer<'_> {
        if target.resource.strategy.deprecation().is_some() {
            self.note_deprecated(target);
        }
        Timer { metrics: self, labels: labels(verb, target, applies, is_dry), start: Instant::now() }
    }

    pub(crate) fn long_running(&self, verb: &'static str, target: &Target) -> LongRunning {
        let labels = labels(verb, target, false, false);
        *self.long.lock().entry(labels.clone()).or_default() += 1;
        LongRunning { counts: self.long.clone(), labels }
    }

    fn note_deprecated(&self, target: &Target) {
        let row = &target.resource.row;
        let subresource = target.subresource.clone().unwrap_or_default();
        let labels = [row.group.to_string(), row.plural.to_string(), subresource, row.version.to_string()];
        let mut deprecated = self.deprecated.lock();
        if !deprecated.contains(&labels) {
            deprecated.insert(labels);
        }
    }

    /// Notes what a check of a health endpoint has found.
    pub(crate) fn health(&self, name: &str, endpoint: &'static str, ok: bool) {
        let mut health = self.health.lock();
        let seen = health.entry((name.to_string(), endpoint)).or_default();
        seen.ok = ok;
        *(if ok { &mut seen.passed } else { &mut seen.failed }) += 1;
    }

    /// Forgets the requests on kinds that are not served any more.
    pub(crate) fn keep_only(&self, served: &Served) {
        let is_served = |row: &KindRow| served.by_kind(&row.api_version(), &row.kind).is_some();
        self.requests.lock().retain(|labels, _| is_served(&labels.resource.0));
        self.sizes.lock().retain(|labels, _| is_served(&labels.resource.0));
        self.long.lock().retain(|labels, count| *count > 0 || is_served(&labels.resource.0));
        let rows = served.rows();
        let names = |row: &KindRow, labels: &[String; 4]| {
            row.group == labels[0] && row.plural == labels[1] && row.version == labels[3]
        };
        self.deprecated.lock().retain(|labels| rows.iter().any(|row| names(row, labels)));
    }
}

impl Timer<'_> {
    /// Ends the timing of a request that is answered with this code.
    pub(crate) fn end(&self, code: u16) {
        let took: Duration = self.start.elapsed();
        let mut requests = self.metrics.requests.lock();
        let new = || Series { by_code: BTreeMap::new(), seconds: Histogram::new() };
        let series = requests.entry(self.labels.clone()).or_insert_with(new);
        *series.by_code.entry(code).or_default() += 1;
        series.seconds.observe(&SECONDS, took.as_secs_f64());
    }

    /// Notes the size of a reader's answer, which may be known only when it has been sent.
    pub(crate) fn measure(self, response: Response<Body>) -> Response<Body> {
        if !matches!(self.labels.verb, "GET" | "LIST") {
            return response;
        }
        let labels = Labels { dry_run: "", ..self.labels };
        let measured = Measured { sizes: self.metrics.sizes.clone(), labels, bytes: 0 };
        match http_body::Body::size_hint(response.body()).exact() {
            Some(size) => {
                measured.observe(size);
                response
            }
            None => response.map(|body| Body::new(Measuring { body, measured })),
        }
    }
}

/// What has been sent of an answer so far.
struct Measured {
    sizes: Arc<Sizes>,
    labels: Labels,
    bytes: u64,
}

impl Measured {
    fn observe(&self, size: u64) {
        let mut sizes = self.sizes.lock();
        sizes.entry(self.labels.clone()).or_insert_with(Histogram::new).observe(&BYTES, size as f64);
    }
}

/// A body whose size is noted when it ends, or when its client goes.
struct Measuring {
    body: Body,
    measured: Measured,
}

impl Drop for Measuring {
    fn drop(&mut self) {
        self.measured.observe(self.measured.bytes);
    }
}

impl http_body::Body for Measuring {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = http_body::Body::poll_frame(Pin::new(&mut self.body), cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.measured.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
