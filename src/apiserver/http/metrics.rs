//! `/metrics`: requests by verb, resource and code, stored objects, in the text format of Prometheus and
//! under upstream's names.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use api::KindRow;
use client::Served;
use parking_lot::Mutex;

use super::route::Target;
use crate::server::ApiServer;

/// Bounds of the duration histogram's buckets, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<HashMap<Labels, Series>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Labels {
    resource: Named,
    verb: &'static str,
    subresource: Box<str>,
    scope: &'static str,
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
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

/// A request under way.
pub(crate) struct Timer<'a> {
    metrics: &'a Metrics,
    resource: Named,
    subresource: Box<str>,
    verb: &'static str,
    scope: &'static str,
    start: Instant,
}

impl Metrics {
    pub(crate) fn start(&self, verb: &'static str, target: &Target) -> Timer<'_> {
        let scope = match (&target.name, &target.namespace) {
            (Some(_), _) => "resource",
            (None, Some(_)) => "namespace",
            (None, None) => "cluster",
        };
        Timer {
            metrics: self,
            resource: Named(target.resource.row.clone()),
            subresource: target.subresource.as_deref().unwrap_or("").into(),
            verb,
            scope,
            start: Instant::now(),
        }
    }

    /// Forgets the requests on kinds that are not served any more.
    pub(crate) fn keep_only(&self, served: &Served) {
        let is_served = |row: &KindRow| served.by_kind(&row.api_version(), &row.kind).is_some();
        self.requests.lock().retain(|labels, _| is_served(&labels.resource.0));
    }

    pub(crate) fn render(&self, server: &ApiServer) -> String {
        let mut text = String::new();
        self.render_requests(&mut text);
        let uses = &server.registry.authenticator.uses;
        for (name, help, count) in [
            ("stale", "Cumulative stale projected service account tokens used", &uses.stale),
            ("valid", "Cumulative valid projected service account tokens used", &uses.valid),
        ] {
            let (name, count) =
                (format!("serviceaccount_{name}_tokens_total"), count.load(Ordering::Relaxed));
            let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} counter\n{name} {count}");
        }
        text.push_str("# HELP apiserver_resource_objects Number of stored objects at the time of last check split by kind.\n");
        text.push_str("# TYPE apiserver_resource_objects gauge\n");
        for resource in server.registry.resources.load().all() {
            let Ok(cache) = resource.cache() else { continue };
            let row = &resource.row;
            let _ = writeln!(
                text,
                "apiserver_resource_objects{{group=\"{}\",resource=\"{}\"}} {}",
                row.group,
                row.plural,
                cache.len()
            );
        }
        if let Some(audit) = &server.registry.config.audit {
            audit.render_metrics(&mut text);
        }
        server.registry.config.encryption.render_metrics(&mut text);
        if let Some(more) = &server.registry.config.more_metrics {
            text.push_str(&more());
        }
        text
    }

    fn render_requests(&self, text: &mut String) {
        let requests = self.requests.lock();
        let mut sorted: Vec<(String, &Series)> =
            requests.iter().map(|(labels, series)| (labels.text(), series)).collect();
        sorted.sort_by(|one, other| one.0.cmp(&other.0));
        text.push_str("# HELP apiserver_request_total Counter of apiserver requests broken out for each verb, group, version, resource, scope and HTTP response code.\n");
        text.push_str("# TYPE apiserver_request_total counter\n");
        for (labels, series) in &sorted {
            for (code, count) in &series.by_code {
                let _ = writeln!(text, "apiserver_request_total{{{labels},code=\"{code}\"}} {count}");
            }
        }
        text.push_str(
            "# HELP apiserver_request_duration_seconds Response latency distribution in seconds.\n",
        );
        text.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
        for (labels, series) in &sorted {
            let mut total = 0;
            for (bound, count) in BUCKETS.iter().zip(series.buckets) {
                total += count;
                let _ = writeln!(
                    text,
                    "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {total}"
                );
            }
            let _ = writeln!(
                text,
                "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {0}\n\
                 apiserver_request_duration_seconds_sum{{{labels}}} {1}\n\
                 apiserver_request_duration_seconds_count{{{labels}}} {0}",
                series.count, series.seconds
            );
        }
    }
}

impl Labels {
    fn text(&self) -> String {
        let (plural, group, version) = self.resource.names();
        format!(
            "verb=\"{}\",group=\"{}\",version=\"{}\",resource=\"{}\",subresource=\"{}\",scope=\"{}\"",
            self.verb.to_uppercase(),
            group,
            version,
            plural,
            self.subresource,
            self.scope
        )
    }
}

impl Timer<'_> {
    pub(crate) fn end(self, code: u16) {
        let took: Duration = self.start.elapsed();
        let labels = Labels {
            resource: self.resource,
            verb: self.verb,
            subresource: self.subresource,
            scope: self.scope,
        };
        let mut requests = self.metrics.requests.lock();
        let series = requests.entry(labels).or_insert_with(|| Series {
            by_code: BTreeMap::new(),
            buckets: Default::default(),
            count: 0,
            seconds: 0.0,
        });
        *series.by_code.entry(code).or_default() += 1;
        series.count += 1;
        series.seconds += took.as_secs_f64();
        if let Some(at) = BUCKETS.iter().position(|bound| took.as_secs_f64() <= *bound) {
            series.buckets[at] += 1;
        }
    }
}
