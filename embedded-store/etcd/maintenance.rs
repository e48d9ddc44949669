//! The Cluster and Maintenance services.

use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tonic::{Request, Response, Status};

use super::convert::{status, unsigned};
use super::front::{Front, ListedMember, Members, MembersError};
use super::pb;
use crate::types::Store;

pub(crate) struct Cluster(pub(crate) Arc<Front>);
pub(crate) struct Maintenance(pub(crate) Arc<Front>);

/// Bytes of a snapshot in one message.
const CHUNK: usize = 64 * 1024;
const ONE_SERVER: &str = "this cluster has one server; members cannot be changed";

impl Front {
    fn here(&self) -> Option<pb::ResponseHeader> {
        self.header(self.store.revision())
    }
}

impl Front {
    /// The group that is to be changed; a store that is alone has none.
    fn members(&self) -> Result<&Arc<dyn Members>, Status> {
        let members = self.options.members.as_ref().filter(|members| members.position().is_some());
        members.ok_or_else(|| Status::unimplemented(ONE_SERVER))
    }

    async fn listed(&self) -> Vec<pb::Member> {
        let own = self.member();
        let mut listed = match self.members() {
            Ok(members) => members.list().await,
            Err(_) => vec![ListedMember { id: own, name: self.options.name.clone(), ..Default::default() }],
        };
        let known = listed.iter_mut().filter(|member| member.id == own);
        known.for_each(|member| member.client_urls.clone_from(&self.options.client_urls));
        let member = |member: ListedMember| pb::Member {
            id: member.id,
            name: member.name,
            peer_ur_ls: member.peer_urls,
            client_ur_ls: member.client_urls,
            is_learner: member.learner,
        };
        listed.into_iter().map(member).collect()
    }
}

/// etcd's words for it.
fn refused(error: MembersError) -> Status {
    match error {
        MembersError::NotFound => Status::not_found("etcdserver: member not found"),
        MembersError::NotLearner => {
            Status::failed_precondition("etcdserver: can only promote a learner member")
        }
        MembersError::NotLeader => Status::failed_precondition("etcdserver: not leader"),
        MembersError::NoVoter => Status::failed_precondition("etcdserver: bad leader transferee"),
        MembersError::Failed(why) => Status::unavailable(format!("etcdserver: {why}")),
    }
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Cluster {
    async fn member_add(
        &self,
        _request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(Status::unimplemented("servers join by themselves: 'minik8s server --server URL --token TOKEN'"))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.0.members()?.remove(request.into_inner().id).await.map_err(refused)?;
        let members = self.0.listed().await;
        Ok(Response::new(pb::MemberRemoveResponse { header: self.0.here(), members }))
    }

    async fn member_update(
        &self,
        _request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(Status::unimplemented("a server that starts at another address tells the others itself"))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.0.members()?.promote(request.into_inner().id).await.map_err(refused)?;
        let members = self.0.listed().await;
        Ok(Response::new(pb::MemberPromoteResponse { header: self.0.here(), members }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.0.store.read_barrier().await.map_err(status)?;
        }
        let members = self.0.listed().await;
        Ok(Response::new(pb::MemberListResponse { header: self.0.here(), members }))
    }
}

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for Maintenance {
    /// Alarms are conditions here: they are raised and cleared by their cause, not by requests.
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        use pb::alarm_request::AlarmAction;
        let action = AlarmAction::try_from(request.into_inner().action);
        if action == Ok(AlarmAction::Activate) {
            return Err(Status::unimplemented("alarms follow the state of the disk and cannot be raised"));
        }
        let no_space = self.0.store.status().alarms.no_space.is_some();
        let alarm = pb::AlarmMember { member_id: self.0.member(), alarm: pb::AlarmType::Nospace.into() };
        let alarms = no_space.then_some(alarm).into_iter().collect();
        Ok(Response::new(pb::AlarmResponse { header: self.0.here(), alarms }))
    }

    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let status = self.0.store.status();
        let (alarms, position) = (status.alarms, self.0.position());
        let unled = position.is_some_and(|position| position.leader.is_none());
        let errors = [
            unled.then(|| "etcdserver: no leader".to_string()),
            alarms.no_space.map(|why| format!("memberID:{} alarm:NOSPACE {why}", self.0.member())),
            alarms.unwritable.map(|why| format!("the log cannot be written: {why}")),
            alarms.checkpoint.map(|why| format!("the applied state cannot be written: {why}")),
        ];
        Ok(Response::new(pb::StatusResponse {
            header: self.0.header(status.revision),
            version: self.0.options.version.clone(),
            db_size: status.size_on_disk.cast_signed(),
            leader: position.map_or(self.0.member(), |position| position.leader.unwrap_or_default()),
            raft_index: status.index,
            raft_term: position.map_or(status.term.max(1), |position| position.term),
            raft_applied_index: status.index,
            errors: errors.into_iter().flatten().collect(),
            db_size_in_use: status.size_in_use.cast_signed(),
            is_learner: position.is_some_and(|position| !position.voter),
        }))
    }

    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.0.store.defragment().await.map_err(|why| Status::internal(why.to_string()))?;
        Ok(Response::new(pb::DefragmentResponse { header: self.0.here() }))
    }

    async fn hash(&self, _request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let (hash, revision) = self.0.store.hash(0).map_err(status)?;
        Ok(Response::new(pb::HashResponse { header: self.0.header(revision), hash }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let revision = unsigned(request.into_inner().revision);
        let (hash, now) = self.0.store.hash(revision).map_err(status)?;
        let compact_revision = self.0.store.compacted_revision().cast_signed();
        Ok(Response::new(pb::HashKvResponse { header: self.0.header(now), hash, compact_revision }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        _request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let front = Arc::clone(&self.0);
        // In an unlinked file, which disappears with the call.
        let written = tokio::task::spawn_blocking(move || {
            let path = front.store.dir().join(format!("snapshot-{:x}.tmp", crate::identity::new_identity()));
            let written = front.store.write_snapshot(&path, &[]);
            let removed = std::fs::remove_file(&path);
            let mut file = written?;
            removed?;
            let length = file.stream_position()?;
            file.seek(SeekFrom::Start(0))?;
            Ok::<_, io::Error>((file, length))
        });
        let failed = |e: io::Error| Status::internal(format!("the snapshot cannot be written: {e}"));
        let (file, length) = written.await.map_err(|e| Status::internal(e.to_string()))?.map_err(failed)?;
        let header = self.0.here();
        let chunks = futures::stream::try_unfold((file, length), move |(mut file, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || {
                let mut blob = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK)];
                file.read_exact(&mut blob)?;
                Ok::<_, io::Error>((file, blob))
            });
            let (file, blob) = read.await.map_err(|e| Status::internal(e.to_string()))?.map_err(failed)?;
            let left = left - blob.len() as u64;
            let response = pb::SnapshotResponse { header, remaining_bytes: left, blob: blob.into() };
            Ok(Some((response, (file, left))))
        });
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.0.members()?.move_leader(request.into_inner().target_id).await.map_err(refused)?;
        Ok(Response::new(pb::MoveLeaderResponse { header: self.0.here() }))
    }
}
