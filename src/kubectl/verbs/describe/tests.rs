//! Golden tests of layouts that need no server.

use serde_json::json;

use super::sheet::Sheet;
use super::{cluster, generic, pod, rbac, template_text};

#[test]
fn a_pod_in_upstreams_layout() {
    let object = json!({
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"app": "web", "tier": "front"},
            "annotations": {"note": "x"}, "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": true}]},
        "spec": {"priority": 0, "serviceAccountName": "default", "nodeName": "n1",
            "containers": [{"name": "nginx", "image": "nginx:1", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "args": ["a", "b"], "env": [{"name": "K", "value": "v"}], "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
        "status": {"phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.42.0.5", "podIPs": [{"ip": "10.42.0.5"}], "qosClass": "Burstable",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "nginx", "containerID": "containerd://1", "imageID": "sha256:2", "ready": true, "restartCount": 0,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
    });
    let mut sheet = Sheet::default();
    pod::describe(&mut sheet, &object, &[]);
    let expected = "\
Name:             web-1
Namespace:        default
Priority:         0
Service Account:  default
Node:             n1/10.0.0.1
Labels:           app=web
                  tier=front
Annotations:      note: x
Status:           Running
IP:               10.42.0.5
IPs:
  IP:           10.42.0.5
Controlled By:  ReplicaSet/web
Containers:
  nginx:
    Container ID:  containerd://1
    Image:         nginx:1
    Image ID:      sha256:2
    Port:          80/TCP
    Host Port:     0/TCP
    Args:
      a
      b
    State:          Waiting
      Reason:       CrashLoopBackOff
    Ready:          True
    Restart Count:  0
    Requests:
      cpu:     100m
      memory:  1Gi
    Liveness:  http-get http://:80/ delay=0s timeout=1s period=10s #success=1 #failure=3
    Environment:
      K:  v
    Mounts:
      /tmp from tmp (rw)
Conditions:
  Type    Status
  Ready   True\u{20}
Volumes:
  tmp:
    Type:        EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:     \u{20}
    SizeLimit:   <unset>
QoS Class:       Burstable
Node-Selectors:  <none>
Tolerations:     node.kubernetes.io/not-ready:NoExecute op=Exists for 300s
";
    assert_eq!(sheet.text(), expected);
}

#[test]
fn other_kinds() {
    let mut sheet = Sheet::default();
    cluster::config_map(
        &mut sheet,
        &json!({"metadata": {"name": "c", "namespace": "n"}, "data": {"k": "a\tb\nc"}}),
    );
    assert_eq!(
        sheet.text(),
        "Name:         c\nNamespace:    n\nLabels:       <none>\nAnnotations:  <none>\n\nData\n====\nk:\n----\na\tb\nc\n\n\nBinaryData\n====\n\n"
    );
    let mut sheet = Sheet::default();
    let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "update"]}]});
    rbac::role(&mut sheet, &role);
    assert!(
        sheet.text().ends_with("  deployments.apps/scale  []                 []              [get update]\n")
    );
    let mut sheet = Sheet::default();
    generic::describe(
        &mut sheet,
        &json!({"apiVersion": "x/v1", "metadata": {"name": "w", "resourceVersion": "1"}, "spec": {"sizeLimit": 3, "list": [{"a": true}, "t"]}}),
    );
    assert_eq!(
        sheet.text(),
        "Name:         w\nNamespace:    \nLabels:       <none>\nAnnotations:  <none>\nAPI Version:  x/v1\nMetadata:\n  Resource Version:  1\nSpec:\n  List:\n    A:  true\n    t\n  Size Limit:  3\n"
    );
    assert!(template_text(&json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}))
        .starts_with("Pod Template:\n  Labels:\ta=b\n  Containers:\n   c:\n    Image:"), "containers of a template are indented by three");
}
