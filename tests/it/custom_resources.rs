//! Custom resources with a real kubectl: defined, used, explained, and gone with their definition.

use std::time::Duration;

use minik8s_tests::{Cluster, eventually};

const DEFINITION: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [color]
            properties:
              replicas: {type: integer, default: 1, minimum: 0, description: How many there are.}
              color: {type: string, enum: [red, blue]}
          status:
            type: object
            properties: {replicas: {type: integer}, selector: {type: string}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
    additionalPrinterColumns:
    - {name: Color, type: string, jsonPath: .spec.color}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
";

fn widget(name: &str, spec: &str) -> String {
    format!("apiVersion: example.com/v1\nkind: Widget\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

fn define(cluster: &Cluster) {
    cluster.kubectl_with(&["apply", "-f", "-"], DEFINITION).ok();
    cluster
        .kubectl(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=30s"])
        .ok();
}

#[test]
fn kubectl_uses_a_kind_as_soon_as_it_is_defined() {
    let mut cluster = Cluster::control_plane();
    define(&cluster);
    let apply = |text: &str| cluster.kubectl_with(&["apply", "-f", "-"], text);
    assert!(apply(&widget("one", "color: red")).ok().contains("created"));
    assert!(apply(&widget("one", "color: blue")).ok().contains("configured"));
    assert!(apply(&widget("one", "color: blue")).ok().contains("unchanged"));
    let table = cluster.kubectl(&["get", "wd"]).ok();
    assert!(table.contains("COLOR") && table.contains("blue") && table.contains("REPLICAS"), "{table}");
    let own = cluster.own_kubectl(&["get", "widgets"]).ok();
    assert!(own.contains("COLOR") && own.contains("blue"), "{own}");
    assert!(cluster.kubectl(&["get", "all"]).ok().contains("widget.example.com/one"));
    let explained = cluster.kubectl(&["explain", "widget.spec"]).ok();
    assert!(explained.contains("How many there are.") && explained.contains("<integer>"), "{explained}");
    cluster.kubectl(&["scale", "widget", "one", "--replicas=4"]).ok();
    let status = r#"{"status":{"replicas":4},"spec":{"replicas":9}}"#;
    cluster.kubectl(&["patch", "widget", "one", "--subresource=status", "--type=merge", "-p", status]).ok();
    let object = cluster.get("widget", "one");
    assert_eq!((&object["spec"]["replicas"], &object["status"]["replicas"]), (&4.into(), &4.into()));
    let refused = apply(&widget("bad", "color: green, replicas: x")).failed();
    assert!(refused.contains(r#"Unsupported value: "green": supported values: "red", "blue""#), "{refused}");
    assert!(refused.contains("spec.replicas in body must be of type integer"), "{refused}");
    assert!(apply(&widget("odd", "color: red, odd: 1")).failed().contains(r#"unknown field "spec.odd""#));

    cluster.kill();
    cluster.start();
    assert!(cluster.kubectl(&["get", "widgets"]).ok().contains("blue"), "it survives a crash");
}

#[test]
fn instances_go_with_their_owner_their_namespace_and_their_definition() {
    let cluster = Cluster::control_plane();
    define(&cluster);
    let apply = |arguments: &[&str], text: &str| {
        let all = [&["apply", "-f", "-"], arguments].concat();
        cluster.kubectl_with(&all, text).ok()
    };
    cluster.kubectl(&["create", "namespace", "doomed"]).ok();
    apply(&["-n", "doomed"], &widget("two", "color: red"));
    cluster.kubectl(&["delete", "namespace", "doomed", "--timeout=60s"]).ok();
    assert!(!cluster.kubectl(&["get", "widgets", "-A"]).ok().contains("two"));

    let owned_by = |owner: &str, name: &str| {
        let uid = cluster.get("widget", owner)["metadata"]["uid"].as_str().unwrap().to_string();
        let reference = format!("{{apiVersion: example.com/v1, kind: Widget, name: {owner}, uid: {uid}}}");
        apply(
            &[],
            &format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, ownerReferences: [{reference}]}}\n"
            ),
        );
    };
    let gone = |name: &str| {
        eventually("the dependent goes", Duration::from_secs(30), || {
            let found = cluster.kubectl(&["get", "configmap", name, "--ignore-not-found"]).ok();
            if found.is_empty() { Ok(()) } else { Err(found) }
        });
    };
    apply(&[], &widget("owner", "color: red"));
    owned_by("owner", "owned");
    cluster.kubectl(&["delete", "widget", "owner"]).ok();
    gone("owned");

    apply(&[], &widget("last", "color: red"));
    owned_by("last", "orphaned-by-the-kind");
    cluster.kubectl(&["delete", "crd", "widgets.example.com", "--timeout=60s"]).ok();
    gone("orphaned-by-the-kind");
    let refused = cluster.kubectl(&["get", "widgets"]).failed();
    assert!(
        refused.contains("the server could not find the requested resource")
            || refused.contains("the server doesn't have a resource type"),
        "{refused}"
    );
    define(&cluster);
    assert_eq!(cluster.kubectl(&["get", "widgets", "-A", "-o", "name"]).ok(), "");
}
