//! `/metrics/cadvisor`: containers under cAdvisor's names, as dashboards and alerts know them.
//!
//! Of its some hundred metrics those that are measured here anyway: processor time, memory, network,
//! layers, limits.

use std::fmt::Write;

use super::resource::{escaped, head, seconds};
use super::{ContainerMeasured, Measured, PodMeasured};
use crate::pods::resize::Amounts;
use crate::spec::PodExt;
use crate::spec::resources::{quota, shares};

/// A metric of each container: its name, kind, help, and value.
type ContainerMetric = (&'static str, &'static str, &'static str, fn(&ContainerMeasured) -> Option<f64>);

const CONTAINER: [ContainerMetric; 9] = [
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", |one| {
        Some(seconds(one.cpu.used))
    }),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |one| Some(one.memory.used as f64),
    ),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |one| {
        Some(one.memory.working_set as f64)
    }),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |one| Some(one.memory.rss as f64)),
    (
        "container_memory_failures_total",
        "counter",
        "Cumulative count of memory allocation failures.",
        |one| Some(one.memory.page_faults as f64),
    ),
    (
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        |one| Some(one.layer.bytes as f64),
    ),
    (
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
        |one| one.started.map(|at| at.as_millisecond() as f64 / 1000.0),
    ),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", |one| {
        Some(one.memory.limit.unwrap_or(0) as f64)
    }),
    ("container_last_seen", "gauge", "Last time a container was seen by the exporter", |_| {
        Some(jiff::Timestamp::now().as_second() as f64)
    }),
];

pub(crate) fn of(measured: &Measured) -> String {
    let mut out = String::new();
    let at = measured.at.as_millisecond();
    for (name, kind, help, value) in CONTAINER {
        head(&mut out, name, kind, help);
        for pod in &measured.pods {
            for one in &pod.containers {
                if let Some(value) = value(one) {
                    let _ = writeln!(out, "{name}{{{}}} {value} {at}", labels(pod, one));
                }
            }
        }
    }
    specified(&mut out, measured, at);
    network(&mut out, measured, at);
    head(&mut out, "machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
    let memory = measured.node.memory.working_set.saturating_add(measured.node.available_memory);
    let _ = writeln!(out, "machine_memory_bytes {memory}");
    out
}

fn labels(pod: &PodMeasured, one: &ContainerMeasured) -> String {
    let (namespace, name, uid) = (pod.pod.namespace(), pod.pod.name(), pod.pod.uid());
    format!(
        "container=\"{}\",id=\"/kubepods/pod{uid}/{}\",image=\"{}\",name=\"{}\",namespace=\"{namespace}\",pod=\"{name}\"",
        escaped(&one.name),
        one.id,
        escaped(&one.image),
        one.id
    )
}

/// A metric of what a container was given: its name, help, and value.
type Given = (&'static str, &'static str, fn(Amounts) -> Option<i64>);

/// What containers were given, as the kernel counts it.
fn specified(out: &mut String, measured: &Measured, at: i64) {
    let metrics: [Given; 3] = [
        ("container_spec_cpu_shares", "CPU share of the container.", |one| Some(shares(one.cpu_request))),
        ("container_spec_cpu_period", "CPU period of the container.", |_| Some(100_000)),
        ("container_spec_cpu_quota", "CPU quota of the container.", |one| {
            (one.cpu_limit > 0).then(|| quota(one.cpu_limit))
        }),
    ];
    for (name, help, value) in metrics {
        head(out, name, "gauge", help);
        for pod in &measured.pods {
            for one in &pod.containers {
                let definition = pod.pod.find_container(&one.name);
                let given = Amounts::of(definition.and_then(|one| one.resources.as_ref()));
                if let Some(value) = value(given) {
                    let _ = writeln!(out, "{name}{{{}}} {value} {at}", labels(pod, one));
                }
            }
        }
    }
}

fn network(out: &mut String, measured: &Measured, at: i64) {
    for (direction, words) in [("receive", "received"), ("transmit", "transmitted")] {
        for (what, help) in
            [("bytes", "bytes"), ("packets", "packets"), ("errors", "errors encountered while")]
        {
            let name = format!("container_network_{direction}_{what}_total");
            head(out, &name, "counter", &format!("Cumulative count of {help} {words}"));
            for pod in &measured.pods {
                for interface in &pod.interfaces {
                    let traffic = if direction == "receive" { interface.received } else { interface.sent };
                    let value = match what {
                        "bytes" => traffic.bytes,
                        "packets" => traffic.packets,
                        _ => traffic.errors,
                    };
                    let (namespace, pod) = (pod.pod.namespace(), pod.pod.name());
                    let _ = writeln!(
                        out,
                        "{name}{{interface=\"{}\",namespace=\"{namespace}\",pod=\"{pod}\"}} {value} {at}",
                        escaped(&interface.name)
                    );
                }
            }
        }
    }
}
