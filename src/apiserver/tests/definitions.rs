//! Ten thousand definitions come and go, with an instance each and somebody who follows all kinds, and leave
//! no memory behind: counted by an allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use api::fuzzing::Counting;
use api::kinds::CUSTOM_RESOURCE_DEFINITION as DEFINITION;
use api::{CreateOptions, DeleteOptions, Identity, KindRow};
use apiserver::ApiServer;
use client::{ApiFor, Informers, ObjectApi, ObjectRef, ServedKinds};
use embedded_store::{MemoryStore, Store};
use futures::StreamExt;
use futures::stream;
use serde_json::{Value, json};
use supervisor::Supervisor;

#[path = "../testing/fixture.rs"]
mod fixture;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Definitions before the first look: the bounded histories (8,192 changes of a kind) are full by then, that
/// of the API services too, which change about twice in the life of a definition.
const WARM: usize = 5_000;
const ALL: usize = 10_000;
/// Definitions on their way at once.
const AT_ONCE: usize = 32;
/// What one definition may leave, on average, in bytes. The least part of a kind that could be forgotten
/// somewhere, its row, is twice that; what the bounded histories hold differs by some percent from look to
/// look.
const LEFT: usize = 300;

fn definition(number: usize) -> Value {
    let group = format!("g{}.example.com", number % 50);
    json!({
        "metadata": { "name": format!("w{number}s.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": { "plural": format!("w{number}s"), "kind": format!("W{number}") },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                    "spec": { "type": "object", "properties": { "text": { "type": "string", "pattern": "^[a-z]*$" } } } } } },
                "additionalPrinterColumns": [{ "name": "Text", "type": "string", "jsonPath": ".spec.text" }],
            }],
        },
    })
}

async fn served(kinds: &mut ServedKinds, number: usize, wanted: bool) -> Option<Arc<KindRow>> {
    let (version, kind) = (format!("g{}.example.com/v1", number % 50), format!("W{number}"));
    let set = kinds.wait_for(|set| set.by_kind(&version, &kind).is_some() == wanted).await.unwrap();
    set.by_kind(&version, &kind).cloned()
}

/// One definition's life.
async fn come_and_go(api: &Arc<dyn ObjectApi>, kinds: ServedKinds, informers: &Informers, number: usize) {
    let mut kinds = kinds;
    let body = definition(number);
    let name = body["metadata"]["name"].as_str().unwrap().to_string();
    api.create(&DEFINITION, None, body, &CreateOptions::default()).await.unwrap();
    let row = served(&mut kinds, number, true).await.unwrap();
    let informer = informers.untyped(&row);
    let follows = informer.subscribe(|_| {});
    informer.synced().await;
    let instance = json!({ "metadata": { "name": "one" }, "spec": { "text": "abc" } });
    api.create(&row, Some("default"), instance, &CreateOptions::default()).await.unwrap();
    api.delete(&DEFINITION, ObjectRef::new(None, &name), &DeleteOptions::default()).await.unwrap();
    served(&mut kinds, number, false).await;
    drop(informer);
    follows.end_of_kind();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_definitions_leave_no_memory_behind() {
    let supervisor = Supervisor::new();
    let store = Arc::new(MemoryStore::new());
    let server =
        ApiServer::start(fixture::config(), store.clone(), &supervisor.stage("API server")).await.unwrap();
    let api = server.as_user(Identity::user("admin", [api::identity::GROUP_MASTERS]));
    let informers = Informers::new(api.clone(), supervisor.stage("informers"));
    let before = server.served().borrow().rows().len();
    let life = async |range: std::ops::Range<usize>| {
        let lives = range.map(|number| come_and_go(&api, server.served(), &informers, number));
        stream::iter(lives).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        // The store's history is the store's to bound.
        store.compact(store.revision()).await.unwrap();
        assert_eq!(server.served().borrow().rows().len(), before);
        assert_eq!(informers.running(), 0);
        Counting::live()
    };
    let warm = life(0..WARM).await;
    let end = life(WARM..ALL).await;
    println!("{warm} bytes after {WARM} definitions, {end} after {ALL}");
    let left = end.saturating_sub(warm) / (ALL - WARM);
    assert!(left <= LEFT, "{left} bytes of each definition are left: {warm} after {WARM}, {end} after {ALL}");
    supervisor.shutdown(std::time::Duration::from_secs(10)).await;
}
