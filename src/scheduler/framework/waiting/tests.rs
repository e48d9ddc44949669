//! Tests of the waiting pods, under tokio's paused clock.

use serde_json::json;

use super::*;
use crate::testing::{info, pod};

fn waiting(pods: &WaitingPods, times: &[(&'static str, u64)]) -> Arc<WaitingPod> {
    let times = times.iter().map(|(plugin, seconds)| (*plugin, Duration::from_secs(*seconds))).collect();
    pods.add(info(pod("a", json!({}))), "n", times)
}

#[tokio::test(start_paused = true)]
async fn a_pod_goes_on_once_all_have_allowed_it() {
    let pods = WaitingPods::default();
    let pod = waiting(&pods, &[("A", 10), ("B", 20)]);
    assert!(pods.get("a").is_some_and(|found| found.node == "n"));
    pod.allow("A");
    assert_eq!(pod.pending_plugins(), ["B"]);
    tokio::time::advance(Duration::from_secs(15)).await;
    let (status, ()) = tokio::join!(pods.decided(&pod), async {
        // A's time is over, but A has allowed it.
        tokio::task::yield_now().await;
        pod.allow("B");
    });
    assert!(status.is_success(), "{status:?}");
    assert!(pods.get("a").is_none() && pods.list().is_empty());
    assert!(!pod.reject("B", "too late"));
}

#[tokio::test(start_paused = true)]
async fn the_first_time_that_is_up_rejects() {
    let pods = WaitingPods::default();
    let pod = waiting(&pods, &[("A", 90), ("B", 20)]);
    let began = Instant::now();
    let status = pods.decided(&pod).await;
    assert_eq!(began.elapsed(), Duration::from_secs(20));
    assert_eq!((status.code(), status.plugin()), (Code::Unschedulable, Some("B")));
    assert_eq!(status.message(), "rejected due to timeout after waiting 20s at plugin B");
}

#[tokio::test(start_paused = true)]
async fn the_first_word_stands() {
    let pods = WaitingPods::default();
    let pod = waiting(&pods, &[("A", 10)]);
    assert!(pod.reject("A", "no"));
    assert!(!pod.reject("A", "again"));
    pod.allow("A");
    let status = pods.decided(&pod).await;
    assert_eq!((status.message().as_str(), status.is_rejected()), ("no", true));
}

#[test]
fn durations_are_written_as_go_does() {
    let cases = [
        (0, "0s"),
        (1_500, "1.5µs"),
        (200_000_000, "200ms"),
        (1_500_000_000, "1.5s"),
        (60_000_000_000, "1m0s"),
        (900_000_000_000, "15m0s"),
        (3_661_000_000_000, "1h1m1s"),
    ];
    for (nanos, text) in cases {
        assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
    }
}
