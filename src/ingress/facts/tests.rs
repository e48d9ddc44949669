//! What is read of an Ingress.

use std::time::Duration;

use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use super::{Backend, IngressFacts, PortName, by_age};
use crate::paths::Kind;

fn facts(annotations: Value, spec: Value) -> IngressFacts {
    let meta = json!({"namespace": "n", "name": "i", "uid": "u", "annotations": annotations});
    let ingress: Ingress = serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap();
    IngressFacts::of(&ingress)
}

#[test]
fn rules_are_read_with_their_backends() {
    let read = facts(
        json!({}),
        json!({
            "defaultBackend": {"resource": {"apiGroup": "x.io", "kind": "Bucket", "name": "b"}},
            "rules": [{"host": "A.example.com", "http": {"paths": [
                {"path": "/x y", "pathType": "Exact", "backend": {"service": {"name": "s", "port": {"number": 80}}}},
                {"pathType": "ImplementationSpecific", "backend": {"service": {"name": "t", "port": {"name": "web"}}}},
            ]}}, {"host": "none.example.com"}],
            "tls": [{"secretName": "c"}, {"hosts": ["B.example.com"]}],
        }),
    );
    assert_eq!(read.default, Some(Backend::Resource { kind: "Bucket".into(), name: "b".into() }));
    assert_eq!(read.rules[0].host, "a.example.com");
    let [exact, prefix] = &read.rules[0].paths[..] else { panic!("{read:?}") };
    assert_eq!((exact.kind, exact.path.as_str()), (Kind::Exact, "/x%20y"));
    assert_eq!((prefix.kind, prefix.path.as_str()), (Kind::Prefix, "/"));
    let port = PortName::Name("web".into());
    assert_eq!(prefix.backend, Backend::Service { name: "t".into(), port });
    // Without hosts of its own, TLS is for those of the rules.
    let hosts = |at: usize| read.hosts_of(&read.tls[at]).collect::<Vec<_>>();
    assert_eq!(hosts(0), ["a.example.com", "none.example.com"]);
    assert_eq!(hosts(1), ["b.example.com"]);
    assert!(read.tls[1].secrets.is_empty());
}

#[test]
fn entries_of_tls_without_hosts_are_one() {
    let entries = json!([{"secretName": "a"}, {"hosts": ["x.io"], "secretName": "b"}, {"secretName": "c"}, {"secretName": "a"}, {}]);
    let read = facts(json!({}), json!({"tls": entries}));
    let told: Vec<_> = read.tls.iter().map(|tls| (tls.hosts.join(" "), tls.secrets.join(" "))).collect();
    assert_eq!(told, [("".to_string(), "a c".to_string()), ("x.io".to_string(), "b".to_string())]);
}

#[test]
fn annotations_of_ours_count() {
    let plain = facts(json!({}), json!({}));
    assert_eq!((plain.redirects, plain.response_timeout), (true, Some(Duration::from_secs(60))));
    let of = |redirect: &str, timeout: &str| {
        let all = json!({"ingress.minik8s.io/ssl-redirect": redirect, "ingress.minik8s.io/response-timeout": timeout});
        let read = facts(all, json!({}));
        (read.redirects, read.response_timeout)
    };
    assert_eq!(of("false", "0"), (false, None));
    assert_eq!(of("true", "5"), (true, Some(Duration::from_secs(5))));
    // What is no number is passed over.
    assert_eq!(of("no", "soon"), (true, Some(Duration::from_secs(60))));
}

#[test]
fn the_oldest_comes_first() {
    let with = |name: &str, created: Option<&str>| {
        let mut read = facts(json!({}), json!({}));
        read.name = name.to_string();
        read.created = created.map(|text| text.parse().unwrap());
        read
    };
    let mut all = [
        with("unknown", None),
        with("b", Some("2026-01-02T00:00:00Z")),
        with("a", Some("2026-01-02T00:00:00Z")),
        with("old", Some("2026-01-01T00:00:00Z")),
    ];
    by_age(&mut all);
    assert_eq!(all.map(|it| it.name), ["old", "a", "b", "unknown"]);
}
