//! Tests of the work queue under tokio's paused clock.

use std::time::Duration;

use super::WorkQueue;

#[tokio::test(start_paused = true)]
async fn a_key_is_queued_once_and_again_after_it_was_dirtied_in_flight() {
    let queue = WorkQueue::new("t");
    queue.add("a");
    queue.add("a");
    assert_eq!(queue.next().await, "a");
    queue.add("a");
    assert_eq!(queue.len(), 2, "one in flight, one dirty");
    queue.done(&"a");
    assert_eq!(queue.next().await, "a");
    queue.done(&"a");
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_earliest_delay_counts_and_delays_keep_order() {
    let queue = WorkQueue::new("t");
    let start = tokio::time::Instant::now();
    queue.add_after("late", Duration::from_secs(9));
    queue.add_after("late", Duration::from_secs(20));
    queue.add_after("early", Duration::from_secs(30));
    queue.add_after("early", Duration::from_secs(3));
    assert_eq!(queue.next().await, "early");
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(queue.next().await, "late");
    assert_eq!(start.elapsed().as_secs(), 9);
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_exponentially_until_forgotten() {
    let queue = WorkQueue::new("t");
    let mut delays = Vec::new();
    for _ in 0..4 {
        let start = tokio::time::Instant::now();
        queue.add_rate_limited("a");
        let key = queue.next().await;
        queue.done(&key);
        delays.push(start.elapsed().as_millis());
    }
    assert_eq!(delays, [5, 10, 20, 40]);
    queue.forget(&"a");
    assert_eq!(queue.failures(&"a"), 0);
}

#[tokio::test(start_paused = true)]
async fn every_sleeping_worker_is_woken_for_a_burst() {
    let queue: WorkQueue<u32> = WorkQueue::new("t");
    let workers: Vec<_> = (0..4).map(|_| queue.next()).collect();
    for key in 0..4 {
        queue.add(key);
    }
    let mut got = futures::future::join_all(workers).await;
    got.sort();
    assert_eq!(got, [0, 1, 2, 3]);
}
