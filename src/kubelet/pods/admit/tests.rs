//! Who is let in.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;

use super::*;

fn pod(name: &str, spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": spec})).unwrap()
}

fn asking(cpu: &str) -> Pod {
    pod("p", json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}))
}

fn node() -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}}})).unwrap()
}

fn room() -> Resources {
    [("cpu", "2"), ("memory", "1Gi"), ("pods", "2")]
        .into_iter()
        .map(|(name, amount)| (name.to_string(), Quantity(amount.to_string())))
        .collect()
}

#[test]
fn there_must_be_room() {
    assert_eq!(admit(&asking("1500m"), &node(), &room(), &[]), Ok(()));
    let (reason, message) = admit(&asking("1500m"), &node(), &room(), &[&asking("1")]).unwrap_err();
    assert_eq!(reason, "OutOfcpu");
    assert_eq!(message, "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000");
    let nothing = pod("q", json!({"containers": [{"name": "c"}]}));
    let others = [&nothing, &nothing];
    assert_eq!(admit(&nothing, &node(), &room(), &others).unwrap_err().0, "OutOfpods");
}

#[test]
fn the_node_must_be_the_one_that_is_wanted() {
    for (label, fits) in [("ssd", true), ("hdd", false)] {
        let choosy = pod("p", json!({"containers": [], "nodeSelector": {"disk": label}}));
        let outcome = admit(&choosy, &node(), &room(), &[]);
        assert_eq!(
            outcome.as_ref().err().map(|why| why.0.as_str()),
            if fits { None } else { Some("NodeAffinity") }
        );
    }
}
