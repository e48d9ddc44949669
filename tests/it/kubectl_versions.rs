//! Old and new kubectl: each version asks for other documents and sends bodies in other forms.
//!
//! Runs with every real kubectl of the machine, where there is one; the bundled one has tests of its own.

use std::path::Path;

use minik8s_tests::{Cluster, CommandOutcome, kubectls};

const APP: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 0
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - {name: first, image: 'first:1', ports: [{containerPort: 80}]}
      - {name: second, image: 'second:1', resources: {limits: {cpu: 500m}}}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec:
  selector: {app: app}
  ports: [{name: http, port: 80}, {name: https, port: 443}]
";

const MISSPELT: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: misspelt}
spec:
  containers: [{name: one, image: 'one:1', imagePolicy: Never}]
";

fn apply_and_change(kubectl: &dyn Fn(&[&str], &str) -> CommandOutcome) {
    let apply = |text: &str| kubectl(&["apply", "-f", "-"], text).ok();
    assert_eq!(apply(APP), "deployment.apps/app created\nservice/app created\n");
    assert_eq!(apply(APP), "deployment.apps/app unchanged\nservice/app unchanged\n");
    // One container changes, one port goes: lists merge by key and nothing else moves.
    let changed = APP.replace("second:1", "second:2").replace(", {name: https, port: 443}", "");
    assert_eq!(apply(&changed), "deployment.apps/app configured\nservice/app configured\n");
    let images = "jsonpath={.spec.template.spec.containers[*].image}";
    assert_eq!(kubectl(&["get", "deployment", "app", "-o", images], "").ok(), "first:1 second:2");
    let ports = "jsonpath={.spec.ports[*].port}/{.spec.ports[0].targetPort}";
    assert_eq!(kubectl(&["get", "service", "app", "-o", ports], "").ok(), "80/80");
    kubectl(&["delete", "-f", "-"], APP).ok();
}

/// What needs the published schemas and typed bodies.
fn schemas_and_bodies(kubectl: &dyn Fn(&[&str], &str) -> CommandOutcome) {
    let refused = kubectl(&["create", "-f", "-"], MISSPELT).failed();
    assert!(refused.contains(r#"unknown field "spec.containers[0].imagePolicy""#), "{refused}");
    let warned = kubectl(&["create", "--validate=warn", "--dry-run=server", "-f", "-"], MISSPELT);
    assert!(warned.stderr.contains(r#"unknown field "spec.containers[0].imagePolicy""#), "{warned}");
    assert!(warned.clone().ok().contains("created (server dry run)"), "{warned}");
    let explained = kubectl(&["explain", "deployment.spec.strategy.rollingUpdate"], "").ok();
    assert!(explained.contains("maxSurge") && explained.contains("<IntOrString>"), "{explained}");
    // Made by typed clients, so that new versions send protobuf.
    let create =
        ["create", "deployment", "typed", "--image=one:1", "--port=80", "--replicas=0", "-o", "json"];
    let made = kubectl(&create, "").json();
    assert_eq!(made["spec"]["template"]["spec"]["containers"][0]["terminationMessagePolicy"], "File");
    assert_eq!(made["spec"]["replicas"], 0);
    kubectl(&["create", "service", "clusterip", "typed", "--tcp=80:8080"], "").ok();
    let target = kubectl(&["get", "service", "typed", "-o", "jsonpath={.spec.ports[0].targetPort}"], "").ok();
    assert_eq!(target, "8080");
    kubectl(&["create", "secret", "generic", "typed", "--from-literal=key=value"], "").ok();
    assert_eq!(kubectl(&["get", "secret", "typed", "-o", "jsonpath={.data.key}"], "").ok(), "dmFsdWU=");
    kubectl(&["delete", "deployment,service,secret", "typed"], "").ok();
    let patch = [
        "patch",
        "namespace",
        "default",
        "--type=json",
        "-p",
        r#"[{"op":"test","path":"/kind","value":"x"}]"#,
    ];
    let failed = kubectl(&patch, "").failed();
    assert!(failed.contains("the server rejected our request due to an error in our request"), "{failed}");
}

#[test]
fn every_version_applies_creates_and_explains() {
    let cluster = Cluster::control_plane();
    for program in kubectls() {
        let program: &Path = &program;
        eprintln!("with {}", program.display());
        let kubectl = |arguments: &[&str], input: &str| cluster.kubectl_of(program, arguments, input);
        apply_and_change(&kubectl);
        schemas_and_bodies(&kubectl);
    }
}
