//! Reads: compares, and ranges as of now or of an old revision.

use std::collections::BTreeSet;
use std::collections::btree_map::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::State;
use crate::types::{
    Compare, CompareOp, CompareTarget, Event, KeyValue, RangeRequest, RangeResult, StoreError, in_range,
};

impl State {
    pub(super) fn holds(&self, compare: &Compare) -> bool {
        let absent = KeyValue {
            key: Bytes::new(),
            value: Bytes::new(),
            create_revision: 0,
            mod_revision: 0,
            version: 0,
            lease: 0,
        };
        let value = matches!(compare.target, CompareTarget::Value(_));
        match &compare.range_end {
            None => match self.keys.get(&compare.key) {
                Some(kv) => compare_one(compare, kv),
                None => !value && compare_one(compare, &absent),
            },
            Some(_) => {
                let mut range = select(&self.keys, &compare.key, compare.range_end.as_ref()).peekable();
                if range.peek().is_none() {
                    return !value && compare_one(compare, &absent);
                }
                range.all(|(_, kv)| compare_one(compare, kv))
            }
        }
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResult, StoreError> {
        self.range_within(request, &[])
    }

    /// A range inside a transaction that has already made the changes in `pending`: it sees them unless it
    /// asks for an older revision.
    pub(super) fn range_within(
        &self,
        request: &RangeRequest,
        pending: &[Event],
    ) -> Result<RangeResult, StoreError> {
        if request.key.is_empty() {
            return Err(StoreError::EmptyKey);
        }
        if request.revision > self.revision {
            return Err(StoreError::FutureRevision { now: self.revision });
        }
        let current = request.revision == 0 || (request.revision == self.revision && pending.is_empty());
        let now = self.revision + u64::from(!pending.is_empty());
        if current {
            return Ok(collect(now, request, |end| select(&self.keys, &request.key, end).map(|(_, kv)| kv)));
        }
        if request.revision + 1 < self.history.floor() || request.revision < self.compacted {
            return Err(StoreError::Compacted { oldest: self.oldest() });
        }
        let then = self.keys_at(request, pending);
        Ok(collect(now, request, |_| then.values().copied()))
    }

    /// The keys of a range as of an old revision: what is there now, with the changes since undone.
    fn keys_at<'a>(
        &'a self,
        request: &RangeRequest,
        pending: &'a [Event],
    ) -> BTreeMap<&'a Bytes, &'a KeyValue> {
        let end = request.range_end.as_ref();
        let mut then: BTreeMap<&Bytes, &KeyValue> = select(&self.keys, &request.key, end).collect();
        let since = self.history.since(request.revision + 1).flat_map(|batch| batch.events.iter());
        let mut seen = BTreeSet::new();
        for event in since.chain(pending) {
            // The oldest change after the revision knows what was there before it.
            if in_range(&event.key, &request.key, end) && seen.insert(&event.key) {
                match &event.old {
                    Some(old) => then.insert(&event.key, old),
                    None => then.remove(&event.key),
                };
            }
        }
        then
    }
}

fn collect<'a, I>(
    revision: u64,
    request: &RangeRequest,
    entries: impl FnOnce(Option<&Bytes>) -> I,
) -> RangeResult
where
    I: Iterator<Item = &'a KeyValue>,
{
    let mut result = RangeResult { revision, ..RangeResult::default() };
    let mut entries = entries(request.range_end.as_ref());
    if !request.count_only {
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        for kv in entries.by_ref().take(limit) {
            let mut kv = kv.clone();
            if request.keys_only {
                kv.value = Bytes::new();
            }
            result.kvs.push(kv);
        }
    }
    let rest = entries.count();
    result.count = (result.kvs.len() + rest) as u64;
    result.more = rest > 0 && !request.count_only;
    result
}

/// The entries of `[key, end)`, or of just `key`.
pub(crate) fn select<'a>(
    keys: &'a BTreeMap<Bytes, KeyValue>,
    key: &Bytes,
    end: Option<&Bytes>,
) -> impl Iterator<Item = (&'a Bytes, &'a KeyValue)> + use<'a> {
    // `BTreeMap::range` panics if the bounds are reversed, so such a range becomes an empty one.
    let (from, to) = match end {
        None => (Bound::Included(key.clone()), Bound::Included(key.clone())),
        Some(end) if end.as_ref() == [0] => (Bound::Included(key.clone()), Bound::Unbounded),
        Some(end) if end <= key => (Bound::Included(key.clone()), Bound::Excluded(key.clone())),
        Some(end) => (Bound::Included(key.clone()), Bound::Excluded(end.clone())),
    };
    keys.range((from, to))
}

fn compare_one(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match &compare.target {
        CompareTarget::Version(v) => kv.version.cmp(v),
        CompareTarget::CreateRevision(v) => kv.create_revision.cmp(v),
        CompareTarget::ModRevision(v) => kv.mod_revision.cmp(v),
        CompareTarget::Lease(v) => kv.lease.cmp(v),
        CompareTarget::Value(v) => kv.value.cmp(v),
    };
    match compare.op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::Less => order.is_lt(),
    }
}
