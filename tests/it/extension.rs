//! What extends a cluster, with a real kubectl: webhooks behind a service that convert and admit, rules and
//! policies in CEL, and an API server of another group.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minik8s_tests::{Cluster, Extension, ExtensionRequest, eventually};
use serde_json::{Value, json};

/// A service `name` whose endpoint is the extension.
pub(crate) fn expose(cluster: &Cluster, name: &str, extension: &Extension) {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 443}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-1\n  labels: \
         {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\nendpoints: [{{addresses: [\"{}\"]}}]\nports: \
         [{{name: \"\", port: {}}}]\n",
        cluster.network.address(0),
        extension.port
    );
    cluster.kubectl_with(&["apply", "-f", "-"], &text).ok();
}

fn client_config(name: &str, path: &str, extension: &Extension) -> Value {
    json!({
        "service": { "namespace": "default", "name": name, "path": path },
        "caBundle": STANDARD.encode(&extension.authority),
    })
}

pub(crate) fn apply(cluster: &Cluster, object: &Value) {
    cluster.kubectl_with(&["apply", "-f", "-"], &object.to_string()).ok();
}

fn convert(request: &ExtensionRequest) -> Value {
    let review = &request.body["request"];
    let version = review["desiredAPIVersion"].as_str().unwrap_or_default();
    let convert = |object: &Value| {
        let mut object = object.clone();
        object["apiVersion"] = json!(version);
        let (from, to) = if version.ends_with("v2") { ("size", "litres") } else { ("litres", "size") };
        if let Some(value) = object["spec"].as_object_mut().and_then(|spec| spec.remove(from)) {
            object["spec"][to] = value;
        }
        object
    };
    let objects: Vec<Value> = review["objects"].as_array().into_iter().flatten().map(convert).collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "response": { "uid": review["uid"], "result": { "status": "Success" }, "convertedObjects": objects },
    })
}

fn admit(request: &ExtensionRequest) -> Value {
    let review = &request.body["request"];
    let mut response = json!({ "uid": review["uid"], "allowed": true });
    let labels = &review["object"]["metadata"]["labels"];
    match request.path.split('?').next() {
        Some("/mutate") if labels["seen"].is_null() => {
            let patch = json!([{ "op": "add", "path": "/metadata/labels/seen", "value": "yes" }]);
            response["patch"] = json!(STANDARD.encode(patch.to_string()));
            response["patchType"] = json!("JSONPatch");
        }
        Some("/validate") if labels["mood"] == "bad" => {
            response["allowed"] = json!(false);
            response["status"] = json!({ "message": "only good moods", "code": 403 });
        }
        _ => response["warnings"] = json!(["looked at"]),
    }
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
}

fn tanks(conversion: Value) -> Value {
    let version = |name: &str, storage: bool, field: &str| {
        json!({
            "name": name, "served": true, "storage": storage,
            "selectableFields": [{ "jsonPath": format!(".spec.{field}") }],
            "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": {
                "type": "object", "properties": { field: { "type": "integer" } },
                "x-kubernetes-validations": [{
                    "rule": format!("!has(self.{field}) || self.{field} <= 100"),
                    "messageExpression": format!("string(self.{field}) + ' is too much'"),
                }] } } } },
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "tanks.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": { "plural": "tanks", "kind": "Tank" },
            "versions": [version("v1", true, "size"), version("v2", false, "litres")],
            "conversion": { "strategy": "Webhook", "webhook": {
                "clientConfig": conversion, "conversionReviewVersions": ["v1"] } },
        },
    })
}

#[test]
fn webhooks_behind_a_service_convert_and_admit() {
    let cluster = Cluster::control_plane();
    let hook = Extension::start(&cluster.network, "hook.default.svc", |request| {
        (200, if request.path.starts_with("/convert") { convert(request) } else { admit(request) })
    });
    expose(&cluster, "hook", &hook);
    apply(&cluster, &tanks(client_config("hook", "/convert", &hook)));
    let wait = ["wait", "--for=condition=Established", "crd/tanks.example.com", "--timeout=30s"];
    cluster.kubectl(&wait).ok();
    let tank = |version: &str, name: &str, spec: Value| {
        let tank = json!({
            "apiVersion": format!("example.com/{version}"), "kind": "Tank",
            "metadata": { "name": name, "labels": { "mood": "good" } }, "spec": spec,
        });
        tank.to_string()
    };
    let create = |text: &str| cluster.kubectl_with(&["create", "-f", "-"], text);
    create(&tank("v1", "one", json!({ "size": 5 }))).ok();
    create(&tank("v2", "two", json!({ "litres": 7 }))).ok();
    assert_eq!(cluster.get("tanks.v2.example.com", "one")["spec"], json!({ "litres": 5 }));
    assert_eq!(cluster.get("tanks.v1.example.com", "two")["spec"], json!({ "size": 7 }));
    let found = cluster
        .kubectl(&["get", "tanks.v2.example.com", "--field-selector", "spec.litres=7", "-o", "name"])
        .ok();
    assert_eq!(found.trim(), "tank.example.com/two");
    let refused = create(&tank("v2", "three", json!({ "litres": 101 }))).failed();
    assert!(refused.contains("spec: Invalid value: 101 is too much"), "{refused}");

    for (kind, path) in
        [("MutatingWebhookConfiguration", "/mutate"), ("ValidatingWebhookConfiguration", "/validate")]
    {
        apply(
            &cluster,
            &json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": "hook" },
                "webhooks": [{
                    "name": "hook.example.com", "clientConfig": client_config("hook", path, &hook),
                    "rules": [{ "operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"],
                                "resources": ["tanks"] }],
                    "matchConditions": [{ "name": "not-me", "expression": "object.metadata.name != 'skipped'" }],
                    "sideEffects": "None", "admissionReviewVersions": ["v1"],
                }],
            }),
        );
    }
    // The rules name the other version: the object is converted for the webhook and back.
    let said = create(&tank("v2", "four", json!({ "litres": 9 })));
    assert!(said.success && said.stderr.contains("looked at"), "{said}");
    let four = cluster.get("tanks.v2.example.com", "four");
    assert_eq!((&four["metadata"]["labels"]["seen"], &four["spec"]["litres"]), (&json!("yes"), &json!(9)));
    create(&tank("v1", "skipped", json!({ "size": 1 }))).ok();
    assert!(cluster.get("tanks", "skipped")["metadata"]["labels"]["seen"].is_null());
    let bad = tank("v1", "bad", json!({ "size": 1 })).replace("good", "bad");
    let refused = create(&bad).failed();
    assert!(
        refused.contains(r#"admission webhook "hook.example.com" denied the request: only good moods"#),
        "{refused}"
    );
    drop(hook);
    let refused = create(&tank("v1", "five", json!({ "size": 1 }))).failed();
    assert!(refused.contains(r#"failed calling webhook "hook.example.com""#), "{refused}");
    cluster.kubectl(&["delete", "mutatingwebhookconfiguration,validatingwebhookconfiguration", "hook"]).ok();
    create(&tank("v1", "five", json!({ "size": 1 }))).ok();
}

#[test]
fn policies_judge_and_change_what_is_written() {
    let cluster = Cluster::control_plane();
    let policies = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: named}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  variables: [{name: owner, expression: "object.?metadata.labels.owner.orValue('')"}]
  validations: [{expression: "variables.owner != ''", message: "say whose it is"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: named}
spec:
  policyName: named
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}
"#;
    cluster.kubectl_with(&["apply", "-f", "-"], policies).ok();
    let refused = cluster.kubectl(&["create", "configmap", "mine"]).failed();
    let words = "ValidatingAdmissionPolicy 'named' with binding 'named' denied request: say whose it is";
    assert!(refused.contains(words), "{refused}");
    cluster.kubectl(&["create", "configmap", "mine", "-n", "kube-public"]).ok();
    let labelled = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine, labels: {owner: me}}\n";
    cluster.kubectl_with(&["create", "-f", "-"], labelled).ok();
    let wrong = policies.replace("variables.owner != ''", "variables.owner !=");
    let refused = cluster.kubectl_with(&["apply", "-f", "-"], &wrong).failed();
    assert!(refused.contains("compilation failed: ERROR: <input>:1:19: Syntax error"), "{refused}");
}

#[test]
fn another_api_server_serves_its_group() {
    let cluster = Cluster::control_plane();
    let flunders = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "far.example.com/v1",
        "resources": [{ "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
                        "verbs": ["get", "list"] }],
    });
    let other = Extension::start(&cluster.network, "other.default.svc", move |request| {
        let user = request.header("x-remote-user").to_string();
        match request.path.split('?').next() {
            Some("/apis/far.example.com/v1") => (200, flunders.clone()),
            Some("/apis/far.example.com/v1/namespaces/default/flunders/f") => (
                200,
                json!({
                    "kind": "Flunder", "apiVersion": "far.example.com/v1", "asked": user,
                    "metadata": { "name": "f", "namespace": "default" },
                }),
            ),
            _ => (404, json!({ "kind": "Status", "code": 404, "reason": "NotFound", "message": "no" })),
        }
    });
    expose(&cluster, "other", &other);
    apply(
        &cluster,
        &json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": { "name": "v1.far.example.com" },
            "spec": {
                "group": "far.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
                "service": { "namespace": "default", "name": "other" },
                "caBundle": STANDARD.encode(&other.authority),
            },
        }),
    );
    let wait = ["wait", "--for=condition=Available", "apiservice/v1.far.example.com", "--timeout=30s"];
    cluster.kubectl(&wait).ok();
    eventually("discovery has the group", Duration::from_secs(30), || {
        let groups = cluster.kubectl(&["get", "--raw", "/apis"]).ok();
        if groups.contains("far.example.com") { Ok(()) } else { Err(groups) }
    });
    assert_eq!(cluster.get("flunders", "f")["asked"], "system:admin");
    let trust = cluster
        .kubectl(&[
            "get",
            "-n",
            "kube-system",
            "configmap",
            "extension-apiserver-authentication",
            "-o",
            "yaml",
        ])
        .ok();
    assert!(trust.contains("requestheader-client-ca-file") && trust.contains("X-Remote-Extra-"), "{trust}");
    drop(other);
    let wait = ["wait", "--for=condition=Available=false", "apiservice/v1.far.example.com", "--timeout=90s"];
    cluster.kubectl(&wait).ok();
    let refused = cluster.kubectl(&["get", "--raw", "/apis/far.example.com/v1"]).failed();
    assert!(refused.to_lowercase().contains("unavailable"), "{refused}");
}
