//! A client of the API as a store, so that the conformance suite can be run on the API.

use super::*;

/// A store on the other side of the wire.
pub(super) struct Remote {
    pub(super) kv: KvClient<Channel>,
    pub(super) watch: WatchClient<Channel>,
    pub(super) lease: LeaseClient<Channel>,
    pub(super) server: Server,
}

/// The trait's reads are not async: the suite runs on a runtime with several threads.
fn wait<F: Future>(future: F) -> F::Output {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

fn failure(status: &tonic::Status) -> StoreError {
    match (status.code(), status.message()) {
        (_, m) if m.contains("has been compacted") => StoreError::Compacted { oldest: 0 },
        (_, m) if m.contains("future revision") => StoreError::FutureRevision { now: 0 },
        (_, m) if m.contains("too large") => StoreError::TooLarge { size: 0, limit: 0 },
        (_, m) if m.contains("key is not provided") => StoreError::EmptyKey,
        (_, m) if m.contains("duplicate key") => StoreError::DuplicateKey,
        (_, m) if m.contains("key not found") => StoreError::KeyNotFound,
        (_, m) if m.contains("too many operations") => StoreError::TooManyOps,
        (Code::NotFound, m) if m.contains("lease") => StoreError::LeaseNotFound,
        (_, m) if m.contains("lease already exists") => StoreError::LeaseExists,
        (code, m) => panic!("{code:?}: {m}"),
    }
}

fn back(kv: mvccpb::KeyValue) -> types::KeyValue {
    types::KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision.cast_unsigned(),
        mod_revision: kv.mod_revision.cast_unsigned(),
        version: kv.version.cast_unsigned(),
        lease: kv.lease,
    }
}

fn wire_range(r: &types::RangeRequest) -> pb::RangeRequest {
    pb::RangeRequest {
        key: r.key.clone(),
        range_end: r.range_end.clone().unwrap_or_default(),
        limit: i64::try_from(r.limit).unwrap(),
        revision: r.revision.cast_signed(),
        keys_only: r.keys_only,
        count_only: r.count_only,
        ..Default::default()
    }
}

fn range_back(r: pb::RangeResponse) -> types::RangeResult {
    types::RangeResult {
        kvs: r.kvs.into_iter().map(back).collect(),
        more: r.more,
        count: r.count.cast_unsigned(),
        revision: r.header.unwrap().revision.cast_unsigned(),
    }
}

fn wire_op(op: &types::Op) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match op {
        types::Op::Put { key, value, lease } => Request::RequestPut(pb::PutRequest {
            key: key.clone(),
            value: value.clone(),
            lease: *lease,
            prev_kv: true,
            ..Default::default()
        }),
        types::Op::Delete { key, range_end } => Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: key.clone(),
            range_end: range_end.clone().unwrap_or_default(),
            prev_kv: true,
        }),
        types::Op::Update { key, value, lease } => Request::RequestPut(pb::PutRequest {
            key: key.clone(),
            value: value.clone().unwrap_or_default(),
            lease: lease.unwrap_or(0),
            prev_kv: true,
            ignore_value: value.is_none(),
            ignore_lease: lease.is_none(),
        }),
        types::Op::Range(range) => Request::RequestRange(wire_range(range)),
        types::Op::Txn(inner) => Request::RequestTxn(wire_txn(inner)),
    };
    pb::RequestOp { request: Some(request) }
}

fn wire_txn(txn: &types::Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compares.iter().map(wire_compare).collect(),
        success: txn.success.iter().map(wire_op).collect(),
        failure: txn.failure.iter().map(wire_op).collect(),
    }
}

fn txn_back(response: pb::TxnResponse) -> types::TxnResult {
    types::TxnResult {
        succeeded: response.succeeded,
        revision: response.header.unwrap().revision.cast_unsigned(),
        results: response.responses.into_iter().map(result_back).collect(),
    }
}

fn result_back(response: pb::ResponseOp) -> types::OpResult {
    use pb::response_op::Response;
    match response.response.unwrap() {
        Response::ResponsePut(put) => types::OpResult::Put { previous: put.prev_kv.map(back) },
        Response::ResponseDeleteRange(delete) => {
            types::OpResult::Delete { previous: delete.prev_kvs.into_iter().map(back).collect() }
        }
        Response::ResponseRange(range) => types::OpResult::Range(range_back(range)),
        Response::ResponseTxn(txn) => types::OpResult::Txn(txn_back(txn)),
    }
}

fn wire_compare(compare: &types::Compare) -> pb::Compare {
    use pb::compare::TargetUnion as Union;
    use pb::compare::{CompareResult, CompareTarget};
    let result = match compare.op {
        types::CompareOp::Equal => CompareResult::Equal,
        types::CompareOp::NotEqual => CompareResult::NotEqual,
        types::CompareOp::Greater => CompareResult::Greater,
        types::CompareOp::Less => CompareResult::Less,
    };
    let (target, union) = match &compare.target {
        types::CompareTarget::Version(v) => (CompareTarget::Version, Union::Version(v.cast_signed())),
        types::CompareTarget::CreateRevision(v) => {
            (CompareTarget::Create, Union::CreateRevision(v.cast_signed()))
        }
        types::CompareTarget::ModRevision(v) => (CompareTarget::Mod, Union::ModRevision(v.cast_signed())),
        types::CompareTarget::Value(v) => (CompareTarget::Value, Union::Value(v.clone())),
        types::CompareTarget::Lease(v) => (CompareTarget::Lease, Union::Lease(*v)),
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: compare.key.clone(),
        range_end: compare.range_end.clone().unwrap_or_default(),
        target_union: Some(union),
    }
}

impl Store for Remote {
    fn txn(&self, txn: types::Txn) -> BoxFuture<'_, Result<types::TxnResult, StoreError>> {
        Box::pin(async move {
            let request = wire_txn(&txn);
            let response = self.kv.clone().txn(request).await.map_err(|e| failure(&e))?.into_inner();
            Ok(txn_back(response))
        })
    }

    fn range(&self, request: &types::RangeRequest) -> Result<types::RangeResult, StoreError> {
        let response = wait(self.kv.clone().range(wire_range(request))).map_err(|e| failure(&e))?;
        Ok(range_back(response.into_inner()))
    }

    fn watch(&self, request: &types::WatchRequest) -> Result<types::WatchStream, StoreError> {
        let create = pb::WatchCreateRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone().unwrap_or_default(),
            start_revision: request.start_revision.cast_signed(),
            prev_kv: true,
            ..Default::default()
        };
        let (requests, mut responses) = wait(open(&self.watch, create));
        // The created message: from here on nothing is missed.
        assert!(wait(responses.next()).unwrap().unwrap().created);
        let batches = responses.map(move |response| {
            let _open = &requests;
            let response = response.map_err(|e| failure(&e))?;
            if response.canceled {
                return Err(StoreError::Compacted { oldest: response.compact_revision.cast_unsigned() });
            }
            let events: Vec<types::Event> = response.events.into_iter().map(event_back).collect();
            Ok(types::WatchBatch { revision: events.last().unwrap().revision, events: events.into() })
        });
        // The suite looks at revisions one by one.
        Ok(Box::pin(batches.flat_map(|batch| futures::stream::iter(split(batch)))))
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let request = pb::CompactionRequest { revision: revision.cast_signed(), physical: false };
            self.kv.clone().compact(request).await.map(|_| ()).map_err(|e| failure(&e))
        })
    }

    fn revision(&self) -> u64 {
        self.range(&types::RangeRequest { key: "any".into(), ..Default::default() }).unwrap().revision
    }

    fn compacted_revision(&self) -> u64 {
        self.server.store.compacted_revision()
    }

    fn observe(&self, _observer: types::Observer) -> u64 {
        panic!("the API has no observers")
    }
}

fn event_back(event: Bytes) -> types::Event {
    let event = mvccpb::Event::decode(event).unwrap();
    let deleted = event.r#type == mvccpb::event::EventType::Delete as i32;
    let kv = back(event.kv.unwrap());
    types::Event {
        key: kv.key.clone(),
        revision: kv.mod_revision,
        new: (!deleted).then_some(kv),
        old: event.prev_kv.map(back),
    }
}

fn split(batch: Result<types::WatchBatch, StoreError>) -> Vec<Result<types::WatchBatch, StoreError>> {
    match batch {
        Err(e) => vec![Err(e)],
        Ok(batch) => batch
            .events
            .chunk_by(|a, b| a.revision == b.revision)
            .map(|events| Ok(types::WatchBatch { revision: events[0].revision, events: events.into() }))
            .collect(),
    }
}

impl Leases for Remote {
    fn grant(&self, id: i64, ttl: i64) -> BoxFuture<'_, Result<types::LeaseGrant, StoreError>> {
        Box::pin(async move {
            let request = pb::LeaseGrantRequest { id, ttl };
            let granted =
                self.lease.clone().lease_grant(request).await.map_err(|e| failure(&e))?.into_inner();
            Ok(types::LeaseGrant { id: granted.id, ttl: granted.ttl })
        })
    }

    fn revoke(&self, id: i64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let request = pb::LeaseRevokeRequest { id };
            self.lease.clone().lease_revoke(request).await.map(|_| ()).map_err(|e| failure(&e))
        })
    }

    fn keep_alive(&self, id: i64) -> Result<i64, StoreError> {
        wait(async {
            let requests = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
            let mut answers = self.lease.clone().lease_keep_alive(requests).await.unwrap().into_inner();
            match answers.message().await.unwrap().unwrap().ttl {
                0 => Err(StoreError::LeaseNotFound),
                ttl => Ok(ttl),
            }
        })
    }

    fn lease(&self, id: i64) -> Option<types::LeaseInfo> {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let lease = wait(self.lease.clone().lease_time_to_live(request)).unwrap().into_inner();
        (lease.ttl >= 0).then_some(types::LeaseInfo {
            id: lease.id,
            granted_ttl: lease.granted_ttl,
            remaining_ttl: lease.ttl,
            keys: lease.keys,
        })
    }

    fn leases(&self) -> Vec<i64> {
        let leases = wait(self.lease.clone().lease_leases(pb::LeaseLeasesRequest {})).unwrap().into_inner();
        leases.leases.into_iter().map(|lease| lease.id).collect()
    }
}
