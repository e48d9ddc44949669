//! Builders of nodes and pods for tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::pod::PodInfo;

/// A node of 4 CPUs and 8 GiB for 110 pods, in a zone.
pub(crate) fn node(name: &str, zone: &str) -> Value {
    let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    json!({
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone,
        }},
        "spec": {},
        "status": {"allocatable": allocatable, "capacity": allocatable},
    })
}

pub(crate) fn add_node(cache: &mut Cache, node: Value) {
    cache.set_node(Arc::new(serde_json::from_value::<Node>(node).unwrap()));
}

/// A pod labelled `app: web` with more members in its spec.
pub(crate) fn pod(name: &str, more: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "x"}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
        "spec": spec,
    })
}

/// Members of a spec that request CPU and memory.
pub(crate) fn requests(cpu: &str, memory: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
}

pub(crate) fn info(pod: Value) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value::<Pod>(pod).unwrap()), None))
}

/// A pod that is on a node already.
pub(crate) fn bound(cache: &mut Cache, mut pod: Value, node: &str) {
    pod["spec"]["nodeName"] = json!(node);
    cache.bound(info(pod));
}
