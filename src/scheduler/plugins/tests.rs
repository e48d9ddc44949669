//! Tests of filters that need no cluster.

use super::*;
use crate::framework::Code;
use crate::pod::HostPort;
use crate::resources::Resources;

fn port(ip: &str, protocol: &str, port: i32) -> HostPort {
    HostPort { ip: ip.into(), protocol: protocol.into(), port }
}

#[test]
fn host_ports_conflict_on_the_same_or_the_wildcard_address() {
    let taken = [port("0.0.0.0", "TCP", 80), port("10.0.0.1", "TCP", 443)];
    let free = |wanted: HostPort| !node_ports::conflict(&[wanted], &taken);
    assert!(!free(port("10.0.0.9", "TCP", 80)));
    assert!(free(port("10.0.0.9", "UDP", 80)));
    assert!(!free(port("0.0.0.0", "TCP", 443)));
    assert!(free(port("10.0.0.2", "TCP", 443)));
}

#[test]
fn a_nodes_own_ports_are_read_from_its_annotation() {
    let annotations = serde_json::json!({
        "node.minik8s.io/ports": "TCP/0.0.0.0:6443,TCP/[::]:10250,UDP/10.43.0.10:53,nonsense,TCP/x:1"
    });
    let node = serde_json::json!({"metadata": {"name": "n", "annotations": annotations}});
    let mut info = crate::node::NodeInfo::new("n");
    info.set_node(std::sync::Arc::new(serde_json::from_value(node).unwrap()));
    let wanted = [port("0.0.0.0", "TCP", 6443), port("0.0.0.0", "TCP", 10250), port("10.43.0.10", "UDP", 53)];
    assert_eq!(info.own_ports, wanted);
}

#[test]
fn everything_that_is_short_is_told() {
    let all = Resources { milli_cpu: 1000, memory: 100, pods: 1, ..Resources::default() };
    let used = Resources { milli_cpu: 900, memory: 10, pods: 1, ..Resources::default() };
    let mut wanted = Resources { milli_cpu: 200, memory: 200, pods: 1, ..Resources::default() };
    wanted.others.push(("example.com/gpu".into(), 1));
    assert!(!node_resources_fit::fits(&wanted, &used, &all));
    let expected =
        ["Too many pods", "Insufficient cpu", "Insufficient memory", "Insufficient example.com/gpu"];
    let short = node_resources_fit::short(&wanted, &used, &all);
    assert_eq!(short.reasons(), expected);
    assert_eq!(short.code(), Code::UnschedulableAndUnresolvable, "the node has not so much memory");
    wanted.memory = 95;
    wanted.others.clear();
    let short = node_resources_fit::short(&wanted, &used, &all);
    assert_eq!(short.reasons(), ["Too many pods", "Insufficient cpu", "Insufficient memory"]);
    assert_eq!(short.code(), Code::Unschedulable, "evicting pods could help");
}

#[test]
fn a_pod_without_requests_fits_an_overfull_node() {
    let all = Resources { milli_cpu: 1000, pods: 10, ..Resources::default() };
    let used = Resources { milli_cpu: 2000, pods: 1, ..Resources::default() };
    assert!(node_resources_fit::fits(&Resources { pods: 1, ..Resources::default() }, &used, &all));
}
