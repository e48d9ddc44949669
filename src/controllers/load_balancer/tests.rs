//! What is a reason to look at all services again.

use serde_json::{Value, json};

use super::*;

fn pod(node: Option<&str>, ports: Value) -> Arc<Pod> {
    let tree = json!({
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"nodeName": node, "containers": [{"name": "a", "ports": ports}]},
        "status": {"phase": "Running"},
    });
    Arc::new(serde_json::from_value(tree).unwrap())
}

#[test]
fn pods_without_ports_of_their_node_are_none() {
    let change = |old, new| Change { old, new };
    let plain = || Some(pod(Some("n"), json!([{"containerPort": 80}])));
    let taking = || Some(pod(Some("n"), json!([{"containerPort": 80, "hostPort": 80}])));
    assert!(!takes_ports(&change(None, plain())));
    assert!(!takes_ports(&change(plain(), None)));
    assert!(!takes_ports(&change(taking(), taking())));
    assert!(takes_ports(&change(None, taking())));
    assert!(takes_ports(&change(taking(), None)));
}
