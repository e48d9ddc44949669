//! Metrics of encryption at rest, under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;

use super::transform::{ENCRYPTED, TransformError, resource_of};

/// Upstream's buckets: 25 from 5 µs on, each twice the one before.
const BUCKETS: usize = 25;
const FIRST_BUCKET: f64 = 5e-6;

#[derive(Clone, Copy)]
pub(super) enum Direction {
    FromStorage,
    ToStorage,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::FromStorage => "from_storage",
            Direction::ToStorage => "to_storage",
        }
    }
}

#[derive(Default)]
pub(super) struct Metrics(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    /// By the labels.
    operations: BTreeMap<String, u64>,
    latencies: BTreeMap<String, Latencies>,
    reloads: BTreeMap<&'static str, (u64, u64)>,
}

#[derive(Default)]
struct Latencies {
    buckets: [u64; BUCKETS],
    count: u64,
    seconds: f64,
}

/// The provider that a value was written by: `k8s:enc:aescbc:v1:`, or `identity`.
fn prefix_of(value: &[u8]) -> String {
    if !value.starts_with(ENCRYPTED) {
        return "identity".to_string();
    }
    let parts = if value.starts_with(b"k8s:enc:kms:") { 5 } else { 4 };
    let end = value.iter().enumerate().filter(|(_, byte)| **byte == b':').nth(parts - 1);
    let end = end.map_or(ENCRYPTED.len(), |(at, _)| at + 1);
    // The prefix is ours; what follows it is not, and a damaged value may be anything.
    String::from_utf8_lossy(&value[..end]).chars().filter(|letter| !"\"\\\n".contains(*letter)).collect()
}

impl Metrics {
    pub(super) fn transformed(
        &self,
        direction: Direction,
        key: &[u8],
        outcome: &Result<Bytes, TransformError>,
        took: Duration,
    ) {
        let prefix = outcome.as_ref().map_or("unknown".to_string(), |value| prefix_of(value));
        self.count(direction, key, &prefix, outcome.is_ok(), took);
    }

    pub(super) fn read(&self, key: &[u8], value: &[u8], error: Option<&TransformError>, took: Duration) {
        self.count(Direction::FromStorage, key, &prefix_of(value), error.is_none(), took);
    }

    fn count(&self, direction: Direction, key: &[u8], prefix: &str, ok: bool, took: Duration) {
        let Some(resource) = resource_of(key) else { return };
        let status = if ok { "OK" } else { "unknown-non-grpc" };
        let direction = direction.name();
        let short = format!("transformation_type=\"{direction}\",transformer_prefix=\"{prefix}\"");
        let labels = format!("resource=\"{resource}\",status=\"{status}\",{short}");
        let mut counts = self.0.lock();
        *counts.operations.entry(labels).or_default() += 1;
        if ok {
            let latencies = counts.latencies.entry(short).or_default();
            let seconds = took.as_secs_f64();
            latencies.count += 1;
            latencies.seconds += seconds;
            let mut bound = FIRST_BUCKET;
            for bucket in &mut latencies.buckets {
                if seconds <= bound {
                    *bucket += 1;
                    break;
                }
                bound *= 2.0;
            }
        }
    }

    pub(super) fn reloaded(&self, ok: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut counts = self.0.lock();
        let (count, last) = counts.reloads.entry(if ok { "success" } else { "failure" }).or_default();
        *count += 1;
        *last = now;
    }

    pub(super) fn render(&self, text: &mut String) {
        let counts = self.0.lock();
        let mut series = |name: &str, kind: &str, help: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{}", lines.join("\n"));
            }
        };
        let name = "apiserver_storage_transformation_operations_total";
        let lines = counts.operations.iter().map(|(labels, count)| format!("{name}{{{labels}}} {count}"));
        series(name, "counter", "Total number of transformations.", lines.collect());
        let name = "apiserver_storage_transformation_duration_seconds";
        let lines = counts.latencies.iter().flat_map(|(labels, latencies)| latencies.lines(name, labels));
        series(
            name,
            "histogram",
            "Latencies in seconds of value transformation operations.",
            lines.collect(),
        );
        let name = "apiserver_encryption_config_controller_automatic_reloads_total";
        let lines = counts
            .reloads
            .iter()
            .map(|(status, (count, _))| format!("{name}{{status=\"{status}\"}} {count}"));
        let help = "Total number of reload successes and failures of encryption configuration.";
        series(name, "counter", help, lines.collect());
        let name = "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds";
        let lines =
            counts.reloads.iter().map(|(status, (_, last))| format!("{name}{{status=\"{status}\"}} {last}"));
        let help = "Timestamp of the last successful or failed automatic reload of encryption configuration.";
        series(name, "gauge", help, lines.collect());
    }
}

impl Latencies {
    fn lines(&self, name: &str, labels: &str) -> Vec<String> {
        let (mut total, mut bound) = (0, FIRST_BUCKET);
        let mut lines = Vec::with_capacity(BUCKETS + 3);
        for bucket in self.buckets {
            total += bucket;
            lines.push(format!("{name}_bucket{{{labels},le=\"{bound}\"}} {total}"));
            bound *= 2.0;
        }
        lines.push(format!("{name}_bucket{{{labels},le=\"+Inf\"}} {}", self.count));
        lines.push(format!("{name}_sum{{{labels}}} {}", self.seconds));
        lines.push(format!("{name}_count{{{labels}}} {}", self.count));
        lines
    }
}
