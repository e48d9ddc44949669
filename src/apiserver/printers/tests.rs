//! Cells against what upstream's printers print for the same objects.

use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn pod(spec: Value, status: Value) -> Value {
    json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:59:00Z"}, "spec": spec, "status": status})
}

/// READY, STATUS, RESTARTS.
fn shown(pod: &Value) -> (String, String, String) {
    let cells = super::pod::cells(pod, now());
    assert_eq!(cells.len(), super::pod::COLUMNS.len());
    let text = |index: usize| cells[index].as_str().unwrap().to_string();
    (text(1), text(2), text(3))
}

#[test]
fn status_of_pods() {
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let running = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
    let waiting = |reason: &str, restarts: i32| {
        json!({"name": "b", "restartCount": restarts, "state": {"waiting": {"reason": reason}},
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:58:00Z"}}})
    };
    let done = json!({"name": "b", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let cases = [
        (json!({"phase": "Pending"}), ("0/2", "Pending", "0")),
        (json!({"phase": "Running", "containerStatuses": [running]}), ("1/2", "Running", "0")),
        (
            json!({"phase": "Running", "containerStatuses": [running, waiting("CrashLoopBackOff", 3)]}),
            ("1/2", "CrashLoopBackOff", "3 (2m ago)"),
        ),
        (json!({"phase": "Running", "containerStatuses": [running, done]}), ("1/2", "NotReady", "0")),
        (
            json!({"phase": "Running", "conditions": ready, "containerStatuses": [running, done]}),
            ("1/2", "Running", "0"),
        ),
        (json!({"phase": "Succeeded", "containerStatuses": [done, done]}), ("0/2", "Completed", "0")),
        (
            json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 2}}}]}),
            ("0/2", "ExitCode:2", "0"),
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 2, "signal": 9}}}]}),
            ("0/2", "Signal:9", "0"),
        ),
        (json!({"phase": "Failed", "reason": "Evicted"}), ("0/2", "Evicted", "0")),
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            ("0/2", "SchedulingGated", "0"),
        ),
    ];
    for (status, (a, b, c)) in cases {
        let pod = pod(two.clone(), status);
        assert_eq!(shown(&pod), (a.to_string(), b.to_string(), c.to_string()), "{pod}");
    }
}

#[test]
fn status_of_pods_while_they_start_and_end() {
    let spec = json!({"containers": [{"name": "a"}],
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}]});
    let done = json!({"name": "i", "restartCount": 1, "state": {"terminated": {"exitCode": 0}}});
    let sidecar =
        json!({"name": "s", "restartCount": 2, "started": true, "ready": true, "state": {"running": {}}});
    let waiting = json!({"name": "j", "state": {"waiting": {"reason": "PodInitializing"}}});
    let failed = json!({"name": "j", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}});
    let main = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
    let cases = [
        (
            json!({"phase": "Pending", "initContainerStatuses": [done, sidecar, waiting]}),
            ("1/2", "Init:2/3", "3"),
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [done, sidecar, failed]}),
            ("1/2", "Init:Error", "3"),
        ),
        (
            json!({"phase": "Running", "initContainerStatuses": [done, sidecar], "containerStatuses": [main]}),
            ("2/2", "Running", "2"),
        ),
    ];
    for (status, (a, b, c)) in cases {
        let pod = pod(spec.clone(), status);
        assert_eq!(shown(&pod), (a.to_string(), b.to_string(), c.to_string()), "{pod}");
    }
    let mut going =
        pod(json!({"containers": [{"name": "a"}]}), json!({"phase": "Running", "containerStatuses": [main]}));
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T01:00:30Z");
    assert_eq!(shown(&going).1, "Terminating");
    going["status"]["reason"] = json!("NodeLost");
    assert_eq!(shown(&going).1, "Unknown");
}

#[test]
fn wide_cells_of_pods() {
    let pod = pod(
        json!({"containers": [{"name": "a"}], "nodeName": "n", "readinessGates": [{"conditionType": "x"}]}),
        json!({"podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "x", "status": "True"}]}),
    );
    let cells = super::pod::cells(&pod, now());
    assert_eq!(cells[4..], [json!("60s"), json!("10.0.0.1"), json!("n"), json!("<none>"), json!("1/1")]);
}

#[test]
fn services_show_how_they_are_reached() {
    let service = |spec: Value, status: Value| {
        let object = json!({"metadata": {"name": "s"}, "spec": spec, "status": status});
        let cells = super::service::cells(&object, now());
        let text = |index: usize| cells[index].as_str().unwrap().to_string();
        [text(1), text(2), text(3), text(4), text(6)]
    };
    let ports = json!([{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]);
    assert_eq!(
        service(
            json!({"type": "NodePort", "clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1"], "ports": ports,
            "selector": {"app": "a", "tier": "b"}}),
            json!({})
        ),
        ["NodePort", "10.43.0.1", "<none>", "80:30080/TCP,53/UDP", "app=a,tier=b"]
    );
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "example.com"}), json!({})),
        ["ExternalName", "<none>", "example.com", "<none>", "<none>"]
    );
    assert_eq!(service(json!({"type": "LoadBalancer", "clusterIPs": ["None"]}), json!({}))[2], "<pending>");
    let balancer = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "h"}]}});
    assert_eq!(
        service(json!({"type": "LoadBalancer", "externalIPs": ["5.6.7.8"]}), balancer)[2],
        "1.2.3.4,h,5.6.7.8"
    );
}

#[test]
fn endpoints_are_cut_after_three() {
    let address = |last: u8| json!({"ip": format!("10.0.0.{last}")});
    let object = |subsets: Value| json!({"metadata": {"name": "e"}, "subsets": subsets});
    let shown = |subsets: Value| super::discovery::endpoints(&object(subsets), now())[1].clone();
    assert_eq!(shown(json!([])), "<none>");
    assert_eq!(shown(json!([{"addresses": [address(1)], "ports": [{"port": 80}]}])), "10.0.0.1:80");
    let four = json!([{"addresses": [address(1), address(2)], "ports": [{"port": 80}, {"port": 81}]}]);
    assert_eq!(shown(four), "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...");
    let slice = json!({"metadata": {"name": "e"}, "addressType": "IPv4", "ports": [{"name": ""}],
        "endpoints": [{"addresses": ["10.0.0.1"]}]});
    assert_eq!(
        super::discovery::endpoint_slice(&slice, now())[1..4],
        [json!("IPv4"), json!("*"), json!("10.0.0.1")]
    );
}

#[test]
fn nodes_show_status_and_roles() {
    let node = |labels: Value, spec: Value, conditions: Value| {
        let object = json!({"metadata": {"name": "n", "labels": labels}, "spec": spec,
            "status": {"conditions": conditions, "nodeInfo": {"kubeletVersion": "v1.36.2"},
                "addresses": [{"type": "InternalIP", "address": "10.1.1.1"}]}});
        let cells = super::node::cells(&object, now());
        let text = |index: usize| cells[index].as_str().unwrap().to_string();
        [text(1), text(2), text(4), text(5), text(6), text(7)]
    };
    let ready = |status: &str| json!([{"type": "Ready", "status": status}]);
    assert_eq!(
        node(
            json!({"node-role.kubernetes.io/master": "", "node-role.kubernetes.io/control-plane": ""}),
            json!({"unschedulable": true}),
            ready("True")
        ),
        ["Ready,SchedulingDisabled", "control-plane,master", "v1.36.2", "10.1.1.1", "<none>", "<unknown>"]
    );
    assert_eq!(
        node(json!({}), json!({}), ready("Unknown"))[..2],
        ["NotReady".to_string(), "<none>".to_string()]
    );
    assert_eq!(node(json!({}), json!({}), json!([]))[0], "Unknown");
}

#[test]
fn events_of_both_groups_print_alike() {
    let core = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": "text\n", "count": 2,
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
        "source": {"component": "kubelet", "host": "n"},
        "firstTimestamp": "2026-01-01T00:50:00Z", "lastTimestamp": "2026-01-01T00:59:30Z"});
    let new = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "note": "text\n", "deprecatedCount": 2,
        "regarding": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
        "deprecatedSource": {"component": "kubelet", "host": "n"},
        "deprecatedFirstTimestamp": "2026-01-01T00:50:00Z", "deprecatedLastTimestamp": "2026-01-01T00:59:30Z"});
    let want = json!([
        "30s",
        "Normal",
        "Pulled",
        "pod/p",
        "spec.containers{a}",
        "kubelet, n",
        "text",
        "10m",
        2,
        "e"
    ]);
    assert_eq!(json!(super::event::cells(&core, now())), want);
    assert_eq!(json!(super::event::cells(&new, now())), want);
    let bare = json!({"metadata": {"name": "e"}, "eventTime": "2026-01-01T00:59:00.000000Z", "reportingComponent": "c",
        "involvedObject": {"kind": "Node"}});
    let cells = super::event::cells(&bare, now());
    assert_eq!(
        [&cells[0], &cells[3], &cells[5], &cells[8]],
        [&json!("60s"), &json!("node"), &json!("c"), &json!(1)]
    );
}

#[test]
fn other_kinds() {
    let deployment = json!({"metadata": {"name": "d", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "d"}},
            "template": {"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}}},
        "status": {"readyReplicas": 1, "updatedReplicas": 2}});
    assert_eq!(
        json!(super::apps::deployment(&deployment, now())),
        json!(["d", "1/3", 2, 0, "60m", "a,b", "x,y", "app=d"])
    );
    let secret = json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": "", "b": ""}});
    assert_eq!(json!(super::core::secret(&secret, now())), json!(["s", "Opaque", 2, "<unknown>"]));
    let csr = json!({"metadata": {"name": "c"}, "spec": {"username": "u", "signerName": "s", "expirationSeconds": 86400},
        "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}});
    assert_eq!(
        json!(super::certificates::cells(&csr, now())[2..]),
        json!(["s", "u", "24h", "Approved,Issued"])
    );
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "a"}]});
    assert_eq!(
        json!(super::rbac::binding(&binding, now())[1..]),
        json!(["ClusterRole/view", "<unknown>", "u", "", "n/a"])
    );
}
