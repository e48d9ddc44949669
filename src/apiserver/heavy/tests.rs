//! Heavy work holds nobody up, and nobody is held up by one user's.

#![allow(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime")]

use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// Longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn heavy_work_leaves_the_only_worker_to_others() {
    let turns = Arc::new(Turns::with_places(1));
    let (done, waiting) = mpsc::channel();
    let (started, begun) = tokio::sync::oneshot::channel();
    let heavy = {
        let turns = turns.clone();
        tokio::spawn(async move {
            turns
                .run(
                    "user",
                    HEAVY,
                    Box::pin(async move {
                        started.send(()).unwrap();
                        // As a long computation, this blocks its thread until another task has run.
                        waiting.recv_timeout(TIMEOUT)
                    }),
                )
                .await
        })
    };
    begun.await.unwrap();
    tokio::spawn(async move { done.send(()).unwrap() }).await.unwrap();
    heavy.await.unwrap().expect("the other task ran meanwhile");
    assert!(turns.users.lock().is_empty(), "nobody is remembered");
}

#[tokio::test]
async fn users_take_turns() {
    let turns = Arc::new(Turns::with_places(1));
    let order = Arc::new(Mutex::new(Vec::new()));
    let held = turns.turn("first").await;
    let mut tasks = Vec::new();
    for (user, count) in [("greedy", 5), ("modest", 1)] {
        for _ in 0..count {
            let (turns, order) = (turns.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                turns.run(user, HEAVY, Box::pin(async { order.lock().push(user) })).await;
            }));
            // It is in the queue.
            tokio::task::yield_now().await;
        }
    }
    drop(held);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(order.lock()[..2], ["greedy", "modest"]);
    assert!(turns.users.lock().is_empty());
}

#[tokio::test]
async fn what_waits_gives_its_place_away() {
    let turns = Turns::with_places(1);
    let (send, receive) = tokio::sync::oneshot::channel();
    let waits = turns.run("one", HEAVY, Box::pin(async { receive.await.unwrap() }));
    let sends = turns.run("two", HEAVY, Box::pin(async { send.send(7).unwrap() }));
    let (got, ()) = tokio::time::timeout(TIMEOUT, futures::future::join(waits, sends)).await.unwrap();
    assert_eq!(got, 7);
    // Whoever is dropped while it waits takes nothing along.
    let held = turns.turn("one").await;
    let waits = turns.run("two", HEAVY, Box::pin(async {}));
    assert!(tokio::time::timeout(Duration::from_millis(1), waits).await.is_err());
    drop(held);
    tokio::time::timeout(TIMEOUT, turns.run("three", HEAVY, Box::pin(async {}))).await.unwrap();
    assert!(turns.users.lock().is_empty());
}

#[tokio::test]
async fn work_within_a_turn_asks_for_no_other() {
    let turns = Turns::with_places(1);
    let work =
        turns.run("user", HEAVY, Box::pin(async { turns.run("user", HEAVY, Box::pin(async { 7 })).await }));
    assert_eq!(tokio::time::timeout(TIMEOUT, work).await.unwrap(), 7);
}

#[tokio::test]
async fn a_share_is_given_back() {
    let turns = Arc::new(Turns::with_places(1));
    let worker = Worker::new(&turns, &Arc::new(Identity::user("user", [])));
    let mut all = worker.share(usize::MAX).await;
    all.shrink(1024 * 1024);
    let some = worker.share(15 * 1024 * 1024).await;
    assert!(futures::FutureExt::now_or_never(worker.share(1)).is_none(), "all of it is held");
    drop((all, some));
    assert!(turns.shares.lock().is_empty(), "nobody is remembered");
}

#[tokio::test]
async fn what_is_converted_to_be_read_takes_turns() {
    use api::kinds::{self, EVENT};
    use api::{CreateOptions, ListOptions};
    use client::ObjectRef;
    use serde_json::json;
    let h = crate::testing::Harness::start().await;
    let row = kinds::by_kind("events.k8s.io/v1", "Event").unwrap();
    let here = Some("default");
    let turns = h.server.registry.turns.clone();
    for name in ["a", "b", "c"] {
        let body = json!({
            "metadata": { "name": name, "annotations": { "k": "x".repeat(HEAVY / 2) } },
            "involvedObject": { "namespace": "default" },
        });
        h.api.create(&EVENT, here, body, &CreateOptions::default()).await.unwrap();
    }
    let places = u32::try_from(turns.places.available_permits()).unwrap();
    let held = turns.places.clone().acquire_many_owned(places).await.unwrap();
    let options = ListOptions::default();
    assert_eq!(h.api.list(&EVENT, here, &options).await.unwrap().items.len(), 3, "as they are stored");
    h.api.get(row, ObjectRef::new(here, "a")).await.expect("small ones are converted at once");
    let mut list = h.api.list(row, here, &options);
    assert!(futures::poll!(&mut list).is_pending(), "together they are heavy");
    drop(held);
    let list = list.await.unwrap();
    assert!(list.items.iter().all(|object| object.api_version() == Some("events.k8s.io/v1")));
    h.stop().await;
}

#[tokio::test]
async fn a_pod_of_a_large_account_takes_its_turn() {
    use api::CreateOptions;
    use api::kinds::{POD, SERVICE_ACCOUNT};
    use serde_json::json;
    let h = crate::testing::Harness::start().await;
    let here = Some("default");
    let turns = h.server.registry.turns.clone();
    let account = |name: &str, secrets: usize| {
        let secrets: Vec<_> = (0..secrets).map(|n| json!({ "name": format!("secret-{n}") })).collect();
        json!({ "metadata": { "name": name }, "imagePullSecrets": secrets })
    };
    for (name, secrets) in [("default", 2), ("large", 4000)] {
        h.api
            .create(&SERVICE_ACCOUNT, here, account(name, secrets), &CreateOptions::default())
            .await
            .unwrap();
    }
    let pod = |name: &str, account: &str| {
        let mut pod = crate::testing::pod(name);
        pod["spec"]["serviceAccountName"] = json!(account);
        pod
    };
    let places = u32::try_from(turns.places.available_permits()).unwrap();
    let held = turns.places.clone().acquire_many_owned(places).await.unwrap();
    let options = CreateOptions::default();
    let small = h.api.create(&POD, here, pod("small", "default"), &options).await.unwrap();
    assert_eq!(small.tree().unwrap()["spec"]["imagePullSecrets"].as_array().unwrap().len(), 2);
    let mut large = h.api.create(&POD, here, pod("large", "large"), &options);
    assert!(futures::poll!(&mut large).is_pending(), "it waits for its turn");
    drop(held);
    let large = large.await.unwrap().tree().unwrap();
    assert_eq!(large["spec"]["imagePullSecrets"].as_array().unwrap().len(), 4000);
    h.stop().await;
}

#[tokio::test]
async fn large_writes_of_components_take_turns_too() {
    use api::kinds::CONFIG_MAP;
    use api::{CreateOptions, UpdateOptions};
    use client::ObjectRef;
    use serde_json::json;
    let h = crate::testing::Harness::start().await;
    let turns = h.server.registry.turns.clone();
    let places = u32::try_from(turns.places.available_permits()).unwrap();
    let held = turns.places.clone().acquire_many_owned(places).await.unwrap();
    let body = |size: usize| json!({ "metadata": { "name": "a" }, "data": { "k": "x".repeat(size) } });
    let (create, update) = (CreateOptions::default(), UpdateOptions::default());
    let at = ObjectRef::new(Some("default"), "a");
    let large = || h.api.create(&CONFIG_MAP, Some("default"), body(2 * HEAVY), &create);
    assert!(futures::poll!(large()).is_pending(), "it waits for its turn");
    h.api.create(&CONFIG_MAP, Some("default"), body(10), &create).await.unwrap();
    let update = || h.api.update(&CONFIG_MAP, at, body(2 * HEAVY), &update);
    for _ in 0..3 {
        assert!(futures::poll!(update()).is_pending());
    }
    assert_eq!(
        h.get(&CONFIG_MAP, Some("default"), "a").await.unwrap()["data"]["k"].as_str().unwrap().len(),
        10
    );
    drop(held);
    update().await.unwrap();
    h.stop().await;
}
