//! Services.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, column, items, label_map, name, number, or, text, wide};
use crate::strategy::{Cell, Column};

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "How the service is exposed."),
    column("Cluster-IP", "string", "Address inside the cluster."),
    column("External-IP", "string", "Addresses outside the cluster."),
    column("Port(s)", "string", "Ports that the service offers, with their node ports."),
    AGE,
    wide("Selector", "string", "Labels of the pods that serve."),
];

pub(crate) fn cells(service: &Value, now: Timestamp) -> Vec<Cell> {
    let first = items(service, "spec.clusterIPs").first().and_then(Value::as_str);
    let cluster_ip = first.unwrap_or_else(|| text(service, "spec.clusterIP"));
    vec![
        name(service),
        json!(text(service, "spec.type")),
        json!(or(cluster_ip, "<none>")),
        json!(external_ip(service)),
        json!(ports(service)),
        age(service, now),
        label_map(&service["spec"]["selector"]),
    ]
}

fn external_ip(service: &Value) -> String {
    let mut external: Vec<&str> =
        items(service, "spec.externalIPs").iter().filter_map(Value::as_str).collect();
    match text(service, "spec.type") {
        "ClusterIP" | "NodePort" => or(&external.join(","), "<none>").to_string(),
        "LoadBalancer" => {
            let ingress = items(service, "status.loadBalancer.ingress").iter();
            let mut addresses: Vec<&str> =
                ingress.map(|one| or(text(one, "ip"), text(one, "hostname"))).collect();
            addresses.retain(|one| !one.is_empty());
            addresses.append(&mut external);
            or(&addresses.join(","), "<pending>").to_string()
        }
        "ExternalName" => text(service, "spec.externalName").to_string(),
        _ => "<unknown>".to_string(),
    }
}

fn ports(service: &Value) -> String {
    let one = |port: &Value| {
        let (number, node, protocol) =
            (number(port, "port"), number(port, "nodePort"), text(port, "protocol"));
        if node > 0 { format!("{number}:{node}/{protocol}") } else { format!("{number}/{protocol}") }
    };
    let list: Vec<String> = items(service, "spec.ports").iter().map(one).collect();
    or(&list.join(","), "<none>").to_string()
}
