//! Between the wire's messages and the store's types, and the store's errors as etcd's.

use bytes::Bytes;
use tonic::{Code, Status};

use super::pb;
use crate::types::{
    Compare, CompareOp, CompareTarget, Durability, Event, KeyValue, Op, OpResult, RangeRequest, RangeResult,
    StoreError, Txn, TxnResult,
};
use crate::wire::mvccpb;

/// Operations in one branch of a transaction, as in etcd.
const MAX_OPS: usize = 128;

pub(crate) fn status(e: StoreError) -> Status {
    let (code, message) = match e {
        StoreError::Compacted { .. } => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
        }
        StoreError::FutureRevision { .. } => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
        }
        StoreError::TooLarge { .. } => (Code::InvalidArgument, "etcdserver: request is too large"),
        StoreError::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
        StoreError::DuplicateKey => (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
        StoreError::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
        StoreError::TooManyOps => (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
        StoreError::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
        StoreError::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        StoreError::LeaseProtected { prefix } => return super::front::protected(&prefix),
        StoreError::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
        StoreError::NoSpace(_) => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        StoreError::Lagged => (Code::Cancelled, "etcdserver: watch canceled"),
        StoreError::Stopped => (Code::Unavailable, "etcdserver: server stopped"),
        StoreError::NotLeader { .. } => (Code::FailedPrecondition, "etcdserver: not leader"),
        StoreError::NoQuorum => (Code::Unavailable, "etcdserver: request timed out, no quorum"),
        StoreError::Transform { .. } => (Code::Internal, "etcdserver: a value cannot be transformed"),
        StoreError::Unwritable(why) => {
            return Status::unavailable(format!("etcdserver: the log cannot be written: {why}"));
        }
    };
    Status::new(code, message)
}

/// A copy: the message's buffer is larger than the part of it that is kept.
pub(crate) fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(crate) fn range_end(end: &Bytes) -> Option<Bytes> {
    (!end.is_empty()).then(|| own(end))
}

/// Revisions and limits are never negative; what is, is taken as not given.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision.cast_signed(),
        mod_revision: kv.mod_revision.cast_signed(),
        version: kv.version.cast_signed(),
        value: kv.value,
        lease: kv.lease,
    }
}

pub(crate) fn event(event: &Event, with_old: bool) -> mvccpb::Event {
    use mvccpb::event::EventType;
    let (kind, kv) = match &event.new {
        Some(kv) => (EventType::Put, key_value(kv.clone())),
        None => {
            let mod_revision = event.revision.cast_signed();
            (
                EventType::Delete,
                mvccpb::KeyValue { key: event.key.clone(), mod_revision, ..Default::default() },
            )
        }
    };
    let prev_kv = event.old.clone().filter(|_| with_old).map(key_value);
    mvccpb::Event { r#type: kind.into(), kv: Some(kv), prev_kv }
}

/// Whether all of the range is needed to make the answer: it is put in another order or filtered.
fn needs_all(request: &pb::RangeRequest) -> bool {
    request.sort_order == pb::range_request::SortOrder::Descend as i32
        || (request.sort_order == pb::range_request::SortOrder::Ascend as i32 && !by_key(request))
        || request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn by_key(request: &pb::RangeRequest) -> bool {
    request.sort_target == pb::range_request::SortTarget::Key as i32
}

/// Whether the answer is anything but the first keys of the range.
fn rearranged(request: &pb::RangeRequest) -> bool {
    needs_all(request) || !by_key(request)
}

/// A key that was given. Looked at here, too, so that of several mistakes the same one is told as by etcd.
fn key(key: &Bytes) -> Result<Bytes, Status> {
    if key.is_empty() { Err(status(StoreError::EmptyKey)) } else { Ok(own(key)) }
}

pub(crate) fn delete(delete: &pb::DeleteRangeRequest) -> Result<Op, Status> {
    Ok(Op::Delete { key: key(&delete.key)?, range_end: range_end(&delete.range_end) })
}

pub(crate) fn range(request: &pb::RangeRequest) -> Result<RangeRequest, Status> {
    let key = key(&request.key)?;
    let known = pb::range_request::SortOrder::try_from(request.sort_order).is_ok()
        && pb::range_request::SortTarget::try_from(request.sort_target).is_ok();
    if !known {
        return Err(Status::invalid_argument("etcdserver: invalid sort option"));
    }
    let limit = usize::try_from(request.limit).unwrap_or(0);
    Ok(RangeRequest {
        key,
        range_end: range_end(&request.range_end),
        limit: match limit {
            0 => 0,
            _ if needs_all(request) => 0,
            // Sorted by something but in no order: etcd takes the first keys and one more, and sorts just
            // these.
            _ if !by_key(request) => limit.saturating_add(1),
            _ => limit,
        },
        revision: unsigned(request.revision),
        // Sorting by value needs the values.
        keys_only: request.keys_only && request.sort_target != pb::range_request::SortTarget::Value as i32,
        count_only: request.count_only,
    })
}

pub(crate) fn range_response(
    request: &pb::RangeRequest,
    mut result: RangeResult,
    header: Option<pb::ResponseHeader>,
) -> pb::RangeResponse {
    if rearranged(request) && !request.count_only {
        rearrange(request, &mut result);
    }
    if request.keys_only {
        result.kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    pb::RangeResponse {
        header,
        kvs: result.kvs.into_iter().map(key_value).collect(),
        more: result.more,
        count: result.count.cast_signed(),
    }
}

fn rearrange(request: &pb::RangeRequest, result: &mut RangeResult) {
    use pb::range_request::{SortOrder, SortTarget};
    let within = |revision: u64, min: i64, max: i64| {
        (min == 0 || revision >= unsigned(min)) && (max == 0 || revision <= unsigned(max))
    };
    result.kvs.retain(|kv| {
        within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
            && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
    });
    let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
    let descending = request.sort_order == SortOrder::Descend as i32;
    // What is equal stays in the order of its keys either way.
    result.kvs.sort_by(|a, b| {
        let order = match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        if descending { order.reverse() } else { order }
    });
    let limit = usize::try_from(request.limit).unwrap_or(0);
    if limit > 0 && result.kvs.len() > limit {
        result.kvs.truncate(limit);
        result.more = true;
    }
}

pub(crate) fn compare(compare: &pb::Compare) -> Result<Compare, Status> {
    use pb::compare::{CompareResult, TargetUnion};
    let key = key(&compare.key)?;
    let op = match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => CompareOp::Equal,
        Ok(CompareResult::Greater) => CompareOp::Greater,
        Ok(CompareResult::Less) => CompareOp::Less,
        Ok(CompareResult::NotEqual) => CompareOp::NotEqual,
        Err(_) => return Err(Status::invalid_argument("etcdserver: unknown comparison")),
    };
    // What is not given is zero, as ever in proto3; then the target says what is meant.
    use pb::compare::CompareTarget as Wanted;
    let wanted = Wanted::try_from(compare.target)
        .map_err(|_| Status::invalid_argument("etcdserver: unknown target of a comparison"))?;
    let given = match (wanted, &compare.target_union) {
        (Wanted::Version, Some(TargetUnion::Version(v)))
        | (Wanted::Create, Some(TargetUnion::CreateRevision(v)))
        | (Wanted::Mod, Some(TargetUnion::ModRevision(v)))
        | (Wanted::Lease, Some(TargetUnion::Lease(v))) => *v,
        _ => 0,
    };
    // Everything is more than what is negative, and no number of ours is the largest one.
    let (numeric, number) = match (u64::try_from(given), op) {
        (Ok(number), op) => (op, number),
        (Err(_), CompareOp::Greater | CompareOp::NotEqual) => (CompareOp::NotEqual, u64::MAX),
        (Err(_), CompareOp::Less | CompareOp::Equal) => (CompareOp::Equal, u64::MAX),
    };
    let (op, target) = match (wanted, &compare.target_union) {
        (Wanted::Version, _) => (numeric, CompareTarget::Version(number)),
        (Wanted::Create, _) => (numeric, CompareTarget::CreateRevision(number)),
        (Wanted::Mod, _) => (numeric, CompareTarget::ModRevision(number)),
        (Wanted::Lease, _) => (op, CompareTarget::Lease(given)),
        (Wanted::Value, Some(TargetUnion::Value(v))) => (op, CompareTarget::Value(own(v))),
        (Wanted::Value, _) => (op, CompareTarget::Value(Bytes::new())),
    };
    Ok(Compare { key, range_end: range_end(&compare.range_end), op, target })
}

pub(crate) fn transaction(request: &pb::TxnRequest) -> Result<Txn, Status> {
    within(request, MAX_OPS)
}

/// A transaction that may have so many operations; what it has itself, those within it may not have.
fn within(request: &pb::TxnRequest, most: usize) -> Result<Txn, Status> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = most.checked_sub(longest).ok_or_else(|| status(StoreError::TooManyOps))?;
    let ops = |ops: &[pb::RequestOp]| ops.iter().map(|o| op(o, left)).collect::<Result<_, _>>();
    Ok(Txn {
        compares: request.compare.iter().map(compare).collect::<Result<_, _>>()?,
        success: ops(&request.success)?,
        failure: ops(&request.failure)?,
        durability: Durability::Synced,
        may_use_reserve: false,
    })
}

/// A put, which may keep the value or the lease of what is there.
pub(crate) fn put(put: &pb::PutRequest) -> Result<Op, Status> {
    let key = key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(Status::invalid_argument("etcdserver: value is provided"));
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Status::invalid_argument("etcdserver: lease is provided"));
    }
    Ok(if put.ignore_value || put.ignore_lease {
        let value = (!put.ignore_value).then(|| own(&put.value));
        Op::Update { key, value, lease: (!put.ignore_lease).then_some(put.lease) }
    } else {
        Op::Put { key, value: own(&put.value), lease: put.lease }
    })
}

fn op(op: &pb::RequestOp, most: usize) -> Result<Op, Status> {
    use pb::request_op::Request;
    match &op.request {
        Some(Request::RequestRange(request)) => Ok(Op::Range(range(request)?)),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete(request),
        Some(Request::RequestTxn(request)) => Ok(Op::Txn(Box::new(within(request, most)?))),
        // etcd's own answer.
        None => Err(status(StoreError::KeyNotFound)),
    }
}

/// The answer to a transaction.
pub(crate) fn txn_response(
    request: &pb::TxnRequest,
    result: TxnResult,
    header: Option<pb::ResponseHeader>,
) -> pb::TxnResponse {
    let changed = changes(&result.results);
    let mut answer = Answer { before: result.revision - u64::from(changed), changed: false };
    pb::TxnResponse { header, ..answer.txn(request, result) }
}

/// Whether any of the operations changed something.
fn changes(results: &[OpResult]) -> bool {
    results.iter().any(|result| match result {
        OpResult::Put { .. } => true,
        OpResult::Delete { previous } => !previous.is_empty(),
        OpResult::Range(_) => false,
        OpResult::Txn(inner) => changes(&inner.results),
    })
}

/// Goes through the answers of a transaction's operations. Of their headers only the revision is filled in:
/// the one before the transaction, until something changes.
struct Answer {
    before: u64,
    changed: bool,
}

impl Answer {
    fn header(&self) -> Option<pb::ResponseHeader> {
        let revision = self.before + u64::from(self.changed);
        Some(pb::ResponseHeader { revision: revision.cast_signed(), ..Default::default() })
    }

    fn txn(&mut self, request: &pb::TxnRequest, result: TxnResult) -> pb::TxnResponse {
        let ops = if result.succeeded { &request.success } else { &request.failure };
        let responses = ops.iter().zip(result.results).map(|(op, result)| self.op(op, result)).collect();
        // A transaction within has an empty header.
        pb::TxnResponse { header: Some(Default::default()), succeeded: result.succeeded, responses }
    }

    fn op(&mut self, request: &pb::RequestOp, result: OpResult) -> pb::ResponseOp {
        use pb::request_op::Request;
        use pb::response_op::Response;
        let response = match (result, &request.request) {
            (OpResult::Put { previous }, Some(Request::RequestPut(put))) => {
                self.changed = true;
                let prev_kv = previous.filter(|_| put.prev_kv).map(key_value);
                Some(Response::ResponsePut(pb::PutResponse { header: self.header(), prev_kv }))
            }
            (OpResult::Delete { previous }, Some(Request::RequestDeleteRange(delete))) => {
                self.changed |= !previous.is_empty();
                Some(Response::ResponseDeleteRange(deleted(delete, previous, self.header())))
            }
            (OpResult::Range(result), Some(Request::RequestRange(range))) => {
                Some(Response::ResponseRange(range_response(range, result, self.header())))
            }
            (OpResult::Txn(result), Some(Request::RequestTxn(txn))) => {
                Some(Response::ResponseTxn(self.txn(txn, result)))
            }
            _ => None,
        };
        pb::ResponseOp { response }
    }
}

pub(crate) fn deleted(
    request: &pb::DeleteRangeRequest,
    previous: Vec<KeyValue>,
    header: Option<pb::ResponseHeader>,
) -> pb::DeleteRangeResponse {
    let deleted = i64::try_from(previous.len()).unwrap_or(i64::MAX);
    let prev_kvs = if request.prev_kv { previous.into_iter().map(key_value).collect() } else { Vec::new() };
    pb::DeleteRangeResponse { header, deleted, prev_kvs }
}
