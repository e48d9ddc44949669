//! The KV service.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::convert::{self, deleted, key_value, status, unsigned};
use super::front::Front;
use super::pb;
use crate::types::{Durability, KeyValue, Op, OpResult, Store, StoreError, Txn};
use crate::writer::submission::SubmissionQueue;

pub(crate) struct Kv {
    pub(crate) front: Arc<Front>,
    /// The queue of the thread whose tasks call this, if it has one.
    pub(crate) submissions: Option<Arc<SubmissionQueue>>,
}

impl Kv {
    /// Refuses a write to keys that have another owner.
    fn may_write(&self, key: &[u8], end: &Bytes) -> Result<(), Status> {
        let touched = |prefix: &Bytes| {
            if end.is_empty() {
                return key.starts_with(prefix);
            }
            let ends_after = end.as_ref() == [0] || end.as_ref() > prefix.as_ref();
            key.starts_with(prefix) || (key <= prefix.as_ref() && ends_after)
        };
        match self.front.options.protected.iter().find(|prefix| touched(prefix)) {
            None => Ok(()),
            Some(prefix) => Err(super::front::protected(prefix)),
        }
    }

    fn may_do(&self, ops: &[pb::RequestOp]) -> Result<(), Status> {
        use pb::request_op::Request;
        for op in ops {
            match &op.request {
                Some(Request::RequestPut(put)) => self.may_write(&put.key, &Bytes::new())?,
                Some(Request::RequestDeleteRange(delete)) => {
                    self.may_write(&delete.key, &delete.range_end)?
                }
                Some(Request::RequestTxn(txn)) => {
                    self.may_do(&txn.success)?;
                    self.may_do(&txn.failure)?;
                }
                Some(Request::RequestRange(_)) | None => {}
            }
        }
        Ok(())
    }

    async fn one(&self, op: Op) -> Result<(Option<OpResult>, u64), StoreError> {
        let txn = Txn { success: vec![op], durability: Durability::Synced, ..Txn::default() };
        let mut result = self.front.store.txn_via(self.submissions.as_ref(), txn).await?;
        Ok((result.results.pop(), result.revision))
    }
}

#[tonic::async_trait]
impl pb::kv_server::Kv for Kv {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let request = request.into_inner();
        let range = convert::range(&request)?;
        if !request.serializable {
            self.front.store.current().await.map_err(status)?;
        }
        let result = self.front.store.range(&range).map_err(status)?;
        let header = self.front.header(result.revision);
        Ok(Response::new(convert::range_response(&request, result, header)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let put = request.into_inner();
        let op = convert::put(&put)?;
        self.may_write(&put.key, &Bytes::new())?;
        let (result, revision) = self.one(op).await.map_err(status)?;
        let previous: Option<KeyValue> = match result {
            Some(OpResult::Put { previous }) if put.prev_kv => previous,
            _ => None,
        };
        let header = self.front.header(revision);
        Ok(Response::new(pb::PutResponse { header, prev_kv: previous.map(key_value) }))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let delete = request.into_inner();
        let op = convert::delete(&delete)?;
        self.may_write(&delete.key, &delete.range_end)?;
        let (result, revision) = self.one(op).await.map_err(status)?;
        let previous = match result {
            Some(OpResult::Delete { previous }) => previous,
            _ => Vec::new(),
        };
        Ok(Response::new(deleted(&delete, previous, self.front.header(revision))))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        self.may_do(&request.success)?;
        self.may_do(&request.failure)?;
        let txn = convert::transaction(&request)?;
        let result = self.front.store.txn_via(self.submissions.as_ref(), txn).await.map_err(status)?;
        let header = self.front.header(result.revision);
        Ok(Response::new(convert::txn_response(&request, result, header)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let revision = unsigned(request.into_inner().revision);
        self.front.store.compact(revision).await.map_err(status)?;
        Ok(Response::new(pb::CompactionResponse { header: self.front.header(self.front.store.revision()) }))
    }
}
