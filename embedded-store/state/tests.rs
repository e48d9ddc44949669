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
    assert_eq!(gone.change.unwrap().0.len(), 1);
    assert_eq!(state.keys.keys().collect::<Vec<_>>(), ["a"]);
    apply(&mut state, put("a", 0));
    assert!(apply(&mut state, Request::LeaseRevoke { id: 2 }).change.is_none());
    assert_eq!(state.keys.len(), 1);
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
    assert!(applied.change.is_none() && state.keys.is_empty());
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
