//! What a write claims beside its own object: records that must be absent or unchanged, and records that are
//! put and deleted with it, in one transaction of the store.
//!
//! What must be unique across objects (cluster IPs, node ports, nodes' ranges of pod addresses) or is counted
//! across them is decided here and nowhere else: the compares of the transaction hold for every API server
//! that writes to the store, and a crash leaves either the object with all its records or nothing. A strategy
//! looks at the records that are there ([`Records`]) and says what its write claims ([`Claims`]); the
//! registry carries it out, and asks again if somebody else was faster.
//!
//! Records that are objects themselves (`IPAddress`) lie where their kind's objects lie. All others lie below
//! [`CLAIMS`], one key for each thing that is claimed, so that claims of different things never meet.

use api::ApiError;
use bytes::Bytes;
use embedded_store::{Compare, CompareOp, CompareTarget, Op, RangeRequest};
use serde::{Deserialize, Serialize};

/// Where records lie that are no objects. No kind is stored below it: groups of definitions have a dot.
pub(crate) const CLAIMS: &str = "/registry/claims/";

/// A record as it is in the store.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision of its last change.
    pub revision: u64,
}

/// The records that claims are decided on, as far as they are known here, without waiting. What is read here
/// may be out of date; the transaction is not.
pub(crate) trait Records: Sync {
    fn get(&self, key: &str) -> Option<Record>;

    /// All records whose keys lie in `[from, to)`, in order.
    fn between(&self, from: &str, to: &str) -> Vec<Record>;

    /// All records whose keys begin so, in order. The prefix ends in `/`.
    fn below(&self, prefix: &str) -> Vec<Record> {
        self.between(prefix, &format!("{}0", prefix.trim_end_matches('/')))
    }
}

/// What a write claims. Nothing is the rule, and costs nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    conditions: Vec<Compare>,
    writes: Vec<Op>,
}

impl Claims {
    pub(crate) fn is_empty(&self) -> bool {
        self.conditions.is_empty() && self.writes.is_empty()
    }

    /// The record must be as it was at this revision; 0: absent.
    pub(crate) fn expect(&mut self, key: impl Into<Bytes>, revision: u64) {
        self.conditions.push(Compare::mod_revision(key, revision));
    }

    /// There must be no record in `[from, to)`.
    pub(crate) fn expect_none(&mut self, from: String, to: String) {
        self.conditions.push(Compare {
            key: from.into(),
            range_end: Some(to.into()),
            op: CompareOp::Equal,
            target: CompareTarget::ModRevision(0),
        });
    }

    /// The record must be absent, and is put.
    pub(crate) fn take(&mut self, key: impl Into<Bytes>, value: Bytes) {
        let key = key.into();
        self.expect(key.clone(), 0);
        self.writes.push(Op::Put { key, value, lease: 0 });
    }

    /// The record must be unchanged, and is put anew.
    pub(crate) fn replace(&mut self, record: &Record, value: Bytes) {
        self.expect(record.key.clone(), record.revision);
        self.writes.push(Op::Put { key: record.key.clone(), value, lease: 0 });
    }

    /// The record must be unchanged, and is deleted.
    pub(crate) fn release(&mut self, record: &Record) {
        self.expect(record.key.clone(), record.revision);
        self.writes.push(Op::Delete { key: record.key.clone(), range_end: None });
    }

    pub(crate) fn conditions(&self) -> &[Compare] {
        &self.conditions
    }

    pub(crate) fn writes(&self) -> &[Op] {
        &self.writes
    }

    /// Reads of everything that the claims look at, for the case that a condition does not hold.
    pub(crate) fn reads(&self) -> impl Iterator<Item = Op> + '_ {
        self.conditions.iter().map(|condition| {
            Op::Range(RangeRequest {
                key: condition.key.clone(),
                range_end: condition.range_end.clone(),
                ..RangeRequest::default()
            })
        })
    }
}

/// The owner of a record below [`CLAIMS`]: the object that it was written with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub resource: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
}

impl Owner {
    pub(crate) fn encode(&self) -> Result<Bytes, ApiError> {
        serde_json::to_vec(self).map(Bytes::from).map_err(ApiError::internal)
    }

    /// The owner of a record; none if it cannot be read.
    pub(crate) fn of(record: &Record) -> Option<Owner> {
        serde_json::from_slice(&record.value).ok()
    }
}
