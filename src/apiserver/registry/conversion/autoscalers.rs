//! Autoscalers: `autoscaling/v2` is stored, `autoscaling/v1` is a view of it that knows one metric, the
//! processor's.
//!
//! What v1 has no field for travels in annotations, in upstream's forms: metrics, conditions and what is
//! measured as v1 once had them, the behaviour as upstream's own code has it. So a client of v1 that reads
//! and writes loses nothing but the order of metrics. In v2 the annotations are never seen. One that cannot
//! be read is passed over, as upstream does.

use api::ApiError;
use api::kinds::HORIZONTAL_POD_AUTOSCALER;
use client::BoxFuture;
use serde_json::{Map, Value, json};

use super::Conversion;

pub(crate) const V1: &str = "autoscaling/v1";
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
/// All that belong to the conversion; the last two only ever existed in previews.
const ANNOTATIONS: [&str; 6] = [
    METRICS,
    BEHAVIOR,
    CURRENT_METRICS,
    CONDITIONS,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];
/// In which annotations a v1 object has parts of its status, and of its spec.
pub(crate) const OF_STATUS: [&str; 2] = [CURRENT_METRICS, CONDITIONS];
pub(crate) const OF_SPEC: [&str; 2] = [METRICS, BEHAVIOR];

/// Names of a metric's parts in v1 and, as paths, in v2; by what is measured, with what both call it.
struct Names {
    source: &'static str,
    spec: &'static [(&'static str, &'static str)],
    status: &'static [(&'static str, &'static str)],
}

const NAMES: &[Names] = &[
    Names {
        source: "object",
        spec: &[
            ("target", "/describedObject"),
            ("metricName", "/metric/name"),
            ("selector", "/metric/selector"),
            ("targetValue", "/target/value"),
            ("averageValue", "/target/averageValue"),
        ],
        status: &[
            ("target", "/describedObject"),
            ("metricName", "/metric/name"),
            ("selector", "/metric/selector"),
            ("currentValue", "/current/value"),
            ("averageValue", "/current/averageValue"),
        ],
    },
    Names {
        source: "pods",
        spec: &[
            ("metricName", "/metric/name"),
            ("selector", "/metric/selector"),
            ("targetAverageValue", "/target/averageValue"),
        ],
        status: &[
            ("metricName", "/metric/name"),
            ("selector", "/metric/selector"),
            ("currentAverageValue", "/current/averageValue"),
        ],
    },
    Names { source: "resource", spec: RESOURCE_SPEC, status: RESOURCE_STATUS },
    Names { source: "containerResource", spec: RESOURCE_SPEC, status: RESOURCE_STATUS },
    Names {
        source: "external",
        spec: &[
            ("metricName", "/metric/name"),
            ("metricSelector", "/metric/selector"),
            ("targetValue", "/target/value"),
            ("targetAverageValue", "/target/averageValue"),
        ],
        status: &[
            ("metricName", "/metric/name"),
            ("metricSelector", "/metric/selector"),
            ("currentValue", "/current/value"),
            ("currentAverageValue", "/current/averageValue"),
        ],
    },
];
/// `container` is there for metrics of one container only.
const RESOURCE_SPEC: &[(&str, &str)] = &[
    ("name", "/name"),
    ("container", "/container"),
    ("targetAverageUtilization", "/target/averageUtilization"),
    ("targetAverageValue", "/target/averageValue"),
];
const RESOURCE_STATUS: &[(&str, &str)] = &[
    ("name", "/name"),
    ("container", "/container"),
    ("currentAverageUtilization", "/current/averageUtilization"),
    ("currentAverageValue", "/current/averageValue"),
];
/// Amounts that v1 always has; where v2 has none they are 0.
const ALWAYS: &[(&str, &str)] = &[
    ("object", "targetValue"),
    ("object", "currentValue"),
    ("pods", "targetAverageValue"),
    ("pods", "currentAverageValue"),
    ("resource", "currentAverageValue"),
    ("containerResource", "currentAverageValue"),
    ("external", "currentValue"),
];

/// The conversion of autoscalers.
pub(super) struct Autoscalers;

impl Conversion for Autoscalers {
    fn convert<'a>(
        &'a self,
        mut objects: Vec<Value>,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Value>, ApiError>> {
        for object in objects.iter_mut().filter(|object| object["apiVersion"] != version) {
            *object = if version == V1 { to_v1(object.take()) } else { to_v2(object.take()) };
        }
        Box::pin(std::future::ready(Ok(objects)))
    }
}

fn list<'a>(tree: &'a Value, path: &str) -> &'a [Value] {
    tree.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

/// A metric that v1 has a field for.
fn cpu_utilization(metric: &Value) -> Option<&Value> {
    let utilization = &metric["resource"]["target"]["averageUtilization"];
    Some(utilization).filter(|value| is_cpu(metric) && !value.is_null())
}

pub(crate) fn to_v1(mut tree: Value) -> Value {
    let mut annotations = taken_annotations(&mut tree, |_| {});
    let metrics = list(&tree, "/spec/metrics");
    let cpu = metrics.iter().find_map(cpu_utilization).cloned();
    let others: Vec<Value> = metrics
        .iter()
        .filter(|one| cpu_utilization(one).is_none())
        .map(|one| metric_to_v1(one, true))
        .collect();
    let current = list(&tree, "/status/currentMetrics");
    let current_cpu = current.iter().filter(|one| is_cpu(one));
    let mut current_cpu = current_cpu.map(|one| &one["resource"]["current"]["averageUtilization"]);
    let current_cpu = current_cpu.rfind(|value| !value.is_null()).cloned();
    let current: Vec<Value> = current.iter().map(|one| metric_to_v1(one, false)).collect();
    let conditions = list(&tree, "/status/conditions").to_vec();
    let mut keep = |name: &str, value: Value| {
        annotations.insert(name.to_string(), Value::String(value.to_string()));
    };
    for (name, values) in [(METRICS, others), (CURRENT_METRICS, current), (CONDITIONS, conditions)] {
        if !values.is_empty() {
            keep(name, Value::Array(values));
        }
    }
    if let Some(behavior) = tree["spec"].get("behavior").filter(|value| !value.is_null()) {
        keep(BEHAVIOR, behavior_to_annotation(behavior));
    }
    replace(&mut tree["spec"], &["metrics", "behavior"], "targetCPUUtilizationPercentage", cpu);
    if tree["status"].is_object() {
        let old = ["currentMetrics", "conditions"];
        replace(&mut tree["status"], &old, "currentCPUUtilizationPercentage", current_cpu);
    }
    put_annotations(&mut tree, annotations);
    tree["apiVersion"] = json!(V1);
    tree
}

pub(crate) fn to_v2(mut tree: Value) -> Value {
    let mut found = Map::new();
    let annotations = taken_annotations(&mut tree, |own| found = own.clone());
    let read = |name: &str| -> Option<Value> { serde_json::from_str(found.get(name)?.as_str()?).ok() };
    let array = |name: &str| read(name).and_then(|value| value.as_array().cloned());
    let cpu = taken(tree.get_mut("spec"), "targetCPUUtilizationPercentage");
    let mut metrics: Vec<Value> =
        array(METRICS).into_iter().flatten().map(|one| metric_to_v2(&one, true)).collect();
    if let Some(percent) = cpu {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    tree["spec"]["metrics"] = Value::Array(metrics);
    if let Some(behavior) = read(BEHAVIOR).and_then(|value| behavior_from_annotation(&value)) {
        tree["spec"]["behavior"] = behavior;
    }
    let current_cpu = taken(tree.get_mut("status"), "currentCPUUtilizationPercentage");
    let current = match (array(CURRENT_METRICS), current_cpu) {
        (Some(current), _) => Some(current.iter().map(|one| metric_to_v2(one, false)).collect()),
        (None, Some(percent)) => Some(vec![json!({"type": "Resource",
            "resource": {"name": "cpu", "current": {"averageUtilization": percent}}})]),
        (None, None) => None,
    };
    for (field, values) in [("currentMetrics", current), ("conditions", array(CONDITIONS))] {
        if let Some(values) = values {
            if !tree["status"].is_object() {
                tree["status"] = json!({});
            }
            tree["status"][field] = Value::Array(values);
        }
    }
    put_annotations(&mut tree, annotations);
    tree["apiVersion"] = json!(HORIZONTAL_POD_AUTOSCALER.api_version());
    // A v1 object has been given v1's defaults only.
    api::schema::apply_defaults(&HORIZONTAL_POD_AUTOSCALER, &mut tree);
    tree
}

/// A copy of the annotations without those of the conversion, which `look` sees.
fn taken_annotations(tree: &mut Value, look: impl FnOnce(&Map<String, Value>)) -> Map<String, Value> {
    let own = tree["metadata"].get("annotations").and_then(Value::as_object).cloned();
    let mut annotations = own.unwrap_or_default();
    look(&annotations);
    annotations.retain(|name, _| !ANNOTATIONS.contains(&name.as_str()));
    annotations
}

fn put_annotations(tree: &mut Value, annotations: Map<String, Value>) {
    let Some(metadata) = tree["metadata"].as_object_mut() else { return };
    if annotations.is_empty() {
        metadata.remove("annotations");
    } else {
        metadata.insert("annotations".into(), Value::Object(annotations));
    }
}

fn taken(part: Option<&mut Value>, field: &str) -> Option<Value> {
    part?.as_object_mut()?.remove(field).filter(|value| !value.is_null())
}

/// Takes fields out of a part and puts one in, if there is a value for it.
fn replace(part: &mut Value, old: &[&str], field: &str, value: Option<Value>) {
    let Some(members) = part.as_object_mut() else { return };
    old.iter().for_each(|field| drop(members.remove(*field)));
    if let Some(value) = value {
        members.insert(field.into(), value);
    }
}

fn names(names: &Names, of_spec: bool) -> &'static [(&'static str, &'static str)] {
    if of_spec { names.spec } else { names.status }
}

fn metric_to_v1(metric: &Value, of_spec: bool) -> Value {
    let mut result = json!({"type": metric["type"]});
    for own in NAMES {
        let Some(source) = metric.get(own.source).filter(|source| !source.is_null()) else { continue };
        let mut converted = Map::new();
        for (field, path) in names(own, of_spec) {
            match source.pointer(path).filter(|value| !value.is_null()) {
                Some(value) => drop(converted.insert((*field).into(), value.clone())),
                None if ALWAYS.contains(&(own.source, *field)) => {
                    converted.insert((*field).into(), json!("0"));
                }
                None => {}
            }
        }
        result[own.source] = Value::Object(converted);
    }
    result
}

fn metric_to_v2(metric: &Value, of_spec: bool) -> Value {
    let mut result = json!({"type": metric["type"]});
    for own in NAMES {
        let Some(source) = metric.get(own.source).filter(|source| source.is_object()) else { continue };
        let mut converted = json!({});
        for (field, path) in names(own, of_spec) {
            let Some(value) = source.get(*field).filter(|value| !value.is_null()) else { continue };
            // v1 cannot leave out the other value of a target by average.
            let by_average = of_spec && own.source == "object" && !source["averageValue"].is_null();
            if by_average && *field == "targetValue" && is_zero(value) {
                continue;
            }
            put(&mut converted, path, value.clone());
        }
        if of_spec {
            put(&mut converted, "/target/type", json!(target_type(own.source, source)));
        } else if converted.get("current").is_none() {
            converted["current"] = json!({});
        }
        result[own.source] = converted;
    }
    result
}

/// What kind of target it is; v1 leaves that to the value that is given.
fn target_type(source: &str, metric: &Value) -> &'static str {
    let has = |field: &str| !metric[field].is_null();
    match source {
        "object" if !has("averageValue") => "Value",
        "external" if has("targetValue") => "Value",
        "resource" | "containerResource" if has("targetAverageUtilization") => "Utilization",
        _ => "AverageValue",
    }
}

fn is_zero(quantity: &Value) -> bool {
    let parsed = quantity.as_str().and_then(|text| text.parse::<api::quantity::Quantity>().ok());
    parsed == Some(api::quantity::Quantity::ZERO)
}

/// Sets the value at a path of two steps or one, making what is on the way.
fn put(tree: &mut Value, path: &str, value: Value) {
    let mut at = tree;
    for step in path.split('/').skip(1) {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[step];
    }
    *at = value;
}

const RULES: &[(&str, &str)] = &[
    ("StabilizationWindowSeconds", "stabilizationWindowSeconds"),
    ("SelectPolicy", "selectPolicy"),
    ("Policies", "policies"),
    ("Tolerance", "tolerance"),
];
const POLICY: &[(&str, &str)] = &[("Type", "type"), ("Value", "value"), ("PeriodSeconds", "periodSeconds")];
const DIRECTIONS: &[(&str, &str)] = &[("ScaleUp", "scaleUp"), ("ScaleDown", "scaleDown")];

/// The behaviour with the names of upstream's own type, nothing left out.
fn behavior_to_annotation(behavior: &Value) -> Value {
    renamed(behavior, DIRECTIONS, |_, rules| {
        if rules.is_null() {
            return Value::Null;
        }
        renamed(rules, RULES, |field, value| match value.as_array() {
            Some(policies) if field == "Policies" => {
                policies.iter().map(|policy| renamed(policy, POLICY, |_, value| value.clone())).collect()
            }
            _ => value.clone(),
        })
    })
}

fn renamed(tree: &Value, names: &[(&str, &str)], change: impl Fn(&str, &Value) -> Value) -> Value {
    let member =
        |(internal, external): &(&str, &str)| ((*internal).to_string(), change(internal, &tree[*external]));
    Value::Object(names.iter().map(member).collect())
}

/// Reads names in any case, as Go does.
fn behavior_from_annotation(annotation: &Value) -> Option<Value> {
    let behavior = restored(annotation, DIRECTIONS, |_, rules| {
        restored(&rules, RULES, |field, value| match value {
            Value::Array(policies) if field == "policies" => {
                policies.into_iter().map(|policy| restored(&policy, POLICY, |_, value| value)).collect()
            }
            value => value,
        })
    });
    Some(behavior).filter(|behavior| behavior.as_object().is_some_and(|members| !members.is_empty()))
}

fn restored(tree: &Value, names: &[(&str, &str)], change: impl Fn(&str, Value) -> Value) -> Value {
    let mut members = Map::new();
    for (key, value) in tree.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        if let Some((_, external)) = names.iter().find(|(internal, _)| internal.eq_ignore_ascii_case(key)) {
            members.insert((*external).into(), change(external, value.clone()));
        }
    }
    Value::Object(members)
}
