//! Endpoints of services' ports, and whose turn it is.

use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::{Protocol, Slot, State};
use crate::facts::PortName;

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
}

fn slice(family: &str, endpoints: Value) -> Arc<EndpointSlice> {
    let ports = json!([{"name": "web", "port": 8080, "protocol": "TCP"}, {"name": "rpc", "port": 9090}]);
    let slice = json!({"metadata": {}, "addressType": family, "endpoints": endpoints, "ports": ports});
    Arc::new(serde_json::from_value(slice).unwrap())
}

fn spec() -> Value {
    json!({"ports": [
        {"name": "web", "port": 80, "targetPort": 8080},
        {"name": "rpc", "port": 81, "appProtocol": "kubernetes.io/h2c"},
        {"name": "dns", "port": 82, "protocol": "UDP"},
    ]})
}

fn addresses(state: &State, port: &PortName) -> Vec<String> {
    let port = state.port(port).unwrap();
    port.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

#[test]
fn ports_lead_to_ready_endpoints() {
    let slices = [
        slice("IPv6", json!([{"addresses": ["fd00::1"]}])),
        slice(
            "IPv4",
            json!([
                {"addresses": ["10.42.0.2"], "conditions": {"ready": true}},
                {"addresses": ["10.42.0.1"]},
                {"addresses": ["10.42.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["127.0.0.1"]},
                {"addresses": ["169.254.169.254"]},
            ]),
        ),
    ];
    let state = State::of(&service(spec()), &slices, &State::default());
    assert_eq!(addresses(&state, &PortName::Number(80)), ["10.42.0.1:8080", "10.42.0.2:8080"]);
    assert_eq!(addresses(&state, &PortName::Name("rpc".into())), ["10.42.0.1:9090", "10.42.0.2:9090"]);
    let protocol = |name: &str| state.port(&PortName::Name(name.into())).map(|port| port.protocol);
    assert_eq!((protocol("web"), protocol("rpc")), (Some(Protocol::Http1), Some(Protocol::Http2)));
    assert_eq!(protocol("dns"), None, "not TCP");
    assert!(state.port(&PortName::Number(8080)).is_none(), "the pods' port is not the service's");
}

#[test]
fn endpoints_that_end_serve_where_no_other_is_ready() {
    let slices = [slice(
        "IPv4",
        json!([
            {"addresses": ["10.42.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.42.0.4"], "conditions": {"ready": false, "serving": false}},
        ]),
    )];
    let state = State::of(&service(spec()), &slices, &State::default());
    assert_eq!(addresses(&state, &PortName::Number(80)), ["10.42.0.3:8080"]);
    let external = service(json!({"type": "ExternalName", "externalName": "x.io", "ports": [{"port": 80}]}));
    assert!(State::of(&external, &slices, &State::default()).port(&PortName::Number(80)).is_none());
}

#[test]
fn endpoints_take_turns_and_those_that_failed_come_last() {
    let all: Vec<SocketAddr> = (1..=3).map(|at| format!("10.0.0.{at}:80").parse().unwrap()).collect();
    let slot = Slot::fixed(Protocol::Http1, &all);
    let state = slot.state();
    let port = state.port(&PortName::Number(80)).unwrap();
    let pick = |tried: &[SocketAddr], now| slot.pick(port, tried, now).map(|it| it.address);
    let mut turns: Vec<_> = (0..3).map(|_| pick(&[], 0).unwrap()).collect();
    turns.sort();
    assert_eq!(turns, all);
    assert!((0..6).all(|_| pick(&all[..2], 0) == Some(all[2])));
    assert_eq!(pick(&all, 0), None);
    port.endpoints[0].failed(1000);
    assert!((0..6).all(|_| pick(&[], 5000) != Some(all[0])));
    assert_eq!(pick(&all[1..], 5000), Some(all[0]), "there is no other");
    assert!((0..3).any(|_| pick(&[], 11_000) == Some(all[0])), "it is tried again after a while");
    // What is known of an endpoint outlives a change of the service.
    let slices = [slice("IPv4", json!([{"addresses": ["10.42.0.1"]}]))];
    let before = State::of(&service(spec()), &slices, &State::default());
    let after = State::of(&service(spec()), &slices, &before);
    let of = |state: &State| state.port(&PortName::Number(80)).unwrap().endpoints[0].clone();
    assert!(Arc::ptr_eq(&of(&before), &of(&after)));
}
