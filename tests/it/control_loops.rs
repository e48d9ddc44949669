//! Scheduler and controllers through the real API, on nodes that only exist as objects: the test plays their
//! kubelets.

use std::fmt::Display;
use std::time::Duration;

use minik8s_tests::{Cluster, CommandOutcome, eventually};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// A control plane with nodes whose kubelets are played by [`World::play`].
struct World {
    cluster: Cluster,
    nodes: Vec<String>,
}

impl World {
    fn with_nodes(count: usize) -> Self {
        let nodes: Vec<String> = (1..=count).map(|number| format!("node-{number}")).collect();
        let world = World { cluster: Cluster::control_plane(), nodes };
        for name in &world.nodes {
            let amounts = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
            let node = json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {
                    "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-of-{name}"),
                }},
                "status": {"capacity": amounts, "allocatable": amounts},
            });
            world.create(&node);
        }
        world.until("the nodes lose their taints", || {
            let taints = world.query("nodes", "{.items[*].spec.taints}");
            if taints.is_empty() { Ok(()) } else { Err(taints) }
        });
        world
    }

    fn kubectl(&self, arguments: &[&str]) -> CommandOutcome {
        self.cluster.kubectl(arguments)
    }

    fn create(&self, object: &Value) {
        self.cluster.kubectl_with(&["create", "-f", "-"], &object.to_string()).ok();
    }

    /// A JSONPath of a kind's list.
    fn query(&self, what: &str, path: &str) -> String {
        self.kubectl(&["get", what, "-o", &format!("jsonpath={path}")]).ok()
    }

    fn events(&self, reason: &str) -> String {
        let selector = format!("reason={reason}");
        self.kubectl(&[
            "get",
            "events",
            "--field-selector",
            &selector,
            "-o",
            "jsonpath={range .items[*]}{.source.component}: {.message}{\"\\n\"}{end}",
        ])
        .ok()
    }

    fn set_status(&self, what: &[&str], status: &Value) {
        let patch = json!({ "status": status }).to_string();
        let mut arguments = vec!["patch"];
        arguments.extend(what);
        arguments.extend(["--subresource=status", "--type=merge", "-p", &patch]);
        // The object may be gone or changed meanwhile: the next round sees what is there.
        let _ = self.kubectl(&arguments);
    }

    /// What kubelets would do next: be there, start what is bound, end what is deleted.
    fn play(&self) {
        for node in &self.nodes {
            let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""});
            self.set_status(&["node", node], &json!({ "conditions": [ready] }));
        }
        let pods = self.kubectl(&["get", "pods", "-A", "-o", "json"]).json();
        for (index, pod) in pods["items"].as_array().into_iter().flatten().enumerate() {
            let (namespace, name) = (pod["metadata"]["namespace"].as_str(), pod["metadata"]["name"].as_str());
            let (Some(namespace), Some(name)) = (namespace, name) else { continue };
            if pod["metadata"]["deletionTimestamp"].is_string() {
                let _ = self.kubectl(&[
                    "delete",
                    "pod",
                    "-n",
                    namespace,
                    name,
                    "--grace-period=0",
                    "--force",
                    "--wait=false",
                ]);
            } else if pod["spec"]["nodeName"].is_string() && pod["status"]["phase"] == "Pending" {
                let address = format!("10.42.9.{}", index % 250 + 1);
                let ready =
                    json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
                let status = json!({
                    "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready],
                });
                self.set_status(&["pod", "-n", namespace, name], &status);
            }
        }
    }

    /// Plays the kubelets until something is so.
    #[track_caller]
    fn until<T, E: Display>(&self, what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
        eventually(what, LIMIT, || {
            self.play();
            attempt().map_err(|why| {
                format!("{why}\n{}\n{}", self.kubectl(&["get", "all,events", "-A"]), self.cluster.log())
            })
        })
    }

    #[track_caller]
    fn until_is(&self, what: &str, path: &str, wanted: &str) {
        self.until(&format!("{path} of {what} is {wanted:?}"), || {
            let found = self.query(what, path);
            if found == wanted { Ok(()) } else { Err(found) }
        });
    }

    fn deploy(&self, name: &str, replicas: u32) {
        self.kubectl(&["create", "deployment", name, "--image=v1", &format!("--replicas={replicas}")]).ok();
        self.rolled_out(name, replicas);
    }

    #[track_caller]
    fn rolled_out(&self, name: &str, replicas: u32) {
        self.until(&format!("{name} is rolled out"), || {
            let status = self.kubectl(&["rollout", "status", "deployment", name, "--watch=false"]);
            let found =
                self.query(&format!("deployment/{name}"), "{.status.replicas}/{.status.availableReplicas}");
            let done = status.stdout.contains("successfully rolled out")
                && found == format!("{replicas}/{replicas}");
            if done { Ok(()) } else { Err(format!("{status} {found}")) }
        });
    }
}

#[test]
fn a_deployment_is_rolled_out_updated_scaled_and_rolled_back() {
    let world = World::with_nodes(2);
    world.deploy("web", 3);
    let hosts = world.query("pods", "{.items[*].spec.nodeName}");
    assert!(hosts.contains("node-1") && hosts.contains("node-2"), "spread: {hosts}");
    world.kubectl(&["set", "image", "deployment/web", "v1=v2"]).ok();
    world.rolled_out("web", 3);
    world.until_is("pods", "{.items[*].spec.containers[0].image}", "v2 v2 v2");
    let history = world.kubectl(&["rollout", "history", "deployment/web"]).ok();
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    world.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    world.rolled_out("web", 3);
    world.until_is("pods", "{.items[*].spec.containers[0].image}", "v1 v1 v1");
    let revision = "{.metadata.annotations.deployment\\.kubernetes\\.io/revision}";
    assert_eq!(world.query("deployment/web", revision), "3");
    world.kubectl(&["scale", "deployment/web", "--replicas=1"]).ok();
    world.rolled_out("web", 1);
    let scaled = world.events("ScalingReplicaSet");
    assert!(scaled.starts_with("deployment-controller: Scaled up replica set web-"), "{scaled}");
    assert!(scaled.contains(" from 0 to 3"), "{scaled}");
    assert!(world.events("Scheduled").starts_with("default-scheduler: Successfully assigned default/web-"));
    assert!(world.events("SuccessfulCreate").starts_with("replicaset-controller: Created pod: web-"));
}

#[test]
fn a_recreated_deployment_never_mixes_versions_and_tells_when_it_is_late() {
    let world = World::with_nodes(1);
    world.deploy("web", 2);
    let strategy = r#"{"spec":{"progressDeadlineSeconds":2,"strategy":{"type":"Recreate","rollingUpdate":null},
        "template":{"spec":{"nodeSelector":{"no":"where"}}}}}"#;
    world.kubectl(&["patch", "deployment", "web", "-p", strategy]).ok();
    let reason = r#"{.status.conditions[?(@.type=="Progressing")].reason}"#;
    world.until_is("deployment/web", reason, "ProgressDeadlineExceeded");
    let selectors = world.query("pods", "{.items[*].spec.nodeSelector.no}");
    assert_eq!(selectors, "where where", "the old pods went before the new ones came");
    world.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    world.rolled_out("web", 2);
}

#[test]
fn dependents_go_with_their_owner_as_asked() {
    let world = World::with_nodes(1);
    let none_left = |world: &World| {
        world.until("nothing is left", || {
            let left = world.query("replicasets,pods", "{.items[*].metadata.name}");
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    };
    world.deploy("one", 2);
    world.kubectl(&["delete", "deployment", "one", "--cascade=background"]).ok();
    none_left(&world);
    world.deploy("two", 2);
    world.kubectl(&["delete", "deployment", "two", "--cascade=foreground", "--wait=false"]).ok();
    world.until("the owner goes last", || {
        let pods = world.query("pods", "{.items[*].metadata.name}");
        let owner = world.query("deployments", "{.items[*].metadata.name}");
        assert!(!owner.is_empty() || pods.is_empty(), "the deployment went before {pods}");
        if owner.is_empty() { Ok(()) } else { Err(owner) }
    });
    none_left(&world);
    world.deploy("three", 2);
    world.kubectl(&["delete", "deployment", "three", "--cascade=orphan"]).ok();
    world.until_is(
        "replicasets",
        "{.items[*].metadata.ownerReferences}{.items[*].status.readyReplicas}",
        "2",
    );
}

#[test]
fn a_namespace_has_its_account_and_ca_and_is_emptied_in_order() {
    let world = World::with_nodes(1);
    world.kubectl(&["create", "namespace", "work"]).ok();
    let content = "{.items[*].metadata.name}";
    for (what, wanted) in [("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")] {
        let found = || world.kubectl(&["get", what, "-n", "work", "-o", &format!("jsonpath={content}")]).ok();
        world.until(what, || if found() == wanted { Ok(()) } else { Err(found()) });
        world.kubectl(&["delete", what, wanted, "-n", "work"]).ok();
        world.until("it comes back", || if found() == wanted { Ok(()) } else { Err(found()) });
    }
    world.kubectl(&["create", "deployment", "web", "--image=v1", "-n", "work"]).ok();
    world.kubectl(&["create", "configmap", "held", "-n", "work"]).ok();
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    world.kubectl(&["patch", "configmap", "held", "-n", "work", "--type=merge", "-p", hold]).ok();
    world.kubectl(&["delete", "namespace", "work", "--wait=false"]).ok();
    let condition = r#"{.status.conditions[?(@.type=="NamespaceFinalizersRemaining")].message}"#;
    let held =
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
    world.until_is("namespace/work", condition, held);
    let free = r#"{"metadata":{"finalizers":null}}"#;
    world.kubectl(&["patch", "configmap", "held", "-n", "work", "--type=merge", "-p", free]).ok();
    world.until("it is gone", || {
        let left = world.query("namespaces", content);
        if left.contains("work") { Err(left) } else { Ok(()) }
    });
}

#[test]
fn services_follow_their_pods() {
    let world = World::with_nodes(1);
    world.deploy("web", 2);
    world.kubectl(&["expose", "deployment", "web", "--port=80", "--target-port=8080"]).ok();
    let slice = "endpointslices";
    let of_web = r#"{.items[?(@.metadata.labels.kubernetes\.io/service-name=="web")]"#;
    let ready = format!("{of_web}.endpoints[*].conditions.ready}} {of_web}.ports[*].port}}");
    world.until_is(slice, &ready, "true true 8080");
    let addresses = world.query("endpoints/web", "{.subsets[*].addresses[*].ip}");
    assert_eq!(addresses.split(' ').count(), 2, "{addresses}");
    let pod = world.query("pods", "{.items[0].metadata.name}");
    let not_ready = json!({"conditions": [{"type": "Ready", "status": "False"}]});
    world.set_status(&["pod", &pod], &not_ready);
    world.until_is("endpoints/web", "{.subsets[*].notReadyAddresses[*].targetRef.name}", &pod);
    world.kubectl(&["scale", "deployment/web", "--replicas=0"]).ok();
    world.until_is("endpoints/web", "{.subsets}", "");
    world.kubectl(&["delete", "service", "web"]).ok();
    world.until_is(slice, &format!("{of_web}.metadata.name}}"), "");
}

#[test]
fn endpoints_made_by_hand_are_mirrored() {
    let world = World::with_nodes(0);
    let spec = json!({"ports": [{"port": 5432}]});
    world.create(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"}, "spec": spec}));
    let subset = json!({"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]});
    let endpoints =
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "db"}, "subsets": [subset]});
    world.create(&endpoints);
    let of_db =
        r#"{.items[?(@.metadata.labels.kubernetes\.io/service-name=="db")].endpoints[*].addresses[*]}"#;
    world.until_is("endpointslices", of_db, "192.0.2.7");
    let moved = r#"[{"op":"replace","path":"/subsets/0/addresses/0/ip","value":"192.0.2.8"}]"#;
    world.kubectl(&["patch", "endpoints", "db", "--type=json", "-p", moved]).ok();
    world.until_is("endpointslices", of_db, "192.0.2.8");
    world.kubectl(&["delete", "endpoints", "db"]).ok();
    world.until_is("endpointslices", of_db, "");
}

#[test]
fn a_pod_that_fits_nowhere_waits_for_room() {
    let world = World::with_nodes(1);
    let pod = |name: &str, cpu: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "v1", "resources": {"requests": {"cpu": cpu}}}]},
        })
    };
    world.create(&pod("first", "3"));
    world.until_is("pod/first", "{.status.phase}", "Running");
    world.create(&pod("second", "2"));
    let condition = r#"{.status.conditions[?(@.type=="PodScheduled")].reason}"#;
    world.until_is("pod/second", condition, "Unschedulable");
    let told = world.events("FailedScheduling");
    assert!(
        told.starts_with("default-scheduler: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 "),
        "{told}"
    );
    world.kubectl(&["delete", "pod", "first", "--wait=false"]).ok();
    world.until_is("pod/second", "{.status.phase}", "Running");
}

#[test]
fn an_important_pod_takes_the_place_of_another() {
    let world = World::with_nodes(1);
    let pod = |name: &str, class: Option<&str>| {
        let container = json!({"name": "c", "image": "v1", "resources": {"requests": {"cpu": "3"}}});
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [container], "priorityClassName": class},
        })
    };
    world.create(&pod("first", None));
    world.until_is("pod/first", "{.status.phase}", "Running");
    world.create(&pod("vital", Some("system-node-critical")));
    world.until_is("pods", "{.items[*].metadata.name}{.items[*].status.phase}", "vitalRunning");
    assert!(
        world.events("Preempted").starts_with("default-scheduler: Preempted by pod "),
        "{}",
        world.events("Preempted")
    );
}

#[test]
fn a_replica_set_adopts_and_releases() {
    let world = World::with_nodes(1);
    world.kubectl(&["run", "stray", "--image=v1", "--labels=app=web"]).ok();
    world.create(&json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]},
        }},
    }));
    world.until_is("pod/stray", "{.metadata.ownerReferences[*].name}", "web");
    assert_eq!(world.query("pods", "{.items[*].metadata.name}"), "stray");
    world.kubectl(&["label", "pod", "stray", "app=free", "--overwrite"]).ok();
    world.until_is("pod/stray", "{.metadata.ownerReferences}", "");
    world.until_is("replicaset/web", "{.status.readyReplicas}", "1");
}
