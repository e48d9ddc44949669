//! What has been served, counted for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use crate::facts::Name;

/// Bounds of the histogram, in microseconds.
const BOUNDS: [u64; 11] =
    [1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

/// Answers of one ingress by class of their code, from 1xx to 5xx.
#[derive(Debug, Default)]
pub(crate) struct Answers([AtomicU64; 5]);

impl Answers {
    pub(crate) fn count(&self, status: u16) {
        if let Some(counter) = usize::from(status / 100).checked_sub(1).and_then(|class| self.0.get(class)) {
            counter.fetch_add(1, Relaxed);
        }
    }
}

#[derive(Default)]
pub(crate) struct Metrics {
    /// By ingress; what is gone keeps its count until the process ends, as counters must not fall.
    answers: Mutex<BTreeMap<Name, Arc<Answers>>>,
    /// Requests that no ingress is for.
    pub(crate) unmatched: Answers,
    pub(crate) connections: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) retries: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

/// Ingresses that are counted apart; those beyond share a count.
const MOST_COUNTED: usize = 10_000;

impl Metrics {
    pub(crate) fn answers_of(&self, ingress: &Name) -> Arc<Answers> {
        let mut all = self.answers.lock();
        if let Some(known) = all.get(ingress) {
            return known.clone();
        }
        let key = if all.len() < MOST_COUNTED { ingress.clone() } else { Name::default() };
        all.entry(key).or_default().clone()
    }

    /// An answer was given, to its last byte.
    pub(crate) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = BOUNDS.iter().position(|bound| micros <= *bound) {
            self.buckets[at].fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ =
                writeln!(out, "# HELP minik8s_ingress_{name} {help}\n# TYPE minik8s_ingress_{name} {kind}");
        };
        head(&mut out, "requests_total", "counter", "Answers by ingress and class of their code.");
        let none = Name::default();
        let all = self.answers.lock().clone();
        let known = all.iter().map(|(name, answers)| (name, &**answers));
        for ((namespace, name), answers) in known.chain([(&none, &self.unmatched)]) {
            for (class, count) in answers.0.iter().enumerate() {
                let count = count.load(Relaxed);
                if count > 0 {
                    let labels =
                        format!("namespace=\"{namespace}\",ingress=\"{name}\",code=\"{}xx\"", class + 1);
                    let _ = writeln!(out, "minik8s_ingress_requests_total{{{labels}}} {count}");
                }
            }
        }
        let name = "request_duration_seconds";
        head(&mut out, name, "histogram", "From a request's head to its answer's last byte.");
        let mut so_far = 0;
        for (bound, count) in BOUNDS.iter().zip(&self.buckets) {
            so_far += count.load(Relaxed);
            let bound = *bound as f64 / 1e6;
            let _ = writeln!(out, "minik8s_ingress_{name}_bucket{{le=\"{bound}\"}} {so_far}");
        }
        let (count, sum) = (self.count.load(Relaxed), self.micros.load(Relaxed) as f64 / 1e6);
        let _ = writeln!(
            out,
            "minik8s_ingress_{name}_bucket{{le=\"+Inf\"}} {count}\nminik8s_ingress_{name}_sum {sum}\nminik8s_ingress_{name}_count {count}"
        );
        let counters = [
            ("connections", "gauge", "Clients' connections.", &self.connections),
            (
                "connections_refused_total",
                "counter",
                "Connections that found every place taken.",
                &self.refused,
            ),
            ("tls_handshakes_failed_total", "counter", "Handshakes that failed.", &self.handshakes_failed),
            ("retries_total", "counter", "Requests that were tried on another endpoint.", &self.retries),
        ];
        for (name, kind, help, value) in counters {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "minik8s_ingress_{name} {}", value.load(Relaxed));
        }
        out
    }
}
