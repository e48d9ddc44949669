//! Corners of the state machine that the suites for stores do not reach.

use super::*;
use crate::types::{Op, Txn};

fn put(key: &str, lease: LeaseId) -> Request {
    let op = Op::Put { key: key.to_string().into(), value: Bytes::from_static(b"v"), lease };
    Request::Txn(Txn { success: vec![op], ..Txn::default() })
}

fn apply(state: &mut State, request: Request) -> Applied {
    let record = Record { term: 1, index: state.index + 1, time: 0, request };
    let applied = state.apply(&record);
    state.validate();
    applied
}

#[test]
fn a_key_belongs_to_its_last_lease_only() {
    let mut state = State::new(HistoryLimits::default());
    apply(&mut state, Request::LeaseGrant { id: 1, ttl: 10 });
    apply(&mut state, Request::LeaseGrant { id: 2, ttl: 10 });
    apply(&mut state, put("a", 1));
    apply(&mut state, put("b", 1));
    apply(&mut state, put("a", 2));
    let gone = apply(&mut state, Request::LeaseRevoke { id: 1 });
    assert_eq!(gone.changes[0].0.len(), 1);
    assert_eq!(state.keys.keys().collect::<Vec<_>>(), ["a"]);
    apply(&mut state, put("a", 0));
    assert!(apply(&mut state, Request::LeaseRevoke { id: 2 }).changes.is_empty());
    assert_eq!(state.keys.len(), 1);
}

#[test]
fn a_lease_with_protected_keys_is_ended_by_its_owner_only() {
    let mut state = State::new(HistoryLimits::default());
    let unless = |prefixes: &[&str]| {
        let protected = prefixes.iter().map(|prefix| prefix.to_string().into()).collect();
        Request::LeaseRevokeUnless { id: 1, protected }
    };
    apply(&mut state, Request::LeaseGrant { id: 1, ttl: 10 });
    for key in ["/q", "/registr", "/registry0", "/s"] {
        apply(&mut state, put(key, 1));
    }
    // The key comes after whoever revokes has looked, and before his record is applied.
    let batch = Request::Batch(vec![put("/registry/events/a", 1), unless(&["/a/", "/registry/"])]);
    let Ok(ApplyOutcome::Batch(outcomes)) = apply(&mut state, batch).outcome else { panic!("a batch") };
    assert_eq!(outcomes[1], Err(StoreError::LeaseProtected { prefix: "/registry/".into() }));
    assert_eq!((state.keys.len(), state.leases.len()), (5, 1), "nothing of it is gone");
    // Nor does it go with the rest once it belongs to no lease.
    apply(&mut state, put("/registry/events/a", 0));
    let ended = apply(&mut state, unless(&["/a/", "/registry/"]));
    assert_eq!(ended.changes[0].0.len(), 4);
    assert_eq!(state.keys.keys().collect::<Vec<_>>(), ["/registry/events/a"]);
    assert_eq!(apply(&mut state, unless(&[])).outcome, Err(StoreError::LeaseNotFound));
    apply(&mut state, Request::LeaseGrant { id: 1, ttl: 10 });
    apply(&mut state, put("/registry/events/a", 1));
    apply(&mut state, Request::LeaseRevoke { id: 1 });
    assert!(state.keys.is_empty());
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let mut state = State::new(HistoryLimits::default());
    let ops = vec![
        Op::Put { key: "a".into(), value: Bytes::new(), lease: 0 },
        Op::Put { key: "b".into(), value: Bytes::new(), lease: 7 },
    ];
    let applied = apply(&mut state, Request::Txn(Txn { success: ops, ..Txn::default() }));
    assert_eq!(applied.outcome, Err(StoreError::LeaseNotFound));
    assert!(applied.changes.is_empty() && state.keys.is_empty());
    assert_eq!(state.revision, FIRST_REVISION);
}

#[test]
fn the_ceiling_is_where_a_crashed_store_goes_on() {
    let mut state = State::new(HistoryLimits::default());
    apply(&mut state, Request::Ceiling { revision: 500 });
    apply(&mut state, put("a", 0));
    assert_eq!(state.revision, 2);
    apply(&mut state, Request::SkipToCeiling);
    assert_eq!(state.revision, 500);
    apply(&mut state, put("a", 0));
    assert_eq!(state.keys[&Bytes::from_static(b"a")].mod_revision, 501);
}

#[test]
fn the_ring_is_bounded_by_count_bytes_and_age() {
    let limits = HistoryLimits { age: std::time::Duration::from_secs(10), events: 5, bytes: 4000 };
    let mut state = State::new(limits);
    for _ in 0..20 {
        apply(&mut state, put("a", 0));
    }
    assert_eq!((state.revision, state.history.floor()), (21, 17));
    let big = Op::Put { key: "b".into(), value: vec![0; 3800].into(), lease: 0 };
    apply(&mut state, Request::Txn(Txn { success: vec![big], ..Txn::default() }));
    assert_eq!(state.history.floor(), 22);
    let late = Record { term: 1, index: state.index + 1, time: 10_001, request: put("c", 0) };
    state.apply(&late);
    assert_eq!(state.history.floor(), 23);
    assert!(state.history.bytes() < 4000);
}

#[test]
fn a_batch_is_its_requests_one_after_the_other() {
    let requests = vec![
        Request::LeaseGrant { id: 1, ttl: 10 },
        put("a", 1),
        put("b", 2),
        put("c", 0),
        Request::LeaseRevoke { id: 1 },
    ];
    let (mut one, mut many) = (State::new(HistoryLimits::default()), State::new(HistoryLimits::default()));
    let together = apply(&mut one, Request::Batch(requests.clone()));
    let alone: Vec<_> = requests.into_iter().map(|request| apply(&mut many, request)).collect();
    assert_eq!((&one.keys, one.revision, one.index), (&many.keys, 4, 1));
    let changes: Vec<_> = alone.iter().flat_map(|applied| applied.changes.clone()).collect();
    assert_eq!(together.changes, changes);
    let outcomes: Vec<_> = alone.into_iter().map(|applied| applied.outcome).collect();
    assert_eq!(outcomes[2], Err(StoreError::LeaseNotFound), "one that fails stops no other");
    assert_eq!(together.outcome, Ok(ApplyOutcome::Batch(outcomes)));
}
