//! Faults of autoscalers in upstream's words.

use serde_json::json;

use super::*;

fn autoscaler(spec: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    });
    tree["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    api::schema::apply_defaults(&api::kinds::HORIZONTAL_POD_AUTOSCALER, &mut tree);
    tree
}

fn faults(spec: Value) -> Vec<String> {
    validate(&autoscaler(spec), None).iter().map(ToString::to_string).collect()
}

#[test]
fn replicas_target_and_behaviour() {
    assert_eq!(faults(json!({})), [""; 0]);
    let reference = |version: &str| json!({"scaleTargetRef": {"apiVersion": version, "kind": "Deployment", "name": "web"}});
    let cases = [
        (
            json!({"minReplicas": 7}),
            "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
        ),
        (
            json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "..", "name": "web"}}),
            "spec.scaleTargetRef.kind: Invalid value: \"..\": may not be '..'",
        ),
        (
            reference("v1"),
            "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
        ),
        (
            reference("a/b/c"),
            "spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
        ),
        (
            json!({"behavior": {"scaleUp": {"stabilizationWindowSeconds": 3601}}}),
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
        ),
        (
            json!({"behavior": {"scaleDown": {"selectPolicy": "Odd"}}}),
            "spec.behavior.scaleDown.selectPolicy: Unsupported value: \"Odd\": supported values: \"Disabled\", \"Max\", \
             \"Min\"",
        ),
        (
            json!({"behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1801}]}}}),
            "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        ),
        (
            json!({"behavior": {"scaleDown": {"tolerance": "-1"}}}),
            "spec.behavior.scaleDown.tolerance: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
    ];
    for (spec, want) in cases {
        assert_eq!(faults(spec.clone()), [want], "{spec}");
    }
    let core =
        json!({"scaleTargetRef": {"apiVersion": "v1", "kind": "ReplicationController", "name": "web"}});
    assert_eq!(faults(core), [""; 0]);
    // What was wrong before may stay, and so may no pods at all.
    let mut old = autoscaler(reference("v1"));
    assert_eq!(validate(&old, Some(&old)).len(), 0);
    old["spec"]["minReplicas"] = json!(0);
    let found = validate(&old, Some(&old));
    assert_eq!(
        found[0].to_string(),
        "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas"
    );
}

#[test]
fn metrics_name_one_source_and_one_target() {
    let resource = |target: Value| json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
    let utilization = json!({"type": "Utilization", "averageUtilization": 50});
    let cases = [
        (
            resource(json!({"type": "Utilization"})),
            "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a \
             target utilization",
        ),
        (
            resource(json!({"type": "Utilization", "averageUtilization": 0})),
            "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
        ),
        (
            resource(json!({"type": "Odd", "averageUtilization": 1})),
            "spec.metrics[0].resource.target.type: Invalid value: \"Odd\": must be either Utilization, Value, or \
             AverageValue",
        ),
        (
            json!({"type": "Pods"}),
            "spec.metrics[0].pods: Required value: must populate information for the given metric source",
        ),
        (
            json!({"type": "Resource", "resource": {"name": "cpu", "target": utilization},
                "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}),
            "spec.metrics[0].external: Forbidden: must populate the given metric source only",
        ),
        (
            json!({"type": "External", "external": {"metric": {"name": "m"},
                "target": {"type": "Value", "value": "1", "averageValue": "1"}}}),
            "spec.metrics[0].external.target.value: Forbidden: may not set both a target value for metric and a per-pod \
             target",
        ),
        (
            json!({"type": "ContainerResource", "containerResource": {"name": "odd", "container": "c",
                "target": utilization}}),
            "spec.metrics[0].containerResource.name: Invalid value: \"odd\": must be a standard resource for containers",
        ),
    ];
    for (metric, want) in cases {
        assert_eq!(faults(json!({"metrics": [metric]})), [want], "{metric}");
    }
}
