//! Watches: what they begin with, what they see, how they end.

use api::kinds::CONFIG_MAP;
use api::{FieldSelector, LabelSelector, Patch, UpdateOptions, WatchOptions};
use client::ObjectRef;
use embedded_store::Store;
use serde_json::json;

use crate::testing::Harness;

const HERE: Option<&str> = Some("default");

fn at(name: &str) -> ObjectRef<'_> {
    ObjectRef::new(HERE, name)
}

fn since(version: u64) -> WatchOptions {
    WatchOptions { resource_version: Some(version.to_string()), ..WatchOptions::default() }
}

#[tokio::test]
async fn a_watch_sees_every_change_after_its_version() {
    let h = Harness::start().await;
    let first = h.config_map("a").await;
    h.config_map("b").await;
    let mut events = h.watch(&CONFIG_MAP, &since(first.resource_version())).await;
    h.api
        .patch(&CONFIG_MAP, at("a"), Patch::merge(json!({ "data": { "k": "2" } })), &UpdateOptions::default())
        .await
        .unwrap();
    h.delete(&CONFIG_MAP, HERE, "b").await.unwrap();
    for expected in ["ADDED b", "MODIFIED a", "DELETED b"] {
        assert_eq!(events.next().await, expected);
    }
    let mut present = h.watch(&CONFIG_MAP, &WatchOptions::default()).await;
    assert_eq!(present.next().await, "ADDED a");
    let mut streamed = h
        .watch(
            &CONFIG_MAP,
            &WatchOptions {
                send_initial_events: Some(true),
                allow_bookmarks: true,
                ..WatchOptions::default()
            },
        )
        .await;
    assert_eq!(streamed.next().await, "ADDED a");
    assert_eq!(streamed.next().await, "BOOKMARK true");
    h.config_map("c").await;
    assert_eq!(streamed.next().await, "ADDED c");
    assert_eq!(present.next().await, "ADDED c");
    h.stop().await;
}

#[tokio::test]
async fn a_watch_from_before_the_history_has_to_list_again() {
    let h = Harness::start().await;
    let mut events = h.watch(&CONFIG_MAP, &since(1)).await;
    // Everything that bootstrap wrote is in the ring, as the store was empty.
    h.config_map("a").await;
    assert_eq!(events.next().await, "ADDED a");
    // A server that starts on a used store knows nothing of what was before.
    let stage = h.supervisor.stage("second");
    let second = crate::ApiServer::start(crate::testing::config(), h.store.clone(), &stage).await.unwrap();
    let api = client::ApiFor::as_user(second.as_ref(), crate::testing::master());
    let mut late = crate::testing::Events(api.watch(&CONFIG_MAP, HERE, &since(1)).await.unwrap());
    assert_eq!(late.next().await, "ERROR 410 Expired");
    assert_eq!(late.next().await, "the end");
    h.stop().await;
}

#[tokio::test]
async fn an_object_enters_and_leaves_a_selection() {
    let h = Harness::start().await;
    let options = WatchOptions {
        labels: LabelSelector::parse("app=x").unwrap(),
        resource_version: Some(h.store.revision().to_string()),
        ..WatchOptions::default()
    };
    let mut events = h.watch(&CONFIG_MAP, &options).await;
    h.config_map("a").await;
    for app in ["x", "x2", "x"] {
        let patch = Patch::merge(json!({ "metadata": { "labels": { "app": app } } }));
        h.api.patch(&CONFIG_MAP, at("a"), patch, &UpdateOptions::default()).await.unwrap();
    }
    h.delete(&CONFIG_MAP, HERE, "a").await.unwrap();
    for expected in ["ADDED a", "DELETED a", "ADDED a", "DELETED a"] {
        assert_eq!(events.next().await, expected);
    }
    h.stop().await;
}

#[tokio::test]
async fn a_watch_of_one_name_gets_only_that() {
    let h = Harness::start().await;
    h.config_map("a").await;
    let from = h.store.revision();
    h.config_map("b").await;
    let options = WatchOptions { fields: FieldSelector::equals("metadata.name", "b"), ..since(from) };
    let mut events = h.watch(&CONFIG_MAP, &options).await;
    h.delete(&CONFIG_MAP, HERE, "a").await.unwrap();
    h.delete(&CONFIG_MAP, HERE, "b").await.unwrap();
    assert_eq!(events.next().await, "ADDED b");
    assert_eq!(events.next().await, "DELETED b");
    let unknown = WatchOptions { fields: FieldSelector::equals("spec.no", "b"), ..WatchOptions::default() };
    let refused = h.api.watch(&CONFIG_MAP, HERE, &unknown).await.err().unwrap();
    assert_eq!(refused.message(), "field label not supported: spec.no");
    h.stop().await;
}

#[tokio::test]
async fn a_watch_ends_at_its_timeout() {
    let h = Harness::start().await;
    tokio::time::pause();
    let options = WatchOptions {
        allow_bookmarks: true,
        timeout: Some(std::time::Duration::from_secs(90)),
        ..since(h.store.revision())
    };
    let mut events = h.watch(&CONFIG_MAP, &options).await;
    assert_eq!(events.next_unbounded().await, "BOOKMARK false");
    assert_eq!(events.next_unbounded().await, "BOOKMARK false");
    assert_eq!(events.next_unbounded().await, "the end");
}
