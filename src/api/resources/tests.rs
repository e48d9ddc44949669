//! Tests of pod requests and limits.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
}

fn requests(spec: Value) -> Vec<(String, i64)> {
    pod_requests(&pod(spec).spec.unwrap()).into_iter().collect()
}

fn container(cpu: &str, memory: &str) -> Value {
    json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
}

#[test]
fn quantities() {
    for (text, in_milli, in_units) in [
        ("1", 1000, 1),
        ("100m", 100, 1),
        ("1.5", 1500, 2),
        ("0", 0, 0),
        ("1Ki", 1_024_000, 1024),
        ("128Mi", 134_217_728_000, 134_217_728),
        ("1e3", 1_000_000, 1000),
        ("1k", 1_000_000, 1000),
        ("1n", 1, 1),
        (".5", 500, 1),
        ("-2", -2000, -2),
        ("9E", i64::MAX, 9_000_000_000_000_000_000),
        ("rubbish", 0, 0),
        ("", 0, 0),
    ] {
        assert_eq!(milli(&Quantity(text.into())), in_milli, "{text}");
        assert_eq!(units(&Quantity(text.into())), in_units, "{text}");
    }
}

#[test]
fn containers_add_up_and_the_largest_init_container_counts() {
    let spec = json!({
        "containers": [container("100m", "1Mi"), container("200m", "2Mi")],
        "initContainers": [container("250m", "64Mi"), container("1", "1Mi")],
    });
    assert_eq!(requests(spec), [("cpu".to_string(), 1000), ("memory".to_string(), 64 << 20)]);
}

#[test]
fn sidecars_run_beside_later_init_containers_and_the_containers() {
    let mut sidecar = container("100m", "10Mi");
    sidecar["restartPolicy"] = json!("Always");
    let spec = json!({
        "containers": [container("200m", "10Mi")],
        "initContainers": [container("250m", "5Mi"), sidecar, container("500m", "1Mi")],
    });
    // cpu: max(200+100, 250, 100+500); memory: max(10+10, 5, 10+1)
    assert_eq!(requests(spec), [("cpu".to_string(), 600), ("memory".to_string(), 20 << 20)]);
}

#[test]
fn pod_level_resources_and_overhead() {
    let spec = json!({
        "containers": [container("100m", "1Mi")],
        "resources": {"requests": {"cpu": "2"}},
        "overhead": {"cpu": "10m", "memory": "1Mi"},
    });
    assert_eq!(requests(spec), [("cpu".to_string(), 2010), ("memory".to_string(), 2 << 20)]);
}

#[test]
fn a_shrinking_pod_holds_what_it_was_given() {
    let mut pod = pod(json!({"containers": [container("100m", "1Mi")]}));
    pod.status = serde_json::from_value(json!({"containerStatuses": [{
        "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "allocatedResources": {"cpu": "300m", "memory": "1Mi"},
    }]}))
    .unwrap();
    assert_eq!(held_requests(&pod)["cpu"], 300);
    assert_eq!(held_requests(&pod)["memory"], 1 << 20);
}
