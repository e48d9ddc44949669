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
async fn a_pod_that_is_stopped_tells_whether_it_is_ready() {
    let node = TestNode::new();
    let probe = json!({"exec": {"command": ["ready"]}, "periodSeconds": 1, "failureThreshold": 1});
    let hook = json!({"preStop": {"sleep": {"seconds": 3600}}});
    let container = json!({"name": "a", "image": "image:1", "lifecycle": hook, "readinessProbe": probe});
    let pod = pod(json!({"containers": [container]}));
    let mailbox = node.run(&pod);
    node.until("status Running, ready").await;
    node.delete(&pod, &mailbox, 3600);
    node.until("event Killing").await;
    let told = |ready: bool| {
        let status = node.api.status("p");
        status["phase"] == "Running" && status["containerStatuses"][0]["ready"] == ready
    };
    assert!(told(true), "{}", node.api.status("p"));
    for ready in [false, true, false] {
        node.well.store(ready, std::sync::atomic::Ordering::Relaxed);
        crate::testing::until("readiness", || told(ready), || node.api.status("p").to_string()).await;
    }
    let conditions = node.api.status("p")["conditions"].clone();
    let ready = conditions.as_array().unwrap().iter().find(|one| one["type"] == "Ready").unwrap();
    assert_eq!(ready["status"], "False", "{conditions}");
    node.delete(&pod, &mailbox, 2);
    node.until_gone("u").await;
}

#[tokio::test(start_paused = true)]
async fn a_rule_restarts_a_container_of_a_pod_that_never_restarts() {
    let node = TestNode::new();
    let mut spec = json!({"restartPolicy": "Never", "containers": containers(&["a"])});
    spec["containers"][0]["restartPolicy"] = json!("Never");
    spec["containers"][0]["restartPolicyRules"] =
        json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let mailbox = node.run(&pod(spec));
    node.until("status Running, ready").await;
    node.runtime.exit("a", 42);
    mailbox.wake(WakeReason::ContainerEnded);
    let count = || node.api.status("p")["containerStatuses"][0]["restartCount"].as_i64();
    let again = || count() == Some(1) && node.api.status("p")["containerStatuses"][0]["ready"] == true;
    crate::testing::until("it runs again", again, || node.api.status("p").to_string()).await;
    node.runtime.exit("a", 1);
    mailbox.wake(WakeReason::ContainerEnded);
    node.until("status Failed").await;
    assert_eq!(count(), Some(1));
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

fn sized(cpu: &str, policy: &str) -> serde_json::Value {
    json!({"containers": [{
        "name": "a", "image": "image:1",
        "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"cpu": cpu, "memory": "64Mi"}},
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}],
    }]})
}

/// Asks for other resources, as a client and the informer would.
fn ask(node: &TestNode, mailbox: &crate::wake::Mailbox, cpu: &str, policy: &str) {
    let asked = node.api.change("p", |tree| {
        let before = tree["metadata"]["generation"].as_i64().unwrap_or(1);
        tree["metadata"]["generation"] = json!(before + 1);
        tree["spec"] = sized(cpu, policy);
    });
    mailbox.update(WakeReason::Pod, |mail| mail.pod = Some(std::sync::Arc::new(asked)));
}

#[tokio::test(start_paused = true)]
async fn a_container_is_resized_while_it_runs() {
    let node = TestNode::new();
    let mailbox = node.run(&pod(sized("500m", "NotRequired")));
    node.until("status Running, ready").await;
    assert_eq!(node.api.status("p")["allocatedResources"]["cpu"], "500m");
    node.journal.take();
    ask(&node, &mailbox, "1", "NotRequired");
    node.until("event ResizeCompleted: Pod resize completed").await;
    node.until("update_container a shares=1024 quota=100000 memory=67108864").await;
    assert!(node.journal.has("event ResizeStarted: Pod resize started: {\"containers\":[{\"name\":\"a\""));
    assert!(!node.journal.has("stop_container") && !node.journal.has("create_container"), "it runs on");
    let is_told = || {
        let status = node.api.status("p");
        status["containerStatuses"][0]["resources"]["limits"]["cpu"] == "1"
            && !status["conditions"].to_string().contains("PodResize")
    };
    crate::testing::until("the status tells", is_told, || node.api.status("p").to_string()).await;
}

#[tokio::test(start_paused = true)]
async fn a_resize_policy_may_start_a_container_anew() {
    let node = TestNode::new();
    let mailbox = node.run(&pod(sized("500m", "RestartContainer")));
    node.until("status Running, ready").await;
    node.journal.take();
    ask(&node, &mailbox, "1", "RestartContainer");
    node.until("event ResizeCompleted").await;
    assert!(node.journal.has("event Killing: Container a resize requires restart"));
    assert!(node.journal.has("create_container a") && !node.journal.has("update_container"));
}

#[tokio::test(start_paused = true)]
async fn a_resize_that_finds_no_room_waits_and_says_so() {
    let node = TestNode::new();
    let mailbox = node.run(&pod(sized("500m", "NotRequired")));
    node.until("status Running, ready").await;
    ask(&node, &mailbox, "8", "NotRequired");
    node.until("event ResizeDeferred: Pod resize Deferred").await;
    let condition = || {
        let status = node.api.status("p");
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["type"] == "PodResizePending").unwrap_or_default()
    };
    crate::testing::until("it is told", || !condition().is_null(), || node.api.status("p").to_string()).await;
    assert_eq!(condition()["reason"], "Deferred");
    let message = condition()["message"].to_string();
    assert!(message.contains("Node didn't have enough resource: cpu, requested: 8000"), "{message}");
    assert_eq!(node.api.status("p")["containerStatuses"][0]["resources"]["limits"]["cpu"], "500m");
    ask(&node, &mailbox, "500m", "NotRequired");
    crate::testing::until(
        "nothing is pending",
        || condition().is_null(),
        || node.api.status("p").to_string(),
    )
    .await;
    assert!(!node.journal.has("update_container"));
}

#[tokio::test(start_paused = true)]
async fn a_resize_that_the_runtime_refuses_is_told_and_tried_again() {
    let node = TestNode::new();
    let mailbox = node.run(&pod(sized("500m", "NotRequired")));
    node.until("status Running, ready").await;
    node.runtime.fail("update_container", Code::Unknown, "device or resource busy");
    ask(&node, &mailbox, "1", "NotRequired");
    node.until("event ResizeError: Pod resize error").await;
    node.until("event ResizeCompleted").await;
    assert_eq!(node.journal.count("update_container a"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_container_is_started_once() {
    let node = TestNode::new();
    let mailbox = node.run(&pod(json!({"containers": containers(&["a"])})));
    node.until("status Running, ready").await;
    let with = node.api.change("p", |tree| {
        tree["spec"]["ephemeralContainers"] =
            json!([{"name": "debug", "image": "image:1", "targetContainerName": "a"}]);
    });
    mailbox.update(WakeReason::Pod, |mail| mail.pod = Some(std::sync::Arc::new(with)));
    let state = || node.api.status("p")["ephemeralContainerStatuses"][0]["state"].clone();
    node.until("start_container debug").await;
    crate::testing::until("it runs", || state()["running"].is_object(), || node.api.status("p").to_string())
        .await;
    node.runtime.exit("debug", 3);
    mailbox.wake(WakeReason::ContainerEnded);
    let ended = || state()["terminated"]["exitCode"] == 3;
    crate::testing::until("it has ended", ended, || node.api.status("p").to_string()).await;
    assert_eq!(node.journal.count("start_container debug"), 1);
    assert_eq!(node.api.status("p")["phase"], "Running", "the pod does not depend on it");
}

#[tokio::test(start_paused = true)]
async fn one_containers_end_may_restart_them_all() {
    let node = TestNode::new();
    let mut spec = json!({
        "restartPolicy": "Never", "initContainers": containers(&["i"]), "containers": containers(&["a", "b"]),
    });
    spec["containers"][1]["restartPolicyRules"] =
        json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]);
    spec["containers"][1]["restartPolicy"] = json!("Never");
    let mailbox = node.run(&pod(spec));
    node.until("start_container i").await;
    node.runtime.exit("i", 0);
    mailbox.wake(WakeReason::ContainerEnded);
    node.until("status Running, ready").await;
    node.journal.take();
    node.runtime.exit("b", 42);
    mailbox.wake(WakeReason::ContainerEnded);
    node.until("start_container i").await;
    node.runtime.exit("i", 0);
    mailbox.wake(WakeReason::ContainerEnded);
    node.until("status Running, ready").await;
    let journal = node.journal.take();
    let place = |line: &str| journal.iter().position(|one| one.starts_with(line));
    assert!(place("stop_container a") < place("remove_container a"), "{journal:#?}");
    assert!(
        place("remove_container a") < place("remove_container b"),
        "who wanted it goes last: {journal:#?}"
    );
    assert!(place("remove_container b") < place("create_container i"), "{journal:#?}");
    assert!(!journal.iter().any(|line| line.starts_with("run_sandbox")), "{journal:#?}");
    let status = node.api.status("p");
    let counts: Vec<i64> = status["containerStatuses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["restartCount"].as_i64().unwrap())
        .collect();
    assert_eq!(counts, [1, 1], "{status}");
    let conditions = status["conditions"].as_array().unwrap();
    let told = conditions.iter().find(|one| one["type"] == "AllContainersRestarting").unwrap();
    assert_eq!(told["status"], "False");
    // Any other end is a Never as before.
    node.runtime.exit("b", 1);
    node.runtime.exit("a", 0);
    mailbox.wake(WakeReason::ContainerEnded);
    node.until("status Failed").await;
}
