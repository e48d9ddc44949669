//! Autoscalers, in the form of `autoscaling/v2`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, at, column, items, name, number, or, text};
use crate::strategy::{Cell, Column};

/// Metrics that are shown; of the others only how many there are.
const SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

pub(crate) const AUTOSCALER: &[Column] = &[
    NAME,
    column("Reference", "string", "What is scaled."),
    column("Targets", "string", "Metrics: where they are, and where they are to be."),
    column("MinPods", "string", "Pods that there are at least."),
    column("MaxPods", "string", "Pods that there are at most."),
    column("Replicas", "string", "Pods that there are."),
    AGE,
];

pub(crate) fn autoscaler(object: &Value, now: Timestamp) -> Vec<Cell> {
    let target = at(object, "spec.scaleTargetRef");
    let least = at(object, "spec.minReplicas").as_i64();
    vec![
        name(object),
        json!(format!("{}/{}", text(target, "kind"), text(target, "name"))),
        json!(metrics(items(object, "spec.metrics"), items(object, "status.currentMetrics"))),
        json!(least.map_or("<unset>".to_string(), |least| least.to_string())),
        json!(number(object, "spec.maxReplicas")),
        json!(number(object, "status.currentReplicas")),
        age(object, now),
    ]
}

fn metrics(wanted: &[Value], present: &[Value]) -> String {
    if wanted.is_empty() {
        return "<none>".to_string();
    }
    let none = Value::Null;
    let shown: Vec<String> = (0..SHOWN)
        .zip(wanted)
        .map(|(index, metric)| one(metric, present.get(index).unwrap_or(&none)))
        .collect();
    match wanted.len() {
        0..=SHOWN => shown.join(", "),
        all => format!("{} + {} more...", shown.join(", "), all - SHOWN),
    }
}

fn one(metric: &Value, present: &Value) -> String {
    let source = match text(metric, "type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_string(),
    };
    let (target, current) = (at(&metric[source], "target"), at(&present[source], "current"));
    let average = text(target, "averageValue");
    if source == "pods" {
        return format!("{}/{}", or(text(current, "averageValue"), UNKNOWN), or(average, "0"));
    }
    if matches!(source, "external" | "object") {
        return match average {
            "" => format!("{}/{}", or(text(current, "value"), UNKNOWN), or(text(target, "value"), "0")),
            average => format!("{}/{average} (avg)", or(text(current, "averageValue"), UNKNOWN)),
        };
    }
    let resource = text(&metric[source], "name");
    if !average.is_empty() {
        return format!("{resource}: {}/{average}", or(text(current, "averageValue"), UNKNOWN));
    }
    let percent = |part: &Value, otherwise: &str| match part["averageUtilization"].as_i64() {
        Some(percent) => format!("{percent}%"),
        None => otherwise.to_string(),
    };
    format!("{resource}: {}/{}", percent(current, UNKNOWN), percent(target, "<auto>"))
}
