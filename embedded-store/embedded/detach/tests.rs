//! A member's store becomes one of its own.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::group::{self, CallError, Settings, Transport};
use crate::types::{Op, RangeRequest, Store, Txn};

/// A member that reaches nobody.
struct Nobody;

impl Transport for Nobody {
    fn call(&self, _: u64, _: &str, _: Bytes) -> BoxFuture<'static, Result<Bytes, CallError>> {
        async { Err(CallError::NotSent(io::ErrorKind::NotConnected.into())) }.boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_its_group_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, into) = (folder.path().join("store"), folder.path().join("new"));
    let (store, _) = EmbeddedStore::open(Config::new(&dir)).unwrap();
    let group = store.found_group("here", Arc::new(Nobody), &Settings::default()).await.unwrap();
    while !group.view().members.iter().any(|member| member.leads) {
        assert!(group.leader_changes().await);
    }
    let put = |value: &str| Txn {
        success: vec![Op::Put { key: "key".into(), value: value.to_string().into(), lease: 0 }],
        ..Txn::default()
    };
    for value in ["first", "second"] {
        store.txn(put(value)).await.unwrap();
    }
    let (old, revision) = (store.status().store, store.revision());
    assert!(detach(&dir, &into).is_err(), "it is in use");
    group.stop().await;
    drop(group);
    let stopping = Arc::clone(&store);
    tokio::task::spawn_blocking(move || stopping.close()).await.unwrap();
    drop(store);

    let began = detach(&dir, &into).unwrap();
    assert!(began > revision + 1_000_000, "revisions that others may have given out are not given out again");
    assert!(detach(&dir, &into).is_err(), "a store is there");
    assert_eq!(group::identity(&into).unwrap(), None, "it is alone");
    let (store, _) = EmbeddedStore::open(Config::new(&into)).unwrap();
    assert_ne!(store.status().store, old, "nobody takes it for the member that it was");
    let found = store.range(&RangeRequest { key: "key".into(), ..RangeRequest::default() }).unwrap();
    assert_eq!(found.kvs[0].value, "second");
    assert_eq!(
        group::identity(&dir).unwrap().map(|known| known.member),
        Some(old),
        "the old one is as it was"
    );
    // It founds another group.
    let group = store.found_group("here", Arc::new(Nobody), &Settings::default()).await.unwrap();
    assert_ne!(group.identity().cluster, old);
    group.stop().await;
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
}
