//! Batches, bounds, and what is too large.

use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Sender as Channel, channel};

use client::BoxFuture;
use serde_json::{Value, json};

use super::super::policy::Policy;
use super::super::trail::Origin;
use super::super::webhook::Post;
use super::super::{Attributes, Audit};
use super::*;

const LIMIT: Duration = Duration::from_secs(60);

fn audit(sink: Sink) -> Arc<Audit> {
    let policy =
        Policy::parse(b"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Request}]\n").unwrap();
    Arc::new(Audit { policy, sinks: vec![sink], counts: Default::default(), room: Default::default() })
}

/// Two events.
fn request(audit: &Arc<Audit>, body: &Value) {
    let what = Attributes { verb: "update".into(), path: "/x".into(), ..Attributes::default() };
    let trail = audit.begin(&Arc::default(), what, Origin::default).unwrap().unwrap();
    trail.request_tree(body);
    trail.complete(200, None);
}

/// A server that fails the first times.
fn server(failures: usize, sent: Channel<Value>) -> WebhookOptions {
    let failures = Arc::new(AtomicUsize::new(failures));
    let post: Post = Arc::new(move |body| {
        let list: Value = serde_json::from_slice(&body).unwrap();
        let left = failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let outcome = match left {
            Ok(_) => Err(io::Error::other("not yet")),
            Err(_) => {
                sent.send(list).unwrap();
                Ok(())
            }
        };
        Box::pin(std::future::ready(outcome)) as BoxFuture<'static, io::Result<()>>
    });
    WebhookOptions { post, first_pause: Duration::from_millis(1) }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_sent_in_batches_and_sent_again_after_a_failure() {
    let (sent, batches) = channel();
    let options = SinkOptions { batch: 3, wait: LIMIT, ..SinkOptions::default() };
    let audit = audit(Sink::webhook(server(2, sent), options).unwrap());
    request(&audit, &json!({}));
    request(&audit, &json!({}));
    audit.flush(LIMIT);
    let lists: Vec<Value> = batches.try_iter().collect();
    let mut sizes: Vec<usize> = lists.iter().map(|list| list["items"].as_array().unwrap().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 3]);
    assert_eq!(
        (&lists[0]["kind"], &lists[0]["apiVersion"]),
        (&json!("EventList"), &json!("audit.k8s.io/v1"))
    );
    assert_eq!(audit.sinks[0].errors().back_end.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_no_server_takes_are_counted() {
    let (sent, batches) = channel();
    let audit = audit(Sink::webhook(server(usize::MAX, sent), SinkOptions::default()).unwrap());
    request(&audit, &json!({}));
    audit.flush(LIMIT);
    assert_eq!(audit.sinks[0].errors().back_end.load(Ordering::Relaxed), 2);
    assert_eq!(batches.try_iter().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_drops_and_counts_and_holds_nobody_up() {
    // A server that never answers: what is under way has its places, and the next batch waits for one.
    let post: Post = Arc::new(|_| Box::pin(std::future::pending()));
    let webhook = WebhookOptions { post, first_pause: LIMIT };
    let options = SinkOptions { buffer: 2, batch: 1, ..SinkOptions::default() };
    let audit = audit(Sink::webhook(webhook, options).unwrap());
    for _ in 0..100 {
        request(&audit, &json!({}));
    }
    let lost = audit.sinks[0].errors().buffered.load(Ordering::Relaxed);
    assert!(
        (180..200).contains(&lost),
        "sixteen are under way, one waits for a place and two for it: {lost}"
    );
}

#[test]
fn an_event_that_is_too_large_loses_its_objects_and_then_itself() {
    let folder = tempfile::tempdir().unwrap();
    for (most, expected) in [(2000, 2), (10, 0)] {
        let path = folder.path().join(most.to_string());
        let log = LogOptions { path: path.clone(), ..LogOptions::default() };
        let truncation = Some(Truncation { event: most, batch: 10_000 });
        let audit = audit(Sink::log(log, SinkOptions { truncation, ..SinkOptions::default() }).unwrap());
        request(&audit, &json!({ "data": "x".repeat(5000) }));
        audit.flush(LIMIT);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), expected);
        assert_eq!(audit.sinks[0].errors().truncate.load(Ordering::Relaxed), 2 - expected as u64);
        if let Some(last) = text.lines().last() {
            let last: Value = serde_json::from_str(last).unwrap();
            assert_eq!(last["annotations"]["audit.k8s.io/truncated"], "true");
            assert_eq!(last["requestObject"], json!(null));
        }
    }
}

#[test]
fn bodies_that_wait_are_bounded() {
    let (room, mut held) = (super::super::content::Room::default(), Vec::new());
    loop {
        let mut one = room.hold();
        if !one.grow(16 << 20) {
            break;
        }
        assert!(!one.grow(1), "no body is larger");
        held.push(one);
    }
    assert_eq!(held.len(), 4);
    held.pop();
    assert!(room.hold().grow(16 << 20), "what is dropped makes room");
}

#[test]
fn batches_are_throttled() {
    let mut allowance = Allowance::new(Some(Throttle { rate: 50.0, burst: 3 }));
    let start = Instant::now();
    for _ in 0..8 {
        allowance.wait();
    }
    // Five of them had to wait for 20 ms each.
    assert!(start.elapsed() >= Duration::from_millis(95), "{:?}", start.elapsed());
}
