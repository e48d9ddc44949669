//! Who gets which addresses.

use serde_json::{Value, json};

use super::*;

fn node(name: &str, address: &str, labels: Value) -> NodeFacts {
    let node = json!({
        "metadata": {"name": name, "labels": labels},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        },
    });
    NodeFacts::of(&serde_json::from_value(node).unwrap())
}

fn service(name: &str, created: u8, spec: Value) -> Arc<Service> {
    let mut whole = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let created = format!("2026-01-01T00:00:{created:02}Z");
    let meta = json!({"namespace": "ns", "name": name, "uid": name, "creationTimestamp": created});
    Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": whole})).unwrap())
}

fn two() -> Vec<NodeFacts> {
    vec![node("a", "192.0.2.1", json!({})), node("b", "192.0.2.2", json!({}))]
}

/// What each service gets, by name: its addresses, or why it has none.
fn given(services: &[Arc<Service>], nodes: &[NodeFacts], ports: &[HostPort]) -> Vec<String> {
    let ours: Vec<Arc<Service>> = services.iter().filter(|it| is_ours(it)).cloned().collect();
    let planned = plan(&ours, services, nodes, ports, &[], |_| vec!["b".to_string()]);
    let shown = planned.into_iter().map(|(service, given)| {
        let name = text(&service.metadata.name);
        format!("{name}: {}", given.why_none.unwrap_or_else(|| given.addresses.join(" ")))
    });
    shown.collect()
}

#[test]
fn all_ready_nodes_serve_or_those_with_an_endpoint() {
    let services = [
        service("all", 1, json!({})),
        service("local", 2, json!({"externalTrafficPolicy": "Local", "ports": [{"port": 81}]})),
        service("class", 3, json!({"loadBalancerClass": "other/one", "ports": [{"port": 82}]})),
        service("own", 4, json!({"loadBalancerClass": CLASS, "ports": [{"port": 83}]})),
        service("plain", 5, json!({"type": "ClusterIP"})),
    ];
    assert_eq!(
        given(&services, &two(), &[]),
        ["all: 192.0.2.1 192.0.2.2", "local: 192.0.2.2", "own: 192.0.2.1 192.0.2.2"]
    );
    let mut nodes = two();
    nodes[0].serves = false;
    assert_eq!(given(&services[..1], &nodes, &[]), ["all: 192.0.2.2"]);
    assert_eq!(given(&services[..1], &[], &[]), ["all: there is no node that can serve it"]);
}

#[test]
fn labels_pick_nodes() {
    let enabled = json!({"svccontroller.k3s.cattle.io/enablelb": "true"});
    let nodes = [node("a", "192.0.2.1", json!({})), node("b", "192.0.2.2", enabled)];
    assert_eq!(given(&[service("x", 1, json!({}))], &nodes, &[]), ["x: 192.0.2.2"]);
    let pool = json!({"svccontroller.k3s.cattle.io/lbpool": "p"});
    let nodes = [node("a", "192.0.2.1", pool.clone()), node("b", "192.0.2.2", json!({}))];
    let mut pooled = Service::clone(&service("x", 1, json!({})));
    pooled.metadata.labels = serde_json::from_value(pool).unwrap();
    assert_eq!(given(&[Arc::new(pooled)], &nodes, &[]), ["x: 192.0.2.1"]);
}

#[test]
fn external_addresses_come_before_internal_ones() {
    let mut object = json!({
        "metadata": {"name": "a"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "ExternalIP", "address": "203.0.113.1"}],
        },
    });
    let of = |object: &Value| NodeFacts::of(&serde_json::from_value(object.clone()).unwrap());
    assert_eq!(given(&[service("x", 1, json!({}))], &[of(&object)], &[]), ["x: 203.0.113.1"]);
    object["metadata"]["labels"] = json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""});
    assert!(!of(&object).serves);
}

#[test]
fn a_port_belongs_to_who_was_there_first_and_the_other_is_told() {
    let older = service("older", 1, json!({}));
    let younger = service("younger", 2, json!({"ports": [{"port": 80}, {"port": 81}]}));
    let udp = service("udp", 3, json!({"ports": [{"port": 80, "protocol": "UDP"}]}));
    let said = given(&[younger.clone(), udp, older], &two()[..1], &[]);
    let why = "younger: port 80/TCP of node a is taken by Service ns/older";
    assert_eq!(said, ["older: 192.0.2.1", why, "udp: 192.0.2.1"]);
    // A pod's host port is in the way on its node alone.
    let pod = json!({
        "metadata": {"namespace": "ns", "name": "p"},
        "spec": {"nodeName": "a", "containers": [{"name": "c", "ports": [{"containerPort": 8080, "hostPort": 81}]}]},
    });
    let ports = host_ports(&serde_json::from_value(pod).unwrap());
    assert_eq!(given(std::slice::from_ref(&younger), &two(), &ports), ["younger: 192.0.2.2"]);
    let said = given(&[younger], &two()[..1], &ports);
    assert_eq!(said, ["younger: port 81/TCP of node a is taken by Pod ns/p"]);
    // What the cluster needs itself stays.
    let kubelet = service("k", 1, json!({"ports": [{"port": 10250}]}));
    assert_eq!(given(&[kubelet], &two()[..1], &[]), ["k: port 10250/TCP of node a is taken by the kubelet"]);
    // Node ports are on every node.
    let other = service("n", 9, json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30080}]}));
    let balanced = service("x", 1, json!({"ports": [{"port": 30080}]}));
    assert_eq!(
        given(&[balanced, other], &two()[..1], &[]),
        ["x: port 30080/TCP of node a is taken by Service ns/n"]
    );
}

#[test]
fn a_node_does_not_serve_what_is_another_ones_or_the_clusters() {
    let aged = |name: &str, second: u8, addresses: Value| {
        let node = json!({
            "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": addresses},
        });
        NodeFacts::of(&serde_json::from_value(node).unwrap())
    };
    let external = |address: &str| json!({"type": "ExternalIP", "address": address});
    let internal = |address: &str| json!({"type": "InternalIP", "address": address});
    let stolen = [
        "10.43.0.10",
        "10.42.1.1",
        "192.0.2.1",
        "203.0.113.1",
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "203.0.113.9",
    ];
    let mut nodes = vec![
        aged("a-thief", 2, stolen.map(external).into()),
        aged("old", 1, json!([internal("192.0.2.1"), external("203.0.113.1")])),
    ];
    trust(&mut nodes, |address| address.to_string().starts_with("10.4"));
    let served: Vec<String> =
        nodes.iter().flat_map(|it| it.addresses.iter().map(move |at| format!("{} {at}", it.name))).collect();
    assert_eq!(served, ["old 203.0.113.1", "a-thief 203.0.113.9"]);
    assert!(nodes[0].claims.contains(&"192.0.2.1".parse().unwrap()), "the internal one counts as well");
}

#[test]
fn ingresses_take_their_ports_from_younger_services_only() {
    let services = [
        service("old", 1, json!({})),
        service("new", 3, json!({})),
        service("dns", 4, json!({"ports": [{"port": 53}]})),
    ];
    let port = |node: &str| {
        let port = HostPort {
            node: node.to_string(),
            port: ("TCP".to_string(), 80),
            address: None,
            holder: "ingresses".to_string(),
        };
        ("2026-01-01T00:00:02Z".parse().unwrap(), port)
    };
    let given = |services: &[Arc<Service>]| {
        let planned = plan(services, services, &two(), &[], &[port("a"), port("b")], |_| Vec::new());
        planned
            .into_iter()
            .map(|(_, given)| given.why_none.unwrap_or(given.addresses.join(" ")))
            .collect::<Vec<_>>()
    };
    let all = "192.0.2.1 192.0.2.2";
    let by = |who: &str| {
        format!("port 80/TCP of node a is taken by {who}, port 80/TCP of node b is taken by {who}")
    };
    assert_eq!(given(&services), [all.to_string(), by("Service ns/old"), all.to_string()]);
    assert_eq!(given(&services[1..]), [by("ingresses"), all.to_string()]);
}
