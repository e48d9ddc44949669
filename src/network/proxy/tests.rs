//! The rules of services: golden files, changes one by one against building anew, and what the loop asks of
//! the machine.
//!
//! `BLESS=1` writes the golden files. That the kernel takes the rules, and that packets go where they say, is
//! tested with real ones (`tests/it/services.rs`).

mod kernel;
mod ownership;
mod scale;

use std::collections::BTreeMap;
use std::path::PathBuf;

use client::Change;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::facts::{ServiceFacts, SliceFacts};
use super::planner::Known;
use super::rules::{Element, Key};
use super::*;
use crate::testing::RecordingHost;

const PODS: &str = "10.42.0.0/16";

fn node() -> NodeFacts {
    NodeFacts {
        name: "one".to_string(),
        zone: Some("east".to_string()),
        address: Some([192, 0, 2, 1].into()),
        node_port_addresses: vec![[192, 0, 2, 1].into()],
        local_dns: None,
    }
}

fn service(name: &str, spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec})).unwrap()
}

/// `endpoints` of one port: address, node, what conditions and hints it has.
fn slice(service: &str, port: (&str, &str, u16), endpoints: &[(&str, &str, Value)]) -> EndpointSlice {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, node, more)| {
            let mut endpoint = json!({"addresses": [address], "nodeName": node});
            endpoint.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
            endpoint
        })
        .collect();
    let family = if endpoints.iter().any(|it| it["addresses"][0].as_str().unwrap().contains(':')) {
        "IPv6"
    } else {
        "IPv4"
    };
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "ports": [{"name": port.0, "protocol": port.1, "port": port.2}],
        "endpoints": endpoints,
    }))
    .unwrap()
}

fn known(service: &Service, slices: &[EndpointSlice]) -> Known {
    let slices = slices
        .iter()
        .enumerate()
        .filter_map(|(at, slice)| Some((format!("slice-{at}"), Arc::new(SliceFacts::of(slice)?.1))));
    (ServiceFacts::of(service).map(Arc::new), slices.collect())
}

fn planned(family: Family, node: NodeFacts, services: &[(Service, Vec<EndpointSlice>)]) -> Planner {
    let mut planner = Planner::new(family, node);
    planner.update(services.iter().map(|(service, slices)| {
        let name = service.metadata.name.clone().unwrap();
        (("ns".to_string(), name), known(service, slices))
    }));
    planner
}

fn elements(services: &[(Service, Vec<EndpointSlice>)]) -> Vec<String> {
    let planner = planned(Family::V4, node(), services);
    planner.elements().iter().map(|it| format!("{:?} {} {:?}", it.set, it.key, it.value)).collect()
}

fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proxy/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(wanted == text, "{} differs from:\n{text}", path.display());
}

fn everything() -> Vec<(Service, Vec<EndpointSlice>)> {
    let two = [("10.42.0.5", "one", json!({})), ("10.42.1.6", "two", json!({}))];
    let plain = service("plain", json!({"clusterIP": "10.43.0.5", "ports": [{"name": "http", "port": 80}]}));
    let udp = service("udp", json!({"clusterIP": "10.43.0.6", "ports": [{"port": 53, "protocol": "UDP"}]}));
    let sctp =
        service("sctp", json!({"clusterIP": "10.43.0.7", "ports": [{"port": 132, "protocol": "SCTP"}]}));
    let none = service("none", json!({"clusterIP": "10.43.0.8", "ports": [{"port": 80}]}));
    let sticky = service(
        "sticky",
        json!({"clusterIP": "10.43.0.9", "sessionAffinity": "ClientIP", "ports": [{"port": 80}],
               "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}),
    );
    let node_port = service(
        "node-port",
        json!({"type": "NodePort", "clusterIP": "10.43.0.10", "externalIPs": ["198.51.100.9"],
               "ports": [{"port": 80, "nodePort": 30080}]}),
    );
    let mut local: Value = json!({
        "metadata": {"namespace": "ns", "name": "local"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.43.0.11", "externalTrafficPolicy": "Local",
                 "loadBalancerSourceRanges": ["192.0.2.0/24", "192.0.2.128/25"], "healthCheckNodePort": 31000,
                 "ports": [{"port": 443, "nodePort": 30443}]},
    });
    local["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}, {"ip": "198.51.100.8", "ipMode": "Proxy"}]}});
    vec![
        (plain, vec![slice("plain", ("http", "TCP", 8080), &two)]),
        (udp, vec![slice("udp", ("", "UDP", 5353), &two[..1])]),
        (sctp, vec![slice("sctp", ("", "SCTP", 1320), &two)]),
        (none, Vec::new()),
        (sticky, vec![slice("sticky", ("", "TCP", 8080), &two)]),
        (node_port, vec![slice("node-port", ("", "TCP", 8080), &two)]),
        (serde_json::from_value(local).unwrap(), vec![slice("local", ("", "TCP", 8443), &two)]),
    ]
}

#[test]
fn the_whole_rule_set_is_as_written_down() {
    let table = Table { family: Family::V4, name: "minik8s_proxy".into(), pods: Cidr::parse(PODS) };
    let planner = planned(Family::V4, node(), &everything());
    golden("ipv4.nft", &table.anew(planner.elements().iter()));
    assert_eq!(planner.health_checks(), BTreeMap::from([(("ns".into(), "local".into()), (31000, 1))]));
    let two = [("fd00::5", "one", json!({})), ("fd00::6", "two", json!({}))];
    let v6 = service(
        "v6",
        json!({"type": "NodePort", "clusterIP": "fd01::5", "clusterIPs": ["fd01::5", "10.43.0.99"],
               "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["2001:db8::/32"],
               "ports": [{"port": 80, "nodePort": 30080}]}),
    );
    let node = NodeFacts { node_port_addresses: vec!["2001:db8::1".parse().unwrap()], ..node() };
    let planner = planned(Family::V6, node, &[(v6, vec![slice("v6", ("", "TCP", 8080), &two)])]);
    let table = Table { family: Family::V6, name: "minik8s_proxy".into(), pods: None };
    golden("ipv6.nft", &table.anew(planner.elements().iter()));
}

#[test]
fn services_that_are_no_proxys_business_have_no_rules() {
    let ports = json!([{"port": 80}]);
    let mut labelled = service("labelled", json!({"clusterIP": "10.43.0.5", "ports": ports}));
    labelled.metadata.labels =
        Some(BTreeMap::from([("service.kubernetes.io/service-proxy-name".to_string(), "other".to_string())]));
    let mut headless = labelled.clone();
    headless.metadata.labels =
        Some(BTreeMap::from([("service.kubernetes.io/headless".to_string(), String::new())]));
    for it in [
        labelled,
        headless,
        service("none", json!({"clusterIP": "None", "ports": ports})),
        service("pending", json!({"clusterIP": "", "ports": ports})),
        service("name", json!({"type": "ExternalName", "externalName": "example.org"})),
    ] {
        assert_eq!(elements(&[(it, Vec::new())]), Vec::<String>::new());
    }
}

#[test]
fn who_is_leaving_serves_only_when_nobody_is_ready() {
    let of = |endpoints: &[(&str, &str, Value)]| {
        let it = service("a", json!({"clusterIP": "10.43.0.5", "ports": [{"port": 80}]}));
        let planner = planned(Family::V4, node(), &[(it, vec![slice("a", ("", "TCP", 8080), endpoints)])]);
        let to = |element: &Element| match element.value {
            rules::Value::To(backend) => Some(backend.ip().to_string()),
            _ => None,
        };
        planner.elements().iter().filter_map(to).collect::<Vec<_>>()
    };
    let leaving = json!({"conditions": {"ready": false, "serving": true, "terminating": true}});
    let gone = json!({"conditions": {"ready": false, "serving": false, "terminating": true}});
    let ready = ("10.42.0.5", "one", json!({"conditions": {"ready": true}}));
    let leaving = ("10.42.0.6", "one", leaving);
    assert_eq!(of(&[ready.clone(), leaving.clone(), ("10.42.0.7", "one", gone.clone())]), ["10.42.0.5"]);
    assert_eq!(of(&[leaving, ("10.42.0.7", "one", gone)]), ["10.42.0.6"]);
    let zone = |name: &str| json!({"hints": {"forZones": [{"name": name}]}});
    let near = ("10.42.0.5", "two", zone("east"));
    assert_eq!(of(&[near.clone(), ("10.42.0.6", "three", zone("west"))]), ["10.42.0.5"]);
    assert_eq!(
        of(&[near, ("10.42.0.6", "three", json!({}))]).len(),
        2,
        "hints that are not complete do not count"
    );
    let on = |name: &str| json!({"hints": {"forZones": [{"name": "east"}], "forNodes": [{"name": name}]}});
    assert_eq!(of(&[("10.42.0.5", "one", on("one")), ("10.42.0.6", "two", on("two"))]), ["10.42.0.5"]);
}

#[test]
fn traffic_policies_choose_between_dropping_and_refusing() {
    let remote = [("10.42.1.6", "two", json!({}))];
    let internal = service(
        "a",
        json!({"clusterIP": "10.43.0.5", "internalTrafficPolicy": "Local", "ports": [{"port": 80}]}),
    );
    let with = |endpoints: &[(&str, &str, Value)]| vec![slice("a", ("", "TCP", 8080), endpoints)];
    let said = elements(&[(internal.clone(), with(&remote))]);
    assert_eq!(said, ["NoEndpoints 10.43.0.5 . tcp . 80 Drop", "ClusterIps 10.43.0.5 None"]);
    let said = elements(&[(internal, with(&[]))]);
    assert_eq!(said[0], "NoEndpoints 10.43.0.5 . tcp . 80 Reject");
    let external = service(
        "a",
        json!({"type": "NodePort", "clusterIP": "10.43.0.5", "externalTrafficPolicy": "Local",
               "ports": [{"port": 80, "nodePort": 30080}]}),
    );
    let said = elements(&[(external.clone(), with(&remote))]);
    // From outside nothing; pods and the node itself get to the others.
    assert!(said.contains(&"LocalOnly 192.0.2.1 . tcp . 30080 Drop".to_string()), "{said:#?}");
    assert!(
        said.contains(&"Endpoints(Tcp) 192.0.2.1 . tcp . 30080 . 0 To(10.42.1.6:8080)".to_string()),
        "{said:#?}"
    );
    let said = elements(&[(external, with(&[]))]);
    assert!(said.contains(&"NoEndpoints 192.0.2.1 . tcp . 30080 Reject".to_string()), "{said:#?}");
    assert!(!said.iter().any(|line| line.starts_with("LocalOnly")), "{said:#?}");
}

#[test]
fn one_endpoint_more_costs_one_element_more_and_one_less_moves_one() {
    let with = |addresses: &[u8]| {
        let it = service("a", json!({"clusterIP": "10.43.0.5", "ports": [{"port": 80}]}));
        let named: Vec<String> = addresses.iter().map(|last| format!("10.42.1.{last}")).collect();
        let endpoints: Vec<_> = named.iter().map(|name| (name.as_str(), "two", json!({}))).collect();
        [(("ns".to_string(), "a".to_string()), known(&it, &[slice("a", ("", "TCP", 8080), &endpoints)]))]
    };
    let mut planner = Planner::new(Family::V4, node());
    planner.update(with(&[10, 20, 30, 40]));
    let round = planner.update(with(&[10, 20, 25, 30, 40]));
    assert_eq!((round.remove.len(), round.add.len()), (1, 2), "the count, and the new one: {round:#?}");
    let round = planner.update(with(&[20, 25, 30, 40]));
    assert_eq!(
        (round.remove.len(), round.add.len()),
        (3, 2),
        "the count, the gone one and its heir: {round:#?}"
    );
    assert!(planner.update(with(&[40, 30, 25, 20])).is_empty(), "the order of a slice says nothing");
}

/// Elements without the numbers of endpoints, which depend on history.
fn without_numbers(elements: Vec<Element>) -> Vec<String> {
    let mut all: Vec<String> = elements
        .iter()
        .map(|element| match element.key {
            Key::Numbered(front, number) => {
                format!("{front} {} {:?}", number >= rules::LOCAL, element.value)
            }
            _ => format!("{element:?}"),
        })
        .collect();
    all.sort();
    all
}

#[derive(Clone, Debug)]
struct Step {
    name: u8,
    gone: bool,
    sticky: bool,
    kind: u8,
    local: (bool, bool),
    shared: bool,
    /// Has the cluster IP of another service, and when it was made.
    twin: (bool, u8),
    endpoints: Vec<(u8, bool, bool)>,
}

fn step() -> impl Strategy<Value = Step> {
    let endpoint = (1_u8..9, any::<bool>(), any::<bool>());
    let endpoints = prop::collection::vec(endpoint, 0..6);
    (
        0_u8..5,
        prop::bool::weighted(0.2),
        any::<bool>(),
        0_u8..3,
        any::<(bool, bool)>(),
        any::<bool>(),
        (any::<bool>(), 0_u8..3),
        endpoints,
    )
        .prop_map(|(name, gone, sticky, kind, local, shared, twin, endpoints)| Step {
            name,
            gone,
            sticky,
            kind,
            local,
            shared,
            twin,
            endpoints,
        })
}

fn known_of(step: &Step) -> Known {
    if step.gone {
        return (None, BTreeMap::new());
    }
    let policy = |local: bool| if local { "Local" } else { "Cluster" };
    let kind = ["ClusterIP", "NodePort", "LoadBalancer"][usize::from(step.kind)];
    let mut spec = json!({
        "clusterIP": format!("10.43.0.{}", if step.twin.0 { 1 } else { step.name + 1 }), "ports": [{"port": 80}, {"name": "b", "port": 81, "protocol": "UDP"}],
        "internalTrafficPolicy": policy(step.local.0), "externalTrafficPolicy": policy(step.local.1),
        "sessionAffinity": if step.sticky { "ClientIP" } else { "None" },
        "type": kind,
    });
    if step.kind > 0 {
        spec["ports"][0]["nodePort"] = (30000 + u16::from(step.name)).into();
    }
    if step.twin.0 {
        let other = json!({"name": "own", "port": 90 + u16::from(step.name), "protocol": "UDP"});
        spec["ports"].as_array_mut().unwrap().push(other);
    }
    if step.shared {
        // Several services claim the same address and port.
        spec["externalIPs"] = json!(["198.51.100.1"]);
    }
    let endpoints: Vec<_> = step
        .endpoints
        .iter()
        .map(|(last, ready, here)| {
            let more = json!({"conditions": {"ready": ready, "terminating": !ready}});
            (format!("10.42.0.{last}"), if *here { "one" } else { "two" }, more)
        })
        .collect();
    let endpoints: Vec<_> = endpoints.iter().map(|(a, n, m)| (a.as_str(), *n, m.clone())).collect();
    let slices = [slice("x", ("", "TCP", 8080), &endpoints), slice("x", ("b", "UDP", 8081), &endpoints)];
    let mut service = service("x", spec);
    service.metadata.creation_timestamp =
        serde_json::from_value(json!(format!("2026-01-01T00:00:0{}Z", step.twin.1))).unwrap();
    known(&service, &slices)
}

proptest! {
    #[test]
    fn changes_one_by_one_give_the_same_rules_as_built_anew(steps in prop::collection::vec(step(), 1..40)) {
        let mut planner = Planner::new(Family::V4, node());
        let mut kernel: std::collections::BTreeSet<Element> = std::collections::BTreeSet::new();
        let mut last = BTreeMap::new();
        for step in &steps {
            let name = ("ns".to_string(), format!("s{}", step.name));
            let round = planner.update([(name.clone(), known_of(step))]);
            // What the kernel would refuse: removing what is not there, adding a key that is.
            for element in &round.remove {
                prop_assert!(kernel.remove(element), "{element:?}");
            }
            for element in &round.add {
                prop_assert!(!kernel.iter().any(|it| (it.set, it.key) == (element.set, element.key)), "{element:?}");
                kernel.insert(element.clone());
            }
            last.insert(name, step.clone());
        }
        let mut anew = Planner::new(Family::V4, node());
        anew.update(last.iter().map(|(name, step)| (name.clone(), known_of(step))));
        prop_assert_eq!(without_numbers(planner.elements()), without_numbers(anew.elements()));
        prop_assert_eq!(without_numbers(kernel.into_iter().collect()), without_numbers(anew.elements()));
        // The numbers of a list have no gaps: each that is drawn leads somewhere.
        let elements = planner.elements();
        for element in &elements {
            let (count, first) = match element.value.chain() {
                Some(Chain::Pick { count, .. }) => (count, 0),
                Some(Chain::PickLocal { count, .. }) => (count, rules::LOCAL),
                _ => continue,
            };
            let Key::Front(front) = element.key else { panic!("{element:?}") };
            for number in first..first + count {
                let key = Key::Numbered(front, number);
                prop_assert!(elements.iter().any(|it| it.key == key), "{key:?}");
            }
        }
    }
}

fn proxy(host: &Arc<RecordingHost>) -> (Proxy, Arc<Inputs>) {
    let inputs = Arc::new(Inputs::default());
    let telemetry = Arc::new(Telemetry::new(inputs.clone()));
    inputs.set_node(Family::V4, node());
    let proxy = Proxy::new(host.clone(), "minik8s", Cidr::parse(PODS), Family::V4, inputs.clone(), telemetry);
    (proxy, inputs)
}

fn change<T>(old: Option<T>, new: Option<T>) -> Change<T> {
    Change { old: old.map(Arc::new), new: new.map(Arc::new) }
}

#[tokio::test]
async fn a_round_is_one_transaction_and_a_failed_one_is_followed_by_the_whole_table() {
    let host = Arc::new(RecordingHost::default());
    let (mut proxy, inputs) = proxy(&host);
    let spec = json!({"clusterIP": "10.43.0.6", "ports": [{"port": 53, "protocol": "UDP"}]});
    let it = service("udp", spec);
    let one = slice("udp", ("", "UDP", 5353), &[("10.42.0.5", "one", json!({}))]);
    let other = slice("udp", ("", "UDP", 5353), &[("10.42.0.6", "one", json!({}))]);
    inputs.take_service(&change(None, Some(it.clone())));
    inputs.take_slice(&change(None, Some(one.clone())));
    assert!(proxy.pass().await.unwrap().anew);
    assert_eq!(
        host.journal(),
        ["nft -f -", "stale flows true"],
        "flows of an earlier run are looked through"
    );
    host.scripts();
    assert_eq!(proxy.pass().await.unwrap(), Pass::default());
    assert_eq!(host.journal(), Vec::<String>::new());

    inputs.take_slice(&change(Some(one.clone()), Some(other.clone())));
    proxy.pass().await.unwrap();
    assert_eq!(host.journal(), ["elements", "stale flows true"], "no chain is to be made");
    let script = host.scripts().concat();
    assert!(!script.contains("table ip"), "{script}");
    assert!(
        script.contains("delete element ip minik8s_proxy endpoints-udp { 10.43.0.6 . udp . 53 . 0 }"),
        "{script}"
    );
    assert!(
        script.contains(
            "add element ip minik8s_proxy endpoints-udp { 10.43.0.6 . udp . 53 . 0 : 10.42.0.6 . 5353 }"
        ),
        "{script}"
    );
    let flows = host.flows().pop().unwrap();
    assert_eq!(flows.into_values().next().unwrap(), BTreeSet::from(["10.42.0.6:5353".parse().unwrap()]));

    // What does not go over netlink is for nft.
    host.fail("elements", 1);
    inputs.take_slice(&change(Some(other.clone()), Some(one.clone())));
    proxy.pass().await.unwrap();
    assert_eq!(host.journal(), ["elements", "nft -f -", "stale flows true"]);
    inputs.take_slice(&change(Some(one.clone()), Some(other.clone())));
    proxy.pass().await.unwrap();
    host.fail("elements", 1);
    host.fail("nft", 1);
    inputs.take_slice(&change(Some(other), Some(one)));
    assert!(proxy.pass().await.is_err());
    host.scripts();
    assert!(proxy.pass().await.unwrap().anew);
    let script = host.scripts().concat();
    assert!(script.starts_with("add table ip minik8s_proxy\ndelete table ip minik8s_proxy\n"), "{script}");
    assert!(script.contains("10.42.0.5 . 5353"), "{script}");

    inputs.tell_lost(Family::V4);
    assert!(proxy.pass().await.unwrap().anew, "it was flushed");
    // Nothing that matters to the proxy has changed: nobody is woken.
    let mut again = it.clone();
    again.metadata.annotations = Some(BTreeMap::from([("a".to_string(), "b".to_string())]));
    inputs.take_service(&change(Some(it), Some(again)));
    assert_eq!(inputs.waiting(Family::V4).1, 0);
}

#[tokio::test]
async fn the_second_family_is_left_alone_until_a_service_has_it() {
    let host = Arc::new(RecordingHost::default());
    let inputs = Arc::new(Inputs::default());
    let telemetry = Arc::new(Telemetry::new(inputs.clone()));
    let mut proxy = Proxy::new(host.clone(), "minik8s", None, Family::V6, inputs.clone(), telemetry);
    inputs.take_service(&change(
        None,
        Some(service("a", json!({"clusterIP": "10.43.0.6", "ports": [{"port": 80}]}))),
    ));
    proxy.pass().await.unwrap();
    assert_eq!(host.journal(), Vec::<String>::new());
    inputs.take_service(&change(
        None,
        Some(service("b", json!({"clusterIP": "fd01::6", "ports": [{"port": 80}]}))),
    ));
    proxy.pass().await.unwrap();
    assert!(
        host.scripts().concat().contains("add element ip6 minik8s_proxy no-endpoints { fd01::6 . tcp . 80")
    );
}
