//! Objects and controllers without a node: apply, scale, ownership, watch.

use std::time::Duration;

use minik8s_tests::{Cluster, eventually};

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: busybox:test
        ports: [{containerPort: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data: {colour: green}
";

#[test]
fn applying_twice_changes_nothing() {
    let cluster = Cluster::control_plane();
    for own in [false, true] {
        let apply = |text: &str| match own {
            true => cluster.own_kubectl_with(&["apply", "-f", "-"], text).ok(),
            false => cluster.kubectl_with(&["apply", "-f", "-"], text).ok(),
        };
        let first = apply(WEB);
        assert_eq!(first.matches(" created").count(), 3, "{first}");
        let second = apply(WEB);
        assert_eq!(second.matches(" unchanged").count(), 3, "{second}");
        let third = apply(&WEB.replace("green", "blue"));
        assert!(third.contains("configmap/web configured"), "{third}");
        assert_eq!(third.matches(" unchanged").count(), 2, "{third}");
        assert_eq!(cluster.get("configmap", "web")["data"]["colour"], "blue");
        cluster.kubectl_with(&["delete", "-f", "-"], WEB).ok();
        cluster.wait_for_none("replicasets", "app=web");
        cluster.wait_for_none("pods", "app=web");
    }
}

#[test]
fn a_deployment_makes_and_keeps_its_pods() {
    let cluster = Cluster::control_plane();
    cluster.kubectl_with(&["apply", "-f", "-"], WEB).ok();
    let count = |wanted: usize| {
        eventually(&format!("{wanted} pods"), Duration::from_secs(20), || {
            let outcome = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]);
            let found = outcome.stdout.lines().count();
            if outcome.success && found == wanted { Ok(outcome.stdout) } else { Err(outcome.to_string()) }
        })
    };
    count(2);
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=5"]).ok();
    let pods = count(5);
    let victim = pods.lines().next().unwrap();
    cluster.kubectl(&["delete", victim, "--wait=false"]).ok();
    eventually("another pod in its place", Duration::from_secs(20), || {
        let outcome = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]);
        let replaced = !outcome.stdout.contains(victim) && outcome.stdout.lines().count() == 5;
        if replaced { Ok(()) } else { Err(outcome.to_string()) }
    });
    // No pod has a node, so none is available, and says so.
    let pending = cluster.kubectl(&["get", "pods", "-l", "app=web"]).ok();
    assert_eq!(pending.matches("Pending").count(), 5, "{pending}");
    eventually("the scheduler says why", Duration::from_secs(20), || {
        let outcome = cluster.kubectl(&["get", "events", "--field-selector=reason=FailedScheduling"]);
        if outcome.stdout.contains("no nodes available to schedule pods") {
            Ok(())
        } else {
            Err(outcome.to_string())
        }
    });
}

#[test]
fn deleting_an_owner_takes_or_leaves_what_it_owns() {
    let cluster = Cluster::control_plane();
    cluster.kubectl_with(&["apply", "-f", "-"], WEB).ok();
    eventually("pods", Duration::from_secs(20), || {
        let outcome = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]);
        if outcome.stdout.lines().count() == 2 { Ok(()) } else { Err(outcome.to_string()) }
    });
    cluster.kubectl(&["delete", "deployment", "web", "--cascade=orphan"]).ok();
    let orphan = cluster.kubectl(&["get", "replicasets", "-l", "app=web", "-o", "json"]).json();
    assert_eq!(orphan["items"].as_array().unwrap().len(), 1);
    eventually("the replica set has no owner", Duration::from_secs(20), || {
        let orphan = cluster.kubectl(&["get", "replicasets", "-l", "app=web", "-o", "json"]).json();
        let owners = &orphan["items"][0]["metadata"]["ownerReferences"];
        if owners.is_null() { Ok(()) } else { Err(owners.to_string()) }
    });
    let name = cluster.kubectl(&["get", "replicasets", "-l", "app=web", "-o", "name"]).ok();
    cluster.kubectl(&["delete", name.trim(), "--cascade=foreground"]).ok();
    let pods = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).ok();
    assert_eq!(pods, "");
}

#[test]
fn a_namespace_takes_everything_in_it_along() {
    let cluster = Cluster::control_plane();
    cluster.kubectl(&["create", "namespace", "gone"]).ok();
    cluster.kubectl_with(&["apply", "-n", "gone", "-f", "-"], WEB).ok();
    cluster.kubectl(&["delete", "namespace", "gone", "--timeout=60s"]).ok();
    let left = cluster.kubectl(&[
        "get",
        "deployments,replicasets,pods,services,configmaps",
        "-n",
        "gone",
        "-o",
        "name",
    ]);
    assert_eq!(left.ok(), "");
}

#[test]
fn endpoints_of_the_api_itself_are_published() {
    let cluster = Cluster::control_plane();
    let slices = cluster.kubectl(&[
        "get",
        "endpointslices",
        "-n",
        "default",
        "-l",
        "kubernetes.io/service-name=kubernetes",
        "-o",
        "json",
    ]);
    let slices = slices.json();
    let slice = &slices["items"][0];
    assert_eq!(slice["endpoints"][0]["addresses"][0], cluster.network.address(0).as_str(), "{slices}");
    assert_eq!(slice["ports"][0]["name"], "https");
}
