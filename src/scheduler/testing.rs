//! Builders of nodes and pods for tests.

use std::sync::{Arc, LazyLock};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::framework::{Config, PluginSet, Profile, Profiles, Status};
use crate::pod::PodInfo;

pub(crate) mod cluster;

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

/// The default profile, for tests that run nothing but its plugins. Its API is an empty cluster.
pub(crate) fn default_profile() -> Arc<Profile> {
    static PROFILE: LazyLock<Arc<Profile>> = LazyLock::new(|| {
        // The recorder wants to start a task; nothing is recorded.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let stage = supervisor::Supervisor::new().stage("test");
        let api: Arc<dyn client::ObjectApi> = Arc::new(cluster::Cluster::default());
        let profiles =
            Profiles::new(&Config::default(), &api, &Arc::default(), &Arc::default(), &stage).unwrap();
        profiles.get(api::pod::DEFAULT_SCHEDULER).unwrap().clone()
    });
    PROFILE.clone()
}

/// A set of the default profile's plugins.
pub(crate) fn set(plugins: &[&'static str]) -> PluginSet {
    let profile = default_profile();
    let one = |plugin: &&'static str| profile.set_of(&Status::unschedulable("").by(plugin));
    plugins.iter().map(one).fold(PluginSet::NONE, |all, one| all | one)
}
