//! Tests of the queue of pods, under tokio's paused clock.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, advance};

use super::*;
use crate::cache::Cache;
use crate::framework::Actions;
use crate::testing::{default_profile, info, pod, set};

fn key(name: &str) -> Key {
    ("ns".to_string(), name.to_string())
}

fn popped(queue: &mut Queue) -> Option<String> {
    queue.pop(Instant::now()).map(|(pod, _)| pod.key.1.clone())
}

fn put(queue: &mut Queue, name: &str, more: serde_json::Value) {
    queue.put(info(pod(name, more)), &default_profile(), Instant::now());
}

fn reject(queue: &mut Queue, name: &str, plugins: &[&'static str]) {
    queue.unschedulable(&info(pod(name, json!({}))), set(plugins), PluginSet::NONE, Instant::now());
}

fn fail(queue: &mut Queue, name: &str) {
    queue.failed(&info(pod(name, json!({}))), Instant::now());
}

/// A bound pod of the namespace changes.
fn happens(queue: &mut Queue, actions: Actions, helps: bool) {
    let cache = Cache::default();
    let other = info(pod("other", json!({})));
    let happening = ObservedEvent::to_pods(&cache, actions, Some(&other.pod), None);
    queue.wake(&happening, Instant::now(), |_| helps);
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
    reject(&mut queue, "a", &["NodeResourcesFit"]);
    assert_eq!(popped(&mut queue), None);
    happens(&mut queue, Actions::UPDATE_POD_LABEL, true);
    assert_eq!(popped(&mut queue), None, "its plugin did not register for that");
    happens(&mut queue, Actions::DELETE, false);
    assert_eq!(popped(&mut queue), None, "it would not help");
    put(&mut queue, "a", json!({}));
    assert_eq!(popped(&mut queue), None, "nothing but the status changed");
    happens(&mut queue, Actions::DELETE, true);
    assert_eq!(popped(&mut queue).as_deref(), Some("a"), "nothing else to do: its back-off does not matter");
}

#[tokio::test(start_paused = true)]
async fn backing_off_pods_come_after_active_ones() {
    let mut queue = Queue::default();
    put(&mut queue, "a", json!({"priority": 10}));
    popped(&mut queue);
    reject(&mut queue, "a", &["NodeResourcesFit"]);
    happens(&mut queue, Actions::DELETE, true);
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
        fail(&mut queue, "a");
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
    reject(&mut queue, "a", &["NodeName"]);
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
    fail(&mut queue, "a");
    assert_eq!((popped(&mut queue), queue.deadline()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn hints_look_closer_than_events() {
    let mut queue = Queue::default();
    put(
        &mut queue,
        "a",
        json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
    );
    popped(&mut queue);
    reject(&mut queue, "a", &["NodePorts"]);
    happens(&mut queue, Actions::DELETE, true);
    assert_eq!(popped(&mut queue), None, "the pod that went held no port");
    let cache = Cache::default();
    let holder = json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]});
    let holder = info(pod("holder", holder));
    let happening = ObservedEvent::to_pods(&cache, Actions::DELETE, Some(&holder.pod), None);
    queue.wake(&happening, Instant::now(), |_| true);
    assert_eq!(popped(&mut queue).as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn what_happened_in_flight_is_not_missed() {
    let mut queue = Queue::default();
    put(&mut queue, "a", json!({}));
    popped(&mut queue);
    happens(&mut queue, Actions::DELETE, true);
    reject(&mut queue, "a", &["NodeResourcesFit"]);
    assert_eq!(popped(&mut queue).as_deref(), Some("a"));
    happens(&mut queue, Actions::UPDATE_POD_LABEL, true);
    reject(&mut queue, "a", &["NodeResourcesFit"]);
    assert_eq!(popped(&mut queue), None, "nothing that its plugin registered for");
}

#[tokio::test(start_paused = true)]
async fn one_that_only_waited_does_not_back_off() {
    let mut queue = Queue::default();
    for (name, pending) in [("a", true), ("b", false)] {
        put(&mut queue, name, json!({}));
        popped(&mut queue);
        let fit = set(&["NodeResourcesFit"]);
        let pending = if pending { fit } else { PluginSet::NONE };
        queue.unschedulable(&info(pod(name, json!({}))), fit, pending, Instant::now());
    }
    happens(&mut queue, Actions::DELETE, true);
    put(&mut queue, "c", json!({}));
    let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue)).collect();
    assert_eq!(order, ["a", "c", "b"], "b is in back-off");
}

#[tokio::test(start_paused = true)]
async fn rejections_and_errors_are_counted_apart() {
    let mut queue = Queue::default();
    put(&mut queue, "a", json!({}));
    for _ in 0..3 {
        popped(&mut queue);
        reject(&mut queue, "a", &["NodeResourcesFit"]);
        happens(&mut queue, Actions::DELETE, true);
    }
    popped(&mut queue);
    fail(&mut queue, "a");
    assert_eq!(queue.deadline(), Some(Instant::now() + Duration::from_secs(1)), "the first error");
}
