//! Transactions and nested transactions, in three steps: decide which branches are taken, check that
//! everything can be done, do it.

use super::{ApplyOutcome, State};
use crate::types::{Event, LeaseId, Op, OpResult, RangeResult, StoreError, Txn, TxnResult};

/// The decisions of nested transactions, in the order in which they are met.
type Path<'a> = std::slice::Iter<'a, bool>;

fn taken(path: &mut Path<'_>) -> bool {
    path.next().copied().unwrap_or_default()
}

impl State {
    pub(super) fn apply_txn(
        &mut self,
        txn: &Txn,
        events: &mut Vec<Event>,
    ) -> Result<ApplyOutcome, StoreError> {
        let mut path = Vec::new();
        let succeeded = self.decide(txn, &mut path);
        let ops = txn.branch(succeeded);
        // Everything that can refuse the transaction is checked before anything changes.
        self.accepts_writes(ops, &mut path.iter())?;
        self.accepts_reads(ops, &mut path.iter())?;
        let mut late = None;
        let results = self.run(ops, &mut path.iter(), events, &mut late);
        match late {
            Some(e) => Err(e),
            None => Ok(ApplyOutcome::Txn(TxnResult { succeeded, revision: 0, results })),
        }
    }

    /// Whether the compares of a transaction hold; what those within it come to goes into `path`, in the
    /// order in which they are met. All are decided on the state before the outermost, as in etcd.
    fn decide(&self, txn: &Txn, path: &mut Vec<bool>) -> bool {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        for op in txn.branch(succeeded) {
            if let Op::Txn(inner) = op {
                let at = path.len();
                path.push(false);
                path[at] = self.decide(inner, path);
            }
        }
        succeeded
    }

    fn accepts_writes(&self, ops: &[Op], path: &mut Path<'_>) -> Result<(), StoreError> {
        let known = |lease: LeaseId| {
            let known = lease == 0 || self.leases.contains_key(&lease);
            if known { Ok(()) } else { Err(StoreError::LeaseNotFound) }
        };
        for op in ops {
            match op {
                Op::Put { lease, .. } => known(*lease)?,
                Op::Update { key, .. } if !self.keys.contains_key(key) => {
                    return Err(StoreError::KeyNotFound);
                }
                Op::Update { lease, .. } => known(lease.unwrap_or(0))?,
                Op::Txn(inner) => self.accepts_writes(inner.branch(taken(path)), path)?,
                Op::Range(_) | Op::Delete { .. } => {}
            }
        }
        Ok(())
    }

    fn accepts_reads(&self, ops: &[Op], path: &mut Path<'_>) -> Result<(), StoreError> {
        for op in ops {
            match op {
                Op::Range(range) if range.revision > self.revision => {
                    return Err(StoreError::FutureRevision { now: self.revision });
                }
                Op::Range(range) if range.revision > 0 && range.revision < self.compacted => {
                    return Err(StoreError::Compacted { oldest: self.oldest() });
                }
                Op::Txn(inner) => self.accepts_reads(inner.branch(taken(path)), path)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        ops: &[Op],
        path: &mut Path<'_>,
        events: &mut Vec<Event>,
        late: &mut Option<StoreError>,
    ) -> Vec<OpResult> {
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(match op {
                Op::Put { key, value, lease } => {
                    OpResult::Put { previous: self.put(key, value, *lease, events) }
                }
                Op::Update { key, value, lease } => {
                    let old = self.keys.get(key);
                    let value = value.clone().or_else(|| old.map(|kv| kv.value.clone())).unwrap_or_default();
                    let lease = lease.or_else(|| old.map(|kv| kv.lease)).unwrap_or(0);
                    OpResult::Put { previous: self.put(key, &value, lease, events) }
                }
                Op::Delete { key, range_end } => {
                    OpResult::Delete { previous: self.delete(key, range_end.as_ref(), events) }
                }
                Op::Range(range) => match self.range_within(range, events) {
                    Ok(result) => OpResult::Range(result),
                    // The ring moved on since the request was checked. How far back it reaches differs from
                    // member to member, so it must not decide about the writes: they stand, only the answer
                    // is an error.
                    Err(e) => {
                        *late = Some(e);
                        OpResult::Range(RangeResult::default())
                    }
                },
                Op::Txn(inner) => {
                    let succeeded = taken(path);
                    let results = self.run(inner.branch(succeeded), path, events, late);
                    let revision = self.revision + u64::from(!events.is_empty());
                    OpResult::Txn(TxnResult { succeeded, revision, results })
                }
            });
        }
        results
    }
}
