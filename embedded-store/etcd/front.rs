//! What the services of the etcd API share: the store, the options and the gate of connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tonic::Status;

use crate::check::MAX_REQUEST_BYTES;
use crate::embedded::EmbeddedStore;
use crate::group::Position;
use crate::wire::etcdserverpb as pb;

/// Decides which connections are taken. The caller brings it, because it has flags and other ports.
pub type Gate = Arc<dyn Fn(IpAddr) -> Option<Box<dyn Place>> + Send + Sync>;

/// The place of a connection; it is given back when this is dropped.
pub trait Place: Send + Sync {
    /// The client has shown a good certificate. False if the connection is to be closed nevertheless.
    fn identified(&self) -> bool;
    /// Completes when a connection that is not identified is to give way to another.
    fn cut(&self) -> BoxFuture<'static, ()>;
}

/// A member of a group, for the list of members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedMember {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    /// Where clients reach it from elsewhere.
    pub client_urls: Vec<String>,
    pub learner: bool,
}

/// Why the members are not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembersError {
    NotFound,
    /// Only a learner can be promoted.
    NotLearner,
    /// Only the leader hands over.
    NotLeader,
    /// A member without a vote cannot lead.
    NoVoter,
    /// It cannot be done now, in words.
    Failed(String),
}

/// The group of servers that the store may be of, as its caller runs it. Members have the identities of their
/// stores.
pub trait Members: Send + Sync {
    /// Where this store stands in its group; `None` while it is alone.
    fn position(&self) -> Option<Position>;
    fn list(&self) -> BoxFuture<'_, Vec<ListedMember>>;
    fn remove(&self, member: u64) -> BoxFuture<'_, Result<(), MembersError>>;
    fn promote(&self, member: u64) -> BoxFuture<'_, Result<(), MembersError>>;
    fn move_leader(&self, to: u64) -> BoxFuture<'_, Result<(), MembersError>>;
}

#[derive(Clone)]
pub struct Options {
    /// Name of this member.
    pub name: String,
    /// Where clients reach it, for the list of members.
    pub client_urls: Vec<String>,
    /// Prefixes under which nothing may be written through this API.
    pub protected: Vec<Bytes>,
    /// How often a watch that asked for it is told that there is nothing new.
    pub progress_interval: Duration,
    /// The version that `status` reports: the etcd release whose API this is.
    pub version: String,
    /// None takes every connection.
    pub gate: Option<Gate>,
    /// None for a store that is always alone.
    pub members: Option<Arc<dyn Members>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: "default".to_string(),
            client_urls: Vec::new(),
            protected: vec![Bytes::from_static(b"/registry/")],
            progress_interval: Duration::from_secs(600),
            version: "3.6.0".to_string(),
            gate: None,
            members: None,
        }
    }
}

/// The API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot serve the etcd API: {0}")]
    Io(#[from] std::io::Error),
}

/// What all services share.
pub(crate) struct Front {
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) options: Options,
}

impl Front {
    /// Where the store stands in its group; `None` while it is alone.
    pub(crate) fn position(&self) -> Option<Position> {
        self.options.members.as_ref()?.position()
    }

    pub(crate) fn member(&self) -> u64 {
        self.store.identity()
    }

    /// The header of an answer at a revision.
    pub(crate) fn header(&self, revision: u64) -> Option<pb::ResponseHeader> {
        let position = self.position();
        let cluster = position.map_or(self.store.identity(), |position| position.cluster);
        Some(pb::ResponseHeader {
            // Any number but the first member's that stays the same over restarts.
            cluster_id: cluster.rotate_left(32) | 1,
            member_id: self.member(),
            revision: revision.cast_signed(),
            raft_term: position.map_or(1, |position| position.term),
        })
    }
}

/// The refusal of a request that would change keys which have another owner.
pub(crate) fn protected(prefix: &[u8]) -> Status {
    Status::permission_denied(format!(
        "etcdserver: permission denied: keys under {} are written by the Kubernetes API only",
        String::from_utf8_lossy(prefix)
    ))
}

/// With the room that gRPC and the encoding need on top of the largest request, as in etcd.
pub(crate) const LARGEST_MESSAGE: usize = MAX_REQUEST_BYTES + 512 * 1024;
