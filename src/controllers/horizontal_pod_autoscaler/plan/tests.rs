//! What a round comes to, with upstream's texts.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::super::Settings;
use super::super::replicas::PodMetric;
use super::*;

fn now() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

fn metric(tree: Value) -> MetricSpec {
    serde_json::from_value(tree).unwrap()
}

fn pods(count: usize) -> Vec<Arc<Pod>> {
    let requests = json!({"requests": {"cpu": "1", "memory": "1Mi"}});
    let pod = |index: usize| {
        let tree = json!({
            "metadata": {"name": format!("p-{index}")},
            "spec": {"containers": [{"name": "a", "resources": requests}]},
            "status": {"phase": "Running", "startTime": "2026-11-28T08:00:00Z", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-28T08:00:00Z"}]},
        });
        Arc::new(serde_json::from_value(tree).unwrap())
    };
    (0..count).map(pod).collect()
}

fn each(values: &[i64]) -> Result<Reading, MetricsError> {
    let window = std::time::Duration::from_secs(30);
    let named = values
        .iter()
        .enumerate()
        .map(|(index, value)| (format!("p-{index}"), PodMetric { at: now(), window, value: *value }));
    Ok(Reading::OfPods(named.collect()))
}

fn proposed(
    spec: Value,
    replicas: usize,
    reading: Result<Reading, MetricsError>,
) -> Result<Proposal, Failure> {
    let (pods, settings) = (pods(replicas), Settings::default());
    let current = i32::try_from(replicas).unwrap();
    let sizing = Sizing {
        pods: &pods,
        spec_replicas: current,
        status_replicas: current,
        tolerances: Tolerances { down: 0.1, up: 0.1 },
        settings: &settings,
        now: now(),
    };
    propose(&metric(spec), "ns", reading, &sizing)
}

fn status(proposal: &Proposal) -> Value {
    serde_json::to_value(&proposal.status).unwrap()
}

fn resource(name: &str, target: Value) -> Value {
    json!({"type": "Resource", "resource": {"name": name, "target": target}})
}

#[test]
fn resources_are_told_as_they_are_measured() {
    let half = json!({"type": "Utilization", "averageUtilization": 50});
    let proposal = proposed(resource("cpu", half.clone()), 2, each(&[900, 800])).unwrap();
    assert_eq!(proposal.replicas, 4);
    assert_eq!(proposal.metric, "cpu resource utilization (percentage of request)");
    let current = json!({"averageUtilization": 85, "averageValue": "850m"});
    assert_eq!(
        status(&proposal),
        json!({"type": "Resource", "resource": {"name": "cpu", "current": current}})
    );

    let target = json!({"type": "AverageValue", "averageValue": "1Mi"});
    let proposal = proposed(resource("memory", target), 2, each(&[3_145_728_000, 1_048_576_000])).unwrap();
    assert_eq!((proposal.replicas, &*proposal.metric), (4, "memory resource"));
    assert_eq!(status(&proposal)["resource"]["current"], json!({"averageValue": "2Mi"}));

    let spec = json!({"type": "ContainerResource",
        "containerResource": {"name": "cpu", "container": "a", "target": half}});
    let proposal = proposed(spec, 1, each(&[500])).unwrap();
    assert_eq!(proposal.replicas, 1);
    assert_eq!(proposal.metric, "cpu container resource utilization (percentage of request)");
    assert_eq!(status(&proposal)["containerResource"]["container"], "a");
}

#[test]
fn other_metrics_are_told_by_their_names() {
    let spec = json!({"type": "Pods", "pods": {"metric": {"name": "hits"},
        "target": {"type": "AverageValue", "averageValue": "10"}}});
    let proposal = proposed(spec, 2, each(&[20_000, 30_000])).unwrap();
    assert_eq!((proposal.replicas, &*proposal.metric), (5, "pods metric hits"));
    assert_eq!(status(&proposal)["pods"]["current"], json!({"averageValue": "25"}));

    let object = |target: Value| {
        json!({"type": "Object", "object": {"metric": {"name": "rps"}, "target": target,
            "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"}}})
    };
    let value = object(json!({"type": "Value", "value": "5"}));
    let proposal = proposed(value, 2, Ok(Reading::Value(10_000))).unwrap();
    assert_eq!((proposal.replicas, &*proposal.metric), (4, "Ingress metric rps"));
    assert_eq!(status(&proposal)["object"]["current"], json!({"value": "10"}));
    let average = object(json!({"type": "AverageValue", "averageValue": "2"}));
    let proposal = proposed(average, 2, Ok(Reading::Value(10_000))).unwrap();
    assert_eq!((proposal.replicas, &*proposal.metric), (5, "external metric rps(nil)"));
    assert_eq!(status(&proposal)["object"]["current"], json!({"averageValue": "5"}));

    let external = |target: Value| {
        json!({"type": "External", "external": {"target": target, "metric": {"name": "queue",
            "selector": {"matchLabels": {"app": "a"}, "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["x", "y"]}]}}}})
    };
    let average = external(json!({"type": "AverageValue", "averageValue": "100m"}));
    let proposal = proposed(average, 1, Ok(Reading::Value(250))).unwrap();
    assert_eq!(proposal.replicas, 3);
    assert_eq!(
        proposal.metric,
        "external metric queue(&LabelSelector{MatchLabels:map[string]string{app: a,},MatchExpressions:\
         []LabelSelectorRequirement{LabelSelectorRequirement{Key:tier,Operator:In,Values:[x y],},},})"
    );
    let value = external(json!({"type": "Value", "value": "100m"}));
    let proposal = proposed(value, 1, Ok(Reading::Value(250))).unwrap();
    assert_eq!(proposal.replicas, 3);
    assert_eq!(status(&proposal)["external"]["current"], json!({"value": "250m"}));
}

#[test]
fn failures_have_upstreams_words() {
    let half = json!({"type": "Utilization", "averageUtilization": 50});
    let failure = proposed(resource("cpu", half), 1, Err(MetricsError::Empty("resource"))).unwrap_err();
    assert_eq!(failure.reason, "FailedGetResourceMetric");
    let told = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from \
                resource metrics API";
    assert_eq!(failure.told, told);
    assert_eq!(failure.within, format!("failed to get cpu resource metric value: {told}"));

    let failure = proposed(resource("cpu", json!({"type": "Utilization"})), 1, each(&[1])).unwrap_err();
    assert_eq!(
        failure.told,
        "invalid resource metric source: neither an average utilization target nor an average value (usage) \
         target was set"
    );
    let spec = json!({"type": "Pods", "pods": {"metric": {"name": "hits"},
        "target": {"type": "AverageValue", "averageValue": "10"}}});
    let failure = proposed(spec, 1, Err(MetricsError::NoCustom)).unwrap_err();
    assert_eq!(failure.reason, "FailedGetPodsMetric");
    assert_eq!(
        failure.told,
        "unable to get metric hits: unable to fetch metrics from custom metrics API: no custom metrics API \
         (custom.metrics.k8s.io) registered"
    );
    let spec = json!({"type": "Object", "object": {"metric": {"name": "rps"},
        "target": {"type": "AverageValue", "averageValue": "2"},
        "describedObject": {"kind": "Service", "name": "main"}}});
    let failure = proposed(spec, 1, Err(MetricsError::NotOne(2))).unwrap_err();
    assert_eq!(failure.reason, "FailedGetObjectMetric");
    assert!(failure.told.ends_with("when we asked for exactly one on Service ns/main"), "{}", failure.told);
    let start =
        "failed to get object metric value: failed to get rps object metric: unable to get metric rps: ";
    assert!(failure.within.starts_with(start), "{}", failure.within);
    let spec = json!({"type": "External", "external": {"metric": {"name": "queue"},
        "target": {"type": "Value", "value": "1"}}});
    let failure = proposed(spec, 1, Err(MetricsError::Empty("external"))).unwrap_err();
    assert_eq!(failure.reason, "FailedGetExternalMetric");
    let told = "unable to get external metric ns/queue/nil: no metrics returned from external metrics API";
    assert_eq!(failure.told, told);
    let within =
        format!("failed to get queue external metric value: failed to get external metric queue: {told}");
    assert_eq!(failure.within, within);
    let failure = proposed(json!({"type": "Odd"}), 1, each(&[])).unwrap_err();
    assert_eq!(
        (failure.reason, &*failure.told),
        ("InvalidMetricSourceType", r#"unknown metric source type "Odd""#)
    );
}

fn asks_for(replicas: i32) -> Result<Proposal, Failure> {
    let status = MetricStatus { type_: "Pods".into(), ..MetricStatus::default() };
    Ok(Proposal { replicas, metric: format!("m{replicas}"), status })
}

fn fails(text: &str) -> Result<Proposal, Failure> {
    Err(Failure { reason: "FailedGetPodsMetric", told: text.into(), within: format!("outer {text}") })
}

#[test]
fn the_largest_demand_counts() {
    let combined = combine(vec![asks_for(3), asks_for(5), asks_for(4)], 4);
    assert_eq!(combined.wanted, Some((5, "m5".to_string())));
    assert_eq!((combined.statuses.len(), combined.failure), (3, None));
}

#[test]
fn a_metric_that_fails_keeps_a_target_from_shrinking() {
    let combined = combine(vec![asks_for(3), fails("one"), fails("two")], 4);
    assert_eq!(combined.wanted, None);
    let failure = combined.failure.unwrap();
    assert_eq!(failure.within, "invalid metrics (2 invalid out of 3), first error is: outer one");
    let types: Vec<_> = combined.statuses.iter().map(|status| &*status.type_).collect();
    assert_eq!(types, ["Pods", "", ""]);
    let combined = combine(vec![fails("one"), asks_for(5)], 4);
    assert_eq!(combined.wanted, Some((5, "m5".to_string())), "it may grow");
    assert_eq!(combine(vec![fails("one")], 4).wanted, None);
}

#[test]
fn targets_out_of_bounds_are_brought_within() {
    let spec = |min: Option<i32>, max: i32| HorizontalPodAutoscalerSpec {
        min_replicas: min,
        max_replicas: max,
        ..HorizontalPodAutoscalerSpec::default()
    };
    assert_eq!(course(&spec(Some(2), 5), 0), Course::Disabled);
    assert_eq!(course(&spec(Some(2), 5), 3), Course::Measure);
    let rescale = |replicas, why| Course::Rescale { replicas, why };
    assert_eq!(course(&spec(None, 5), 6), rescale(5, "Current number of replicas above Spec.MaxReplicas"));
    assert_eq!(course(&spec(Some(2), 5), 1), rescale(2, "Current number of replicas below Spec.MinReplicas"));
    assert_eq!(why(5, 3, "cpu resource"), "cpu resource above target");
    assert_eq!(why(2, 3, "cpu resource"), "All metrics below target");
}

#[test]
fn each_direction_may_have_its_tolerance() {
    let spec = |behavior: Value| -> HorizontalPodAutoscalerSpec {
        serde_json::from_value(json!({"maxReplicas": 3, "behavior": behavior,
            "scaleTargetRef": {"kind": "Deployment", "name": "web"}}))
        .unwrap()
    };
    let both = |behavior: Value| {
        let tolerances = tolerances(&spec(behavior), 0.1);
        (tolerances.down, tolerances.up)
    };
    assert_eq!(both(Value::Null), (0.1, 0.1));
    assert_eq!(both(json!({"scaleUp": {"tolerance": "50m"}})), (0.1, 0.05));
    assert_eq!(both(json!({"scaleUp": {"tolerance": "0"}, "scaleDown": {"tolerance": "0.4"}})), (0.4, 0.0));
}

#[test]
fn conditions_keep_their_time_while_their_status_is_the_same() {
    let mut conditions = Vec::new();
    set_condition(&mut conditions, ABLE, true, "SucceededGetScale", "a", now());
    let later = api::time::plus_seconds(now(), 60);
    set_condition(&mut conditions, LIMITED, false, "DesiredWithinRange", "b", later);
    set_condition(&mut conditions, ABLE, true, "ReadyForNewScale", "c", later);
    let first = &conditions[0];
    assert_eq!((&*first.type_, first.reason.as_deref()), (ABLE, Some("ReadyForNewScale")));
    assert_eq!(first.last_transition_time, Some(api::time::seconds(now())));
    set_condition(&mut conditions, ABLE, false, "FailedGetScale", "d", later);
    assert_eq!(conditions[0].last_transition_time, Some(api::time::seconds(later)));
    assert_eq!(conditions.len(), 2);
}
