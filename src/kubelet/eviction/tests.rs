//! Shortages, who goes, and what is told.

use std::sync::Arc;

use client::Informers;
use serde_json::{Value, json};

use super::*;
use crate::cgroups::usage::CgroupUsage;
use crate::files::tree::TreeUsage;
use crate::node::machine::Disk;
use crate::pods::admit::pressure::refuse;
use crate::testing::{TestNode, containers, named_pod};

/// A node with these pods, and its evictor.
async fn start(pods: &[(&str, Value)]) -> (TestNode, Evictor) {
    let node = TestNode::new();
    for (name, spec) in pods {
        node.run(&named_pod(name, name, spec.clone()));
    }
    let all = || pods.iter().all(|(name, _)| node.api.status(name)["phase"] == "Running");
    crate::testing::until("they run", all, String::new).await;
    let informer = Informers::new(node.api.clone(), node.agent.stage.clone()).of();
    crate::testing::until("they are known", || informer.list(None).len() == pods.len(), String::new).await;
    let stats = node.service(informer).stats;
    let evictor = Evictor {
        host: node.host.clone(),
        stats,
        wakers: node.deps.wakers.clone(),
        events: crate::events::PodEvents::new(node.journal.clone()),
        recorder: node.agent.recorder.clone(),
        collector: None,
        pressure: node.agent.pressure.clone(),
        last: LastSeen::default(),
    };
    node.journal.take();
    (node, evictor)
}

fn uses(node: &TestNode, evictor: &Evictor, name: &str, memory: u64) {
    let pod = evictor.stats.pods.get("ns", name).unwrap();
    let usage = CgroupUsage { memory, working_set: memory, ..CgroupUsage::default() };
    node.host.used.lock().insert(evictor.stats.cgroups.path_of(&pod), usage);
}

fn sized(memory: &str, priority: i32) -> Value {
    let mut spec = json!({"containers": containers(&["a"]), "priority": priority});
    spec["containers"][0]["resources"] = json!({"requests": {"memory": memory}});
    spec
}

#[tokio::test(start_paused = true)]
async fn who_is_most_above_its_request_goes_first_and_alone() {
    let (node, mut evictor) = start(&[
        ("modest", sized("64Mi", 0)),
        ("greedy", sized("16Mi", 0)),
        ("dear", sized("16Mi", 1000)),
        ("critical", sized("1Mi", 2_000_000_001)),
    ])
    .await;
    for (name, mebibytes) in [("modest", 60), ("greedy", 40), ("dear", 90), ("critical", 500)] {
        uses(&node, &evictor, name, mebibytes << 20);
    }
    node.runtime.used.lock().insert("a".to_string(), (0, 40 << 20));
    *node.host.memory.lock() = Some(50 << 20);
    evictor.look().await;
    evictor.look().await;
    assert_eq!(node.journal.count("event Evicted"), 1, "one at a time");
    let ended = || node.api.status("greedy")["phase"] == "Failed";
    crate::testing::until("it has ended", ended, || node.api.status("greedy").to_string()).await;
    let status = node.api.status("greedy");
    assert_eq!(status["reason"], "Evicted");
    assert_eq!(
        status["message"],
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
         Container a was using 40Mi, request is 16Mi, has larger consumption of memory. "
    );
    let conditions = status["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|one| one["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("TerminationByKubelet")));
    assert!(node.journal.has("stop_container a 2s"), "it has a second, and at least two after its signal");
    assert!(evictor.pressure.borrow().memory);
}

#[tokio::test(start_paused = true)]
async fn pressure_holds_for_a_while_and_keeps_pods_out() {
    let (node, mut evictor) = start(&[("a", sized("64Mi", 0))]).await;
    *node.host.memory.lock() = Some(1 << 20);
    evictor.look().await;
    *node.host.memory.lock() = Some(1 << 40);
    tokio::time::advance(Duration::from_secs(200)).await;
    evictor.look().await;
    assert_eq!(evictor.pressure.borrow().names(), ["MemoryPressure"]);
    let besteffort = json!({"restartPolicy": "Never", "containers": containers(&["a"])});
    node.run(&named_pod("late", "late", besteffort));
    let refused = || node.api.status("late")["reason"] == "Evicted";
    crate::testing::until("it is refused", refused, || node.api.status("late").to_string()).await;
    assert_eq!(
        node.api.status("late")["message"],
        "Pod was rejected: The node had condition: [MemoryPressure]. "
    );
    tokio::time::advance(Duration::from_secs(200)).await;
    evictor.look().await;
    assert_eq!(*evictor.pressure.borrow(), Pressure::default());
}

#[tokio::test(start_paused = true)]
async fn limits_on_local_storage_are_enforced() {
    let mut spec = json!({
        "containers": containers(&["a"]), "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}],
    });
    spec["containers"][0]["resources"] = json!({"limits": {"ephemeral-storage": "8Mi"}});
    let (node, mut evictor) = start(&[("p", spec)]).await;
    let volume = "/data/pods/p/volumes/kubernetes.io~empty-dir/v";
    node.host.taken.lock().insert(volume.into(), TreeUsage { bytes: 1 << 20, inodes: 1 });
    evictor.look().await;
    assert!(!node.journal.has("Evicted"), "as much as is allowed");
    node.host.taken.lock().insert(volume.into(), TreeUsage { bytes: 2 << 20, inodes: 1 });
    evictor.look().await;
    node.until("event Evicted: Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ").await;
    let ended = || node.api.status("p")["phase"] == "Failed";
    crate::testing::until("it has ended", ended, || node.api.status("p").to_string()).await;
    assert!(!node.api.status("p")["conditions"].to_string().contains("DisruptionTarget"));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_a_condition() {
    let (node, mut evictor) = start(&[]).await;
    let disk = Disk { total: 1000, usable: 1000, available: 50, inodes: 100, inodes_free: 50 };
    *node.host.disk.lock() = Some(disk);
    evictor.look().await;
    assert_eq!(evictor.pressure.borrow().names(), ["DiskPressure"]);
    let pod = named_pod("p", "p", sized("1Mi", 0));
    assert_eq!(
        refuse(&pod, *evictor.pressure.borrow()).as_deref(),
        Some("The node had condition: [DiskPressure]. ")
    );
    let critical = Arc::new(named_pod("p", "p", sized("1Mi", 2_000_001_000)));
    assert_eq!(refuse(&critical, *evictor.pressure.borrow()), None);
}
