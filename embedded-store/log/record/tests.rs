//! Round trips of every kind of record, and decoding of garbage.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::types::{Compare, CompareOp, CompareTarget, Op, RangeRequest};

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn compare() -> impl Strategy<Value = Compare> {
    let op = prop::sample::select(vec![
        CompareOp::Equal,
        CompareOp::NotEqual,
        CompareOp::Greater,
        CompareOp::Less,
    ]);
    let target = prop_oneof![
        any::<u64>().prop_map(CompareTarget::Version),
        any::<u64>().prop_map(CompareTarget::CreateRevision),
        any::<u64>().prop_map(CompareTarget::ModRevision),
        any::<i64>().prop_map(CompareTarget::Lease),
        bytes().prop_map(CompareTarget::Value),
    ];
    (bytes(), prop::option::of(bytes()), op, target).prop_map(|(key, range_end, op, target)| Compare {
        key,
        range_end,
        op,
        target,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let put = (bytes(), bytes(), any::<i64>());
    let range =
        (bytes(), prop::option::of(bytes()), any::<usize>(), any::<u64>(), any::<bool>(), any::<bool>());
    prop_oneof![
        put.prop_map(|(key, value, lease)| Op::Put { key, value, lease }),
        (bytes(), prop::option::of(bytes())).prop_map(|(key, range_end)| Op::Delete { key, range_end }),
        range.prop_map(|(key, range_end, limit, revision, keys_only, count_only)| {
            Op::Range(RangeRequest { key, range_end, limit, revision, keys_only, count_only })
        }),
        (bytes(), prop::option::of(bytes()), prop::option::of(any::<i64>()))
            .prop_map(|(key, value, lease)| Op::Update { key, value, lease }),
    ]
}

fn txn() -> impl Strategy<Value = Txn> {
    let leaf = txn_of(op().boxed());
    leaf.prop_recursive(4, 16, 3, |inner| {
        txn_of(prop_oneof![2 => op(), 1 => inner.prop_map(|txn| Op::Txn(Box::new(txn)))].boxed())
    })
}

fn txn_of(op: BoxedStrategy<Op>) -> BoxedStrategy<Txn> {
    let ops = || prop::collection::vec(op.clone(), 0..4);
    (prop::collection::vec(compare(), 0..3), ops(), ops(), any::<bool>())
        .prop_map(|(compares, success, failure, lazy)| {
            let durability = if lazy { Durability::Lazy } else { Durability::Synced };
            Txn { compares, success, failure, durability, may_use_reserve: !lazy }
        })
        .boxed()
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        6 => single(),
        1 => prop::collection::vec(single(), 0..4).prop_map(Request::Batch),
        1 => (any::<u64>(), any::<u64>(), prop::collection::vec(single(), 0..4))
            .prop_map(|(member, number, requests)| Request::Forwarded { member, number, requests }),
    ]
}

fn single() -> impl Strategy<Value = Request> {
    prop_oneof![
        6 => txn().prop_map(Request::Txn),
        1 => any::<u64>().prop_map(|revision| Request::Compact { revision }),
        1 => (any::<i64>(), any::<i64>()).prop_map(|(id, ttl)| Request::LeaseGrant { id, ttl }),
        1 => any::<i64>().prop_map(|id| Request::LeaseRevoke { id }),
        1 => (any::<i64>(), prop::collection::vec(bytes(), 0..3))
            .prop_map(|(id, protected)| Request::LeaseRevokeUnless { id, protected }),
        1 => any::<u64>().prop_map(|revision| Request::Ceiling { revision }),
        1 => Just(Request::SkipToCeiling),
    ]
}

proptest! {
    #[test]
    fn a_record_reads_back_as_it_was(numbers in any::<[u64; 3]>(), request in request()) {
        let [term, index, time] = numbers;
        let record = Record { term, index, time, request };
        let mut out = Vec::new();
        record.encode(&mut out);
        prop_assert_eq!(Record::decode(&out).unwrap(), record);
        // No proper prefix is a record.
        for length in 0..out.len() {
            prop_assert!(Record::decode(&out[..length]).is_err());
        }
    }

    #[test]
    fn garbage_is_an_error_not_a_panic(
        garbage in prop::collection::vec(any::<u8>(), 0..200),
        kind in 0u8..9,
    ) {
        let mut input = vec![0; 24];
        input.push(kind);
        input.extend(garbage);
        let _ = Record::decode(&input);
    }
}

#[test]
fn transactions_that_lie_too_deep_are_an_error() {
    let deep = |depth: usize| {
        let mut txn = Txn::default();
        for _ in 1..depth {
            txn = Txn { success: vec![Op::Txn(Box::new(txn))], ..Txn::default() };
        }
        let mut out = Vec::new();
        Record { term: 1, index: 1, time: 0, request: Request::Txn(txn) }.encode(&mut out);
        Record::decode(&out).is_ok()
    };
    assert!(deep(MAX_DEPTH) && !deep(MAX_DEPTH + 1));
}

#[test]
fn batches_do_not_lie_in_one_another() {
    let mut out = Vec::new();
    let request = Request::Batch(vec![Request::Batch(Vec::new())]);
    Record { term: 1, index: 1, time: 0, request }.encode(&mut out);
    Record::decode(&out).unwrap_err();
}
