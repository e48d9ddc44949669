//! Tests of pods with claims, against a scheduler that runs. The test is the binder.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::*;

const SELECTED: &str = "volume.kubernetes.io/selected-node";

fn class(name: &str, mode: &str, provisioner: &str) -> Value {
    json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode})
}

fn claim(name: &str, class: &str, mode: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")},
        "spec": {
            "storageClassName": class, "accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}},
        },
        "status": {"phase": "Pending"},
    })
}

fn user(name: &str, claim: &str) -> Value {
    pod(name, json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}))
}

fn volume(name: &str, class: &str, node: &str) -> Value {
    let term = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
    json!({
        "metadata": {"name": name},
        "spec": {
            "storageClassName": class, "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
        },
        "status": {"phase": "Available"},
    })
}

/// What the binder does in the end.
fn bind(world: &World, claim: &str, volume: &str) {
    let mut tree = world.cluster.object::<PersistentVolumeClaim>(Some("ns"), claim);
    tree["spec"]["volumeName"] = json!(volume);
    tree["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
    tree["status"]["phase"] = json!("Bound");
    world.cluster.add::<PersistentVolumeClaim>(tree);
}

fn world() -> World {
    let world = World::with(&Config::default());
    for name in ["n1", "n2"] {
        world.cluster.add_node(node(name, "z"));
    }
    world.cluster.add::<StorageClass>(class("local", "WaitForFirstConsumer", "rancher.io/local-path"));
    world.cluster.add::<StorageClass>(class("disks", "WaitForFirstConsumer", "kubernetes.io/no-provisioner"));
    world.cluster.add::<StorageClass>(class("now", "Immediate", "example.com/disks"));
    world
}

fn is_unbound(world: &World, name: &str) -> bool {
    world.cluster.pod(name)["spec"]["nodeName"].is_null()
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_asked_for_on_the_node_of_its_first_pod() {
    let world = world();
    let told = "0/2 nodes are available: persistentvolumeclaim \"data\" not found. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    world.cluster.add_pod(user("a", "data"));
    world.cluster.until_told("a", told).await;
    world.cluster.add::<PersistentVolumeClaim>(claim("data", "local", "ReadWriteOnce"));
    let selected = |claim: &Value| claim["metadata"]["annotations"][SELECTED].as_str().map(str::to_string);
    let asked = |claim: &Value| selected(claim).is_some();
    let asked = world.cluster.until_object::<PersistentVolumeClaim>(Some("ns"), "data", asked).await;
    let node = selected(&asked).unwrap();
    // A second pod goes where the first one's volume is going to be.
    world.cluster.add_pod(user("b", "data"));
    world.cluster.until("b", |pod| pod["status"]["nominatedNodeName"] == node.as_str()).await;
    assert!(is_unbound(&world, "a") && is_unbound(&world, "b"), "they wait for the volume");
    world.cluster.add::<PersistentVolume>(volume("made", "local", &node));
    bind(&world, "data", "made");
    for pod in ["a", "b"] {
        assert_eq!(world.cluster.until_bound(pod).await, node);
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_is_taken_once_and_where_it_is() {
    let world = world();
    world.cluster.add::<PersistentVolume>(volume("disk", "disks", "n2"));
    world.cluster.add::<PersistentVolumeClaim>(claim("one", "disks", "ReadWriteOnce"));
    world.cluster.add::<PersistentVolumeClaim>(claim("two", "disks", "ReadWriteOnce"));
    world.cluster.add_pod(user("a", "one"));
    let named = |volume: &Value| volume["spec"]["claimRef"]["name"] == "one";
    let disk = world.cluster.until_object::<PersistentVolume>(None, "disk", named).await;
    assert_eq!(disk["spec"]["claimRef"]["uid"], "uid-one");
    assert_eq!(disk["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"], "yes");
    world.cluster.add_pod(user("b", "two"));
    let told = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    world.cluster.until_told("b", told).await;
    bind(&world, "one", "disk");
    assert_eq!(world.cluster.until_bound("a").await, "n2");
    world.cluster.add::<PersistentVolume>(volume("second", "disks", "n1"));
    let named = |volume: &Value| volume["spec"]["claimRef"]["name"] == "two";
    world.cluster.until_object::<PersistentVolume>(None, "second", named).await;
    bind(&world, "two", "second");
    assert_eq!(world.cluster.until_bound("b").await, "n1");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_bound_at_once_is_waited_for() {
    let world = world();
    world.cluster.add::<PersistentVolumeClaim>(claim("data", "now", "ReadWriteOnce"));
    world.cluster.add_pod(user("a", "data"));
    let told = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    world.cluster.until_told("a", told).await;
    world.cluster.add::<PersistentVolume>(volume("disk", "now", "n1"));
    bind(&world, "data", "disk");
    assert_eq!(world.cluster.until_bound("a").await, "n1");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_for_one_pod_is_not_shared() {
    let world = world();
    world.cluster.add::<PersistentVolume>(volume("disk", "now", "n1"));
    world.cluster.add::<PersistentVolumeClaim>(claim("own", "now", "ReadWriteOncePod"));
    bind(&world, "own", "disk");
    world.cluster.add_pod(user("a", "own"));
    world.cluster.until_bound("a").await;
    world.cluster.add_pod(user("b", "own"));
    let waits = |pod: &Value| {
        let message = pod["status"]["conditions"][0]["message"].as_str().unwrap_or("");
        message.contains("node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod")
    };
    world.cluster.until("b", waits).await;
    world.cluster.remove_pod("a");
    assert_eq!(world.cluster.until_bound("b").await, "n1");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_volume_does_not_come_is_tried_anew() {
    let world = world();
    world.cluster.add::<PersistentVolumeClaim>(claim("data", "local", "ReadWriteOnce"));
    world.cluster.add_pod(user("a", "data"));
    let asked = |claim: &Value| claim["metadata"]["annotations"][SELECTED].is_string();
    let mut asked = world.cluster.until_object::<PersistentVolumeClaim>(Some("ns"), "data", asked).await;
    // The provisioner gives the node back.
    asked["metadata"]["annotations"][SELECTED].take();
    asked["metadata"]["annotations"] = json!({"refused": "yes"});
    world.cluster.add::<PersistentVolumeClaim>(asked);
    let told =
        "running PreBind plugin \"VolumeBinding\": binding volumes: provisioning failed for PVC \"data\"";
    assert_eq!(world.cluster.until_told("a", told).await, "SchedulerError");
    let again = |claim: &Value| claim["metadata"]["annotations"][SELECTED].is_string();
    world.cluster.until_object::<PersistentVolumeClaim>(Some("ns"), "data", again).await;
    assert!(is_unbound(&world, "a"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn volumes_of_a_zone_are_used_there() {
    let world = world();
    world.cluster.add_node(node("n3", "z3"));
    let mut disk = volume("disk", "now", "n3");
    disk["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z3__z4"});
    disk["spec"]["nodeAffinity"].take();
    world.cluster.add::<PersistentVolume>(disk);
    world.cluster.add::<PersistentVolumeClaim>(claim("data", "now", "ReadWriteOnce"));
    bind(&world, "data", "disk");
    world.cluster.add_pod(user("a", "data"));
    assert_eq!(world.cluster.until_bound("a").await, "n3");
    world.end().await;
}
