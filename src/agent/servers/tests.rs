//! What an agent remembers of its cluster's servers.

use super::*;

fn slice(json: serde_json::Value) -> EndpointSlice {
    serde_json::from_value(json).unwrap()
}

#[test]
fn servers_that_were_learned_are_known_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let first = "https://192.0.2.1:6443";
    let servers = KnownServers::open(folder.path(), first).unwrap();
    assert_eq!(servers.list().in_order(), ["192.0.2.1:6443"]);
    let endpoints = serde_json::json!([{"addresses": ["192.0.2.1"]}, {"addresses": ["192.0.2.2"]}]);
    let known = serde_json::json!({
        "metadata": {}, "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 6443}],
    });
    servers.learn(addresses(&slice(known)));
    assert_eq!(servers.list().in_order(), ["192.0.2.1:6443", "192.0.2.2:6443"]);
    // One that has gone comes back, as a rule.
    servers.learn(vec!["192.0.2.2:6443".into(), "192.0.2.3:6443".into()]);
    // Nobody who can say that there is no server has a server to say it.
    servers.learn(Vec::new());
    let again = KnownServers::open(folder.path(), "https://first.example").unwrap();
    let wanted = ["first.example:443", "192.0.2.2:6443", "192.0.2.3:6443", "192.0.2.1:6443"];
    assert_eq!(again.list().in_order(), wanted);
    assert_eq!(again.url(), "https://first.example:443");

    // No more than so many, the newest first.
    again.learn((0..40).map(|n| format!("192.0.2.{n}:6443")).collect());
    assert_eq!(KnownServers::open(folder.path(), first).unwrap().list().in_order().len(), REMEMBERED);
    let refused = KnownServers::open(folder.path(), "https://").err().unwrap().to_string();
    assert!(refused.contains("give --server https://HOST:PORT"), "{refused}");
}

#[test]
fn what_is_no_address_is_passed_over() {
    let named = serde_json::json!({
        "metadata": {}, "addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}], "ports": [{"port": 1}],
    });
    let without_port = serde_json::json!({
        "metadata": {}, "addressType": "IPv6", "endpoints": [{"addresses": ["2001:db8::1"]}],
    });
    assert!(addresses(&slice(named)).is_empty() && addresses(&slice(without_port.clone())).is_empty());
    let mut with_port = without_port;
    with_port["ports"] = serde_json::json!([{"port": 6443}]);
    assert_eq!(addresses(&slice(with_port)), ["[2001:db8::1]:6443"]);
}
