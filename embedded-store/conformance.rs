//! One suite for every back end: what [`Store`](crate::Store) and [`Leases`](crate::Leases) promise,
//! asserted.
//!
//! A back end that passes [`run_all`] can stand where another one stood. Each case gets a store of its own.
//! Failures are panics, as in tests, which is the only place to call this. The suite is one file, because a
//! back end is read against it as a whole.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use crate::types::{
    Backend, Compare, CompareOp, CompareTarget, Durability, Event, KeyValue, Op, OpResult, RangeRequest,
    RangeResult, StoreError, Txn, TxnResult, WatchRequest, WatchStream,
};

mod nested;

use nested::{transactions_within_transactions, updates_keep_what_is_not_given};

type Shared = Arc<dyn Backend>;

/// Runs every case, each on a store that `make` has made.
///
/// # Panics
///
/// If the store breaks a promise.
pub(crate) async fn run_all<F, R>(make: F)
where
    F: Fn() -> R,
    R: Future<Output = Shared>,
{
    revisions_and_versions(make().await).await;
    ranges(make().await).await;
    old_revisions(make().await).await;
    compares(make().await).await;
    transactions_are_whole(make().await).await;
    transactions_within_transactions(make().await).await;
    updates_keep_what_is_not_given(make().await).await;
    refusals(make().await).await;
    compaction(make().await).await;
    watches(make().await).await;
    watches_from_the_past(make().await).await;
    leases(make().await).await;
    concurrent_counters(make().await).await;
    large_values(make().await).await;
}

/// What only stores in this process offer.
///
/// # Panics
///
/// If the store breaks a promise.
pub(crate) async fn run_local<F, R>(make: F)
where
    F: Fn() -> R,
    R: Future<Output = Shared>,
{
    observers_run_before_the_answer(make().await).await;
    lazy_writes_are_visible(make().await).await;
}

fn put(key: &str, value: &str) -> Op {
    put_with(key, value, 0)
}

fn put_with(key: &str, value: &str, lease: i64) -> Op {
    Op::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease,
    }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: Bytes::copy_from_slice(key.as_bytes()), range_end: None }
}

fn all() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Some(Bytes::from_static(b"\0")),
        ..Default::default()
    }
}

fn prefix(prefix: &'static str) -> RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    RangeRequest { key: prefix.into(), range_end: Some(end.into()), ..Default::default() }
}

async fn run(store: &Shared, ops: Vec<Op>) -> TxnResult {
    store.txn(Txn { success: ops, ..Txn::default() }).await.expect("a transaction without conditions")
}

fn range(store: &Shared, request: &RangeRequest) -> RangeResult {
    store.range(request).expect("a range that exists")
}

fn keys(result: &RangeResult) -> Vec<&str> {
    result.kvs.iter().map(|kv| std::str::from_utf8(&kv.key).expect("test keys are text")).collect()
}

async fn next(stream: &mut WatchStream) -> Result<(Vec<Event>, u64), StoreError> {
    let item = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
    let batch = item.expect("an event within 30 s").expect("the watch goes on")?;
    Ok((batch.events.to_vec(), batch.revision))
}

async fn revisions_and_versions(store: Shared) {
    assert_eq!(store.revision(), 1, "a new store is at revision 1, as etcd is");
    assert_eq!(run(&store, vec![put("a", "1")]).await.revision, 2);
    assert_eq!(run(&store, vec![put("a", "2")]).await.revision, 3);
    let OpResult::Put { previous: Some(old) } = &run(&store, vec![put("a", "3")]).await.results[0] else {
        panic!("a put tells what it replaced")
    };
    assert_eq!((old.value.as_ref(), old.version, old.mod_revision), (b"2".as_ref(), 2, 3));
    let kv = &range(&store, &RangeRequest { key: "a".into(), ..Default::default() }).kvs[0];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 4, 3));
    assert_eq!(run(&store, vec![delete("nothing")]).await.revision, 4, "no change, no revision");
    let gone = run(&store, vec![delete("a")]).await;
    assert_eq!(gone.revision, 5);
    assert!(matches!(&gone.results[0], OpResult::Delete { previous } if previous[0].value == "3"));
    run(&store, vec![put("a", "again")]).await;
    let kv = &range(&store, &RangeRequest { key: "a".into(), ..Default::default() }).kvs[0];
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version),
        (6, 6, 1),
        "a new life begins at version 1"
    );
    assert_eq!(store.revision(), 6);
}

async fn ranges(store: Shared) {
    for key in ["a", "a/1", "a/2", "a/3", "b", "c"] {
        run(&store, vec![put(key, key)]).await;
    }
    let result = range(&store, &prefix("a/"));
    assert_eq!(keys(&result), ["a/1", "a/2", "a/3"]);
    assert_eq!((result.count, result.more, result.revision), (3, false, 7));
    let result = range(&store, &RangeRequest { limit: 2, ..prefix("a/") });
    assert_eq!(keys(&result), ["a/1", "a/2"]);
    assert_eq!((result.count, result.more), (3, true));
    let result = range(&store, &RangeRequest { keys_only: true, ..prefix("a/") });
    assert!(result.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 0));
    let result = range(&store, &RangeRequest { count_only: true, ..all() });
    assert_eq!((result.count, result.kvs.len(), result.more), (6, 0, false));
    let from =
        RangeRequest { key: "b".into(), range_end: Some(Bytes::from_static(b"\0")), ..Default::default() };
    assert_eq!(keys(&range(&store, &from)), ["b", "c"]);
    let backwards = RangeRequest { key: "b".into(), range_end: Some("a".into()), ..Default::default() };
    assert_eq!(range(&store, &backwards).count, 0);
    assert_eq!(range(&store, &RangeRequest { key: "nothing".into(), ..Default::default() }).count, 0);
    let gone = run(&store, vec![Op::Delete { key: "a/".into(), range_end: Some("a0".into()) }]).await;
    assert!(matches!(&gone.results[0], OpResult::Delete { previous } if previous.len() == 3));
    assert_eq!(keys(&range(&store, &all())), ["a", "b", "c"]);
}

async fn old_revisions(store: Shared) {
    run(&store, vec![put("a", "1")]).await; // 2
    run(&store, vec![put("b", "1"), put("c", "1")]).await; // 3
    run(&store, vec![put("a", "2"), delete("b")]).await; // 4
    run(&store, vec![put("b", "2")]).await; // 5
    let then = |revision| {
        let result = range(&store, &RangeRequest { revision, ..all() });
        assert_eq!(result.revision, 5, "the header tells the revision of the store");
        let show = |kv: &KeyValue| {
            let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
            format!("{}={}@{}v{}", text(&kv.key), text(&kv.value), kv.mod_revision, kv.version)
        };
        result.kvs.iter().map(show).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(then(1), "");
    assert_eq!(then(2), "a=1@2v1");
    assert_eq!(then(3), "a=1@2v1 b=1@3v1 c=1@3v1");
    assert_eq!(then(4), "a=2@4v2 c=1@3v1");
    assert_eq!(then(5), "a=2@4v2 b=2@5v1 c=1@3v1");
    let page = range(&store, &RangeRequest { revision: 3, limit: 2, ..all() });
    assert_eq!((keys(&page), page.more, page.count), (vec!["a", "b"], true, 3));
    let future = store.range(&RangeRequest { revision: 6, ..all() });
    assert!(matches!(future, Err(StoreError::FutureRevision { .. })), "{future:?}");
}

async fn compares(store: Shared) {
    run(&store, vec![put("a", "m")]).await; // 2
    run(&store, vec![put("a", "m")]).await; // 3
    let check = async |key: &'static str, end: Option<&'static str>, op, target| {
        let range_end = end.map(Bytes::from_static_str);
        let compare = Compare { key: key.into(), range_end, op, target };
        let txn = Txn { compares: vec![compare], ..Txn::default() };
        store.txn(txn).await.expect("a comparison alone").succeeded
    };
    use CompareOp::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{CreateRevision, ModRevision, Value, Version};
    assert!(check("a", None, Equal, Version(2)).await);
    assert!(check("a", None, Equal, CreateRevision(2)).await);
    assert!(check("a", None, Equal, ModRevision(3)).await);
    assert!(check("a", None, Greater, ModRevision(2)).await);
    assert!(!check("a", None, Less, ModRevision(3)).await);
    assert!(check("a", None, NotEqual, Version(1)).await);
    assert!(check("a", None, Equal, Value("m".into())).await);
    assert!(check("a", None, Less, Value("n".into())).await);
    assert!(check("a", None, Equal, CompareTarget::Lease(0)).await);
    assert!(check("none", None, Equal, Version(0)).await, "what is not there has version 0");
    assert!(check("none", None, Equal, ModRevision(0)).await);
    assert!(!check("none", None, NotEqual, Value("x".into())).await, "and no value to compare with");
    run(&store, vec![put("b", "m")]).await;
    assert!(check("a", Some("c"), Equal, Value("m".into())).await, "a range compares all of its keys");
    assert!(!check("a", Some("c"), Equal, Version(2)).await);
    assert_eq!(store.revision(), 4, "comparisons change nothing");
}

async fn transactions_are_whole(store: Shared) {
    let create = |value: &str| Txn {
        compares: vec![Compare::mod_revision("a", 0)],
        success: vec![put("a", value), put("b", value)],
        failure: vec![Op::Range(RangeRequest { key: "a".into(), ..Default::default() })],
        durability: Durability::Synced,
        may_use_reserve: false,
    };
    let first = store.txn(create("1")).await.expect("created");
    assert_eq!((first.succeeded, first.revision), (true, 2));
    let second = store.txn(create("2")).await.expect("answered");
    assert_eq!((second.succeeded, second.revision), (false, 2));
    assert!(matches!(&second.results[0], OpResult::Range(r) if r.kvs[0].value == "1"));
    let mixed = run(
        &store,
        vec![
            put("c", "3"),
            Op::Range(all()),
            delete("a"),
            Op::Range(RangeRequest { count_only: true, ..all() }),
        ],
    )
    .await;
    let (OpResult::Range(seen), OpResult::Range(after)) = (&mixed.results[1], &mixed.results[3]) else {
        panic!("results are in the order of the operations")
    };
    assert_eq!(keys(seen), ["a", "b", "c"], "an operation sees those before it");
    assert_eq!((after.count, mixed.revision), (2, 3));
    let kvs = range(&store, &all()).kvs;
    assert_eq!(kvs.iter().map(|kv| kv.mod_revision).collect::<Vec<_>>(), [2, 3]);
}

async fn refusals(store: Shared) {
    let refused = async |ops: Vec<Op>| {
        store.txn(Txn { success: ops, ..Txn::default() }).await.expect_err("the transaction must be refused")
    };
    assert_eq!(refused(vec![put("", "x")]).await, StoreError::EmptyKey);
    assert_eq!(refused(vec![put("a", "1"), put("a", "2")]).await, StoreError::DuplicateKey);
    let both = vec![put("ab", "1"), Op::Delete { key: "a".into(), range_end: Some("b".into()) }];
    assert_eq!(refused(both).await, StoreError::DuplicateKey);
    assert_eq!(refused(vec![put_with("a", "1", 4711)]).await, StoreError::LeaseNotFound);
    let large = vec![put("a", &"x".repeat(1_700_000))];
    assert!(matches!(refused(large).await, StoreError::TooLarge { .. }));
    assert_eq!(store.range(&RangeRequest::default()), Err(StoreError::EmptyKey));
    assert_eq!((store.revision(), range(&store, &all()).count), (1, 0));
}

async fn compaction(store: Shared) {
    for value in ["1", "2", "3", "4"] {
        run(&store, vec![put("a", value)]).await; // 2 to 5
    }
    assert!(matches!(store.compact(6).await, Err(StoreError::FutureRevision { .. })));
    store.compact(4).await.expect("compacted");
    assert!(matches!(store.compact(4).await, Err(StoreError::Compacted { .. })));
    let old = store.range(&RangeRequest { revision: 3, ..all() });
    assert!(matches!(old, Err(StoreError::Compacted { .. })), "{old:?}");
    let at = |revision| range(&store, &RangeRequest { revision, ..all() }).kvs[0].value.clone();
    assert_eq!((at(4), at(5)), ("3".into(), "4".into()));
    assert_eq!(store.compacted_revision(), 4);
    let request = WatchRequest { key: "a".into(), range_end: None, start_revision: 3 };
    let ended = match store.watch(&request) {
        Ok(mut stream) => next(&mut stream).await.expect_err("history is gone"),
        Err(e) => e,
    };
    assert!(matches!(ended, StoreError::Compacted { .. }), "{ended:?}");
    assert_eq!(store.revision(), 5, "compaction is no revision");
}

async fn watches(store: Shared) {
    let watch = |key: &'static str, end: Option<&'static str>| {
        let range_end = end.map(Bytes::from_static_str);
        store
            .watch(&WatchRequest { key: key.into(), range_end, start_revision: 0 })
            .expect("a watch from now on")
    };
    run(&store, vec![put("a/0", "before")]).await;
    let mut one = watch("a/1", None);
    let mut some = watch("a/", Some("a0"));
    let mut everything = watch("\0", Some("\0"));
    run(&store, vec![put("a/1", "1"), put("b", "1")]).await;
    run(&store, vec![put("b", "2")]).await;
    run(&store, vec![delete("a/1")]).await;
    let (events, revision) = next(&mut one).await.expect("events");
    assert_eq!((events.len(), revision), (1, 3));
    assert_eq!(events[0].new.as_ref().map(|kv| kv.value.clone()), Some("1".into()));
    assert!(events[0].old.is_none());
    let (events, revision) = next(&mut one).await.expect("events");
    assert_eq!((revision, events[0].new.is_none(), events[0].revision), (5, true, 5));
    assert_eq!(events[0].old.as_ref().map(|kv| kv.value.clone()), Some("1".into()));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(next(&mut some).await.expect("events").0);
    }
    assert_eq!(seen.iter().map(|e| e.revision).collect::<Vec<_>>(), [3, 5]);
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.extend(next(&mut everything).await.expect("events").0);
    }
    assert_eq!(seen.iter().map(|e| e.revision).collect::<Vec<_>>(), [3, 3, 4, 5]);
}

async fn watches_from_the_past(store: Shared) {
    for number in 0..50 {
        run(&store, vec![put("a", &number.to_string())]).await; // 2 to 51
        run(&store, vec![put("other", "x")]).await;
    }
    let request = |start_revision| WatchRequest { key: "a".into(), range_end: None, start_revision };
    let mut stream = store.watch(&request(10)).expect("history is there");
    run(&store, vec![put("a", "live")]).await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|e: &Event| e.revision < 102) {
        seen.extend(next(&mut stream).await.expect("events").0);
    }
    let revisions: Vec<u64> = seen.iter().map(|e| e.revision).collect();
    let expected: Vec<u64> = (10..=102).filter(|r| r % 2 == 0).collect();
    assert_eq!(revisions, expected, "no change is left out or told twice");
    assert!(seen.iter().all(|e| e.old.is_some()));
    // From a revision that is yet to come.
    let mut stream = store.watch(&request(104)).expect("the future is allowed");
    run(&store, vec![put("a", "103")]).await;
    run(&store, vec![put("a", "104")]).await;
    assert_eq!(next(&mut stream).await.expect("events").1, 104);
}

async fn leases(store: Shared) {
    let lease = store.grant(77, 60).await.expect("granted");
    assert_eq!((lease.id, lease.ttl), (77, 60));
    assert_eq!(store.grant(77, 60).await, Err(StoreError::LeaseExists));
    let other = store.grant(0, 60).await.expect("granted");
    assert!(other.id != 0 && other.id != 77);
    run(&store, vec![put_with("a", "1", 77), put_with("b", "1", 77), put("c", "1")]).await; // 2
    let info = store.lease(77).expect("it is there");
    assert_eq!((info.granted_ttl, info.keys.len()), (60, 2));
    assert!((1..=60).contains(&info.remaining_ttl));
    assert_eq!(store.keep_alive(77), Ok(60));
    let mut listed = store.leases();
    listed.sort_unstable();
    let mut expected = vec![77, other.id];
    expected.sort_unstable();
    assert_eq!(listed, expected);
    run(&store, vec![put("b", "kept")]).await; // 3: no longer the lease's
    let mut stream = store
        .watch(&WatchRequest {
            key: "\0".into(),
            range_end: Some(Bytes::from_static(b"\0")),
            start_revision: 0,
        })
        .expect("a watch");
    store.revoke(77).await.expect("revoked");
    let (events, revision) = next(&mut stream).await.expect("events");
    assert_eq!((events.len(), revision, events[0].key.as_ref()), (1, 4, b"a".as_ref()));
    assert_eq!(keys(&range(&store, &all())), ["b", "c"]);
    assert_eq!(store.revoke(77).await, Err(StoreError::LeaseNotFound));
    assert_eq!(store.keep_alive(77), Err(StoreError::LeaseNotFound));
    assert!(store.lease(77).is_none());
}

/// Increments under optimistic concurrency: none may be lost, and each gets a revision of its own.
async fn concurrent_counters(store: Shared) {
    const TASKS: usize = 8;
    const EACH: usize = 25;
    run(&store, vec![put("counter", "0")]).await;
    let tasks = (0..TASKS).map(|_| {
        let store = Arc::clone(&store);
        async move {
            let mut revisions = Vec::new();
            while revisions.len() < EACH {
                let kv = range(&store, &RangeRequest { key: "counter".into(), ..Default::default() })
                    .kvs
                    .remove(0);
                let number: usize = String::from_utf8_lossy(&kv.value).parse().expect("a number");
                let txn = Txn {
                    compares: vec![Compare::mod_revision("counter", kv.mod_revision)],
                    success: vec![put("counter", &(number + 1).to_string())],
                    ..Txn::default()
                };
                let result = store.txn(txn).await.expect("answered");
                if result.succeeded {
                    revisions.push(result.revision);
                }
            }
            revisions
        }
    });
    let mut revisions = futures::future::join_all(tasks).await.concat();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), TASKS * EACH, "revisions are unique");
    let last = range(&store, &RangeRequest { key: "counter".into(), ..Default::default() }).kvs.remove(0);
    assert_eq!(last.value, (TASKS * EACH).to_string());
    assert_eq!(last.version as usize, TASKS * EACH + 1);
}

async fn large_values(store: Shared) {
    for (key, size) in [("a", 0), ("b", 32 * 1024), ("c", 32 * 1024 + 1), ("d", 1_400_000)] {
        run(&store, vec![put(key, &key.repeat(size))]).await;
        let kv = range(&store, &RangeRequest { key: key.into(), ..Default::default() }).kvs.remove(0);
        assert!(kv.value.len() == size && kv.value.iter().all(|b| *b == key.as_bytes()[0]));
    }
}

async fn observers_run_before_the_answer(store: Shared) {
    run(&store, vec![put("a", "1")]).await;
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let from = store.observe(Arc::new(move |events, revision| {
        assert!(events.iter().all(|event| event.revision == revision));
        sink.lock().push(revision);
    }));
    assert_eq!(from, 2);
    for expected in 3..40 {
        let result = run(&store, vec![put("a", "1")]).await;
        assert_eq!(result.revision, expected);
        assert_eq!(seen.lock().last(), Some(&expected), "told before the write was answered");
    }
    assert_eq!(*seen.lock(), (3..40).collect::<Vec<u64>>());
}

async fn lazy_writes_are_visible(store: Shared) {
    let lazy =
        |value: &str| Txn { success: vec![put("a", value)], durability: Durability::Lazy, ..Txn::default() };
    let mut stream =
        store.watch(&WatchRequest { key: "a".into(), range_end: None, start_revision: 0 }).expect("a watch");
    for number in 0..20u64 {
        let result = store.txn(lazy(&number.to_string())).await.expect("written");
        assert_eq!(result.revision, number + 2);
        assert_eq!(next(&mut stream).await.expect("events").1, number + 2);
    }
    assert_eq!(run(&store, vec![put("a", "synced")]).await.revision, 22);
}

/// `Bytes::from_static` for text.
trait FromStaticStr {
    fn from_static_str(text: &'static str) -> Bytes;
}

impl FromStaticStr for Bytes {
    fn from_static_str(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }
}
