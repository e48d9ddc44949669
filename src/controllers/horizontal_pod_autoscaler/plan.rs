//! What a round comes to: one metric at a time, then all of them. Pure.
//!
//! Of several metrics the one that asks for most replicas counts. One that cannot be had keeps the target
//! from shrinking, as it might be the one that asks for most.

use api::quantity::Quantity;
use api::resources::{MEMORY, milli};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, ContainerResourceMetricStatus, ExternalMetricSource, ExternalMetricStatus,
    HPAScalingRules, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec, MetricIdentifier,
    MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricSource, ObjectMetricStatus,
    PodsMetricSource, PodsMetricStatus, ResourceMetricSource, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource as wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::jiff::Timestamp;

use super::metrics::MetricsError;
use super::replicas::{CalculationError, PodMetrics, Sizing, Tolerances, Wanted};

pub(super) const ABLE: &str = "AbleToScale";
pub(super) const ACTIVE: &str = "ScalingActive";
pub(super) const LIMITED: &str = "ScalingLimited";

/// What a round does, before anything is measured.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Somebody has set the target to no replicas.
    Disabled,
    /// The target is out of bounds.
    Rescale { replicas: i32, why: &'static str },
    /// Metrics decide.
    Measure,
}

/// The least number of replicas.
pub(super) fn least(spec: &HorizontalPodAutoscalerSpec) -> i32 {
    spec.min_replicas.unwrap_or(1)
}

pub(super) fn course(spec: &HorizontalPodAutoscalerSpec, current: i32) -> Course {
    match current {
        0 => Course::Disabled,
        more if more > spec.max_replicas => Course::Rescale {
            replicas: spec.max_replicas,
            why: "Current number of replicas above Spec.MaxReplicas",
        },
        less if less < least(spec) => Course::Rescale {
            replicas: least(spec),
            why: "Current number of replicas below Spec.MinReplicas",
        },
        _ => Course::Measure,
    }
}

/// The tolerances of an autoscaler, where it does not name them the usual one.
pub(super) fn tolerances(spec: &HorizontalPodAutoscalerSpec, usual: f64) -> Tolerances {
    let rules = spec.behavior.as_ref();
    let of = |rules: Option<&HPAScalingRules>| {
        let tolerance = rules.and_then(|rules| rules.tolerance.as_ref());
        tolerance.and_then(|text| text.0.parse::<Quantity>().ok()).map_or(usual, |quantity| quantity.as_f64())
    };
    Tolerances {
        down: of(rules.and_then(|rules| rules.scale_down.as_ref())),
        up: of(rules.and_then(|rules| rules.scale_up.as_ref())),
    }
}

/// What was read for a metric.
#[derive(Clone, Debug)]
pub(super) enum Reading {
    OfPods(PodMetrics),
    /// In thousandths.
    Value(i64),
}

/// What a metric asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// What is measured, as the reason for a new size names it.
    pub(super) metric: String,
    pub(super) status: MetricStatus,
}

/// Why a metric asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: &'static str,
    /// As its event has it.
    pub(super) told: String,
    /// As the failure of the round has it.
    pub(super) within: String,
}

/// A text that has been put together of what failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("unable to get metrics for resource {name}: {source}")]
    Resource { name: String, source: MetricsError },
    #[error("unable to get metric {name}: {source}")]
    Metric { name: String, source: MetricsError },
    #[error("unable to get metric {name}: {source} on {object}")]
    ObjectMetric { name: String, source: MetricsError, object: String },
    #[error("unable to get external metric {metric}: {source}")]
    External { metric: String, source: MetricsError },
    #[error("failed to get {name} {what}: {source}")]
    Used { name: String, what: &'static str, source: Box<Trouble> },
    #[error(transparent)]
    Calculation(#[from] CalculationError),
    #[error("invalid {0} metric source: neither {1} target nor {2} target was set")]
    NoTarget(&'static str, &'static str, &'static str),
    #[error("unknown metric source type {0:?}")]
    UnknownType(String),
}

/// What one metric asks for, given what was read for it.
pub(super) fn propose(
    spec: &MetricSpec,
    namespace: &str,
    reading: Result<Reading, MetricsError>,
    sizing: &Sizing<'_>,
) -> Result<Proposal, Failure> {
    let base = MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() };
    if let Some(source) = &spec.resource {
        of_resource(base, source, reading, sizing)
    } else if let Some(source) = &spec.container_resource {
        of_container(base, source, reading, sizing)
    } else if let Some(source) = &spec.pods {
        of_pods(base, source, reading, sizing)
    } else if let Some(source) = &spec.object {
        of_object(base, source, namespace, reading, sizing)
    } else if let Some(source) = &spec.external {
        of_external(base, source, namespace, reading, sizing)
    } else {
        let told = Trouble::UnknownType(spec.type_.clone()).to_string();
        Err(Failure { reason: "InvalidMetricSourceType", within: told.clone(), told })
    }
}

fn of_resource(
    base: MetricStatus,
    source: &ResourceMetricSource,
    reading: Result<Reading, MetricsError>,
    sizing: &Sizing<'_>,
) -> Result<Proposal, Failure> {
    let name = &source.name;
    let wanted = used(name, None, &source.target, reading, sizing).map_err(|trouble| {
        let within = format!("failed to get {name} resource metric value: {trouble}");
        Failure { reason: "FailedGetResourceMetric", told: trouble.to_string(), within }
    })?;
    let metric = match wanted.utilization {
        Some(_) => format!("{name} resource utilization (percentage of request)"),
        None => format!("{name} resource"),
    };
    let status = ResourceMetricStatus { name: name.clone(), current: current(name, wanted) };
    let status = MetricStatus { resource: Some(status), ..base };
    Ok(Proposal { replicas: wanted.replicas, metric, status })
}

fn of_container(
    base: MetricStatus,
    source: &ContainerResourceMetricSource,
    reading: Result<Reading, MetricsError>,
    sizing: &Sizing<'_>,
) -> Result<Proposal, Failure> {
    let (name, container) = (&source.name, &source.container);
    let wanted = used(name, Some(container), &source.target, reading, sizing).map_err(|trouble| {
        let within = format!("failed to get {container} container metric value: {trouble}");
        Failure { reason: "FailedGetContainerResourceMetric", told: trouble.to_string(), within }
    })?;
    let metric = match wanted.utilization {
        Some(_) => format!("{name} container resource utilization (percentage of request)"),
        None => format!("{name} resource"),
    };
    let status = ContainerResourceMetricStatus {
        name: name.clone(),
        container: container.clone(),
        current: current(name, wanted),
    };
    let status = MetricStatus { container_resource: Some(status), ..base };
    Ok(Proposal { replicas: wanted.replicas, metric, status })
}

/// A resource of pods or of one of their containers.
fn used(
    name: &str,
    container: Option<&str>,
    target: &MetricTarget,
    reading: Result<Reading, MetricsError>,
    sizing: &Sizing<'_>,
) -> Result<Wanted, Trouble> {
    let metrics = reading.map(Reading::into_pods);
    let metrics = metrics.map_err(|source| Trouble::Resource { name: name.to_string(), source });
    let failed = |what, trouble| Trouble::Used { name: name.to_string(), what, source: Box::new(trouble) };
    match (&target.average_value, target.average_utilization) {
        (Some(value), _) => {
            let wanted = metrics.and_then(|all| Ok(sizing.by_average(all, Some(name), milli(value))?));
            wanted.map_err(|trouble| failed("usage", trouble))
        }
        (None, Some(percent)) => {
            let wanted = metrics.and_then(|all| Ok(sizing.by_utilization(all, name, container, percent)?));
            wanted.map_err(|trouble| failed("utilization", trouble))
        }
        (None, None) => {
            let (one, other) = ("an average utilization", "an average value (usage)");
            Err(Trouble::NoTarget("resource", one, other))
        }
    }
}

fn of_pods(
    base: MetricStatus,
    source: &PodsMetricSource,
    reading: Result<Reading, MetricsError>,
    sizing: &Sizing<'_>,
) -> Result<Proposal, Failure> {
    let name = &source.metric.name;
    let target = source.target.average_value.as_ref().map_or(0, milli);
    let metrics = reading.map(Reading::into_pods);
    let metrics = metrics.map_err(|source| Trouble::Metric { name: name.clone(), source });
    let wanted = metrics.and_then(|metrics| Ok(sizing.by_average(metrics, None, target)?));
    let wanted = wanted.map_err(|error| {
        let within = format!("failed to get pods metric value: {error}");
        Failure { reason: "FailedGetPodsMetric", told: error.to_string(), within }
    })?;
    let status = PodsMetricStatus { metric: source.metric.clone(), current: averaged(wanted.usage) };
    let status = MetricStatus { pods: Some(status), ..base };
    Ok(Proposal { replicas: wanted.replicas, metric: format!("pods metric {name}"), status })
}

fn of_object(
    base: MetricStatus,
    source: &ObjectMetricSource,
    namespace: &str,
    reading: Result<Reading, MetricsError>,
    sizing: &Sizing<'_>,
) -> Result<Proposal, Failure> {
    let (name, object) = (&source.metric.name, &source.described_object);
    let failure = |error: Trouble, prefix: &str| {
        let within = format!("failed to get object metric value: {prefix}{error}");
        Failure { reason: "FailedGetObjectMetric", told: error.to_string(), within }
    };
    let value = reading.map(Reading::into_value).map_err(|source| Trouble::ObjectMetric {
        name: name.clone(),
        source,
        object: format!("{} {namespace}/{}", object.kind, object.name),
    });
    let target = &source.target;
    let (wanted, current, metric) = match (&*target.type_, &target.value, &target.average_value) {
        ("Value", Some(target), _) => {
            let wanted = value.and_then(|value| Ok(sizing.by_value(value, milli(target))?));
            let wanted = wanted.map_err(|error| failure(error, ""))?;
            (wanted, valued(wanted.usage), format!("{} metric {name}", object.kind))
        }
        ("AverageValue", _, Some(target)) => {
            let prefix = format!("failed to get {name} object metric: ");
            let value = value.map_err(|error| failure(error, &prefix))?;
            let wanted = sizing.by_value_per_pod(value, milli(target));
            (wanted, averaged(wanted.usage), external_name(&source.metric))
        }
        _ => return Err(failure(Trouble::NoTarget("object", "a value", "an average value"), "")),
    };
    let status =
        ObjectMetricStatus { described_object: object.clone(), metric: source.metric.clone(), current };
    let status = MetricStatus { object: Some(status), ..base };
    Ok(Proposal { replicas: wanted.replicas, metric, status })
}

fn of_external(
    base: MetricStatus,
    source: &ExternalMetricSource,
    namespace: &str,
    reading: Result<Reading, MetricsError>,
    sizing: &Sizing<'_>,
) -> Result<Proposal, Failure> {
    let name = &source.metric.name;
    let failure = |error: Trouble, prefix: &str| {
        let within = format!("failed to get {name} external metric value: {prefix}{error}");
        Failure { reason: "FailedGetExternalMetric", told: error.to_string(), within }
    };
    let value = reading.map(Reading::into_value).map_err(|error| Trouble::External {
        metric: format!("{namespace}/{name}/{}", shown_selector(source.metric.selector.as_ref())),
        source: error,
    });
    let (wanted, current) = match (&source.target.average_value, &source.target.value) {
        (Some(target), _) => {
            let prefix = format!("failed to get {name} external metric: ");
            let value = value.map_err(|error| failure(error, &prefix))?;
            let wanted = sizing.by_value_per_pod(value, milli(target));
            (wanted, averaged(wanted.usage))
        }
        (None, Some(target)) => {
            let prefix = format!("failed to get external metric {name}: ");
            let wanted = value.and_then(|value| Ok(sizing.by_value(value, milli(target))?));
            let wanted = wanted.map_err(|error| failure(error, &prefix))?;
            (wanted, valued(wanted.usage))
        }
        (None, None) => {
            return Err(failure(Trouble::NoTarget("external", "a value", "an average value"), ""));
        }
    };
    let status = ExternalMetricStatus { metric: source.metric.clone(), current };
    let status = MetricStatus { external: Some(status), ..base };
    Ok(Proposal { replicas: wanted.replicas, metric: external_name(&source.metric), status })
}

impl Reading {
    fn into_pods(self) -> PodMetrics {
        match self {
            Reading::OfPods(metrics) => metrics,
            Reading::Value(_) => PodMetrics::new(),
        }
    }

    fn into_value(self) -> i64 {
        match self {
            Reading::OfPods(_) => 0,
            Reading::Value(value) => value,
        }
    }
}

fn current(resource: &str, wanted: Wanted) -> MetricValueStatus {
    // As what measures it has it.
    let amount = match wanted.usage % 1000 {
        0 if resource == MEMORY => Quantity::bytes(wanted.usage / 1000),
        _ => Quantity::from_milli(wanted.usage),
    };
    MetricValueStatus {
        average_utilization: wanted.utilization,
        average_value: Some(wire::Quantity(amount.to_string())),
        value: None,
    }
}

fn averaged(usage: i64) -> MetricValueStatus {
    let value = wire::Quantity(Quantity::from_milli(usage).to_string());
    MetricValueStatus { average_value: Some(value), ..MetricValueStatus::default() }
}

fn valued(usage: i64) -> MetricValueStatus {
    let value = wire::Quantity(Quantity::from_milli(usage).to_string());
    MetricValueStatus { value: Some(value), ..MetricValueStatus::default() }
}

fn external_name(metric: &MetricIdentifier) -> String {
    format!("external metric {}({})", metric.name, shown_selector(metric.selector.as_ref()))
}

/// A selector as Go prints one.
fn shown_selector(selector: Option<&meta::LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_string() };
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},"));
    let expressions = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.as_deref().unwrap_or(&[]).join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", one.key, one.operator)
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        expressions.collect::<String>()
    )
}

/// What all metrics together ask for.
#[derive(Debug, PartialEq)]
pub(super) struct Combined {
    /// The largest of all, and the metric that asks for it; none if they decide nothing.
    pub(super) wanted: Option<(i32, String)>,
    /// One for each metric, empty for those that failed.
    pub(super) statuses: Vec<MetricStatus>,
    /// Of the first metric that failed, its text that of all.
    pub(super) failure: Option<Failure>,
}

pub(super) fn combine(proposals: Vec<Result<Proposal, Failure>>, spec_replicas: i32) -> Combined {
    let all = proposals.len();
    let (mut failed, mut failure): (usize, Option<Failure>) = (0, None);
    let mut wanted: Option<(i32, String)> = None;
    let mut statuses = Vec::with_capacity(all);
    for proposal in proposals {
        match proposal {
            Ok(proposal) => {
                if wanted.as_ref().is_none_or(|(most, _)| *most == 0 || proposal.replicas > *most) {
                    wanted = Some((proposal.replicas, proposal.metric));
                }
                statuses.push(proposal.status);
            }
            Err(one) => {
                failed += 1;
                failure.get_or_insert(one);
                statuses.push(MetricStatus::default());
            }
        }
    }
    let failure = failure.map(|first| Failure {
        within: format!("invalid metrics ({failed} invalid out of {all}), first error is: {}", first.within),
        ..first
    });
    let shrinks = wanted.as_ref().is_none_or(|(most, _)| *most < spec_replicas);
    if failed >= all || (failed > 0 && shrinks) {
        wanted = None;
    }
    Combined { wanted, statuses, failure }
}

/// Sets a condition; its time moves only when its status does.
pub(super) fn set_condition(
    conditions: &mut Vec<HorizontalPodAutoscalerCondition>,
    kind: &str,
    status: bool,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) {
    let status = if status { "True" } else { "False" };
    let at = conditions.iter().position(|one| one.type_ == kind).unwrap_or_else(|| {
        conditions.push(HorizontalPodAutoscalerCondition {
            type_: kind.to_string(),
            ..HorizontalPodAutoscalerCondition::default()
        });
        conditions.len() - 1
    });
    let condition = &mut conditions[at];
    if condition.status != status {
        condition.last_transition_time = Some(api::time::seconds(now));
        condition.status = status.to_string();
    }
    condition.reason = Some(reason.to_string());
    condition.message = Some(message.into());
}

/// The reason for a new size that metrics ask for.
pub(super) fn why(wanted: i32, current: i32, metric: &str) -> String {
    match wanted {
        more if more > current => format!("{metric} above target"),
        less if less < current => "All metrics below target".to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
