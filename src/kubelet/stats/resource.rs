//! `/metrics/resource`: what metrics servers read, in Prometheus' text form.

use std::fmt::Write;

use super::Measured;
use crate::spec::PodExt;

/// The beginning of a metric.
pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value, as the text form has it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

pub(crate) fn of(measured: &Measured) -> String {
    let mut out = String::new();
    let at = measured.at.as_millisecond();
    let containers = || {
        measured.pods.iter().flat_map(|pod| {
            pod.containers.iter().map(move |one| {
                let (namespace, name) = (pod.pod.namespace(), pod.pod.name());
                let labels =
                    format!("container=\"{}\",namespace=\"{namespace}\",pod=\"{name}\"", escaped(&one.name));
                (labels, one)
            })
        })
    };
    let pods = || {
        measured
            .pods
            .iter()
            .map(|pod| (format!("namespace=\"{}\",pod=\"{}\"", pod.pod.namespace(), pod.pod.name()), pod))
    };
    head(
        &mut out,
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
    );
    for (labels, one) in containers() {
        let used = seconds(one.cpu.used);
        let _ = writeln!(out, "container_cpu_usage_seconds_total{{{labels}}} {used} {at}");
    }
    head(
        &mut out,
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
    );
    for (labels, one) in containers() {
        let used = one.memory.working_set;
        let _ = writeln!(out, "container_memory_working_set_bytes{{{labels}}} {used} {at}");
    }
    head(
        &mut out,
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
    );
    for (labels, one) in containers() {
        if let Some(started) = one.started {
            let started = started.as_millisecond() as f64 / 1000.0;
            let _ = writeln!(out, "container_start_time_seconds{{{labels}}} {started}");
        }
    }
    head(
        &mut out,
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    );
    let _ = writeln!(out, "node_cpu_usage_seconds_total {} {at}", seconds(measured.node.cpu.used));
    head(
        &mut out,
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
    );
    let _ = writeln!(out, "node_memory_working_set_bytes {} {at}", measured.node.memory.working_set);
    head(
        &mut out,
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
    );
    for (labels, pod) in pods() {
        let _ = writeln!(out, "pod_cpu_usage_seconds_total{{{labels}}} {} {at}", seconds(pod.cpu.used));
    }
    head(
        &mut out,
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
    );
    for (labels, pod) in pods() {
        let used = pod.memory.working_set;
        let _ = writeln!(out, "pod_memory_working_set_bytes{{{labels}}} {used} {at}");
    }
    head(
        &mut out,
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    let _ = writeln!(out, "resource_scrape_error 0");
    out
}
