//! Which ports are meant.

use serde_json::json;

use super::*;

fn told(text: &str, service: Option<&Value>, pod: &Value) -> String {
    match forward(text, service, pod) {
        Ok(Forward { local, remote }) => format!("{local}:{remote}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn ports_of_pods_are_numbers_or_names() {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [
        {"name": "web", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        {"containerPort": 54, "protocol": "UDP"}, {"containerPort": 54}]}]}});
    for (text, expected) in [
        ("80", "80:80"),
        ("8888:80", "8888:80"),
        (":80", "0:80"),
        ("web", "8080:8080"),
        ("1:web", "1:8080"),
        ("54", "54:54"),
        ("53", "error: UDP protocol is not supported for 53"),
        ("1:dns", "error: UDP protocol is not supported for dns"),
        ("1:", "error: remote port cannot be empty"),
        ("1:2:3", "error: invalid port format '1:2:3'"),
        ("1:none", "error: Pod 'p' does not have a named port 'none'"),
        ("1:0", "error: remote port must be > 0"),
    ] {
        assert_eq!(told(text, None, &pod), expected, "{text}");
    }
    assert!(told("70000", None, &pod).contains("value out of range"));
    assert!(told("x:80", None, &pod).starts_with("error: error parsing local port 'x': "));
}

#[test]
fn ports_of_services_lead_to_their_targets() {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]}});
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.1", "ports": [
        {"name": "http", "port": 80, "targetPort": "web"}, {"port": 81, "targetPort": 8081}, {"port": 82}]}});
    for (text, expected) in [
        ("80", "80:8080"),
        ("http", "80:8080"),
        ("9:http", "9:8080"),
        ("81", "81:8081"),
        ("82", "82:82"),
        ("83", "error: Service s does not have a service port 83"),
        ("1:none", "error: Service 's' does not have a named port 'none'"),
    ] {
        assert_eq!(told(text, Some(&service), &pod), expected, "{text}");
    }
    let mut headless = service.clone();
    headless["spec"]["clusterIP"] = json!("None");
    assert_eq!(told("81", Some(&headless), &pod), "81:81");
}

#[test]
fn localhost_is_two_addresses_of_which_one_is_enough() {
    let words = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let two = addresses(&words(&["localhost", "127.0.0.1"])).unwrap();
    assert_eq!(two, [(Ipv4Addr::LOCALHOST.into(), true), (Ipv6Addr::LOCALHOST.into(), true)]);
    assert_eq!(addresses(&words(&["x"])).unwrap_err().to_string(), "error: x is not a valid IP");
}
