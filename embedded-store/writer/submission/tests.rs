//! What a submission queue promises: one sync for the requests of one turn, and an answer to each whatever
//! happens.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinSet;

use super::SubmissionQueue;
use crate::types::{Durability, Op, Store, StoreError, Txn};
use crate::{Config, EmbeddedStore};

fn open(dir: &tempfile::TempDir) -> Arc<EmbeddedStore> {
    let lazy_flush = Duration::from_millis(20);
    EmbeddedStore::open(Config { min_free_bytes: 0, lazy_flush, ..Config::new(dir.path()) }).unwrap().0
}

fn put(number: usize, durability: Durability) -> Txn {
    let put = Op::Put { key: format!("key{number}").into(), value: "value".into(), lease: 0 };
    Txn { success: vec![put], durability, ..Txn::default() }
}

fn driven(store: &Arc<EmbeddedStore>, submissions: &Arc<SubmissionQueue>) -> JoinSet<()> {
    let (store, submissions) = (Arc::clone(store), Arc::clone(submissions));
    let mut driver = JoinSet::new();
    driver.spawn(async move { store.drive(&submissions).await });
    driver
}

/// Many puts in one turn of the runtime.
async fn puts(
    store: &EmbeddedStore,
    submissions: &Arc<SubmissionQueue>,
    count: usize,
) -> Vec<Result<u64, StoreError>> {
    let all = (0..count).map(async |number| {
        store.txn_via(Some(submissions), put(number, Durability::Synced)).await.map(|result| result.revision)
    });
    join_all(all).await
}

fn syncs(store: &EmbeddedStore) -> u64 {
    let metrics = store.render_metrics();
    let count =
        metrics.lines().find_map(|line| line.strip_prefix("etcd_disk_wal_fsync_duration_seconds_count "));
    count.unwrap().parse().unwrap()
}

#[tokio::test]
async fn one_turn_is_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (store, submissions) = (open(&dir), Arc::new(SubmissionQueue::default()));
    let _attendant = driven(&store, &submissions);
    tokio::task::yield_now().await;
    let before = syncs(&store);
    let revisions = puts(&store, &submissions, 100).await;
    assert_eq!(revisions, (2..102).map(Ok).collect::<Vec<_>>());
    assert_eq!(syncs(&store), before + 1);
    store.close();
    drop(store);
    assert_eq!(open(&dir).revision(), 101);
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "nobody who is awaited may want it")]
async fn a_busy_writer_takes_them_from_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let (store, submissions) = (open(&dir), Arc::new(SubmissionQueue::default()));
    let _attendant = driven(&store, &submissions);
    tokio::task::yield_now().await;
    let busy = store.writer.lock();
    let mut waiting = std::pin::pin!(puts(&store, &submissions, 10));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    // The driver's turns. It must not wait for the writer.
    for _ in 0..2 * super::GATHERING_TURNS {
        tokio::task::yield_now().await;
    }
    assert!(submissions.buffers.lock().requests.is_empty());
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    drop(busy);
    assert_eq!(waiting.await, (2..12).map(Ok).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_an_attendant_everything_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, submissions) = (open(&dir), Arc::new(SubmissionQueue::default()));
    assert!(puts(&store, &submissions, 10).await.iter().all(Result::is_ok));
    let mut driver = driven(&store, &submissions);
    tokio::task::yield_now().await;
    let mut waiting = std::pin::pin!(puts(&store, &submissions, 10));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    driver.abort_all();
    assert!(driver.join_next().await.unwrap().unwrap_err().is_cancelled());
    assert!(waiting.await.iter().all(Result::is_ok), "what lay there when it went is not forgotten");
    assert!(puts(&store, &submissions, 10).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_stopped_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (store, submissions) = (open(&dir), Arc::new(SubmissionQueue::default()));
    let _attendant = driven(&store, &submissions);
    tokio::task::yield_now().await;
    store.close();
    assert_eq!(puts(&store, &submissions, 3).await, vec![Err(StoreError::Stopped); 3]);
}

#[tokio::test]
async fn what_is_due_later_is_done_by_the_sleeping_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (store, submissions) = (open(&dir), Arc::new(SubmissionQueue::default()));
    let _attendant = driven(&store, &submissions);
    tokio::task::yield_now().await;
    // The first raises the ceiling with a sync, the second is lazy.
    store.txn_via(Some(&submissions), put(0, Durability::Lazy)).await.unwrap();
    let before = syncs(&store);
    // However slow the disk was just now: this one is not for the writer's thread.
    store.writer.lock().as_mut().unwrap().sync_time = Duration::ZERO;
    store.txn_via(Some(&submissions), put(1, Durability::Lazy)).await.unwrap();
    let flushed = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while syncs(&store) == before {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), flushed).await.expect("the lazy write is brought to disk");
}
