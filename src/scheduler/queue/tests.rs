//! Tests of the queue of pods, under tokio's paused clock.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, advance};

use super::*;
use crate::filter::Plugin;
use crate::testing::{info, pod};

fn key(name: &str) -> Key {
    ("ns".to_string(), name.to_string())
}

fn popped(queue: &mut Queue) -> Option<String> {
    queue.pop(Instant::now()).map(|pod| pod.key.1.clone())
}

fn put(queue: &mut Queue, name: &str, more: serde_json::Value) {
    queue.put(info(pod(name, more)), Instant::now());
}

#[tokio::test(start_paused = true)]
async fn by_priority_then_by_age() {
    let mut queue = Queue::default();
    put(&mut queue, "a", json!({}));
    put(&mut queue, "b", json!({"priority": 10}));
    put(&mut queue, "c", json!({}));
    put(&mut queue, "a", json!({}));
    let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue)).collect();
    assert_eq!(order, ["b", "a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_pod_waits_for_what_may_help() {
    let mut queue = Queue::default();
    put(&mut queue, "a", json!({}));
    popped(&mut queue);
    queue.unschedulable(&key("a"), Plugins::of(&[Plugin::NodeResourcesFit]), Instant::now());
    assert_eq!(popped(&mut queue), None);
    queue.wake(Plugins::of(&[Plugin::NodePorts]), Instant::now(), |_| true);
    assert_eq!(popped(&mut queue), None, "another plugin");
    queue.wake(Plugins::of(&[Plugin::NodeResourcesFit]), Instant::now(), |_| false);
    assert_eq!(popped(&mut queue), None, "it would not help");
    put(&mut queue, "a", json!({}));
    assert_eq!(popped(&mut queue), None, "nothing but the status changed");
    queue.wake(Plugins::of(&[Plugin::NodeResourcesFit]), Instant::now(), |_| true);
    assert_eq!(popped(&mut queue).as_deref(), Some("a"), "nothing else to do: its back-off does not matter");
}

#[tokio::test(start_paused = true)]
async fn backing_off_pods_come_after_active_ones() {
    let mut queue = Queue::default();
    put(&mut queue, "a", json!({"priority": 10}));
    popped(&mut queue);
    let plugins = Plugins::of(&[Plugin::NodeResourcesFit]);
    queue.unschedulable(&key("a"), plugins, Instant::now());
    queue.wake(plugins, Instant::now(), |_| true);
    put(&mut queue, "b", json!({}));
    assert_eq!(popped(&mut queue).as_deref(), Some("b"));
    put(&mut queue, "c", json!({}));
    advance(Duration::from_millis(1001)).await;
    assert_eq!(popped(&mut queue).as_deref(), Some("a"), "its second is over");
}

#[tokio::test(start_paused = true)]
async fn after_an_error_the_back_off_counts() {
    let mut queue = Queue::default();
    put(&mut queue, "a", json!({}));
    for seconds in [1, 2, 4, 8, 10, 10] {
        popped(&mut queue);
        queue.failed(&key("a"), Instant::now());
        assert_eq!(popped(&mut queue), None);
        let deadline = queue.deadline().unwrap();
        assert_eq!(deadline - Instant::now(), Duration::from_secs(seconds));
        advance(Duration::from_secs(seconds)).await;
        queue.ripen(Instant::now());
    }
    assert_eq!(popped(&mut queue).as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let mut queue = Queue::default();
    put(&mut queue, "a", json!({}));
    popped(&mut queue);
    queue.unschedulable(&key("a"), Plugins::of(&[Plugin::NodeName]), Instant::now());
    assert_eq!(queue.deadline(), Some(Instant::now() + LONGEST_WAIT));
    advance(LONGEST_WAIT).await;
    assert_eq!(popped(&mut queue).as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn gates_hold_and_removal_removes() {
    let mut queue = Queue::default();
    put(&mut queue, "a", json!({"schedulingGates": [{"name": "wait"}]}));
    assert_eq!(popped(&mut queue), None);
    put(&mut queue, "a", json!({}));
    put(&mut queue, "b", json!({}));
    queue.remove(&key("b"));
    assert_eq!(popped(&mut queue).as_deref(), Some("a"));
    queue.remove(&key("a"));
    queue.failed(&key("a"), Instant::now());
    assert_eq!((popped(&mut queue), queue.deadline()), (None, None));
}
