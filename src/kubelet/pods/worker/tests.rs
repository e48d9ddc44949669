//! A pod's whole life, step by step, and what each failure on the way is answered with.

use api::ApiError;
use serde_json::json;
use tonic::Code;

use crate::pods::plan;
use crate::testing::{TestNode, containers, named_pod, pod};
use crate::wake::WakeReason;

fn away() -> ApiError {
    ApiError::internal("away")
}

#[tokio::test(start_paused = true)]
async fn a_pod_comes_up_and_goes_in_order() {
    let node = TestNode::new();
    let pod = pod(json!({"containers": containers(&["a"])}));
    let mailbox = node.run(&pod);
    node.until("status Running, ready").await;
    let up: Vec<String> = node.journal.take().into_iter().filter(|line| !line.starts_with("event")).collect();
    let first = ["status Pending", "run_sandbox 0", "create_container a", "start_container a"];
    assert_eq!(
        (up[..4].to_vec(), up.last().unwrap().as_str()),
        (first.map(String::from).to_vec(), "status Running, ready")
    );
    node.host.journal.take();

    node.delete(&pod, &mailbox, 5);
    node.until_gone("u").await;
    assert_eq!(
        node.journal.take(),
        [
            "event Killing: Stopping container a",
            "stop_container a 5s",
            "stop_sandbox",
            // Told only once nothing runs.
            "status Succeeded",
            // The object goes once volumes and cgroup are given back.
            "delete p",
            "remove_container a",
            "remove_sandbox",
        ]
    );
    let given_back = node.host.journal.take();
    let volumes = given_back.iter().position(|line| line == "remove_tree /data/pods/u");
    let cgroup = given_back.iter().position(|line| line.starts_with("remove_cgroup"));
    assert!(volumes < cgroup && volumes.is_some(), "{given_back:#?}");
    assert_eq!(given_back.last().unwrap(), "remove_tree /logs/ns_p_u");
    assert!(!node.api.holds("p"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ends_by_itself_waits_for_its_deletion() {
    let node = TestNode::new();
    let pod = pod(json!({"restartPolicy": "Never", "containers": containers(&["a"])}));
    let mailbox = node.run(&pod);
    node.until("status Running, ready").await;
    node.runtime.exit("a", 3);
    mailbox.wake(WakeReason::ContainerEnded);
    node.until("status Failed").await;
    node.until("stop_sandbox").await;
    crate::testing::until(
        "its volumes are given back",
        || node.host.journal.has("remove_cgroup"),
        || format!("{:?}", node.host.journal.take()),
    )
    .await;
    let end = &node.api.status("p")["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(3), &json!("Error")));
    assert!(!node.journal.has("delete p") && !node.journal.has("remove_container"), "its logs can be read");
    node.delete(&pod, &mailbox, 30);
    node.until_gone("u").await;
    assert!(node.journal.has("delete p") && node.journal.has("remove_container a"));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_is_sent_again() {
    let node = TestNode::new();
    for _ in 0..3 {
        node.api.fail("patch", away());
    }
    node.run(&pod(json!({"containers": containers(&["a"])})));
    node.until("status Running, ready").await;
    assert_eq!(node.journal.count("patch refused: 500"), 3);
    assert_eq!(node.journal.count("start_container a"), 1, "what was started meanwhile is not started again");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_does_not_answer_is_asked_again() {
    let node = TestNode::new();
    for _ in 0..4 {
        node.runtime.fail("sandboxes", Code::Unavailable, "away");
    }
    let pod = pod(json!({"containers": containers(&["a"])}));
    let mailbox = node.run(&pod);
    node.until("status Running, ready").await;
    // Stopping is not given up either, and nothing is told or given back before it has worked.
    node.journal.take();
    node.runtime.fail("stop_container", Code::Unavailable, "away");
    node.runtime.fail("stop_sandbox", Code::Unavailable, "away");
    node.delete(&pod, &mailbox, 5);
    node.until_gone("u").await;
    let journal = node.journal.take();
    assert_eq!(journal.iter().filter(|line| *line == "stop_container a 5s").count(), 2, "{journal:#?}");
    assert_eq!(journal.iter().filter(|line| *line == "stop_sandbox").count(), 2, "{journal:#?}");
    let last_stop = journal.iter().rposition(|line| line == "stop_sandbox");
    assert!(last_stop < journal.iter().position(|line| line == "delete p"), "{journal:#?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_given_back_keeps_the_object() {
    let node = TestNode::new();
    let pod = pod(json!({"containers": containers(&["a"])}));
    let mailbox = node.run(&pod);
    node.until("status Running, ready").await;
    node.host.fail("remove_tree", 2);
    node.host.fail("remove_cgroup", 2);
    node.api.fail("delete", away());
    node.delete(&pod, &mailbox, 5);
    node.until("delete p").await;
    let host = node.host.journal.take();
    assert!(host.iter().filter(|line| *line == "remove_tree /data/pods/u").count() >= 3, "{host:#?}");
    assert_eq!(node.journal.count("delete refused: 500"), 1);
    node.until_gone("u").await;
    assert!(!node.api.holds("p"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_let_in_never_reaches_the_runtime() {
    let node = TestNode::new();
    let spec = json!({
        "containers": containers(&["a"]),
        "securityContext": {"sysctls": [{"name": "kernel.core_pattern", "value": "x"}]},
    });
    node.run(&pod(spec));
    node.until("status Failed").await;
    let status = node.api.status("p");
    assert_eq!(status["reason"], "SysctlForbidden");
    let message = "Pod was rejected: forbidden sysctl: \"kernel.core_pattern\" not allowlisted";
    assert_eq!(status["message"], message);
    assert!(node.journal.has("event SysctlForbidden: forbidden sysctl"));
    assert!(!node.journal.has("run_sandbox"));
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_before_the_volumes_are_there() {
    let node = TestNode::new();
    node.host.fail("write_volume", 2);
    let spec = json!({
        "containers": containers(&["a"]),
        "volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}],
    });
    node.run(&pod(spec));
    node.until("event FailedMount: MountVolume.SetUp failed for volume \"v\" : write_volume is to fail")
        .await;
    assert!(!node.journal.has("run_sandbox"));
    node.until("status Running, ready").await;
    assert_eq!(node.journal.count("event FailedMount"), 2);
}

#[tokio::test(start_paused = true)]
async fn only_wake_ups_that_may_concern_volumes_set_them_up_again() {
    let node = TestNode::new();
    let spec = json!({
        "containers": containers(&["a"]),
        "volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}],
    });
    let mailbox = node.run(&pod(spec));
    node.until("status Running, ready").await;
    let written = || node.host.journal.count("write_volume");
    assert_eq!(written(), 1, "once, however often the worker looked while the pod came up");
    let seen = async |count| {
        let so_often = || written() == count;
        crate::testing::until("the volume is written", so_often, || written().to_string()).await;
    };
    mailbox.wake(WakeReason::Source);
    seen(2).await;
    mailbox.wake(WakeReason::Probe);
    mailbox.wake(WakeReason::ContainerEnded);
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(written(), 2, "a probe changes no volume");
    mailbox.wake(WakeReason::Pod);
    seen(3).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_pod() {
    let node = TestNode::new();
    let mut late = pod(json!({"containers": containers(&["a"]), "activeDeadlineSeconds": 60}));
    late.status = Some(serde_json::from_value(json!({"startTime": "2020-01-01T00:00:00Z"})).unwrap());
    node.run(&late);
    node.until("status Failed").await;
    assert_eq!(node.api.status("p")["reason"], "DeadlineExceeded");
    assert!(!node.journal.has("run_sandbox"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_only_the_runtime_knows_is_removed() {
    let node = TestNode::new();
    let pod = pod(json!({"containers": containers(&["a"])}));
    let mailbox = node.run(&pod);
    node.until("status Running, ready").await;
    node.journal.take();
    mailbox.update(WakeReason::Pod, |mail| {
        mail.pod = None;
        mail.gone = true;
    });
    node.until_gone("u").await;
    let order = ["stop_container a 30s", "stop_sandbox", "remove_container a", "remove_sandbox"];
    assert_eq!(node.journal.take(), order, "nobody is told");
}

#[tokio::test(start_paused = true)]
async fn less_grace_than_at_first_is_heeded() {
    let node = TestNode::new();
    let hook = json!({"preStop": {"sleep": {"seconds": 3600}}});
    let pod = pod(json!({"containers": [{"name": "a", "image": "image:1", "lifecycle": hook}]}));
    let mailbox = node.run(&pod);
    node.until("status Running, ready").await;
    node.delete(&pod, &mailbox, 3600);
    node.until("event Killing").await;
    let began = tokio::time::Instant::now();
    node.delete(&pod, &mailbox, 2);
    node.until_gone("u").await;
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn pods_on_one_node_claim_its_room_in_order() {
    let node = TestNode::new();
    let asking = |name: &str| {
        let resources = json!({"requests": {"cpu": "1500m"}});
        let container = json!({"name": "a", "image": "image:1", "resources": resources});
        named_pod(name, name, json!({"containers": [container]}))
    };
    node.run(&asking("one"));
    node.until("status Running, ready").await;
    node.run(&asking("two"));
    node.until(
        "event OutOfcpu: Node didn't have enough resource: cpu, requested: 1500, used: 1500, capacity: 2000",
    )
    .await;
    node.until("status Failed").await;
}

#[tokio::test]
async fn a_worker_that_waits_is_small() {
    let node = TestNode::new();
    let mailbox = std::sync::Arc::new(crate::wake::Mailbox::new(crate::wake::Mail::default()));
    let worker = super::Worker::new(node.deps.clone(), "u".to_string(), mailbox);
    let bytes = std::mem::size_of_val(&worker.run());
    assert!(bytes < 4096, "{bytes} bytes");
}

#[test]
fn plans_that_start_nothing_take_no_turn() {
    assert!(!plan::PodActions::default().starts_something());
}
