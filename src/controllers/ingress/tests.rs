//! Which addresses ingresses are not served at, and what the manifest says.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde_json::json;

use super::{CLASS, oldest, taken};

fn service(kind: &str, port: u16, address: &str) -> Arc<Service> {
    let status = json!({"loadBalancer": {"ingress": [{"ip": address}]}});
    let spec = json!({"type": kind, "ports": [{"port": port}]});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec, "status": status})).unwrap(),
    )
}

#[test]
fn a_load_balancers_port_is_not_the_nodes() {
    let services = [
        service("LoadBalancer", 443, "192.0.2.1"),
        service("LoadBalancer", 81, "192.0.2.2"),
        service("ClusterIP", 80, "192.0.2.3"),
    ];
    let found: Vec<String> = taken(&services, [80, 443]).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["192.0.2.1"]);
}

#[test]
fn ports_are_taken_from_the_first_ingress_on() {
    let class: IngressClass = serde_yaml::from_str(CLASS).unwrap();
    let ingress = |created: &str, class: &str| -> Arc<Ingress> {
        let meta = json!({"name": "i", "creationTimestamp": created});
        Arc::new(
            serde_json::from_value(json!({"metadata": meta, "spec": {"ingressClassName": class}})).unwrap(),
        )
    };
    let all = [
        ingress("2026-01-01T00:00:00Z", "other"),
        ingress("2026-01-03T00:00:00Z", "minik8s"),
        ingress("2026-01-02T00:00:00Z", "minik8s"),
    ];
    let classes = [Arc::new(class)];
    assert_eq!(oldest(&all, &classes).unwrap().to_string(), "2026-01-02T00:00:00Z");
    assert_eq!(oldest(&all[..1], &classes), None);
}
