//! The metrics in the text format of Prometheus.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::{BYTES, Histogram, Labels, Metrics, SECONDS};
use crate::server::ApiServer;

/// The store's own name of its size, which its lines tell.
const STORE_SIZE: &str = "etcd_mvcc_db_total_size_in_bytes ";

impl Metrics {
    pub(crate) fn render(&self, server: &ApiServer) -> String {
        let mut text = String::new();
        self.render_requests(&mut text);
        self.render_others(&mut text);
        let (readers, writers) = server.fairness.in_flight();
        let help = "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.";
        head(&mut text, "apiserver_current_inflight_requests", "gauge", help);
        for (kind, count) in [("mutating", writers), ("readOnly", readers)] {
            let _ = writeln!(text, "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {count}");
        }
        let uses = &server.registry.authenticator.uses;
        for (name, help, count) in [
            ("stale", "Cumulative stale projected service account tokens used", &uses.stale),
            ("valid", "Cumulative valid projected service account tokens used", &uses.valid),
        ] {
            let (name, count) =
                (format!("serviceaccount_{name}_tokens_total"), count.load(Ordering::Relaxed));
            let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} counter\n{name} {count}");
        }
        objects(&mut text, server);
        if let Some(audit) = &server.registry.config.audit {
            audit.render_metrics(&mut text);
        }
        server.registry.config.encryption.render_metrics(&mut text);
        if let Some(more) = &server.registry.config.more_metrics {
            let more = more();
            if let Some(size) = more.lines().find_map(|line| line.strip_prefix(STORE_SIZE)) {
                let help = "Size of the storage database file physically allocated in bytes.";
                head(&mut text, "apiserver_storage_size_bytes", "gauge", help);
                let _ =
                    writeln!(text, "apiserver_storage_size_bytes{{storage_cluster_id=\"etcd-0\"}} {size}");
            }
            text.push_str(&more);
        }
        text
    }

    fn render_requests(&self, text: &mut String) {
        let requests = self.requests.lock();
        let mut sorted: Vec<_> = requests.iter().collect();
        sorted.sort_by_cached_key(|(labels, _)| labels.text(true));
        let help = "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.";
        head(text, "apiserver_request_total", "counter", help);
        for (labels, series) in &sorted {
            let labels = labels.text(true);
            for (code, count) in &series.by_code {
                let _ = writeln!(text, "apiserver_request_total{{code=\"{code}\",{labels}}} {count}");
            }
        }
        let help = "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.";
        head(text, "apiserver_request_duration_seconds", "histogram", help);
        for (labels, series) in &sorted {
            let name = "apiserver_request_duration_seconds";
            histogram(text, name, &labels.text(true), &SECONDS, &series.seconds);
        }
    }

    fn render_others(&self, text: &mut String) {
        let help = "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.";
        head(text, "apiserver_response_sizes", "histogram", help);
        let sizes = self.sizes.lock();
        let mut sorted: Vec<(String, _)> =
            sizes.iter().map(|(labels, sizes)| (labels.text(false), sizes)).collect();
        sorted.sort_by(|one, other| one.0.cmp(&other.0));
        for (labels, sizes) in sorted {
            histogram(text, "apiserver_response_sizes", &labels, &BYTES, sizes);
        }
        let help = "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.";
        head(text, "apiserver_longrunning_requests", "gauge", help);
        let long = self.long.lock();
        let mut sorted: Vec<(String, usize)> =
            long.iter().map(|(labels, count)| (labels.text(false), *count)).collect();
        sorted.sort();
        for (labels, count) in sorted {
            let _ = writeln!(text, "apiserver_longrunning_requests{{{labels}}} {count}");
        }
        let help = "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.";
        head(text, "apiserver_requested_deprecated_apis", "gauge", help);
        for [group, resource, subresource, version] in &*self.deprecated.lock() {
            let _ = writeln!(
                text,
                "apiserver_requested_deprecated_apis{{group=\"{group}\",removed_release=\"\",resource=\"{resource}\",subresource=\"{subresource}\",version=\"{version}\"}} 1"
            );
        }
        let health = self.health.lock();
        let help = "This metric records the result of a single healthcheck.";
        head(text, "kubernetes_healthcheck", "gauge", help);
        for ((name, endpoint), seen) in &*health {
            let ok = u8::from(seen.ok);
            let _ = writeln!(text, "kubernetes_healthcheck{{name=\"{name}\",type=\"{endpoint}\"}} {ok}");
        }
        let help = "This metric records the results of all healthcheck.";
        head(text, "kubernetes_healthchecks_total", "counter", help);
        for ((name, endpoint), seen) in &*health {
            for (status, count) in [("error", seen.failed), ("success", seen.passed)] {
                if count > 0 {
                    let _ = writeln!(
                        text,
                        "kubernetes_healthchecks_total{{name=\"{name}\",status=\"{status}\",type=\"{endpoint}\"}} {count}"
                    );
                }
            }
        }
    }
}

/// How many objects there are of each kind, under both names that upstream has for it.
fn objects(text: &mut String, server: &ApiServer) {
    let (mut by_name, mut by_group) = (String::new(), String::new());
    for resource in server.registry.resources.load().all() {
        let Ok(cache) = resource.cache() else { continue };
        let (row, count) = (&resource.row, cache.len());
        let (group, plural) = (&row.group, &row.plural);
        let _ = writeln!(
            by_group,
            "apiserver_resource_objects{{group=\"{group}\",resource=\"{plural}\"}} {count}"
        );
        if row.stored_as.is_none() {
            let name = row.group_resource();
            let _ = writeln!(by_name, "apiserver_storage_objects{{resource=\"{name}\"}} {count}");
        }
    }
    let help = "Number of stored objects at the time of last check split by kind.";
    head(text, "apiserver_resource_objects", "gauge", help);
    text.push_str(&by_group);
    let help = "[DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.";
    head(text, "apiserver_storage_objects", "gauge", help);
    text.push_str(&by_name);
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn histogram<const N: usize>(
    text: &mut String,
    name: &str,
    labels: &str,
    bounds: &[f64; N],
    values: &Histogram<N>,
) {
    let mut total = 0;
    for (bound, count) in bounds.iter().zip(values.buckets) {
        total += count;
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}");
    }
    let (count, sum) = (values.count, values.sum);
    let _ = writeln!(
        text,
        "{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}"
    );
}

impl Labels {
    /// The labels, sorted by name.
    fn text(&self, with_dry_run: bool) -> String {
        let (plural, group, version) = self.resource.names();
        let dry_run = if with_dry_run { format!("dry_run=\"{}\",", self.dry_run) } else { String::new() };
        format!(
            "component=\"apiserver\",{dry_run}group=\"{group}\",resource=\"{plural}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{version}\"",
            self.scope, self.subresource, self.verb
        )
    }
}
