//! Ways in for the fuzz targets: the decoders of what comes from disk and from clients. Kept here so that
//! what the targets have found is tried by ordinary tests, too.

use prost::Message;

use crate::check;
use crate::log::frame::{self, End};
use crate::log::record::{Group, Record, Request};
use crate::state::State;
use crate::state::history::HistoryLimits;
use crate::types::{Op, Txn};
use crate::wire::etcdserverpb::{RangeRequest, TxnRequest};

/// Reads bytes as a segment, and as one record; a record that is read encodes to what it was.
///
/// # Panics
///
/// If it does not.
pub fn log(bytes: &[u8]) {
    let mut count = 0;
    let (offset, next, end) = frame::scan(bytes, 0, 1, |_| count += 1);
    assert!(next == count + 1 && offset <= bytes.len());
    assert!(end != End::Clean || bytes[offset..].iter().all(|byte| *byte == 0));
    assert_eq!(frame::find(bytes, 0, 1, next), Some(offset), "what was read is found again");
    if let Ok(record) = Record::decode(bytes) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(Record::decode(&again).ok(), Some(record));
    }
    if let Ok(group) = Group::decode(bytes) {
        assert_eq!(Group::decode(&group.encode()).ok(), Some(group));
    }
}

/// Takes bytes from a client; the first says as what.
///
/// # Panics
///
/// If the state does not hold together after them.
pub fn etcd(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0, request)) => transaction(request),
        Some((1, request)) => range(request),
        Some((pieces, connection)) => crate::etcd::fuzz_connection(usize::from(*pieces), connection),
        None => {}
    }
}

/// A state with a few keys, a lease and some history.
fn state() -> State {
    let mut state = State::new(HistoryLimits::default());
    let put =
        |key: &str, lease| Op::Put { key: key.to_string().into(), value: key.to_string().into(), lease };
    let requests = [
        Request::LeaseGrant { id: 1, ttl: 10 },
        Request::Txn(Txn { success: vec![put("a", 1), put("b", 0), put("key", 0)], ..Txn::default() }),
        Request::Txn(Txn { success: vec![put("a", 0), put("c", 1)], ..Txn::default() }),
        Request::Compact { revision: 2 },
    ];
    for request in requests {
        let _ = state.apply(&Record { term: 1, index: state.index + 1, time: 0, request });
    }
    state
}

/// All the way: to a record, to disk and back, to the state. Replaying it comes to the same.
fn transaction(bytes: &[u8]) {
    let Ok(request) = TxnRequest::decode(bytes) else { return };
    let Ok(txn) = crate::etcd::transaction(&request) else { return };
    if check::txn(&txn).is_err() {
        return;
    }
    let (mut state, mut replayed) = (state(), state());
    let record = Record { term: 1, index: state.index + 1, time: 0, request: Request::Txn(txn) };
    let mut encoded = Vec::new();
    record.encode(&mut encoded);
    let decoded = Record::decode(&encoded).expect("what is written can be read");
    assert_eq!(decoded, record);
    let (first, second) = (state.apply(&record), replayed.apply(&decoded));
    assert_eq!(first.outcome, second.outcome);
    assert_eq!(first.changes, second.changes);
    state.validate();
    if let Ok(crate::state::ApplyOutcome::Txn(result)) = first.outcome {
        let _ = crate::etcd::txn_response(&request, result, None).encode_to_vec();
    }
}

fn range(bytes: &[u8]) {
    let Ok(request) = RangeRequest::decode(bytes) else { return };
    let Ok(range) = crate::etcd::range(&request) else { return };
    if let Ok(result) = state().range(&range) {
        let _ = crate::etcd::range_response(&request, result, None).encode_to_vec();
    }
}

#[cfg(test)]
mod tests;
