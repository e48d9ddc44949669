//! Transactions within transactions, and puts over what is there.

use super::*;

pub(super) async fn transactions_within_transactions(store: Shared) {
    let within = |compares: Vec<Compare>, success: Vec<Op>, failure: Vec<Op>| {
        Op::Txn(Box::new(Txn { compares, success, failure, ..Txn::default() }))
    };
    let absent = |key: &'static str| vec![Compare::mod_revision(key, 0)];
    let ops = vec![
        put("a", "1"),
        // What it compares with is from before all of it: the key was not there.
        within(absent("a"), vec![put("b", "yes")], vec![put("b", "no")]),
        within(vec![], vec![within(absent("c"), vec![put("c", "deep")], vec![]), delete("none")], vec![]),
    ];
    let result = run(&store, ops.clone()).await;
    assert_eq!((result.revision, result.results.len()), (2, 3), "one revision for all");
    let OpResult::Txn(inner) = &result.results[1] else { panic!("a result for each operation: {result:?}") };
    assert!(inner.succeeded && matches!(inner.results[..], [OpResult::Put { previous: None }]));
    let OpResult::Txn(inner) = &result.results[2] else { panic!("a result for each operation: {result:?}") };
    let [OpResult::Txn(deep), OpResult::Delete { previous }] = &inner.results[..] else {
        panic!("results lie in one another as the operations do: {inner:?}")
    };
    assert!(deep.succeeded && previous.is_empty());
    let kvs = range(&store, &all()).kvs;
    assert_eq!(kvs.iter().map(|kv| kv.value.as_ref()).collect::<Vec<_>>(), [&b"1"[..], b"yes", b"deep"]);
    assert!(kvs.iter().all(|kv| kv.mod_revision == 2));
    // Now they are there: the other branches.
    let result = run(&store, ops).await;
    let OpResult::Txn(inner) = &result.results[1] else { panic!("a result for each operation: {result:?}") };
    assert!(!inner.succeeded);
    let value = |key: &'static str| range(&store, &RangeRequest { key: key.into(), ..Default::default() });
    assert_eq!((value("b").kvs[0].value.as_ref(), value("c").kvs[0].version), (&b"no"[..], 1));
    let refused =
        async |ops: Vec<Op>| store.txn(Txn { success: ops, ..Txn::default() }).await.expect_err("refused");
    let twice = vec![put("x", "1"), within(vec![], vec![put("x", "2")], vec![])];
    assert_eq!(refused(twice).await, StoreError::DuplicateKey);
    let either = vec![within(absent("x"), vec![put("x", "1")], vec![put("x", "2")])];
    assert_eq!(run(&store, either).await.revision, 4, "only one of the branches is taken");
    let unknown = vec![put("y", "1"), within(vec![], vec![put_with("z", "1", 4711)], vec![])];
    assert_eq!(refused(unknown).await, StoreError::LeaseNotFound);
    assert_eq!(refused(vec![within(vec![], vec![put("", "1")], vec![])]).await, StoreError::EmptyKey);
    assert_eq!((value("y").count, store.revision()), (0, 4), "a refusal within refuses all");
}

pub(super) async fn updates_keep_what_is_not_given(store: Shared) {
    let update = |value: Option<&'static str>, lease| Op::Update {
        key: "a".into(),
        value: value.map(Bytes::from_static_str),
        lease,
    };
    let refused =
        async |op: Op| store.txn(Txn { success: vec![op], ..Txn::default() }).await.expect_err("refused");
    assert_eq!(refused(update(None, Some(0))).await, StoreError::KeyNotFound);
    store.grant(5, 60).await.expect("granted");
    run(&store, vec![put_with("a", "1", 5)]).await; // 2
    let now = || {
        let kv = range(&store, &RangeRequest { key: "a".into(), ..Default::default() }).kvs.remove(0);
        (kv.value, kv.lease, kv.version, kv.mod_revision)
    };
    run(&store, vec![update(Some("2"), None)]).await;
    assert_eq!(now(), ("2".into(), 5, 2, 3));
    let result = run(&store, vec![update(None, Some(0))]).await;
    assert!(matches!(&result.results[0], OpResult::Put { previous: Some(old) } if old.lease == 5));
    assert_eq!(now(), ("2".into(), 0, 3, 4));
    assert!(store.lease(5).expect("it is there").keys.is_empty());
    run(&store, vec![update(None, None)]).await;
    assert_eq!(now(), ("2".into(), 0, 4, 5));
    assert_eq!(refused(update(None, Some(4711))).await, StoreError::LeaseNotFound);
}
