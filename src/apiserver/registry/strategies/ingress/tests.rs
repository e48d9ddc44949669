//! Ingresses and classes against what upstream's validation says of the same objects.

use api::kinds::{INGRESS, INGRESS_CLASS};
use client::ObjectRef;
use serde_json::{Value, json};

use crate::testing::Harness;

fn ingress(spec: Value) -> Value {
    json!({"metadata": {"name": "a"}, "spec": spec})
}

fn path(one: Value) -> Value {
    ingress(json!({"rules": [{"host": "example.com", "http": {"paths": [one]}}]}))
}

fn backend() -> Value {
    json!({"service": {"name": "web", "port": {"number": 80}}})
}

#[tokio::test]
async fn faults_of_ingresses_are_upstreams() {
    let h = Harness::start().await;
    let at = "spec.rules[0].http.paths[0]";
    let cases: Vec<(Value, Vec<String>)> = vec![
        (
            ingress(json!({})),
            vec!["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified".into()],
        ),
        (
            ingress(json!({"defaultBackend": {"service": {"name": "Web", "port": {}}}})),
            vec![
                "spec.defaultBackend.service.name: Invalid value: \"Web\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')".into(),
                "spec.defaultBackend: Required value: port name or number is required".into(),
            ],
        ),
        (
            path(json!({"path": "/", "backend": backend()})),
            vec![format!("{at}.pathType: Required value: pathType must be specified")],
        ),
        (
            path(json!({"path": "x//y/..", "pathType": "Prefix", "backend": {}})),
            vec![
                format!("{at}.path: Invalid value: \"x//y/..\": must be an absolute path"),
                format!("{at}.path: Invalid value: \"x//y/..\": must not contain '//'"),
                format!("{at}.path: Invalid value: \"x//y/..\": cannot end with '/..'"),
                format!("{at}.backend: Invalid value: \"\": resource or service backend is required"),
            ],
        ),
        (
            ingress(json!({"rules": [{"host": "1.2.3.4"}], "tls": [{"hosts": ["*.a.*"], "secretName": "S"}]})),
            vec![
                "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address".into(),
                "spec.tls[0].hosts[0]: Invalid value: \"*.a.*\": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into(),
                "spec.tls[0].secretName: Invalid value: \"S\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into(),
            ],
        ),
    ];
    for (body, want) in cases {
        assert_eq!(h.try_create(&INGRESS, Some("default"), body).await.unwrap_err(), want);
    }
    let mut both = ingress(json!({"defaultBackend": backend(), "ingressClassName": "a"}));
    both["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "b"});
    assert_eq!(
        h.try_create(&INGRESS, Some("default"), both).await.unwrap_err(),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"b\": must match `ingressClassName` when both are specified"
        ]
    );
    h.try_create(
        &INGRESS,
        Some("default"),
        path(json!({"path": "/", "pathType": "Exact", "backend": backend()})),
    )
    .await
    .unwrap();
    let part = ObjectRef::new(Some("default"), "a").sub("status");
    let status =
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "010.0.0.1"}, {"hostname": "10.0.0.1"}]}}});
    assert_eq!(
        h.try_patch(&INGRESS, part, status).await.unwrap_err(),
        [
            "status.loadBalancer.ingress[0].ip: Invalid value: \"010.0.0.1\": must not have leading 0s",
            "status.loadBalancer.ingress[1].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
        ]
    );
    h.stop().await;
}

#[tokio::test]
async fn faults_of_classes_are_upstreams() {
    let h = Harness::start().await;
    let class = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    let cases: Vec<(Value, &[&str])> = vec![
        (class(json!({})), &["spec.controller: Required value"]),
        (
            class(json!({"controller": "nginx"})),
            &[
                "spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ],
        ),
        (
            class(
                json!({"controller": "k8s.io/x", "parameters": {"kind": "", "name": "n", "scope": "Namespace"}}),
            ),
            &[
                "spec.parameters.kind: Required value",
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ],
        ),
        (
            class(
                json!({"controller": "k8s.io/x", "parameters": {"kind": "K", "name": "n", "namespace": "x"}}),
            ),
            &["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
        ),
    ];
    for (body, want) in cases {
        assert_eq!(h.try_create(&INGRESS_CLASS, None, body).await.unwrap_err(), want);
    }
    h.try_create(&INGRESS_CLASS, None, class(json!({"controller": "k8s.io/x"}))).await.unwrap();
    let change = json!({"spec": {"controller": "k8s.io/y"}});
    assert_eq!(
        h.try_patch(&INGRESS_CLASS, ObjectRef::new(None, "a"), change).await.unwrap_err(),
        ["spec.controller: Invalid value: \"k8s.io/y\": field is immutable"]
    );
    h.stop().await;
}
