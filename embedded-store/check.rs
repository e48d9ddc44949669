//! Checks of a request that need no state: done before it becomes a record.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::state::in_range;
use crate::types::{Op, StoreError, Txn};

/// The largest request, as in etcd.
pub const MAX_REQUEST_BYTES: usize = 1536 * 1024;

/// Returns the size of the request.
pub(crate) fn txn(txn: &Txn) -> Result<usize, StoreError> {
    let mut size = 0;
    for compare in &txn.compares {
        key(&compare.key)?;
        size += compare.key.len() + 32;
        if let crate::types::CompareTarget::Value(value) = &compare.target {
            size += value.len();
        }
    }
    for branch in [&txn.success, &txn.failure] {
        for op in branch {
            size += match op {
                Op::Put { key: k, value, .. } => {
                    key(k)?;
                    k.len() + value.len() + 32
                }
                Op::Delete { key: k, range_end } => {
                    key(k)?;
                    k.len() + range_end.as_ref().map_or(0, Bytes::len) + 16
                }
                Op::Range(range) => {
                    key(&range.key)?;
                    range.key.len() + 64
                }
            };
        }
        duplicates(branch)?;
    }
    if size > MAX_REQUEST_BYTES {
        return Err(StoreError::TooLarge { size, limit: MAX_REQUEST_BYTES });
    }
    Ok(size)
}

/// Whether a branch can only free space.
pub(crate) fn grows(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| matches!(op, Op::Put { .. }))
}

fn key(key: &Bytes) -> Result<(), StoreError> {
    if key.is_empty() { Err(StoreError::EmptyKey) } else { Ok(()) }
}

/// A key may be written once in a transaction: the order of its operations must not matter to the outcome.
fn duplicates(ops: &[Op]) -> Result<(), StoreError> {
    if ops.len() < 2 {
        return Ok(());
    }
    let mut puts = BTreeSet::new();
    for op in ops {
        if let Op::Put { key, .. } = op
            && !puts.insert(key)
        {
            return Err(StoreError::DuplicateKey);
        }
    }
    for op in ops {
        if let Op::Delete { key, range_end } = op
            && puts.iter().any(|put| in_range(put, key, range_end.as_ref()))
        {
            return Err(StoreError::DuplicateKey);
        }
    }
    Ok(())
}
