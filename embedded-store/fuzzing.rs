//! Ways in for the fuzz targets: the decoders of what comes from disk and from clients.

use prost::Message;

use crate::check;
use crate::etcd::wire::etcdserverpb::TxnRequest;
use crate::frame::{self, End};
use crate::record::Record;

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
    if let Ok(record) = Record::decode(bytes) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(Record::decode(&again).ok(), Some(record));
    }
}

/// Takes bytes as a transaction from a client, up to where the store would get it.
pub fn request(bytes: &[u8]) {
    if let Ok(txn) = TxnRequest::decode(bytes)
        && let Ok(txn) = crate::etcd::transaction(&txn)
    {
        let _ = check::txn(&txn);
    }
}
