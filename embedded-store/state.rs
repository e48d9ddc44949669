//! The state machine: all current keys, leases and the ring of events; `apply` is the only way it changes.
//!
//! Pure: no clock, no file, no randomness. The same records in the same order give the same keys and
//! revisions. What is member-local is only how much history the ring still holds.

use std::collections::btree_map::{self, BTreeMap};
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::consensus::ids::LogId;
use crate::log::record::{Group, Record, Request};
use crate::state::history::{History, HistoryLimits};
use crate::types::{Event, KeyValue, LeaseId, StoreError, TxnResult};

pub(crate) mod core;
pub(crate) mod frozen;
pub(crate) mod history;
mod read;
mod txn;
pub(crate) mod watch;

pub(crate) use read::select;

/// The revision of a store without any write, as in etcd.
pub(crate) const FIRST_REVISION: u64 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Seconds, as granted.
    pub(crate) ttl: i64,
    pub(crate) keys: BTreeSet<Bytes>,
}

/// What applying a record did.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) outcome: Result<ApplyOutcome, StoreError>,
    /// What it changed, in order.
    pub(crate) changes: Vec<Change>,
}

/// Changes and their revision.
pub(crate) type Change = (Arc<[Event]>, u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApplyOutcome {
    Txn(TxnResult),
    /// The outcome of each request of a batch.
    Batch(Vec<Result<ApplyOutcome, StoreError>>),
    /// Every other request; the revision after it.
    Done(u64),
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) keys: BTreeMap<Bytes, KeyValue>,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    pub(crate) history: History,
    pub(crate) revision: u64,
    /// The highest revision a compaction was asked for; 0 if never.
    pub(crate) compacted: u64,
    /// Index and term of the newest record applied.
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// Time of the newest record, in milliseconds.
    pub(crate) time: u64,
    pub(crate) ceiling: u64,
    pub(crate) group: Group,
    /// Bytes of keys and values.
    pub(crate) bytes: u64,
    /// An order-independent sum over all entries. A state that is read back from disk must have the same.
    pub(crate) checksum: u64,
    /// The keys that changed since the last checkpoint with their current entries, `None` for deleted keys.
    /// Not tracked while nobody writes checkpoints.
    pub(crate) dirty: Option<Changes>,
}

/// Keys with their current entries. Every write hashes a key, so this uses a faster hasher than the standard
/// library's; it is seeded at random as well.
pub(crate) type Changes = HashMap<Bytes, Option<KeyValue>, foldhash::fast::RandomState>;

impl State {
    pub(crate) fn new(limits: HistoryLimits) -> Self {
        State {
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            history: History::new(FIRST_REVISION, limits),
            revision: FIRST_REVISION,
            compacted: 0,
            index: 0,
            term: 0,
            time: 0,
            ceiling: 0,
            group: Group::default(),
            bytes: 0,
            checksum: 0,
            dirty: None,
        }
    }

    /// The oldest revision that can be read or watched.
    pub(crate) fn oldest(&self) -> u64 {
        self.history.floor().min(self.revision)
    }

    pub(crate) fn apply(&mut self, record: &Record) -> Applied {
        let mut changes = Vec::new();
        let outcome = self.apply_noting(record, &mut changes);
        Applied { outcome, changes }
    }

    /// As [`apply`](Self::apply), for many records one after the other.
    pub(crate) fn apply_noting(
        &mut self,
        record: &Record,
        changes: &mut Vec<Change>,
    ) -> Result<ApplyOutcome, StoreError> {
        self.index = record.index;
        self.term = record.term;
        self.time = self.time.max(record.time);
        match &record.request {
            Request::Batch(requests) | Request::Forwarded { requests, .. } => {
                let outcomes = requests.iter().map(|request| self.carry_out(record.id(), request, changes));
                Ok(ApplyOutcome::Batch(outcomes.collect()))
            }
            request => self.carry_out(record.id(), request, changes),
        }
    }

    fn carry_out(
        &mut self,
        id: LogId,
        request: &Request,
        changes: &mut Vec<Change>,
    ) -> Result<ApplyOutcome, StoreError> {
        let mut events = Vec::new();
        let outcome = match request {
            Request::Txn(txn) => self.apply_txn(txn, &mut events),
            Request::Compact { revision } => self.apply_compact(*revision),
            Request::LeaseGrant { id, ttl } => self.apply_grant(*id, *ttl),
            Request::LeaseRevoke { id } => self.apply_revoke(*id, &[], &mut events),
            Request::LeaseRevokeUnless { id, protected } => self.apply_revoke(*id, protected, &mut events),
            Request::Ceiling { revision } => {
                self.ceiling = *revision;
                Ok(ApplyOutcome::Done(self.revision))
            }
            Request::SkipToCeiling => {
                self.revision = self.revision.max(self.ceiling);
                Ok(ApplyOutcome::Done(self.revision))
            }
            Request::Blank => Ok(ApplyOutcome::Done(self.revision)),
            Request::Members(membership) => {
                self.group = Group { since: id, membership: membership.clone() };
                Ok(ApplyOutcome::Done(self.revision))
            }
            // The decoder does not accept nested batches.
            Request::Batch(_) | Request::Forwarded { .. } => Ok(ApplyOutcome::Done(self.revision)),
        };
        if !events.is_empty() {
            self.revision += 1;
            let events: Arc<[Event]> = events.into();
            self.history.push(self.revision, self.time, Arc::clone(&events));
            changes.push((events, self.revision));
        }
        match outcome {
            Ok(ApplyOutcome::Txn(result)) => {
                Ok(ApplyOutcome::Txn(TxnResult { revision: self.revision, ..result }))
            }
            Ok(ApplyOutcome::Done(_)) => Ok(ApplyOutcome::Done(self.revision)),
            other => other,
        }
    }

    fn apply_compact(&mut self, revision: u64) -> Result<ApplyOutcome, StoreError> {
        if revision <= self.compacted {
            return Err(StoreError::Compacted { oldest: self.oldest() });
        }
        if revision > self.revision {
            return Err(StoreError::FutureRevision { now: self.revision });
        }
        self.compacted = revision;
        self.history.compact(revision);
        Ok(ApplyOutcome::Done(self.revision))
    }

    fn apply_grant(&mut self, id: LeaseId, ttl: i64) -> Result<ApplyOutcome, StoreError> {
        match self.leases.entry(id) {
            btree_map::Entry::Occupied(_) => Err(StoreError::LeaseExists),
            btree_map::Entry::Vacant(slot) => {
                slot.insert(Lease { ttl, keys: BTreeSet::new() });
                Ok(ApplyOutcome::Done(self.revision))
            }
        }
    }

    fn apply_revoke(
        &mut self,
        id: LeaseId,
        protected: &[Bytes],
        events: &mut Vec<Event>,
    ) -> Result<ApplyOutcome, StoreError> {
        let lease = self.leases.get(&id).ok_or(StoreError::LeaseNotFound)?;
        let is_held = |prefix: &&Bytes| {
            let after = (Bound::Included(&prefix[..]), Bound::Unbounded);
            lease.keys.range::<[u8], _>(after).next().is_some_and(|key| key.starts_with(prefix))
        };
        if let Some(prefix) = protected.iter().find(is_held) {
            return Err(StoreError::LeaseProtected { prefix: prefix.clone() });
        }
        for key in self.leases.remove(&id).into_iter().flat_map(|lease| lease.keys) {
            self.delete(&key, None, events);
        }
        Ok(ApplyOutcome::Done(self.revision))
    }

    fn put(
        &mut self,
        key: &Bytes,
        value: &Bytes,
        lease: LeaseId,
        events: &mut Vec<Event>,
    ) -> Option<KeyValue> {
        let revision = self.revision + 1;
        let mut kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease,
        };
        let previous = match self.keys.entry(key.clone()) {
            btree_map::Entry::Vacant(slot) => {
                slot.insert(kv.clone());
                None
            }
            btree_map::Entry::Occupied(mut slot) => {
                let old = slot.get();
                kv.key = old.key.clone();
                kv.create_revision = old.create_revision;
                kv.version = old.version + 1;
                Some(slot.insert(kv.clone()))
            }
        };
        self.account(&kv.key, previous.as_ref(), Some(&kv));
        events.push(Event { key: kv.key.clone(), new: Some(kv), old: previous.clone(), revision });
        previous
    }

    fn delete(&mut self, key: &Bytes, end: Option<&Bytes>, events: &mut Vec<Event>) -> Vec<KeyValue> {
        let revision = self.revision + 1;
        let keys: Vec<Bytes> = match end {
            None => self.keys.contains_key(key).then(|| key.clone()).into_iter().collect(),
            Some(_) => select(&self.keys, key, end).map(|(key, _)| key.clone()).collect(),
        };
        let mut previous = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(old) = self.keys.remove(&key) else { continue };
            self.account(&key, Some(&old), None);
            events.push(Event { key, new: None, old: Some(old.clone()), revision });
            previous.push(old);
        }
        previous
    }

    /// Keeps leases, sizes, the checksum and the list of changed keys in step with a change of one key.
    fn account(&mut self, key: &Bytes, old: Option<&KeyValue>, new: Option<&KeyValue>) {
        let lease = |kv: Option<&KeyValue>| kv.map_or(0, |kv| kv.lease);
        if lease(old) != lease(new) {
            if let Some(lease) = self.leases.get_mut(&lease(old)) {
                lease.keys.remove(key);
            }
            if let Some(lease) = self.leases.get_mut(&lease(new)) {
                lease.keys.insert(key.clone());
            }
        }
        if let Some(old) = old {
            self.bytes -= size(old);
            self.checksum = self.checksum.wrapping_sub(fingerprint(old));
        }
        if let Some(new) = new {
            self.bytes += size(new);
            self.checksum = self.checksum.wrapping_add(fingerprint(new));
        }
        if let Some(dirty) = &mut self.dirty {
            dirty.insert(key.clone(), new.cloned());
        }
    }

    /// Replaces this state by another one and returns the differences as changes at its revision. There is no
    /// history in between.
    pub(crate) fn replace(&mut self, mut other: State) -> Arc<[Event]> {
        let revision = other.revision;
        let mut events = Vec::new();
        for (key, old) in &self.keys {
            if !other.keys.contains_key(key) {
                events.push(Event { key: key.clone(), new: None, old: Some(old.clone()), revision });
            }
        }
        for (key, new) in &other.keys {
            let old = self.keys.get(key);
            if old != Some(new) {
                let (new, old) = (Some(new.clone()), old.cloned());
                events.push(Event { key: key.clone(), new, old, revision });
            }
        }
        other.dirty = self.dirty.take().map(|mut dirty| {
            dirty.extend(events.iter().map(|event| (event.key.clone(), event.new.clone())));
            dirty
        });
        other.history = self.history.emptied(revision + 1);
        *self = other;
        events.into()
    }

    /// Restores a stored entry while a checkpoint is read.
    pub(crate) fn restore(&mut self, kv: KeyValue) {
        let old = self.keys.insert(kv.key.clone(), kv.clone());
        self.account(&kv.key, old.as_ref(), Some(&kv));
    }

    /// Removes an entry while a checkpoint is read.
    pub(crate) fn forget(&mut self, key: &Bytes) {
        if let Some(old) = self.keys.remove(key) {
            self.account(key, Some(&old), None);
        }
    }

    /// Checks the invariants that hold between any two records.
    pub(crate) fn validate(&self) {
        debug_assert!(self.revision >= FIRST_REVISION);
        debug_assert!(self.keys.values().all(|kv| kv.mod_revision <= self.revision));
        debug_assert!(self.keys.values().all(|kv| kv.create_revision <= kv.mod_revision && kv.version > 0));
        debug_assert_eq!(self.bytes, self.keys.values().map(size).sum::<u64>());
        debug_assert_eq!(
            self.checksum,
            self.keys.values().fold(0u64, |sum, kv| sum.wrapping_add(fingerprint(kv)))
        );
        debug_assert!(self.leases.iter().all(|(id, lease)| {
            lease.keys.iter().all(|key| self.keys.get(key).is_some_and(|kv| kv.lease == *id))
        }));
    }
}

fn size(kv: &KeyValue) -> u64 {
    (kv.key.len() + kv.value.len()) as u64
}

/// Identifies an entry's version; the value itself has its own checksum on disk.
fn fingerprint(kv: &KeyValue) -> u64 {
    let mut mixed = u64::from(crc32fast::hash(&kv.key));
    for part in [kv.create_revision, kv.mod_revision, kv.version, kv.lease.cast_unsigned()] {
        // The finaliser of splitmix64: every input bit reaches every output bit.
        mixed = (mixed ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    mixed
}

#[cfg(test)]
mod tests;
