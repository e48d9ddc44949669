//! What the README promises a user, command by command, with the machine's kubectl and with the bundled one.

use std::time::Duration;

use minik8s_tests::{BUSYBOX, Cluster, CommandOutcome, KubectlProxy, eventually};
use serde_json::Value;

const APP: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: busybox:test
        ports: [{containerPort: 80}]
";

fn walk(
    cluster: &Cluster,
    kubectl: &dyn Fn(&[&str]) -> CommandOutcome,
    kubectl_with: &dyn Fn(&[&str], &str) -> CommandOutcome,
) {
    let nodes = kubectl(&["get", "nodes"]).ok();
    assert!(
        nodes.contains("Ready") && nodes.contains("control-plane") && nodes.contains("v1.36.2+minik8s"),
        "{nodes}"
    );
    let image = format!("--image={BUSYBOX}");
    kubectl(&["run", "hello", &image, "--port=80"]).ok();
    kubectl(&["create", "deployment", "web", &image, "--replicas=3"]).ok();
    kubectl(&["wait", "pod/hello", "--for=condition=Ready", "--timeout=60s"]).ok();
    kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();
    let wide = kubectl(&["get", "pods", "-o", "wide", "-A"]).ok();
    assert!(wide.contains("NOMINATED NODE") && wide.matches("Running").count() >= 4, "{wide}");
    let described = kubectl(&["describe", "pod", "hello"]).ok();
    for event in ["Scheduled", "Created", "Started"] {
        assert!(described.contains(event), "{event}: {described}");
    }
    let events = kubectl(&["get", "events", "-o", "json"]).json();
    let sources: Vec<&str> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["source"]["component"].as_str())
        .collect();
    for component in ["default-scheduler", "kubelet", "replicaset-controller", "deployment-controller"] {
        assert!(sources.contains(&component), "{component}: {sources:?}");
    }
    let applied = kubectl_with(&["apply", "-f", "-"], APP).ok();
    assert!(applied.contains("deployment.apps/app created"), "{applied}");
    let again = kubectl_with(&["apply", "-f", "-"], APP).ok();
    assert!(again.contains("deployment.apps/app unchanged"), "{again}");
    kubectl(&["scale", "deployment", "web", "--replicas=5"]).ok();
    kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();
    let ready = kubectl(&["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"]).ok();
    assert_eq!(ready, "5");
    kubectl(&["delete", "pod", "hello", "--timeout=60s"]).ok();
    kubectl(&["delete", "deployment", "web"]).ok();
    kubectl_with(&["delete", "-f", "-"], APP).ok();
    for selector in ["app=web", "app=app"] {
        cluster.wait_for_none("replicasets", selector);
        cluster.wait_for_none("pods", selector);
    }
}

#[test]
fn the_walkthrough_works_with_either_kubectl() {
    let cluster = Cluster::with_node();
    walk(&cluster, &|arguments| cluster.kubectl(arguments), &|arguments, input| {
        cluster.kubectl_with(arguments, input)
    });
    walk(&cluster, &|arguments| cluster.own_kubectl(arguments), &|arguments, input| {
        cluster.own_kubectl_with(arguments, input)
    });
}

#[test]
fn the_api_is_usable_through_kubectl_proxy() {
    let cluster = Cluster::with_node();
    for proxy in KubectlProxy::each(&cluster) {
        let node: Value = eventually("the proxy answers", Duration::from_secs(20), || {
            let outcome = proxy.curl("/api/v1/nodes/one/", &[]);
            serde_json::from_str(&outcome.stdout).map_err(|error| format!("{error}: {outcome}"))
        });
        assert_eq!(node["metadata"]["name"], "one", "{node}");
        let pod = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"posted\"}},\
             \"spec\":{{\"terminationGracePeriodSeconds\":0,\"containers\":[{{\"name\":\"a\",\"image\":\"{BUSYBOX}\"}}]}}}}"
        );
        let posting = ["-X", "POST", "-H", "Content-Type: application/json", "-d", &pod];
        let posted = proxy.curl("/api/v1/namespaces/default/pods", &posting).json();
        assert_eq!(posted["kind"], "Pod", "{posted}");
        cluster.wait_for_pod("posted");
        let events = proxy.curl("/api/v1/events", &[]).json();
        assert_eq!(events["kind"], "EventList");
        cluster.kubectl(&["delete", "pod", "posted", "--timeout=60s"]).ok();
    }
}
