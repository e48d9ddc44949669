//! Who ends when, who is let in meanwhile, and what is told.

use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::testing::{TestNode, containers, named_pod, until};

/// Announces what it is told to, and writes down how long it is held.
struct Script {
    node: Arc<TestNode>,
    announcements: mpsc::UnboundedReceiver<bool>,
}

struct Held(Arc<TestNode>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.journal.note("shutdown goes on");
    }
}

impl Power for Script {
    fn hold(&mut self, most: Duration) -> BoxFuture<'_, Result<Lock, PowerError>> {
        self.node.journal.note(format!("shutdown waits {} s", most.as_secs()));
        let lock: Lock = Box::new(Held(self.node.clone()));
        Box::pin(async move { Ok(lock) })
    }

    fn announced(&mut self) -> BoxFuture<'_, Option<bool>> {
        Box::pin(self.announcements.recv())
    }
}

fn begin(node: &Arc<TestNode>, total: u64, critical: u64) -> mpsc::UnboundedSender<bool> {
    let (sender, announcements) = mpsc::unbounded_channel();
    let mut script = Script { node: node.clone(), announcements };
    let shutdown = NodeShutdown {
        grace: ShutdownGrace { total: Duration::from_secs(total), critical: Duration::from_secs(critical) },
        wakers: node.agent.wakers.clone(),
        recorder: node.agent.recorder.clone(),
        node_name: "n".to_string(),
        is_going: node.agent.is_going_down.clone(),
    };
    node.agent.stage.spawn_cancellable("shutdown", OnExit::Done, async move {
        let _ = shutdown.follow(&mut script).await;
    });
    sender
}

/// A pod whose containers do not end by themselves before this.
fn slow(name: &str, seconds: i64, priority: i32) -> k8s_openapi::api::core::v1::Pod {
    let hook = json!({"preStop": {"sleep": {"seconds": seconds}}});
    let container = json!({"name": name, "image": "image:1", "lifecycle": hook});
    let spec = json!({
        "containers": [container], "priority": priority, "terminationGracePeriodSeconds": 3600,
    });
    named_pod(name, name, spec)
}

#[tokio::test(start_paused = true)]
async fn ordinary_pods_end_before_critical_ones_and_then_the_machine() {
    let node = Arc::new(TestNode::new());
    let power = begin(&node, 60, 20);
    node.until("shutdown waits 60 s").await;
    node.run(&slow("web", 3, 0));
    node.run(&slow("net", 3, 2_000_000_000));
    node.until("start_container web").await;
    node.until("start_container net").await;
    node.journal.take();
    let began = tokio::time::Instant::now();
    power.send(true).unwrap();
    node.until("shutdown goes on").await;
    assert!(began.elapsed() < Duration::from_secs(20), "nobody is waited for in vain: {:?}", began.elapsed());
    let journal = node.journal.take();
    let place = |line: &str| journal.iter().position(|one| one.contains(line)).expect(line);
    assert!(place("stop_container web") < place("Stopping container net"), "{journal:#?}");
    for name in ["web", "net"] {
        let status = node.api.status(name);
        assert_eq!(
            (&status["phase"], &status["reason"]),
            (&json!("Failed"), &json!("Terminated")),
            "{status}"
        );
        assert_eq!(status["message"], MESSAGE);
        let conditions = status["conditions"].as_array().unwrap();
        let told = conditions.iter().find(|one| one["type"] == "DisruptionTarget").unwrap();
        assert_eq!(told["reason"], "TerminationByKubelet");
    }
    // Nobody is let in meanwhile.
    node.run(&named_pod("late", "late", json!({"containers": containers(&["late"])})));
    node.until("event NodeShutdown: Pod was rejected as the node is shutting down.").await;
    until(
        "it has failed",
        || node.api.status("late")["phase"] == "Failed",
        || node.api.status("late").to_string(),
    )
    .await;
    // Called off, the node goes on as before.
    power.send(false).unwrap();
    node.until("shutdown waits 60 s").await;
    node.run(&named_pod("next", "next", json!({"containers": containers(&["next"])})));
    node.until("start_container next").await;
}

#[tokio::test(start_paused = true)]
async fn those_who_take_too_long_hold_nobody_up() {
    let node = Arc::new(TestNode::new());
    let power = begin(&node, 30, 10);
    node.run(&slow("web", 3600, 0));
    node.run(&slow("net", 1, 2_000_000_000));
    node.until("start_container web").await;
    node.until("start_container net").await;
    let began = tokio::time::Instant::now();
    power.send(true).unwrap();
    node.until("shutdown goes on").await;
    let took = began.elapsed();
    assert!((Duration::from_secs(20)..Duration::from_secs(31)).contains(&took), "{took:?}");
    assert!(node.journal.has("stop_container net"));
}
