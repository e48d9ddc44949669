//! Autoscalers between their versions.

use serde_json::{Value, json};

use super::autoscalers::{to_v1, to_v2};

fn object(version: &str, annotations: Value, spec: Value, status: Value) -> Value {
    let mut spec_with = json!({"minReplicas": 1, "maxReplicas": 3,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}});
    spec_with.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let mut object = json!({"apiVersion": version, "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"}, "spec": spec_with});
    if annotations.as_object().is_some_and(|members| !members.is_empty()) {
        object["metadata"]["annotations"] = annotations;
    }
    if !status.is_null() {
        object["status"] = status;
    }
    object
}

#[test]
fn v1_knows_the_processor_and_has_a_default_for_it() {
    let v1 = object(
        "autoscaling/v1",
        json!({"mine": "x"}),
        json!({"targetCPUUtilizationPercentage": 50}),
        Value::Null,
    );
    let v2 = to_v2(v1.clone());
    let metric = json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 50}}});
    assert_eq!(v2, object("autoscaling/v2", json!({"mine": "x"}), json!({"metrics": [metric]}), Value::Null));
    assert_eq!(to_v1(v2), v1);
    let bare = to_v2(object("autoscaling/v1", json!({}), json!({}), Value::Null));
    assert_eq!(bare["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
    assert_eq!(to_v1(bare)["spec"]["targetCPUUtilizationPercentage"], 80);
}

#[test]
fn what_v1_has_no_field_for_travels_in_annotations() {
    let metrics = json!([
        {"type": "Pods", "pods": {"metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "10"}}},
        {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s", "apiVersion": "v1"},
            "metric": {"name": "rate"}, "target": {"type": "Value", "value": "5k"}}},
        {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"},
            "metric": {"name": "rate"}, "target": {"type": "AverageValue", "averageValue": "7"}}},
        {"type": "External", "external": {"metric": {"name": "queue"},
            "target": {"type": "AverageValue", "averageValue": "30"}}},
        {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
        {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
            "target": {"type": "Utilization", "averageUtilization": 60}}},
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
    ]);
    let policies = json!([{"type": "Pods", "value": 1, "periodSeconds": 30}]);
    let behavior = json!({
        "scaleUp": {"stabilizationWindowSeconds": 5, "selectPolicy": "Min", "policies": policies, "tolerance": "50m"},
        "scaleDown": {"selectPolicy": "Max", "policies": policies},
    });
    let status = json!({
        "observedGeneration": 1, "currentReplicas": 2, "desiredReplicas": 3,
        "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
            "reason": "r", "message": "m"}],
        "currentMetrics": [
            {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40, "averageValue": "4m"}}},
            {"type": "Pods", "pods": {"metric": {"name": "hits"}, "current": {"averageValue": "8"}}},
        ],
    });
    let spec = json!({"metrics": metrics, "behavior": behavior});
    let v2 = object("autoscaling/v2", json!({}), spec, status);
    let v1 = to_v1(v2.clone());
    assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 70);
    assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 40);
    assert!(v1["spec"].get("metrics").is_none() && v1["status"].get("conditions").is_none());
    let annotation = |name: &str| -> Value {
        let text = v1["metadata"]["annotations"][format!("autoscaling.alpha.kubernetes.io/{name}")].as_str();
        serde_json::from_str(text.unwrap()).unwrap()
    };
    assert_eq!(annotation("metrics").as_array().unwrap().len(), 6);
    assert_eq!(
        annotation("metrics")[1]["object"],
        json!({"target": {"kind": "Service", "name": "s", "apiVersion": "v1"}, "metricName": "rate", "targetValue": "5k"})
    );
    assert_eq!(annotation("behavior")["ScaleUp"]["Policies"][0]["PeriodSeconds"], 30);
    assert!(annotation("behavior")["ScaleDown"]["Tolerance"].is_null());
    assert_eq!(to_v2(v1), v2);
}

#[test]
fn annotations_of_the_conversion_are_never_seen_in_v2_and_unreadable_ones_mean_nothing() {
    let annotations = json!({"autoscaling.alpha.kubernetes.io/metrics": "no JSON",
        "autoscaling.alpha.kubernetes.io/behavior": "{\"scaleup\":{\"selectpolicy\":\"Min\"}}",
        "autoscaling.alpha.kubernetes.io/conditions": "7"});
    let v2 = to_v2(object(
        "autoscaling/v1",
        annotations,
        json!({"targetCPUUtilizationPercentage": 50}),
        Value::Null,
    ));
    assert!(v2["metadata"].get("annotations").is_none(), "{v2}");
    assert_eq!(v2["spec"]["metrics"].as_array().unwrap().len(), 1);
    // Go reads names in any case, and the rest of the rules is set by default.
    assert_eq!(v2["spec"]["behavior"]["scaleUp"]["selectPolicy"], "Min");
    assert_eq!(v2["spec"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"], 0);
    assert!(v2.get("status").is_none(), "{v2}");
}
