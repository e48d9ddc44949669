//! Autoscalers with a real kubectl: a deployment whose containers are busy, and a custom resource that is
//! scaled by what another API server measures.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minik8s_tests::{Cluster, Extension, eventually};
use serde_json::{Value, json};

use crate::extension::{apply, expose};
use crate::objects::{create, query};

/// A pod's processor time counts a minute after it became Ready, and is looked at every 15 seconds.
const LIMIT: Duration = Duration::from_secs(300);

fn reaches(cluster: &Cluster, what: &[&str], path: &str, wanted: &str) {
    eventually(&format!("{path} of {what:?} is {wanted:?}"), LIMIT, || {
        let found = query(cluster, what, path);
        if found == wanted {
            return Ok(());
        }
        let autoscaler = cluster.kubectl(&["describe", "hpa"]);
        Err(format!("{found}\n{autoscaler}\n{}", cluster.kubectl(&["top", "pods"])))
    });
}

#[test]
fn a_busy_deployment_grows_and_shrinks_again() {
    let cluster = Cluster::with_node();
    let load = cluster.folder().join("load");
    std::fs::create_dir(&load).unwrap();
    // Busy until a file appears.
    let busy = "while [ ! -e /load/over ]; do :; done; exec sleep 100000";
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "terminationGracePeriodSeconds": 0,
                "volumes": [{"name": "load", "hostPath": {"path": load.display().to_string()}}],
                "containers": [{
                    "name": "a", "image": "busybox:test", "command": ["/bin/sh", "-c", busy],
                    "resources": {"requests": {"cpu": "20m"}, "limits": {"cpu": "100m"}},
                    "volumeMounts": [{"name": "load", "mountPath": "/load"}],
                }],
            }},
        },
    });
    create(&cluster, &deployment);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]).ok();
    cluster.kubectl(&["autoscale", "deployment", "web", "--min=1", "--max=3", "--cpu-percent=50"]).ok();
    // Down as soon as it may be.
    let soon = json!({"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}});
    cluster.kubectl(&["patch", "hpa", "web", "--type=merge", "-p", &soon.to_string()]).ok();

    reaches(&cluster, &["deployment", "web"], "{.status.readyReplicas}", "3");
    let shown = cluster.kubectl(&["get", "hpa", "web", "--no-headers"]).ok();
    assert!(shown.contains("Deployment/web") && shown.contains("%/50%"), "{shown}");
    let described = cluster.kubectl(&["describe", "hpa", "web"]).ok();
    for words in [
        "resource cpu on pods  (as a percentage of request)",
        "ScalingActive   True    ValidMetricFound",
        "SuccessfulRescale",
        "New size: 3; reason: cpu resource utilization (percentage of request) above target",
    ] {
        assert!(described.contains(words), "{words}\n{described}");
    }
    // An object of the older version tells the same.
    let path = "{.status.currentReplicas} {.spec.targetCPUUtilizationPercentage}";
    reaches(&cluster, &["horizontalpodautoscalers.v1.autoscaling", "web"], path, "3 50");

    std::fs::write(load.join("over"), "").unwrap();
    reaches(&cluster, &["deployment", "web"], "{.status.readyReplicas}", "1");
    let described = cluster.kubectl(&["describe", "hpa", "web"]).ok();
    assert!(described.contains("reason: All metrics below target"), "{described}");

    // Nobody's size is taken from him: without replicas nothing is scaled.
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=0"]).ok();
    let condition = "{.status.conditions[?(@.type==\"ScalingActive\")].reason}";
    reaches(&cluster, &["hpa", "web"], condition, "ScalingDisabled");
    assert_eq!(query(&cluster, &["deployment", "web"], "{.spec.replicas}"), "0");
}

/// A kind whose instances have a size, and pods that a label tells.
fn pools() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "pools.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "pools", "kind": "Pool"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                    "status": {"type": "object", "properties": {
                        "size": {"type": "integer"}, "selector": {"type": "string"}}}}}},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
                    "labelSelectorPath": ".status.selector"}},
            }],
        },
    })
}

fn autoscaler(name: &str) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
        "spec": {
            "minReplicas": 1, "maxReplicas": 9,
            "scaleTargetRef": {"apiVersion": "example.com/v1", "kind": "Pool", "name": "cars"},
            "metrics": [{"type": "External", "external": {
                "metric": {"name": "queue", "selector": {"matchLabels": {"line": "a"}}},
                "target": {"type": "AverageValue", "averageValue": "10"}}}],
        },
    })
}

#[test]
fn a_custom_resource_follows_what_another_server_measures() {
    let cluster = Cluster::control_plane();
    apply(&cluster, &pools());
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/pools.example.com", "--timeout=30s"]).ok();
    let pool = json!({"apiVersion": "example.com/v1", "kind": "Pool", "metadata": {"name": "cars"},
        "spec": {"size": 2}});
    create(&cluster, &pool);
    create(&cluster, &autoscaler("cars"));
    let reason = |kind: &str| format!("{{.status.conditions[?(@.type==\"{kind}\")].reason}}");
    reaches(&cluster, &["hpa", "cars"], &reason("ScalingActive"), "InvalidSelector");

    let status = json!({"status": {"size": 2, "selector": "pool=cars"}}).to_string();
    let patch = ["patch", "pool", "cars", "--subresource=status", "--type=merge", "-p", &status];
    cluster.kubectl(&patch).ok();
    reaches(&cluster, &["hpa", "cars"], &reason("ScalingActive"), "FailedGetExternalMetric");
    let message =
        query(&cluster, &["hpa", "cars"], "{.status.conditions[?(@.type==\"ScalingActive\")].message}");
    let words =
        "unable to fetch metrics from external metrics API: the server could not find the requested resource";
    assert!(message.contains(words), "{message}");

    let other = Extension::start(&cluster.network, "metrics.default.svc", |request| {
        let root = "/apis/external.metrics.k8s.io/v1beta1";
        let queue = format!("{root}/namespaces/default/queue?labelSelector=line%3Da");
        let account = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
        match &*request.path {
            path if path == root => (200, json!({"kind": "APIResourceList", "resources": []})),
            path if path == queue && request.header("x-remote-user") == account => (
                200,
                json!({"kind": "ExternalMetricValueList", "items": [{"metricName": "queue", "value": "55"}]}),
            ),
            _ => (
                404,
                json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such metric"}),
            ),
        }
    });
    expose(&cluster, "metrics", &other);
    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
        "spec": {
            "group": "external.metrics.k8s.io", "version": "v1beta1",
            "groupPriorityMinimum": 100, "versionPriority": 10,
            "service": {"namespace": "default", "name": "metrics"},
            "caBundle": STANDARD.encode(&other.authority),
        },
    });
    apply(&cluster, &service);
    // 55 shared out at 10 each; at most twice as many as there are, or four.
    reaches(&cluster, &["pool", "cars"], "{.spec.size}", "4");
    reaches(&cluster, &["hpa", "cars"], &reason("ScalingLimited"), "ScaleUpLimit");
    reaches(&cluster, &["pool", "cars"], "{.spec.size}", "6");
    let current = "{.status.currentMetrics[0].external.current.averageValue}";
    reaches(&cluster, &["hpa", "cars"], current, "27500m");

    // Two of them on the same pods keep their hands off.
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "car", "labels": {"pool": "cars"}},
        "spec": {"containers": [{"name": "a", "image": "nowhere.invalid/car:1"}]}});
    create(&cluster, &pod);
    create(&cluster, &autoscaler("carts"));
    for name in ["cars", "carts"] {
        reaches(&cluster, &["hpa", name], &reason("ScalingActive"), "AmbiguousSelector");
    }
    let told = cluster.kubectl(&["get", "events", "--field-selector=reason=AmbiguousSelector"]).ok();
    assert!(told.contains("are controlled by multiple HPAs: [{cars default} {carts default}]"), "{told}");
}
