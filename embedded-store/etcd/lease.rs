//! The Lease service.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::convert::status;
use super::front::Front;
use super::pb;
use crate::types::{Leases, Store, StoreError};

pub(crate) struct Lease(pub(crate) Arc<Front>);

impl Lease {
    fn header(&self) -> Option<pb::ResponseHeader> {
        self.0.header(self.0.store.revision())
    }
}

#[tonic::async_trait]
impl pb::lease_server::Lease for Lease {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let request = request.into_inner();
        let lease = self.0.store.grant(request.id, request.ttl).await.map_err(status)?;
        let header = self.header();
        Ok(Response::new(pb::LeaseGrantResponse {
            header,
            id: lease.id,
            ttl: lease.ttl,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let id = request.into_inner().id;
        // A lease of another owner's keys runs out all the same if he lets it: requests here can prolong it
        // only.
        self.0.store.revoke_unless(id, self.0.options.protected.clone()).await.map_err(status)?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: self.header() }))
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let front = Arc::clone(&self.0);
        let answers = request.into_inner().then(move |request| {
            let front = Arc::clone(&front);
            async move {
                let id = request?.id;
                let ttl = match front.store.lease_time(id, true).await {
                    Ok(ttl) => ttl,
                    // Not an error of the stream: a time to live of 0 says that the lease is gone.
                    Err(StoreError::LeaseNotFound) => 0,
                    Err(e) => return Err(status(e)),
                };
                Ok(pb::LeaseKeepAliveResponse { header: front.header(front.store.revision()), id, ttl })
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let ttl = match self.0.store.lease_time(request.id, false).await {
            Err(StoreError::LeaseNotFound) => -1,
            time => time.map_err(status)?,
        };
        let header = self.header();
        // A lease that the leader knows may not have come here yet: then its keys have not, either.
        Ok(Response::new(match self.0.store.lease(request.id) {
            _ if ttl < 0 => pb::LeaseTimeToLiveResponse { header, id: request.id, ttl, ..Default::default() },
            Some(lease) => pb::LeaseTimeToLiveResponse {
                header,
                id: lease.id,
                ttl,
                granted_ttl: lease.granted_ttl,
                keys: if request.keys { lease.keys } else { Vec::new() },
            },
            None => pb::LeaseTimeToLiveResponse {
                header,
                id: request.id,
                ttl,
                granted_ttl: ttl,
                ..Default::default()
            },
        }))
    }

    async fn lease_leases(
        &self,
        _request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let leases = self.0.store.leases().into_iter().map(|id| pb::LeaseStatus { id }).collect();
        Ok(Response::new(pb::LeaseLeasesResponse { header: self.header(), leases }))
    }
}
