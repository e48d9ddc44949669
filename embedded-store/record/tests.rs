//! Round trips of every kind of record, and decoding of garbage.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

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
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let ops = || prop::collection::vec(op(), 0..4);
    let txn = (prop::collection::vec(compare(), 0..3), ops(), ops(), any::<bool>()).prop_map(
        |(compares, success, failure, lazy)| {
            let durability = if lazy { Durability::Lazy } else { Durability::Synced };
            Request::Txn(Txn { compares, success, failure, durability })
        },
    );
    prop_oneof![
        6 => txn,
        1 => any::<u64>().prop_map(|revision| Request::Compact { revision }),
        1 => (any::<i64>(), any::<i64>()).prop_map(|(id, ttl)| Request::LeaseGrant { id, ttl }),
        1 => any::<i64>().prop_map(|id| Request::LeaseRevoke { id }),
        1 => any::<u64>().prop_map(|revision| Request::Ceiling { revision }),
        1 => Just(Request::SkipToCeiling),
    ]
}

proptest! {
    #[test]
    fn a_record_reads_back_as_it_was(term in any::<u64>(), index in any::<u64>(), time in any::<u64>(), request in request()) {
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
    fn garbage_is_an_error_not_a_panic(garbage in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..8) {
        let mut input = vec![0; 24];
        input.push(kind);
        input.extend(garbage);
        let _ = Record::decode(&input);
    }
}
