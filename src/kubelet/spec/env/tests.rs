//! Environments as upstream makes them.

use serde_json::json;

use super::*;

fn container(value: serde_json::Value) -> Container {
    serde_json::from_value(value).unwrap()
}

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m"}}}]}
    }))
    .unwrap()
}

fn input<'a>(
    pod: &'a Pod,
    sources: &'a Sources,
    services: &'a BTreeMap<String, String>,
    rest: &'a (Addresses, Resources),
) -> EnvInput<'a> {
    EnvInput { pod, addresses: &rest.0, allocatable: &rest.1, services, sources }
}

#[test]
fn expansion_follows_upstream() {
    let map: BTreeMap<String, String> = [("A".to_string(), "1".to_string())].into();
    for (text, want) in [
        ("$(A)", "1"),
        ("x$(A)y", "x1y"),
        ("$$(A)", "$(A)"),
        ("$(B)", "$(B)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$", "$"),
        ("$$$(A)", "$1"),
    ] {
        assert_eq!(expand(text, &[&map]), want, "{text}");
    }
    assert!(expand_strictly("$(B)", &map).is_err());
    assert_eq!(expand_strictly("a/$(A)", &map).unwrap(), "a/1");
}

#[test]
fn variables_come_in_order_and_override() {
    let pod = pod();
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"K": "v", "X": "from"}})).unwrap();
    let sources =
        Sources { config_maps: [("m".to_string(), Some(Arc::new(map)))].into(), ..Sources::default() };
    let services = [("S".to_string(), "svc".to_string()), ("X".to_string(), "svc".to_string())].into();
    let rest = (Addresses { host: vec!["10.0.0.1".into()], pod: vec!["10.42.0.2".into()] }, Resources::new());
    let container = container(json!({"name": "c",
    "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}],
    "env": [
        {"name": "X", "value": "$(P_K)-$(S)-$(LATER)"},
        {"name": "LATER", "value": "l"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}},
        {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": true}}},
        {"name": "E"},
    ]}));
    let env = environment(&container, &input(&pod, &sources, &services, &rest)).unwrap();
    assert_eq!(env["X"], "v-svc-$(LATER)");
    assert_eq!(env["IP"], "10.42.0.2");
    assert_eq!(env["APP"], "web");
    assert_eq!(env["CPU"], "2");
    assert_eq!(env["E"], "");
    assert_eq!(env["S"], "svc");
    assert!(!env.contains_key("GONE"));
}

#[test]
fn missing_sources_are_named() {
    let pod = pod();
    let (sources, services, rest) =
        (Sources::default(), BTreeMap::new(), (Addresses::default(), Resources::new()));
    let from = container(json!({"name": "c", "envFrom": [{"configMapRef": {"name": "m"}}]}));
    let error = environment(&from, &input(&pod, &sources, &services, &rest)).unwrap_err();
    assert_eq!(error.to_string(), "configmap \"m\" not found");
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "s"}})).unwrap();
    let sources =
        Sources { secrets: [("s".to_string(), Some(Arc::new(secret)))].into(), ..Sources::default() };
    let key = container(
        json!({"name": "c", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
    );
    let error = environment(&key, &input(&pod, &sources, &services, &rest)).unwrap_err();
    assert_eq!(error.to_string(), "couldn't find key k in Secret ns/s");
}

#[test]
fn services_become_variables() {
    let service = |ns: &str, name: &str, spec: serde_json::Value| -> Arc<Service> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": ns}, "spec": spec}))
                .unwrap(),
        )
    };
    let services = [
        service(
            "default",
            "kubernetes",
            json!({"clusterIP": "10.43.0.1", "ports": [{"name": "https", "port": 443}]}),
        ),
        service(
            "ns",
            "web-api",
            json!({"clusterIP": "10.43.0.9", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}),
        ),
        service("ns", "headless", json!({"clusterIP": "None", "ports": [{"port": 80}]})),
        service("other", "x", json!({"clusterIP": "10.43.0.8", "ports": [{"port": 80}]})),
    ];
    let env = service_variables(&services, "ns", true);
    assert_eq!(env["KUBERNETES_SERVICE_HOST"], "10.43.0.1");
    assert_eq!(env["KUBERNETES_SERVICE_PORT_HTTPS"], "443");
    assert_eq!(env["WEB_API_SERVICE_PORT"], "80");
    assert_eq!(env["WEB_API_PORT"], "tcp://10.43.0.9:80");
    assert_eq!(env["WEB_API_PORT_53_UDP"], "udp://10.43.0.9:53");
    assert!(!env.keys().any(|key| key.starts_with("HEADLESS") || key.starts_with("X_")));
    let env = service_variables(&services, "ns", false);
    assert!(env.keys().all(|key| key.starts_with("KUBERNETES_")));
}
