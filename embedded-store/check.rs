//! Checks of a request that need no state: done before it becomes a record.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::types::{Compare, CompareTarget, LeaseId, MAX_DEPTH, Op, StoreError, Txn, in_range};

/// The largest request, as in etcd.
pub(crate) const MAX_REQUEST_BYTES: usize = 1536 * 1024;

/// Returns the size of the request.
pub(crate) fn txn(txn: &Txn) -> Result<usize, StoreError> {
    let size = size(txn, MAX_DEPTH)?;
    for branch in [&txn.success, &txn.failure] {
        // Most have one operation, which cannot conflict with another.
        if branch.len() > 1 || matches!(branch.first(), Some(Op::Txn(_))) {
            written(branch)?;
        }
    }
    if size > MAX_REQUEST_BYTES {
        return Err(StoreError::TooLarge { size, limit: MAX_REQUEST_BYTES });
    }
    Ok(size)
}

fn size(txn: &Txn, depth: usize) -> Result<usize, StoreError> {
    let depth = depth.checked_sub(1).ok_or(StoreError::TooManyOps)?;
    let mut size = 32;
    for Compare { key: k, range_end, target, .. } in &txn.compares {
        key(k)?;
        size += k.len() + length(range_end) + 32;
        if let CompareTarget::Value(value) = target {
            size += value.len();
        }
    }
    for op in txn.success.iter().chain(&txn.failure) {
        size += size_of::<LeaseId>() * 4;
        size += match op {
            Op::Put { key: k, value, .. } => key(k)? + value.len(),
            Op::Update { key: k, value, .. } => key(k)? + length(value),
            Op::Delete { key: k, range_end } => key(k)? + length(range_end),
            Op::Range(range) => key(&range.key)? + length(&range.range_end),
            Op::Txn(inner) => self::size(inner, depth)?,
        };
    }
    Ok(size)
}

fn key(key: &Bytes) -> Result<usize, StoreError> {
    if key.is_empty() { Err(StoreError::EmptyKey) } else { Ok(key.len()) }
}

fn length(bytes: &Option<Bytes>) -> usize {
    bytes.as_ref().map_or(0, Bytes::len)
}

/// Whether a transaction can do more than free space.
pub(crate) fn grows(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Put { .. } | Op::Update { .. } => true,
        Op::Txn(inner) => grows(inner),
        Op::Delete { .. } | Op::Range(_) => false,
    })
}

/// What a list of operations can write.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Vec<(&'a Bytes, Option<&'a Bytes>)>,
}

impl<'a> Written<'a> {
    fn put(&mut self, key: &'a Bytes) -> Result<(), StoreError> {
        let deleted = self.deletes.iter().any(|(start, end)| in_range(key, start, *end));
        if deleted || !self.puts.insert(key) { Err(StoreError::DuplicateKey) } else { Ok(()) }
    }
}

/// A key may be written once in a transaction: the order of its operations must not matter to the outcome.
/// The two branches of one within it may write the same, because only one of them is taken.
fn written(ops: &[Op]) -> Result<Written<'_>, StoreError> {
    let mut all = Written::default();
    for op in ops {
        if let Op::Delete { key, range_end } = op {
            all.deletes.push((key, range_end.as_ref()));
        }
    }
    for op in ops {
        if let Op::Txn(inner) = op {
            let (success, failure) = (written(&inner.success)?, written(&inner.failure)?);
            for key in success.puts.union(&failure.puts) {
                all.put(key)?;
            }
            all.deletes.extend(success.deletes);
            all.deletes.extend(failure.deletes);
        }
    }
    for op in ops {
        if let Op::Put { key, .. } | Op::Update { key, .. } = op {
            all.put(key)?;
        }
    }
    Ok(all)
}
