//! Kinds of storage, networking, classes and quotas through a real kubectl: made, read, changed and deleted,
//! and what admission and the controllers make of them.

use std::time::Duration;

use minik8s_tests::{Cluster, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// The columns of the line that begins so.
fn line<'a>(printed: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|line| line.first() == Some(&name)).unwrap_or_else(|| panic!("{name} in {printed}"))
}

#[test]
fn volumes_and_claims() {
    let cluster = Cluster::control_plane();
    let objects = "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}
provisioner: csi.example.com
allowVolumeExpansion: true
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec: {capacity: {storage: 10Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /data}, storageClassName: fast}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
    cluster.kubectl_with(&["create", "-f", "-"], objects).ok();
    let printed = cluster.kubectl(&["get", "sc"]).ok();
    let class = line(&printed, "fast");
    assert_eq!(class[1..6], ["(default)", "csi.example.com", "Delete", "Immediate", "true"], "{printed}");
    cluster.wait_for("pvc", "data", "{.status.phase}", "Bound");
    let printed = cluster.kubectl(&["get", "pv"]).ok();
    let disk = line(&printed, "disk");
    assert_eq!(disk[1..7], ["10Gi", "RWO", "Retain", "Bound", "default/data", "fast"], "{printed}");
    let printed = cluster.kubectl(&["get", "pvc"]).ok();
    let data = line(&printed, "data");
    assert_eq!(data[1..7], ["Bound", "disk", "10Gi", "RWO", "fast", "<unset>"], "{printed}");
    let refused = cluster
        .kubectl(&[
            "patch",
            "pv",
            "disk",
            "--type=merge",
            "-p",
            "{\"spec\":{\"hostPath\":{\"path\":\"/x\"}}}",
        ])
        .failed();
    assert!(refused.contains("spec.persistentvolumesource is immutable after creation"), "{refused}");
    // The finalizers of both hold nobody, so the controllers let go at once.
    let guarded = cluster.kubectl(&["get", "pvc", "data", "-o", "jsonpath={.metadata.finalizers}"]).ok();
    assert!(guarded.contains("kubernetes.io/pvc-protection"), "{guarded}");
    cluster.kubectl(&["delete", "pvc/data", "pv/disk", "sc/fast", "--timeout=30s"]).ok();
    cluster.kubectl(&["get", "pvc", "data"]).failed();
    cluster.kubectl(&["get", "pv", "disk"]).failed();
}

#[test]
fn ingresses_and_network_policies() {
    let cluster = Cluster::control_plane();
    cluster.kubectl(&["create", "ingress", "web", "--rule=example.com/*=web:80", "--class=own"]).ok();
    let printed = cluster.kubectl(&["get", "ingress"]).ok();
    assert_eq!(line(&printed, "web")[1..4], ["own", "example.com", "80"], "{printed}");
    let objects = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {matchLabels: {app: web}}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: own}
spec: {controller: example.com/controller}
";
    cluster.kubectl_with(&["create", "-f", "-"], objects).ok();
    let printed = cluster.kubectl(&["get", "netpol"]).ok();
    assert_eq!(line(&printed, "deny")[1], "app=web", "{printed}");
    let types = cluster.kubectl(&["get", "netpol", "deny", "-o", "jsonpath={.spec.policyTypes}"]).ok();
    assert_eq!(types, "[\"Ingress\"]");
    let printed = cluster.kubectl(&["get", "ingressclass"]).ok();
    assert_eq!(line(&printed, "own")[1..3], ["example.com/controller", "<none>"], "{printed}");
    let wrong = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: wrong}
spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/8}}]}]}
";
    let refused = cluster.kubectl_with(&["create", "-f", "-"], wrong).failed();
    assert!(refused.contains("must not have bits set beyond the prefix length"), "{refused}");
    cluster.kubectl(&["delete", "ingress/web", "netpol/deny", "ingressclass/own"]).ok();
}

#[test]
fn quotas_limits_and_pod_security() {
    let cluster = Cluster::control_plane();
    cluster.kubectl(&["create", "quota", "small", "--hard=configmaps=3,count/secrets=1"]).ok();
    // The controller counts what is there: the CA that each namespace has.
    eventually("the quota is counted", LIMIT, || {
        let used = cluster.kubectl(&["get", "quota", "small", "-o", "jsonpath={.status.used}"]).ok();
        if used.contains("\"configmaps\":\"1\"") { Ok(()) } else { Err(used) }
    });
    cluster.kubectl(&["create", "configmap", "a"]).ok();
    cluster.kubectl(&["create", "configmap", "b"]).ok();
    let refused = cluster.kubectl(&["create", "configmap", "c"]).failed();
    assert!(
        refused.contains(
            "exceeded quota: small, requested: configmaps=1, used: configmaps=3, limited: configmaps=3"
        ),
        "{refused}"
    );
    let printed = cluster.kubectl(&["get", "quota"]).ok();
    assert!(printed.contains("configmaps: 3/3, count/secrets: 0/1"), "{printed}");
    cluster.kubectl(&["delete", "configmap", "a"]).ok();
    eventually("what is deleted is given back", LIMIT, || {
        let used = cluster.kubectl(&["get", "quota", "small", "-o", "jsonpath={.status.used}"]).ok();
        if used.contains("\"configmaps\":\"2\"") { Ok(()) } else { Err(used) }
    });
    cluster.kubectl(&["create", "configmap", "c"]).ok();
    let limits = "
apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec: {limits: [{type: Container, default: {cpu: 500m}, max: {cpu: '1'}}]}
";
    cluster.kubectl_with(&["create", "-f", "-"], limits).ok();
    cluster.kubectl(&["label", "namespace", "default", "pod-security.kubernetes.io/enforce=baseline"]).ok();
    let pod = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n\
             spec: {{{more}containers: [{{name: c, image: image}}]}}\n"
        )
    };
    cluster.kubectl_with(&["create", "-f", "-"], &pod("plain", "")).ok();
    let cpu = "jsonpath={.spec.containers[0].resources}";
    let printed = cluster.kubectl(&["get", "pod", "plain", "-o", cpu]).ok();
    assert_eq!(printed, "{\"limits\":{\"cpu\":\"500m\"},\"requests\":{\"cpu\":\"500m\"}}");
    let refused = cluster.kubectl_with(&["create", "-f", "-"], &pod("open", "hostNetwork: true, ")).failed();
    assert!(
        refused.contains("violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"),
        "{refused}"
    );
}

#[test]
fn classes_flow_control_and_api_services() {
    let cluster = Cluster::control_plane();
    let printed = cluster.kubectl(&["get", "pc"]).ok();
    assert_eq!(line(&printed, "system-node-critical")[1..3], ["2000001000", "false"], "{printed}");
    cluster.kubectl(&["create", "priorityclass", "high", "--value=1000"]).ok();
    let kept = cluster.kubectl(&["delete", "pc", "system-node-critical"]).failed();
    assert!(kept.contains("this is a system priority class and cannot be deleted"), "{kept}");
    let printed = cluster.kubectl(&["get", "flowschemas"]).ok();
    assert_eq!(line(&printed, "catch-all")[1..4], ["catch-all", "10000", "ByUser"], "{printed}");
    let printed = cluster.kubectl(&["get", "prioritylevelconfigurations"]).ok();
    assert_eq!(line(&printed, "workload-low")[1..6], ["Limited", "100", "128", "6", "50"], "{printed}");
    eventually("each group has its APIService", LIMIT, || {
        let printed = cluster.kubectl(&["get", "apiservices"]).ok();
        let there = printed.contains("v1.resource.k8s.io") && printed.contains("v1.apps");
        if there && line(&printed, "v1.apps")[1..3] == ["Local", "True"] { Ok(()) } else { Err(printed) }
    });
    let printed = cluster.kubectl(&["api-resources", "--api-group=admissionregistration.k8s.io"]).ok();
    assert!(printed.contains("validatingadmissionpolicybindings"), "{printed}");
    let class = "
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: vm}
handler: kata
";
    cluster.kubectl_with(&["create", "-f", "-"], class).ok();
    assert_eq!(line(&cluster.kubectl(&["get", "runtimeclass"]).ok(), "vm")[1], "kata");
}
