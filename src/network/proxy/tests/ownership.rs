//! Who serves an address that several services name.

use super::*;

/// A service that was made at a second, with endpoints of its own for each of its ports.
fn aged(name: &str, created: u8, uid: &str, spec: Value) -> (Service, Vec<EndpointSlice>) {
    let mut service = service(name, spec);
    let created = format!("2026-01-01T00:00:{created:02}Z");
    service.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
    service.metadata.uid = Some(uid.to_string());
    let address = format!("10.42.0.{}", name.as_bytes()[0]);
    let of_port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let name = port.name.clone().unwrap_or_default();
        let protocol = port.protocol.clone().unwrap_or("TCP".to_string());
        slice("x", (&name, &protocol, 8080), &[(&address, "one", json!({}))])
    };
    let ports = service.spec.as_ref().unwrap().ports.clone().unwrap_or_default();
    (service, ports.iter().map(of_port).collect())
}

/// Which service serves each address and port, whatever order the services come in.
fn served(services: &[(Service, Vec<EndpointSlice>)]) -> Vec<String> {
    let of = |services: &[(Service, Vec<EndpointSlice>)]| -> Vec<String> {
        let elements = planned(Family::V4, node(), services).elements();
        let named = elements.iter().filter(|it| it.set == rules::Set::Services);
        named.map(|it| format!("{} {}", it.key, it.comment.as_deref().unwrap_or(""))).collect()
    };
    let reversed: Vec<_> = services.iter().rev().cloned().collect();
    assert_eq!(of(services), of(&reversed));
    of(services)
}

#[test]
fn a_cluster_ip_belongs_to_one_service_with_all_its_ports() {
    let spec = |ips: Value, ports: Value| json!({"clusterIP": ips[0], "clusterIPs": ips, "ports": ports});
    let one = json!(["10.43.0.5"]);
    let http = json!([{"name": "http", "port": 80}]);
    let both = json!([{"name": "http", "port": 80}, {"name": "tls", "port": 443}]);
    let older = aged("b", 1, "2", spec(one.clone(), http.clone()));
    let younger = aged("a", 2, "1", spec(one.clone(), both.clone()));
    assert_eq!(served(&[older.clone(), younger.clone()]), ["10.43.0.5 . tcp . 80 ns/b:http"]);
    // Of the same second: the uid decides.
    let twin = aged("a", 1, "1", spec(one.clone(), both.clone()));
    let all = ["10.43.0.5 . tcp . 80 ns/a:http", "10.43.0.5 . tcp . 443 ns/a:tls"];
    assert_eq!(served(&[older.clone(), twin]), all);
    // It is the first address of one and the second of another.
    let second = aged("c", 0, "0", spec(json!(["fd00::5", "10.43.0.5"]), both.clone()));
    assert_eq!(served(&[older.clone(), second.clone()]), ["10.43.0.5 . tcp . 80 ns/b:http"]);
    assert_eq!(served(&[second])[0], "10.43.0.5 . tcp . 80 ns/c:http");
    // Nobody serves it as an external address, not on a port that its owner does not name either.
    let mut outside =
        spec(json!(["10.43.0.6"]), json!([{"name": "x", "port": 80}, {"name": "y", "port": 22}]));
    outside["externalIPs"] = json!(["10.43.0.5"]);
    let outside = aged("d", 0, "0", outside);
    let said = served(&[older.clone(), outside.clone()]);
    assert_eq!(
        said,
        ["10.43.0.5 . tcp . 80 ns/b:http", "10.43.0.6 . tcp . 22 ns/d:y", "10.43.0.6 . tcp . 80 ns/d:x"]
    );
    // Once the owner is gone it is an address like others.
    let mut planner = planned(Family::V4, node(), &[older, outside, younger]);
    let gone = |name: &str| [(("ns".to_string(), name.to_string()), (None, BTreeMap::new()))];
    let added = |round: planner::Round| {
        let named = round.add.iter().filter(|it| it.set == rules::Set::Services);
        named.map(|it| format!("{} {}", it.key, it.comment.as_deref().unwrap_or(""))).collect::<Vec<_>>()
    };
    assert_eq!(added(planner.update(gone("b"))), all);
    let round = planner.update(gone("a"));
    assert!(round.remove.iter().any(|it| it.set == rules::Set::ClusterIps), "{round:#?}");
    assert_eq!(added(round), ["10.43.0.5 . tcp . 22 ns/d:y", "10.43.0.5 . tcp . 80 ns/d:x"]);
}

#[test]
fn of_an_external_address_each_port_belongs_to_the_oldest_service() {
    let spec =
        |ip: &str, ports: Value| json!({"clusterIP": ip, "externalIPs": ["198.51.100.1"], "ports": ports});
    let older = aged("b", 1, "2", spec("10.43.0.5", json!([{"name": "dns", "port": 53, "protocol": "UDP"}])));
    let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "web", "port": 80}]);
    let younger = aged("a", 2, "1", spec("10.43.0.6", ports));
    let at = |said: Vec<String>| -> Vec<String> {
        said.into_iter().filter(|line| line.starts_with("198.51.100.1 ")).collect()
    };
    let both = [older, younger];
    assert_eq!(at(served(&both)), ["198.51.100.1 . tcp . 80 ns/a:web", "198.51.100.1 . udp . 53 ns/b:dns"]);
    // UDP flows are those of the service that serves, and follow when another takes its place.
    let mut planner = planned(Family::V4, node(), &both);
    let key = FrontKey { address: "198.51.100.1".parse().unwrap(), protocol: facts::Protocol::Udp, port: 53 };
    let backend =
        |name: &str| BTreeSet::from([format!("10.42.0.{}:8080", name.as_bytes()[0]).parse().unwrap()]);
    assert_eq!(planner.flows()[&key], backend("b"));
    let again = known(&both[1].0, &both[1].1);
    let round = planner.update([(("ns".to_string(), "a".to_string()), again)]);
    assert!(round.is_empty() && !round.flows.contains_key(&key), "{round:#?}");
    let round = planner.update([(("ns".to_string(), "b".to_string()), (None, BTreeMap::new()))]);
    assert_eq!(round.flows[&key], backend("a"));
}

#[test]
fn the_address_of_the_nodes_dns_is_served_for_no_service() {
    let mut own = node();
    own.local_dns = Some([10, 43, 0, 10].into());
    let mut balanced = aged(
        "b",
        1,
        "b",
        json!({
            "type": "LoadBalancer", "clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"],
            "externalIPs": ["10.43.0.10", "192.0.2.7"], "ports": [{"port": 53, "protocol": "UDP"}],
        }),
    );
    let ingress = json!({"loadBalancer": {"ingress": [{"ip": "10.43.0.10"}, {"ip": "192.0.2.8"}]}});
    balanced.0.status = serde_json::from_value(ingress).unwrap();
    let elements = planned(Family::V4, own, &[balanced]).elements();
    let served: std::collections::BTreeSet<String> =
        elements.iter().filter(|it| it.set == rules::Set::Services).map(|it| it.key.to_string()).collect();
    let wanted = ["10.43.0.7 . udp . 53", "192.0.2.7 . udp . 53", "192.0.2.8 . udp . 53"];
    assert_eq!(served, wanted.map(String::from).into());
}
