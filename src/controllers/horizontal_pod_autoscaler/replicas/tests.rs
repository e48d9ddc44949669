//! Upstream's published cases as data (`cases.jsonl`), and what they leave out.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

/// Half of what the cluster's settings are, as the cases have it.
fn settings() -> Settings {
    Settings {
        cpu_initialization_period: Duration::from_secs(120),
        initial_readiness_delay: Duration::from_secs(10),
        ..Settings::default()
    }
}

fn now() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

fn pod(tree: Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(tree).unwrap())
}

/// The pod of a case with this number.
fn pod_of(case: &Value, index: usize) -> Arc<Pod> {
    let of = |field: &str, otherwise: &str| case[field][index].as_str().unwrap_or(otherwise).to_string();
    let started = match &*of("started", "never") {
        "hot" => now(),
        "cool" => now() - SignedDuration::from_secs(180),
        _ => Timestamp::from_second(0).unwrap(),
    };
    let request = case["requests"][index].as_str();
    let container = |name: &str| match request {
        Some(request) => {
            let resource = case["resource"].as_str().unwrap();
            json!({"name": name, "resources": {"requests": {resource: request}}})
        }
        None => json!({"name": name}),
    };
    let mut tree = json!({
        "metadata": {"name": format!("test-pod-{index}")},
        "spec": {"containers": [container("container1"), container("container2")]},
        "status": {
            "phase": of("phase", "Running"), "startTime": started,
            "conditions": [{"type": "Ready", "status": of("ready", "True")}],
        },
    });
    if case["deleted"][index] == true {
        tree["metadata"]["deletionTimestamp"] = json!(now());
    }
    pod(tree)
}

/// What was measured of the pods of a case, long ago.
fn metrics_of(case: &Value) -> PodMetrics {
    let levels = case["levels"].as_array().unwrap().iter().enumerate();
    let value = |level: &Value| match (level, case["container"].as_str()) {
        (Value::Array(levels), Some(container)) => {
            levels.get(if container == "container1" { 0 } else { 1 })?.as_i64()
        }
        (Value::Array(levels), None) if levels.len() == 2 => levels.iter().map(Value::as_i64).sum(),
        (Value::Array(_), None) => None,
        (level, _) => level.as_i64(),
    };
    let named = levels.filter_map(|(index, level)| {
        let name = case["names"][index].as_str().map_or(format!("test-pod-{index}"), str::to_string);
        let (at, window) = (Timestamp::MIN, Duration::from_secs(60));
        Some((name, PodMetric { at, window, value: value(level)? }))
    });
    named.collect()
}

fn calculated(case: &Value) -> Result<Wanted, CalculationError> {
    let current = i32::try_from(case["current"].as_i64().unwrap()).unwrap();
    let count = case["phase"].as_array().map_or(0, Vec::len).max(usize::try_from(current).unwrap());
    let pods: Vec<Arc<Pod>> = (0..count).map(|index| pod_of(case, index)).collect();
    let settings = settings();
    let tolerance = |index: usize| case["tolerances"][index].as_f64().unwrap_or(0.1);
    let sizing = Sizing {
        pods: &pods,
        spec_replicas: current,
        status_replicas: current,
        tolerances: Tolerances { down: tolerance(0), up: tolerance(1) },
        settings: &settings,
        now: now(),
    };
    let target = case["target"].as_i64().unwrap();
    let total = || {
        let levels = case["levels"].as_array().unwrap().iter().map(|level| level.as_i64().unwrap());
        levels.fold(0_i64, i64::saturating_add)
    };
    match case["type"].as_str().unwrap() {
        "utilization" => {
            let resource = case["resource"].as_str().unwrap();
            let target = i32::try_from(target).unwrap();
            sizing.by_utilization(metrics_of(case), resource, case["container"].as_str(), target)
        }
        "average" => sizing.by_average(metrics_of(case), None, target),
        "value" => sizing.by_value(total(), target),
        "value per pod" => Ok(sizing.by_value_per_pod(total(), target)),
        other => panic!("{other}"),
    }
}

#[test]
fn published_cases_come_out_as_published() {
    let mut count = 0;
    for line in include_str!("cases.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let outcome = calculated(&case);
        match case["error"].as_str() {
            Some(message) => {
                let error = outcome.expect_err(line).to_string();
                assert!(error.contains(message), "{line}\n{error}");
            }
            None => {
                let wanted = outcome.unwrap_or_else(|error| panic!("{line}\n{error}"));
                assert_eq!(i64::from(wanted.replicas), case["expected"].as_i64().unwrap(), "{line}");
                assert_eq!(wanted.usage, case["usage"].as_i64().unwrap(), "{line}");
                assert_eq!(wanted.utilization.map(i64::from), case["utilization"].as_i64(), "{line}");
            }
        }
        count += 1;
    }
    assert_eq!(count, 70);
}

#[test]
fn processor_time_of_the_start_counts_for_nothing() {
    let (ago, settings) = (|seconds| now() - SignedDuration::from_secs(seconds), settings());
    let young = |started: i64, status: &str, since: i64, measured: i64| {
        let pod = pod(json!({
            "status": {"startTime": ago(started), "conditions": [
                {"type": "Ready", "status": status, "lastTransitionTime": ago(since)}]},
        }));
        let metric = PodMetric { at: ago(measured), window: Duration::from_secs(30), value: 1 };
        let tolerances = Tolerances { down: 0.1, up: 0.1 };
        let sizing = Sizing {
            pods: &[],
            spec_replicas: 1,
            status_replicas: 1,
            tolerances,
            settings: &settings,
            now: now(),
        };
        sizing.is_young(&pod, &metric)
    };
    // Soon after the start: only what was measured over a whole window since it became Ready.
    assert!(young(60, "False", 50, 0));
    assert!(young(60, "True", 20, 0));
    assert!(!young(60, "True", 50, 0));
    // Later: only pods that have never been Ready are left out.
    assert!(young(600, "False", 595, 0));
    assert!(!young(600, "False", 100, 0));
    assert!(!young(600, "True", 5, 0));
    // Nothing is known of it.
    let metric = PodMetric { at: now(), window: Duration::ZERO, value: 1 };
    let tolerances = Tolerances { down: 0.1, up: 0.1 };
    let sizing = Sizing {
        pods: &[],
        spec_replicas: 1,
        status_replicas: 1,
        tolerances,
        settings: &settings,
        now: now(),
    };
    assert!(sizing.is_young(&Pod::default(), &metric));
}

#[test]
fn requests_are_those_of_the_pod_or_its_containers() {
    let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
    let tree = json!({
        "metadata": {"name": "p"},
        "spec": {
            "initContainers": [
                {"name": "once", "resources": cpu("5")},
                {"name": "beside", "restartPolicy": "Always", "resources": cpu("300m")}],
            "containers": [{"name": "a", "resources": cpu("1")}, {"name": "b", "resources": cpu("200m")}],
        },
    });
    let of = |tree: &Value, container: Option<&str>, resource: &str| {
        super::request(&pod(tree.clone()), container, resource)
    };
    assert_eq!(of(&tree, None, "cpu"), Ok(1500));
    assert_eq!(of(&tree, Some("b"), "cpu"), Ok(200));
    assert_eq!(of(&tree, Some("beside"), "cpu"), Ok(300));
    let message = |outcome: Result<i64, CalculationError>| outcome.unwrap_err().to_string();
    assert_eq!(message(of(&tree, None, "memory")), "missing request for memory in container a of Pod p");
    assert_eq!(message(of(&tree, Some("c"), "cpu")), "container c not found in Pod p");
    assert_eq!(message(of(&tree, Some("once"), "cpu")), "container once not found in Pod p");
    let mut whole = tree.clone();
    whole["spec"]["resources"] = cpu("4");
    assert_eq!(of(&whole, None, "cpu"), Ok(4000));
    assert_eq!(of(&whole, Some("a"), "cpu"), Ok(1000), "a container that is named goes first");
    assert_eq!(message(of(&whole, None, "memory")), "missing pod-level request for memory in Pod p");
    whole["spec"]["resources"] = json!({"requests": {"memory": "1Ki"}});
    assert_eq!(of(&whole, None, "memory"), Ok(1_024_000));
}
