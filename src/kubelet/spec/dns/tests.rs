//! Policies.

use serde_json::json;

use super::*;

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})).unwrap()
}

#[test]
fn policies() {
    let node = parse("# x\nnameserver 10.0.0.2\nsearch corp example\noptions timeout:1\n");
    let cluster = ["10.43.0.10".parse().unwrap()];
    let first = of_pod(&pod(json!({"containers": []})), &node, &cluster, "cluster.local");
    assert_eq!(first.servers, ["10.43.0.10"]);
    assert_eq!(
        first.searches,
        ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp", "example"]
    );
    assert_eq!(first.options, ["ndots:5"]);
    let host = of_pod(&pod(json!({"containers": [], "hostNetwork": true})), &node, &cluster, "cluster.local");
    assert_eq!(host, node);
    let own = json!({"containers": [], "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}});
    let none = of_pod(&pod(own), &node, &cluster, "cluster.local");
    assert_eq!(
        (none.servers, none.options),
        (vec!["1.1.1.1".to_string()], vec!["ndots:2".to_string(), "edns0".to_string()])
    );
    let over = json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}});
    assert_eq!(of_pod(&pod(over), &node, &cluster, "cluster.local").options, ["ndots:1"]);
}
