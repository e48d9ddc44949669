//! Tests of Endpoints.

use serde_json::{Value, json};

use super::*;

fn pod(name: &str, ip: &str, ready: bool, http: i32) -> Arc<Pod> {
    let status = if ready { "True" } else { "False" };
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"nodeName": "one", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": http}]}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": status}]},
        }))
        .unwrap(),
    )
}

fn service(ports: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"clusterIP": "10.43.0.7", "selector": {"app": "web"}, "ports": ports},
    }))
    .unwrap()
}

fn updated(service: &Service, pods: &[Arc<Pod>]) -> Endpoints {
    let mut endpoints = Endpoints::default();
    assert!(update(&mut endpoints, service, pods, None));
    assert!(!update(&mut endpoints, service, pods, None), "a second time changes nothing");
    endpoints
}

fn ips(list: &Option<Vec<EndpointAddress>>) -> Vec<&str> {
    list.iter().flatten().map(|address| address.ip.as_str()).collect()
}

#[test]
fn ports_with_the_same_addresses_share_a_subset() {
    let service = service(
        json!([{"name": "http", "port": 80, "targetPort": "http"}, {"name": "metrics", "port": 9000}]),
    );
    let pods = [
        pod("b", "10.42.0.10", true, 8080),
        pod("a", "10.42.0.9", true, 8080),
        pod("c", "10.42.0.11", false, 8080),
    ];
    let endpoints = updated(&service, &pods);
    let subsets = endpoints.subsets.unwrap();
    assert_eq!(subsets.len(), 1);
    assert_eq!(ips(&subsets[0].addresses), ["10.42.0.9", "10.42.0.10"]);
    assert_eq!(ips(&subsets[0].not_ready_addresses), ["10.42.0.11"]);
    let ports: Vec<_> =
        subsets[0].ports.iter().flatten().map(|port| (port.name.as_deref(), port.port)).collect();
    assert_eq!(ports, [(Some("http"), 8080), (Some("metrics"), 9000)]);
    assert_eq!(endpoints.metadata.labels.unwrap()[MANAGED_BY], "endpoint-controller");
}

#[test]
fn a_named_port_that_differs_splits() {
    let service = service(json!([{"port": 80, "targetPort": "http"}]));
    let pods = [pod("a", "10.42.0.1", true, 8080), pod("b", "10.42.0.2", true, 8081)];
    assert_eq!(updated(&service, &pods).subsets.unwrap().len(), 2);
}

#[test]
fn no_pods_no_subsets() {
    assert_eq!(updated(&service(json!([{"port": 80}])), &[]).subsets, None);
}

#[test]
fn capacity() {
    let service = service(json!([{"port": 80}]));
    let pods: Vec<Arc<Pod>> = (0..1100)
        .map(|index| {
            pod(&format!("p{index}"), &format!("10.42.{}.{}", index / 250, index % 250), index % 2 == 0, 80)
        })
        .collect();
    let endpoints = updated(&service, &pods);
    let subset = &endpoints.subsets.as_ref().unwrap()[0];
    assert_eq!((ips(&subset.addresses).len(), ips(&subset.not_ready_addresses).len()), (550, 450));
    assert_eq!(endpoints.metadata.annotations.unwrap()[OVER_CAPACITY], "truncated");
}
