//! Writes with what they claim: the transaction, and what to make of it if it did not come about.

use std::collections::BTreeMap;
use std::ops::Bound;

use api::ApiError;
use bytes::Bytes;
use embedded_store::{Compare, Durability, KeyValue, Op, OpResult, RangeRequest, Store, Txn, TxnResult};

use super::fence::Refused;
use super::{Call, Registry};
use crate::claims::{Claims, Record, Records};

/// How often a write is tried again because what it claims was claimed by others meanwhile. Each of these
/// tries failed because another write succeeded.
pub(super) const ATTEMPTS: usize = 1000;

/// A write of one object.
pub(super) struct Write<'a> {
    pub(super) key: Bytes,
    /// The object's version before; 0: none.
    pub(super) version: u64,
    pub(super) op: Op,
    pub(super) claims: &'a Claims,
    pub(super) terms: WriteTerms,
}

/// How a write is stored.
#[derive(Clone, Copy)]
pub(super) struct WriteTerms {
    pub(super) durability: Durability,
    /// It keeps the cluster going or frees room, whoever asks for it.
    pub(super) may_use_reserve: bool,
}

impl WriteTerms {
    /// On disk when it is acknowledged, within the quota.
    pub(super) const ORDINARY: WriteTerms =
        WriteTerms { durability: Durability::Synced, may_use_reserve: false };

    /// On disk when it is acknowledged; past the quota, too, if it grows little.
    pub(super) const RESERVE: WriteTerms =
        WriteTerms { durability: Durability::Synced, may_use_reserve: true };
}

/// What a write came to.
pub(super) enum Written {
    /// At this revision.
    At(u64),
    /// Another version of the object is there.
    Raced,
    /// The object is as it was, but something that the write claims is not. These records were found.
    Contended(Vec<Found>),
}

/// A key and what is there; none if nothing is.
pub(super) type Found = (Bytes, Option<Record>);

/// Records as the store has them here, and what failed transactions found: in a group of servers the latter
/// may be newer.
pub(super) struct Known<'a> {
    store: &'a dyn Store,
    found: BTreeMap<Bytes, Option<Record>>,
}

impl<'a> Known<'a> {
    pub(super) fn new(store: &'a dyn Store) -> Self {
        Known { store, found: BTreeMap::new() }
    }

    /// Takes in what a transaction found.
    pub(super) fn learn(&mut self, found: Vec<Found>) {
        self.found.extend(found);
    }

    /// Where both tell of a key, the later revision counts; that nothing is there counts as late as can be.
    fn newest(&self, key: &[u8], stored: Option<Record>) -> Option<Record> {
        match self.found.get(key) {
            Some(None) => None,
            Some(Some(found)) if stored.as_ref().is_none_or(|own| own.revision < found.revision) => {
                Some(found.clone())
            }
            _ => stored,
        }
    }

    /// The first records in order whose keys begin so, from the one after `after` on: as they are in the
    /// store here.
    pub(super) fn page(&self, prefix: &str, after: Option<&[u8]>, limit: usize) -> Vec<Record> {
        let from = after.map_or_else(|| prefix.as_bytes().to_vec(), |after| [after, b"\0"].concat());
        let to = format!("{}0", prefix.trim_end_matches('/'));
        self.read(RangeRequest {
            limit,
            key: from.into(),
            range_end: Some(to.into()),
            ..RangeRequest::default()
        })
    }

    fn range(&self, key: Bytes, range_end: Option<Bytes>) -> Vec<Record> {
        self.read(RangeRequest { key, range_end, ..RangeRequest::default() })
    }

    fn read(&self, request: RangeRequest) -> Vec<Record> {
        // A store that cannot be read cannot be written either, and the write says so.
        let found = self.store.range(&request).map(|found| found.kvs).unwrap_or_default();
        found.into_iter().map(record).collect()
    }
}

impl Records for Known<'_> {
    fn get(&self, key: &str) -> Option<Record> {
        let stored = self.range(Bytes::copy_from_slice(key.as_bytes()), None).pop();
        if self.found.is_empty() { stored } else { self.newest(key.as_bytes(), stored) }
    }

    fn between(&self, from: &str, to: &str) -> Vec<Record> {
        let stored = self.range(from.to_string().into(), Some(to.to_string().into()));
        if self.found.is_empty() {
            return stored;
        }
        let within = (Bound::Included(from.as_bytes()), Bound::Excluded(to.as_bytes()));
        let mut all: BTreeMap<Bytes, Option<Record>> =
            stored.into_iter().map(|record| (record.key.clone(), Some(record))).collect();
        for (key, found) in self.found.range::<[u8], _>(within) {
            let own = all.remove(key).flatten();
            let newest = found.as_ref().and_then(|_| self.newest(key, own));
            all.insert(key.clone(), newest);
        }
        all.into_values().flatten().collect()
    }
}

pub(super) fn record(kv: KeyValue) -> Record {
    Record { key: kv.key, value: kv.value, revision: kv.mod_revision }
}

impl Registry {
    /// The records that claims are decided on.
    pub(super) fn records(&self) -> Known<'_> {
        Known::new(self.store.as_ref())
    }

    /// Carries a write out with what it claims: both or nothing.
    pub(super) async fn carry_out(&self, call: &Call<'_>, write: Write<'_>) -> Result<Written, Refused> {
        let mut txn = Txn {
            compares: vec![Compare::mod_revision(write.key.clone(), write.version)],
            success: vec![write.op],
            failure: Vec::new(),
            durability: write.terms.durability,
            may_use_reserve: write.terms.may_use_reserve || call.keeps_cluster_going(),
        };
        if !write.claims.is_empty() {
            txn.compares.extend_from_slice(write.claims.conditions());
            txn.success.extend_from_slice(write.claims.writes());
            txn.failure.push(Op::Range(RangeRequest { key: write.key, ..RangeRequest::default() }));
            txn.failure.extend(write.claims.reads());
        }
        let result = self.txn(call, txn).await?;
        if result.succeeded {
            return Ok(Written::At(result.revision));
        }
        Ok(outcome(result, write.version, write.claims))
    }
}

/// What was wrong, by what the failed transaction read.
fn outcome(result: TxnResult, version: u64, claims: &Claims) -> Written {
    let mut reads = result.results.into_iter().map(|result| match result {
        OpResult::Range(range) => range.kvs,
        _ => Vec::new(),
    });
    let present = reads.next().and_then(|kvs| kvs.first().map(|kv| kv.mod_revision)).unwrap_or(0);
    if claims.is_empty() || present != version {
        return Written::Raced;
    }
    let mut found = Vec::new();
    for (condition, kvs) in claims.conditions().iter().zip(reads) {
        if kvs.is_empty() && condition.range_end.is_none() {
            found.push((condition.key.clone(), None));
        }
        found.extend(kvs.into_iter().map(|kv| (kv.key.clone(), Some(record(kv)))));
    }
    Written::Contended(found)
}

/// The answer to a write that never got what it claims.
pub(super) fn contended(call: &Call<'_>, name: &str) -> ApiError {
    let why = "what it claims is being claimed by others; please try again";
    ApiError::conflict(call.row(), name, why)
}

#[cfg(test)]
mod tests;
